//! `tithon reap`: ends what outlived its session.

use std::{path::Path, time::Duration};

use clap::Args;
use serde_json::json;
use tithon_ipc::{
    control::{Client, Reply, Request},
    files::{Meta, WorkerRecord},
    paths::Home,
};
use tithon_supervisor::orphans::{Orphan, Reaped, Why};
use tokio::time::timeout;

use super::print;
use crate::{
    error::CliError,
    exit::Exit,
    link::Link,
    render::{json::indented, words},
};

const EXAMPLES: &str = "\
Examples:
  tithon reap

An orphan carries the mark of a session of this TITHON_HOME in its environment,
and the session has neither worker nor kernel, or its directory is gone, or the
process is older than the session's kernel; or it is in the group of such a
session's unit. No other process is ever signalled. Workers whose supervisor
never came back are shown too, and stay: the next command finds them and their
kernels. --workers ends both.

Exit codes:
    0  there is no orphan, or none any more
    1  some are left";

/// How long a worker may take to end its kernel.
const WORKER_WITHIN: Duration = Duration::from_secs(30);

/// End processes that outlived their session
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReapArgs {
    /// Show them and end none
    #[arg(long)]
    dry_run: bool,

    /// Also workers that no supervisor looks after, with their kernels
    #[arg(long)]
    workers: bool,
}

/// Reaps, or shows what it would; no supervisor is needed for it.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) async fn run(args: &ReapArgs, link: &Link) -> Result<Exit, CliError> {
    let orphans = Orphan::find(link.home());
    if args.dry_run || orphans.is_empty() {
        show(link.home(), Form::Table)?;
        return Ok(if orphans.is_empty() {
            Exit::Success
        } else {
            Exit::Failure
        });
    }
    let mut exit = Exit::Success;
    for orphan in orphans {
        let line = line(&orphan);
        if orphan.why() == Why::NoSupervisor {
            if worker(args, &orphan, &line).await? != Exit::Success {
                exit = Exit::Failure;
            }
            continue;
        }
        match orphan.reap().await {
            Ok(Reaped::Ended) => print(&format!("ended   {line}"))?,
            Ok(Reaped::Spared) => print(&format!("spared  {line}"))?,
            Ok(Reaped::Hangs) => {
                words::say(&format!("does not end  {line}"));
                exit = Exit::Failure;
            }
            Err(err) => {
                words::say(&format!("cannot be ended: {err}  {line}"));
                exit = Exit::Failure;
            }
        }
    }
    Ok(exit)
}

/// Ends a worker with its kernel, if that is wished; it does so itself, in good order.
async fn worker(args: &ReapArgs, orphan: &Orphan, line: &str) -> Result<Exit, CliError> {
    if !args.workers {
        print(&format!("kept    {line}"))?;
        words::say("hint: tithon reap --workers ends it and its kernel");
        return Ok(Exit::Failure);
    }
    let asked = async {
        let record = WorkerRecord::read(orphan.session()).map_err(|err| err.to_string())?;
        if record.process != *orphan.process() {
            return Err("another worker has the session".to_owned());
        }
        let mut client = Client::connect(&record.control)
            .await
            .map_err(|err| err.to_string())?;
        let request = Request::Stop { kill_kernel: true };
        client
            .call(&request, None)
            .await
            .map_err(|err| err.to_string())
    };
    let answer = timeout(WORKER_WITHIN, asked)
        .await
        .unwrap_or_else(|_| Err("it does not answer".to_owned()));
    match answer {
        Ok(Reply::Done(_)) => {
            print(&format!("ended   {line}"))?;
            Ok(Exit::Success)
        }
        Ok(other) => {
            words::say(&format!("cannot be ended: it answered {other:?}  {line}"));
            Ok(Exit::Failure)
        }
        Err(why) => {
            words::say(&format!("cannot be ended: {why}  {line}"));
            Ok(Exit::Failure)
        }
    }
}

/// How orphans are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A line each, for people.
    Table,
    /// A JSON list.
    Json,
}

/// Prints the orphans of a home.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn show(home: &Home, form: Form) -> Result<(), CliError> {
    let orphans = Orphan::find(home);
    if form == Form::Json {
        let list: Vec<_> = orphans.iter().map(entry).collect();
        return print(&indented(&json!(list).to_string()));
    }
    if orphans.is_empty() {
        return print("No orphans.");
    }
    print("    PID  WHY                        SESSION, COMMAND")?;
    orphans.iter().try_for_each(|orphan| print(&line(orphan)))
}

fn line(orphan: &Orphan) -> String {
    format!(
        "{:>7}  {:<25}  {}, {}",
        orphan.process().pid,
        orphan.why().as_str(),
        name(orphan.session()),
        command(orphan)
    )
    .replace(char::is_control, " ")
}

fn entry(orphan: &Orphan) -> serde_json::Value {
    json!({
        "pid": orphan.process().pid,
        "start_time": orphan.process().start_time,
        "why": orphan.why().as_str(),
        "session": name(orphan.session()),
        "directory": orphan.session(),
        "command": command(orphan),
    })
}

/// The session's name, or its directory's if it has none any more.
fn name(session: &Path) -> String {
    match Meta::read(session) {
        Ok(meta) => meta.session_id,
        Err(_) => session
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    }
}

fn command(orphan: &Orphan) -> String {
    let words: Vec<_> = orphan
        .command()
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}
