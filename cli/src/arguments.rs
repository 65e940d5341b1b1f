//! The command line: global flags and the commands; each command's own flags are in its file.

use std::time::Duration;

use clap::{Parser, Subcommand};
use tithon_ipc::ids::{SessionId, SessionIdError};

use crate::commands::{
    attach::AttachArgs, daemon::DaemonArgs, doctor::DoctorArgs, export::ExportArgs,
    import::ImportArgs, install::InstallArgs, interrupt::InterruptArgs, kill::KillArgs, ps::PsArgs,
    reap::ReapArgs, restart::RestartArgs, run::RunArgs, shutdown::ShutdownArgs, status::StatusArgs,
    uninstall::UninstallArgs, upgrade::UpgradeArgs, worker::WorkerArgs,
};

const EXAMPLES: &str = "\
Examples:
  tithon run -c 'x = 41'
  tithon run -c 'x += 1; print(x)'        42: the state is still there
  tithon run train.py                     close the terminal, come back later
  tithon ps                               what runs, where, and how large it is
  tithon attach --since 0 --once          everything that was printed

A supervisor is started when a command needs one. Everything lives under
$TITHON_HOME (default ~/.tithon). Data goes to stdout, words to stderr.";

/// Keeps interactive Python, and any Jupyter kernel, alive independently of every client.
#[derive(Debug, Parser)]
#[command(name = "tithon", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Fail rather than start a supervisor when none runs
    #[arg(long, global = true)]
    pub(crate) no_start: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    Attach(AttachArgs),
    Ps(PsArgs),
    Status(StatusArgs),
    Interrupt(InterruptArgs),
    Restart(RestartArgs),
    Kill(KillArgs),
    Shutdown(ShutdownArgs),
    Import(ImportArgs),
    Export(ExportArgs),
    Install(InstallArgs),
    Uninstall(UninstallArgs),
    Upgrade(UpgradeArgs),
    Reap(ReapArgs),
    Doctor(DoctorArgs),
    Daemon(DaemonArgs),
    /// Print the version
    Version,
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// A session's name, refused here where the server would refuse it.
pub(crate) fn session(text: &str) -> Result<String, SessionIdError> {
    SessionId::parse(text).map(|id| id.as_str().to_owned())
}

/// Seconds as people write them, `90` or `0.5`; 0 and nothing mean never.
pub(crate) fn seconds(text: &str) -> Result<Option<Duration>, String> {
    let number = positive(text)?;
    Ok(number.map(|number| Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX)))
}

/// A number above 0; 0 and nothing mean that there is no such limit.
pub(crate) fn positive(text: &str) -> Result<Option<f64>, String> {
    match text.trim() {
        "" => Ok(None),
        text => match text.parse::<f64>() {
            Ok(number) if number.is_nan() || number < 0.0 => Err("must not be negative".to_owned()),
            Ok(number) => Ok((number > 0.0).then_some(number)),
            Err(_) => Err("must be a number".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &["tithon"][..],
            &["tithon", "run"],
            &["tithon", "run", "-c", "1", "file.py"],
            &["tithon", "run", "-c", "1", "--timeout", "soon"],
            &["tithon", "run", "-c", "1", "--timeout=-1"],
            &["tithon", "run", "-c", "1", "--no-wait", "--json"],
            &["tithon", "run", "-c", "1", "--python", "p", "--kernel", "k"],
            &["tithon", "attach", "--since", "x"],
            &["tithon", "kill"],
            &["tithon", "status", "--session", ""],
        ] {
            let err = Arguments::try_parse_from(bad).expect_err("must be refused");
            assert_eq!(err.exit_code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn what_scripts_already_write_is_accepted() {
        for good in [
            &["tithon", "run", "-c", "1"][..],
            &[
                "tithon",
                "run",
                "--code",
                "-1",
                "--session",
                "s",
                "--timeout",
                "0",
                "--no-wait",
            ],
            &["tithon", "run", "--timeout", "1.5", "--session=s", "-c", ""],
            &["tithon", "run", "-"],
            &["tithon", "run", "file.py", "--no-start"],
            &[
                "tithon",
                "--no-start",
                "attach",
                "--since",
                "-1",
                "--once",
                "--until-done",
            ],
            &[
                "tithon",
                "daemon",
                "--log-level",
                "DEBUG",
                "--idle-timeout",
                "0.5",
            ],
            &[
                "tithon",
                "daemon",
                "--history-retention-days",
                "1",
                "--history-target-mib",
                "2",
            ],
            &["tithon", "shutdown", "--kill-kernels"],
            &["tithon", "status", "--session", "s"],
            &["tithon", "kill", "--session", "s"],
            &["tithon", "version"],
            &["tithon", "import", "a.ipynb", "a.py", "--workdir", "."],
            &["tithon", "export", "a.py", "a.ipynb"],
        ] {
            if let Err(err) = Arguments::try_parse_from(good) {
                panic!("{good:?}: {err}");
            }
        }
    }

    #[test]
    fn zero_means_no_limit() {
        for (text, limit) in [
            ("0", None),
            ("", None),
            ("0.0", None),
            ("1.5", Some(Duration::from_millis(1500))),
            ("1e300", Some(Duration::MAX)),
        ] {
            assert_eq!(seconds(text).unwrap(), limit, "{text}");
        }
        for bad in ["-1", "nan", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
