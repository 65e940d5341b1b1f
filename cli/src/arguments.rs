//! The command line: global flags and the commands; each command's own flags are in its file.

use std::time::Duration;

use clap::{Parser, Subcommand};
use tithon_ipc::ids::{SessionId, SessionIdError};

use crate::commands::{
    attach::AttachArgs, branch::BranchArgs, checkpoints::CheckpointsArgs, clear::ClearArgs,
    completions::CompletionsArgs, daemon::DaemonArgs, doctor::DoctorArgs, export::ExportArgs,
    import::ImportArgs, install::InstallArgs, interrupt::InterruptArgs, kill::KillArgs,
    log::LogArgs, logs::LogsArgs, man::ManArgs, ps::PsArgs, reap::ReapArgs, rename::RenameArgs,
    repl::ReplArgs, replay::ReplayArgs, restart::RestartArgs, restore::RestoreArgs, rm::RmArgs,
    run::RunArgs, shutdown::ShutdownArgs, states::StatesArgs, status::StatusArgs, tail::TailArgs,
    try_::TryArgs, uninstall::UninstallArgs, upgrade::UpgradeArgs, wait::WaitArgs,
    worker::WorkerArgs,
};
use crate::remote::host;

const EXAMPLES: &str = "\
Examples:
  tithon run -c 'x = 41'
  tithon run -c 'x += 1; print(x)'        42: the state is still there
  tithon run train.py                     close the terminal, come back later
  tithon                                  a prompt on the same session
  tithon ps                               what runs, where, and how large it is
  tithon log --since 2h                   what ran lately and what came of it
  tithon tail                             the running cell, from its beginning
  tithon --host gpu01 run train.py        the same on another machine, over ssh

A supervisor is started when a command needs one. Everything lives under
$TITHON_HOME (default ~/.tithon). Data goes to stdout, words to stderr.";

/// Keeps interactive Python, and any Jupyter kernel, alive independently of every client.
#[derive(Debug, Parser)]
#[command(name = "tithon", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// The machine whose sessions are meant, as ssh takes it: an alias or user@name
    #[arg(long, global = true, value_name = "HOST", value_parser = host)]
    pub(crate) host: Option<String>,

    /// Fail rather than start a supervisor when none runs
    #[arg(long, global = true)]
    pub(crate) no_start: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Repl(ReplArgs),
    Run(RunArgs),
    Ps(PsArgs),
    Log(LogArgs),
    Logs(LogsArgs),
    Tail(TailArgs),
    Wait(WaitArgs),
    Clear(ClearArgs),
    Attach(AttachArgs),
    Status(StatusArgs),
    Interrupt(InterruptArgs),
    Restart(RestartArgs),
    Checkpoints(CheckpointsArgs),
    Restore(RestoreArgs),
    Replay(ReplayArgs),
    Try(TryArgs),
    States(StatesArgs),
    Branch(BranchArgs),
    Kill(KillArgs),
    Rename(RenameArgs),
    Rm(RmArgs),
    Shutdown(ShutdownArgs),
    Import(ImportArgs),
    Export(ExportArgs),
    Install(InstallArgs),
    Uninstall(UninstallArgs),
    Upgrade(UpgradeArgs),
    Reap(ReapArgs),
    Doctor(DoctorArgs),
    Daemon(DaemonArgs),
    Completions(CompletionsArgs),
    /// Print the version
    #[command(after_help = "Examples:\n  tithon version")]
    Version,
    #[command(hide = true, after_help = "Examples:\n  tithon man share/man/man1")]
    Man(ManArgs),
    /// Say where the supervisor listens
    #[command(hide = true)]
    Reach,
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// Where a command does its work when another machine is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here, as a client of the supervisor there.
    Client,
    /// There: it is about that machine's files and processes.
    There,
    /// Here alone: it is about files of this machine.
    Here,
}

impl Command {
    /// Where it does its work when another machine is meant.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Repl(_)
            | Self::Run(_)
            | Self::Log(_)
            | Self::Tail(_)
            | Self::Wait(_)
            | Self::Clear(_)
            | Self::Attach(_)
            | Self::Status(_)
            | Self::Interrupt(_)
            | Self::Restart(_)
            | Self::Checkpoints(_)
            | Self::Restore(_)
            | Self::Replay(_)
            | Self::Try(_)
            | Self::Branch(_)
            | Self::Kill(_)
            | Self::Export(_) => Place::Client,
            Self::States(args) if !args.is_a_server() => Place::Client,
            Self::Ps(args) if !args.is_about_processes() => Place::Client,
            Self::Ps(_)
            | Self::Logs(_)
            | Self::Rename(_)
            | Self::Rm(_)
            | Self::Shutdown(_)
            | Self::Install(_)
            | Self::Uninstall(_)
            | Self::Upgrade(_)
            | Self::Reap(_)
            | Self::Doctor(_)
            | Self::Version => Place::There,
            Self::Import(_)
            | Self::Daemon(_)
            | Self::States(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Reach
            | Self::Worker(_) => Place::Here,
        }
    }
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

/// Bytes as people and systemd write them: `20G`, `512M`, `1.5G`, a plain number; powers of 1024.
/// `infinity` lifts a limit.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "checked to be within the range, and fractions of a byte mean nothing"
)]
pub(crate) fn memory(text: &str) -> Result<u64, String> {
    if text == "infinity" {
        return Ok(u64::MAX);
    }
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return Err("must be like 20G, 512M or infinity".to_owned()),
    };
    let number = Some(digits)
        .filter(|digits| digits.chars().all(|c| c.is_ascii_digit() || c == '.'))
        .and_then(|digits| digits.parse::<f64>().ok());
    let bytes = number.ok_or("must be like 20G, 512M or infinity")? * factor as f64;
    if bytes < MEMORY_MIN as f64 {
        return Err("is too little for any kernel: must be 16M at least".to_owned());
    }
    // Beyond what any machine has.
    if bytes >= (1_u64 << 60) as f64 {
        return Err("is more than any machine has".to_owned());
    }
    Ok(bytes as u64)
}

/// Less than this ends a Python before it has begun, and takes the worker with it.
const MEMORY_MIN: u64 = 16 << 20;

/// A point in the past: so long ago, or a date and maybe a time, in local time.
#[derive(Clone, Debug)]
pub(crate) enum Moment {
    Ago(Duration),
    At(jiff::civil::DateTime),
}

impl Moment {
    /// In unix seconds.
    pub(crate) fn before(&self, now: &jiff::Zoned) -> f64 {
        let seconds = |at: &jiff::Zoned| at.timestamp().as_duration().as_secs_f64();
        match self {
            Self::Ago(span) => seconds(now) - span.as_secs_f64(),
            Self::At(at) => at
                .to_zoned(now.time_zone().clone())
                .map_or(0.0, |at| seconds(&at)),
        }
    }
}

/// `90s`, `10m`, `2h`, `3d`, `1w`, or a date such as `2026-11-21` or `2026-11-21T14:00`.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    let units = [
        ('s', 1),
        ('m', 60),
        ('h', 3600),
        ('d', 86400),
        ('w', 604_800),
    ];
    for (letter, seconds) in units {
        if let Some(number) = text
            .strip_suffix(letter)
            .and_then(|it| it.parse::<u32>().ok())
        {
            return Ok(Moment::Ago(Duration::from_secs(
                u64::from(number) * seconds,
            )));
        }
    }
    let date = || {
        text.parse::<jiff::civil::Date>()
            .map(|date| date.at(0, 0, 0, 0))
    };
    text.parse()
        .or_else(|_| date())
        .map(Moment::At)
        .map_err(|_| "must be like 90s, 10m, 2h, 3d or 2026-11-21".to_owned())
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
    fn every_commands_help_has_an_example() {
        let (arguments, unseen) = (Arguments::command(), ["reach", "worker"]);
        for command in arguments.get_subcommands() {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string);
            let example = "Examples:\n  tithon";
            assert!(
                unseen.contains(&name) || help.is_some_and(|help| help.contains(example)),
                "{name}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &["tithon", "run"][..],
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
    fn moments_are_spans_or_dates() {
        let now = jiff::Timestamp::from_second(1_795_243_200)
            .unwrap()
            .to_zoned(jiff::tz::TimeZone::UTC);
        for (text, seconds) in [
            ("90s", 1_795_243_110.0),
            ("2h", 1_795_236_000.0),
            ("2026-11-21", 1_795_219_200.0),
            ("2026-11-21T06:00", 1_795_240_800.0),
        ] {
            let at = moment(text).unwrap().before(&now);
            assert!((at - seconds).abs() < 0.5, "{text}: {at}");
        }
        for bad in ["", "h", "-2h", "soon", "2h30"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_is_said_in_powers_of_1024() {
        for (text, bytes) in [
            ("20G", 20 << 30),
            ("512M", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("16777216", 16 << 20),
            ("infinity", u64::MAX),
        ] {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "G",
            "20g",
            "-1G",
            "1M",
            "0",
            "1e3G",
            "9999999999T",
            "20 G",
        ] {
            assert!(memory(bad).is_err(), "{bad}");
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
