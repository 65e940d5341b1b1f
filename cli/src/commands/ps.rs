//! `tithon ps`: every session at a glance.
//!
//! Reports what a supervisor says and never starts one. With none running the workers that live speak for
//! themselves; with none of these it fails like `status`, rather than print an empty list: kernels live on
//! without either.

use std::{
    env,
    io::{self, IsTerminal},
    time::{Duration, SystemTime},
};

use anstream::{AutoStream, ColorChoice};
use clap::Args;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tithon_ipc::control::{Reply as Answer, Request};

use super::{print, reap};
use crate::{
    error::CliError,
    exit::Exit,
    link::Link,
    render::{
        json::indented,
        table::{self, Look, Session},
        words,
    },
    workers,
};

const EXAMPLES: &str = "\
Examples:
  tithon ps
  tithon ps --all --wide
  tithon ps --json | jq -r '.[] | select(.kernel_status == \"busy\").session'

MEMORY and CPU are those of the kernel and everything it started. Where no
supervisor runs, sessions are asked directly. Fails with exit code 2 when none
answers: kernels may be alive all the same, and the next `tithon run` finds them.";

/// How long a worker may take to say how it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Show the sessions and their kernels
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PsArgs {
    /// Also sessions whose kernel is stopped
    #[arg(short, long)]
    all: bool,

    /// Processes that outlived their session, which `tithon reap` would end
    #[arg(long, conflicts_with_all = ["all", "wide"])]
    orphans: bool,

    /// The sessions' status as a JSON list
    #[arg(long)]
    json: bool,

    /// The sessions' names alone, one a line
    #[arg(short, long, conflicts_with_all = ["json", "wide"])]
    quiet: bool,

    /// Every column, nothing shortened
    #[arg(short, long)]
    wide: bool,
}

impl PsArgs {
    /// Whether the answer is in this machine's process table rather than a supervisor's.
    pub(crate) fn is_about_processes(&self) -> bool {
        self.orphans
    }
}

#[derive(Deserialize)]
struct Reply {
    sessions: Vec<Box<RawValue>>,
}

/// Prints the table, or the list.
///
/// # Errors
/// When no supervisor runs.
pub(crate) async fn run(args: &PsArgs, link: &Link) -> Result<Exit, CliError> {
    if args.orphans {
        let form = match args.json {
            true => reap::Form::Json,
            false => reap::Form::Table,
        };
        reap::show(link.home(), form)?;
        return Ok(Exit::Success);
    }
    let mut op = json!({"op": "status"});
    if args.all {
        op["all"] = json!(true);
    }
    let reply = match link.inquire(&op, "status_reply").await {
        Ok(reply) => serde_json::from_str(&reply)?,
        Err(err) => unsupervised(link, err).await?,
    };
    if args.json {
        let entries: Vec<_> = reply.sessions.iter().map(|entry| entry.get()).collect();
        print(&indented(&format!("[{}]", entries.join(","))))?;
    } else if args.quiet {
        for entry in &reply.sessions {
            let session: Session = serde_json::from_str(entry.get())?;
            print(session.name())?;
        }
    } else if reply.sessions.is_empty() {
        print(empty(args.all))?;
    } else {
        let sessions = reply
            .sessions
            .iter()
            .map(|entry| serde_json::from_str::<Session>(entry.get()))
            .collect::<Result<Vec<_>, _>>()?;
        print(&table::sessions(
            &sessions,
            &look(args, env::home_dir().as_deref()),
        ))?;
    }
    Ok(Exit::Success)
}

/// What the workers say where no supervisor does.
async fn unsupervised(link: &Link, err: CliError) -> Result<Reply, CliError> {
    if !matches!(err, CliError::NoneRuns(_)) || link.remote().is_some() {
        return Err(err);
    }
    let living = workers::living(link.home());
    if living.is_empty() {
        return Err(err);
    }
    let mut sessions = Vec::new();
    for worker in living {
        let told = match worker.ask(&Request::Status, ANSWER_WITHIN).await {
            Ok(Answer::Status(text)) => RawValue::from_string(text),
            _ => RawValue::from_string(
                json!({
                    "session": worker.name,
                    "worker_pid": worker.pid(),
                    "kernel_status": "unknown",
                })
                .to_string(),
            ),
        };
        sessions.push(told?);
    }
    words::say("no supervisor runs; these sessions live on, and the next `tithon run` starts one");
    Ok(Reply { sessions })
}

fn empty(all: bool) -> &'static str {
    if all {
        "No sessions. Start one: tithon run -c 'print(42)'"
    } else {
        "No kernel runs. Start one: tithon run -c 'print(42)', or see older sessions: tithon ps --all"
    }
}

fn look<'a>(args: &PsArgs, home: Option<&'a std::path::Path>) -> Look<'a> {
    let stdout = io::stdout();
    Look {
        width: stdout
            .is_terminal()
            .then(|| rustix::termios::tcgetwinsize(&stdout).ok())
            .flatten()
            .map(|size| usize::from(size.ws_col))
            .filter(|width| *width > 0),
        colour: AutoStream::choice(&stdout) != ColorChoice::Never,
        wide: args.wide,
        now: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64()),
        home,
    }
}
