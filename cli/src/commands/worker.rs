//! `tithon worker`: one session's process. Started by the supervisor, not by people.

use std::{
    collections::BTreeMap,
    env,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use tithon_ipc::{
    files::{self, Meta},
    logs,
    marks::MARK,
    paths::Home,
};
use tithon_worker::standing::Standing;

use crate::{
    error::CliError,
    logging::{self, Author, Echo, LogLevel},
    start::program,
};

/// What the manager gives to a unit's main process alone: where it says that it is ready, and where
/// its words go.
const FROM_MANAGER: [&str; 3] = ["NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID"];

/// Serve one session
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The supervisor's home
    #[arg(long, value_name = "ROOT")]
    home: PathBuf,

    /// The session's directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// The unit of the user's systemd that it is the main process of
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,

    /// Why it is none
    #[arg(long, value_name = "WHY", conflicts_with = "unit", default_value = "")]
    detached_because: String,

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
    let standing = match args.unit {
        Some(unit) => {
            if env::var_os(MARK).as_deref() != Some(args.dir.as_os_str()) {
                return Err(with_environment(&args.dir));
            }
            Standing::Unit(unit)
        }
        None => Standing::Detached(args.detached_because),
    };
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
    Ok(tithon_worker::run(Home::at(args.home), args.dir, standing))
}

/// Becomes this very command with the environment that the supervisor left for it: a service
/// manager's own is bare, and what it sets for a unit every user of the machine can read.
fn with_environment(dir: &Path) -> CliError {
    let failed = |source| CliError::System {
        doing: "take the worker's environment from environment.json",
        source,
    };
    let file = dir.join("environment.json");
    let environment = match files::read_json::<BTreeMap<String, String>>(&file) {
        Ok(environment) => environment,
        Err(source) => return failed(source),
    };
    let given = FROM_MANAGER
        .into_iter()
        .filter_map(|name| Some((name, env::var_os(name)?)));
    let program = match program() {
        Ok(program) => program,
        Err(source) => return failed(source),
    };
    let source = Command::new(program)
        .args(env::args_os().skip(1))
        .env_clear()
        .envs(environment)
        .env(MARK, dir)
        .envs(given)
        .exec();
    failed(source)
}
