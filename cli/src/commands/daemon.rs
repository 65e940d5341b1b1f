//! `tithon daemon`: the supervisor, in the foreground or started by another command.

use std::{
    io::{self, Write},
    time::Duration,
};

use crate::{
    arguments,
    error::CliError,
    exit::Exit,
    logging::{self, Author, Echo, LogLevel},
    start::program,
};
use clap::Args;
use tithon_ipc::paths::Home;
use tithon_supervisor::{Options, SupervisorError};

/// Run the supervisor in the foreground
///
/// Other commands start one by themselves; this one is for service managers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tithon daemon --log-level DEBUG")]
pub(crate) struct DaemonArgs {
    /// How much is logged: DEBUG, INFO, WARNING or ERROR
    #[arg(long, value_name = "LEVEL", default_value = "INFO")]
    log_level: LogLevel,

    /// End a kernel that was idle this long without clients (0: never); outputs stay
    #[arg(long, value_name = "SECONDS", default_value = "0", env = "TITHON_KERNEL_IDLE_TIMEOUT",
          value_parser = arguments::seconds)]
    // Spelt out, here and below: clap would read `Option` as "may be left out".
    idle_timeout: ::std::option::Option<Duration>,

    /// Compact raw output older than this many days (0: never); accepted, without effect yet
    #[arg(long, value_name = "DAYS", default_value = "0", env = "TITHON_HISTORY_RETENTION_DAYS",
          value_parser = arguments::positive)]
    history_retention_days: ::std::option::Option<f64>,

    /// Compact a session's oldest raw output above this size (0: never); accepted, without effect yet
    #[arg(long, value_name = "MIB", default_value = "0", env = "TITHON_HISTORY_TARGET_MIB",
          value_parser = arguments::positive)]
    history_target_mib: ::std::option::Option<f64>,

    /// Start workers as plain processes even where systemd could run each as a unit of its own
    #[arg(long, env = "TITHON_DETACHED_WORKERS", value_parser = clap::builder::FalseyValueParser::new())]
    detached_workers: bool,

    /// Leave the terminal that started this, and log to the file alone
    #[arg(long, hide = true)]
    detached: bool,
}

/// Runs the supervisor until it is told to end.
///
/// # Errors
/// When the home cannot be used, or the supervisor cannot listen.
pub(crate) fn run(args: &DaemonArgs) -> Result<Exit, CliError> {
    let echo = if args.detached {
        // Fails for the leader of a process group only, who has no terminal to leave.
        let _ = rustix::process::setsid();
        Echo::Silent
    } else {
        Echo::Stderr
    };
    let home = Home::from_env()?;
    home.prepare()?;
    let system = |doing| move |source| CliError::System { doing, source };
    let journaled = logging::start(args.log_level, &home.log(), echo, &Author::Supervisor)
        .map_err(system("open the log"))?;
    let options = Options {
        idle_timeout: args.idle_timeout,
        retention_days: args.history_retention_days,
        history_target_mib: args.history_target_mib,
        journaled,
        detached_workers: args.detached_workers,
        worker_program: program().map_err(system("find this program's file"))?,
    };
    match tithon_supervisor::run(home, options) {
        Ok(()) => Ok(Exit::Success),
        Err(SupervisorError::AlreadyRunning { pid }) => {
            let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            drop(writeln!(io::stderr(), "tithon daemon already running{pid}"));
            Ok(Exit::Failure)
        }
        Err(err) => Err(CliError::Supervisor(err)),
    }
}
