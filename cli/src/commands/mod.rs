//! The commands, one file each, and the one place that says which needs what.

mod answer;
pub(crate) mod attach;
pub(crate) mod branch;
pub(crate) mod checkpoints;
pub(crate) mod clear;
pub(crate) mod completions;
pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod export;
mod full;
pub(crate) mod import;
pub(crate) mod install;
pub(crate) mod interrupt;
pub(crate) mod kill;
pub(crate) mod log;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod ps;
pub(crate) mod reach;
pub(crate) mod reap;
pub(crate) mod rename;
pub(crate) mod repl;
pub(crate) mod replay;
pub(crate) mod restart;
pub(crate) mod restore;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod shutdown;
pub(crate) mod states;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod try_;
pub(crate) mod uninstall;
pub(crate) mod upgrade;
mod version;
pub(crate) mod wait;
pub(crate) mod worker;

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use clap::CommandFactory;

use crate::{
    arguments::{Arguments, Command, Place},
    error::CliError,
    exit::Exit,
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
    let link = || Link::from_env(start, arguments.host.as_deref());
    let command = match arguments.command {
        Some(command) => command,
        None if repl::is_possible() => Command::Repl(repl::ReplArgs::default()),
        None => {
            // Nobody is there for a prompt: whoever wrote this wants to know what to write instead.
            drop(write!(
                io::stderr(),
                "{}",
                Arguments::command().render_help()
            ));
            return Ok(Exit::Trouble.into());
        }
    };
    match (&arguments.host, command.place()) {
        (Some(_), Place::There) => {
            if let Some(remote) = link()?.remote() {
                return block_on(remote.run(&without_host(env::args_os().skip(1))));
            }
        }
        (Some(_), Place::Here) => {
            let words = "this command is about files of this machine: it takes no --host";
            return Err(CliError::Usage(words.to_owned()));
        }
        (Some(_), Place::Client) | (None, _) => {}
    }
    let exit = match command {
        Command::Repl(args) => block_on(repl::run(&args, &link()?))?,
        Command::Run(args) => run::run(args, &link()?)?,
        Command::Import(args) => import::run(&args)?,
        Command::Export(args) => block_on(export::run(&args, &link()?))?,
        Command::Install(args) => {
            let start = !arguments.no_start;
            block_on(install::run(&args, &link()?, start))?
        }
        Command::Upgrade(args) => block_on(upgrade::run(&args, &link()?))?,
        Command::Doctor(args) => block_on(doctor::run(&args, &link()?))?,
        Command::Reap(args) => block_on(reap::run(&args, &link()?))?,
        Command::Uninstall(args) => block_on(uninstall::run(&args, &link()?))?,
        Command::Attach(args) => block_on(attach::run(&args, &link()?))?,
        Command::Ps(args) => block_on(ps::run(&args, &link()?))?,
        Command::States(args) => states::run(args, link)?,
        Command::Status(args) => block_on(status::run(&args, &link()?))?,
        Command::Interrupt(args) => block_on(interrupt::run(&args, &link()?))?,
        Command::Restart(args) => block_on(restart::run(&args, &link()?))?,
        Command::Checkpoints(args) => block_on(checkpoints::run(&args, &link()?))?,
        Command::Restore(args) => block_on(restore::run(&args, &link()?))?,
        Command::Replay(args) => block_on(replay::run(&args, &link()?))?,
        Command::Branch(args) => block_on(branch::run(&args, &link()?))?,
        Command::Try(args) => try_::run(&args, &link()?)?,
        Command::Kill(args) => block_on(kill::run(&args, &link()?))?,
        Command::Shutdown(args) => block_on(shutdown::run(&args, &link()?))?,
        Command::Log(args) => block_on(log::run(&args, &link()?))?,
        Command::Logs(args) => block_on(logs::run(&args, &link()?))?,
        Command::Tail(args) => block_on(tail::run(&args, &link()?))?,
        Command::Wait(args) => block_on(wait::run(&args, &link()?))?,
        Command::Clear(args) => block_on(clear::run(&args, &link()?))?,
        Command::Rename(args) => block_on(rename::run(&args, &link()?))?,
        Command::Rm(args) => block_on(rm::run(&args, &link()?))?,
        Command::Completions(args) => completions::run(&args)?,
        Command::Man(args) => man::run(&args)?,
        Command::Daemon(args) => daemon::run(&args)?,
        Command::Version => version::run()?,
        Command::Reach => block_on(reach::run(&link()?))?,
        Command::Worker(args) => return worker::run(args),
    };
    Ok(exit.into())
}

/// The arguments of this process, but for those that name another machine.
fn without_host(mut arguments: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut kept = Vec::new();
    while let Some(argument) = arguments.next() {
        let argument = argument.to_string_lossy().into_owned();
        match argument.as_str() {
            "--host" => drop(arguments.next()),
            named if named.starts_with("--host=") => {}
            _ => kept.push(argument),
        }
    }
    kept
}

/// Drives a command to its end on this thread: none of them needs another.
fn block_on<T>(command: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::System {
            doing: "set up the event loop",
            source,
        })?
        .block_on(command)
}

/// Asks a yes-or-no question on the terminal; `without` says how to do without.
///
/// # Errors
/// When nobody is there to be asked.
fn agreed(question: &str, without: &str) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!(
            "nobody is there to be asked\nhint: {without}"
        )));
    }
    let mut stderr = io::stderr().lock();
    let asked = write!(stderr, "{question} [y/N] ");
    drop(asked.and_then(|()| stderr.flush()));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| CliError::System {
            doing: "read the answer",
            source,
        })?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Prints one line to standard output.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
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
