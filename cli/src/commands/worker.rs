//! `tithon worker`: one session's process. Started by the supervisor, not by people.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use tithon_ipc::{files::Meta, logs, paths::Home};

use crate::{
    error::CliError,
    logging::{self, Author, Echo, LogLevel},
};

/// Serve one session
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The supervisor's home
    #[arg(long, value_name = "ROOT")]
    home: PathBuf,

    /// The session's directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// How much is logged to DIR/worker.log
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "INFO",
        env = "TITHON_LOG_LEVEL"
    )]
    log_level: LogLevel,
}

/// Runs the worker until its session ends.
///
/// # Errors
/// When the session's log cannot be opened.
pub(crate) fn run(args: WorkerArgs) -> Result<ExitCode, CliError> {
    let session = Meta::read(&args.dir).ok().map(|meta| meta.session_id);
    logging::start(
        args.log_level,
        &logs::worker(&args.dir),
        Echo::Silent,
        &Author::Worker(session),
    )
    .map_err(|source| CliError::System {
        doing: "open the worker's log",
        source,
    })?;
    Ok(tithon_worker::run(Home::at(args.home), args.dir))
}
