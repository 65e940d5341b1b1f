//! The commands, one file each, and the one place that says which needs what.

pub(crate) mod attach;
pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod install;
pub(crate) mod interrupt;
pub(crate) mod kill;
pub(crate) mod ps;
pub(crate) mod reap;
pub(crate) mod restart;
pub(crate) mod run;
pub(crate) mod shutdown;
pub(crate) mod status;
pub(crate) mod uninstall;
pub(crate) mod upgrade;
mod version;
pub(crate) mod worker;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::{
    arguments::{Arguments, Command},
    error::CliError,
    link::Link,
    render::json,
    start::Start,
};

/// Runs the command that the arguments name.
///
/// # Errors
/// Any [`CliError`]; its message is not printed yet.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let start = match arguments.no_start {
        true => Start::Never,
        false => Start::IfNeeded,
    };
    let link = || Link::from_env(start);
    let exit = match arguments.command {
        Command::Run(args) => run::run(args, &link()?)?,
        Command::Attach(args) => wait(attach::run(&args, &link()?))?,
        Command::Ps(args) => wait(ps::run(&args, &link()?))?,
        Command::Status(args) => wait(status::run(&args, &link()?))?,
        Command::Interrupt(args) => wait(interrupt::run(&args, &link()?))?,
        Command::Restart(args) => wait(restart::run(&args, &link()?))?,
        Command::Kill(args) => wait(kill::run(&args, &link()?))?,
        Command::Shutdown(args) => wait(shutdown::run(&args, &link()?))?,
        Command::Import(args) => import::run(&args)?,
        Command::Export(args) => wait(export::run(&args, &link()?))?,
        Command::Install(args) => {
            let start = !arguments.no_start;
            wait(install::run(&args, &link()?, start))?
        }
        Command::Upgrade(args) => wait(upgrade::run(&args, &link()?))?,
        Command::Doctor(args) => wait(doctor::run(&args, &link()?))?,
        Command::Reap(args) => wait(reap::run(&args, &link()?))?,
        Command::Uninstall(args) => wait(uninstall::run(&args, &link()?))?,
        Command::Daemon(args) => daemon::run(&args)?,
        Command::Version => version::run()?,
        Command::Worker(args) => return worker::run(args),
    };
    Ok(exit.into())
}

/// Drives a command to its end on this thread: none of them needs another.
fn wait<T>(command: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::System {
            doing: "set up the event loop",
            source,
        })?
        .block_on(command)
}

/// Prints one line to standard output.
fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(CliError::Output)
}

/// Prints a reply as JSON with an indent of 2.
fn print_reply(text: &str) -> Result<(), CliError> {
    print(&json::indented(text))
}

/// The `ok` of a reply that has one.
fn is_ok(reply: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(reply)
        .is_ok_and(|reply| reply["ok"] == serde_json::Value::Bool(true))
}
