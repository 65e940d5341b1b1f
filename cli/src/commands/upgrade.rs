//! `tithon upgrade`: after the program's file was replaced, the processes follow.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use clap::Args;
use serde::Deserialize;
use tithon_ipc::{
    control::{Reply, Request},
    files::{KernelRecord, WorkerRecord},
    lock::Lock,
    platform::process::runs,
};
use tokio::time::{Instant, sleep};

use super::{print, shutdown};
use crate::{
    error::CliError,
    exit::Exit,
    link::Link,
    render::{notice::during, words},
    service::{self, systemd::announced},
    start::program,
    workers::{self, Worker},
};

const EXAMPLES: &str = "\
Examples:
  tithon upgrade

Nothing that runs is interrupted: editors stay connected while the supervisor is
replaced, and a worker's clients come back to its successor by themselves, which
takes over the kernel and continues the running cell. What `tithon try` runs ends
with its worker, so that is waited for as a running cell is.

Exit codes:
    0  everything runs this version
    1  with --no-wait: busy workers were left as they are; or a worker was not
       replaced";

/// How long a worker may take to answer, and to be replaced by another.
const WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at workers that are busy.
const BUSY_POLL: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);

/// Let supervisor and workers follow a replaced program file
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpgradeArgs {
    /// Replace workers in the middle of a cell too; what `tithon try` runs ends
    #[arg(long, conflicts_with = "no_wait")]
    now: bool,

    /// Leave workers alone whose kernel is busy, rather than wait for them
    #[arg(long)]
    no_wait: bool,
}

/// Replaces what runs another file than this program's.
///
/// # Errors
/// When the supervisor does not come back.
pub(crate) async fn run(args: &UpgradeArgs, link: &Link) -> Result<Exit, CliError> {
    let program = program().and_then(fs::metadata);
    let program = program.map_err(|source| CliError::System {
        doing: "find this program's file",
        source,
    })?;
    let file = (program.dev(), program.ino());
    let replaced = during("replacing the supervisor", supervisor(link, file)).await?;
    print(&replaced)?;
    let mut outdated = workers::living(link.home());
    outdated.retain(|worker| !runs(worker.pid(), file));
    if outdated.is_empty() {
        print("unchanged   every worker runs this version")?;
    }
    let mut exit = Exit::Success;
    let mut told = false;
    while !outdated.is_empty() {
        let mut busy = Vec::new();
        for worker in outdated {
            if !args.now && !is_idle(&worker).await {
                busy.push(worker);
                continue;
            }
            let doing = format!("replacing the worker of {}", worker.name);
            match during(&doing, roll(&worker)).await {
                Ok(line) => print(&line)?,
                Err(reason) => {
                    words::say(&format!("{} was not replaced: {reason}", worker.name));
                    exit = Exit::Failure;
                }
            }
        }
        if args.no_wait && !busy.is_empty() {
            for worker in &busy {
                print(&format!(
                    "left        {} is busy (pid {})",
                    worker.name,
                    worker.pid()
                ))?;
            }
            return Ok(Exit::Failure);
        }
        if !busy.is_empty() {
            if !told {
                let names: Vec<_> = busy.iter().map(|worker| worker.name.as_str()).collect();
                words::say(&format!(
                    "waiting for {} to be idle\nhint: --now replaces workers in the middle of a cell, which loses nothing either but what `tithon try` runs",
                    names.join(", ")
                ));
                told = true;
            }
            sleep(BUSY_POLL).await;
        }
        outdated = busy;
    }
    Ok(exit)
}

/// Replaces the supervisor if it runs another file, and starts one if none runs: somebody has to
/// replace the workers.
async fn supervisor(link: &Link, file: (u64, u64)) -> Result<String, CliError> {
    let home = link.home();
    let pid =
        announced(&home.pid_file()).filter(|_| Lock::is_held(&home.lock_file()).unwrap_or(false));
    if let Some(pid) = pid {
        if runs(pid, file) {
            return Ok(format!(
                "unchanged   the supervisor (pid {pid}) runs this version"
            ));
        }
        match service::serving(home).await {
            Some(systemd) => drop(systemd.ctl(&["restart", "tithon.service"]).await?),
            None => drop(shutdown::end(link, shutdown::Kernels::Keep).await?),
        }
    }
    link.open().await?.close().await;
    let successor =
        announced(&home.pid_file()).map_or_else(String::new, |pid| format!(" (pid {pid})"));
    Ok(match pid {
        Some(pid) => format!("replaced    the supervisor (pid {pid}) by another{successor}"),
        None => format!("started     a supervisor{successor}"),
    })
}

/// What of a status says whether a worker has something to do.
#[derive(Deserialize)]
#[serde(default)]
struct Condition {
    state: String,
    queue_len: u64,
    /// Of `tithon try` and `tithon branch`; they end with their worker.
    copies: u64,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            state: "unknown".to_owned(),
            queue_len: 0,
            copies: 0,
        }
    }
}

async fn is_idle(worker: &Worker) -> bool {
    match worker.ask(&Request::Status, WITHIN).await {
        Ok(Reply::Status(text)) => {
            let condition: Condition = serde_json::from_str(&text).unwrap_or_default();
            matches!(condition.state.as_str(), "idle" | "dead")
                && condition.queue_len + condition.copies == 0
        }
        _ => false,
    }
}

/// Ends the worker and waits for the one that the supervisor puts in its place.
async fn roll(worker: &Worker) -> Result<String, String> {
    let stop = Request::Stop { kill_kernel: false };
    match worker.ask(&stop, WITHIN).await {
        Ok(Reply::Done(_)) => {}
        Ok(reply) => return Err(format!("it answered {reply:?}")),
        Err(reason) => return Err(reason),
    }
    let (name, old) = (&worker.name, worker.pid());
    let deadline = Instant::now() + WITHIN;
    loop {
        match living_worker(&worker.dir) {
            Some(pid) if pid != old => {
                return Ok(format!(
                    "replaced    the worker of {name} (pid {old}) by another (pid {pid})"
                ));
            }
            // A session without a kernel gets a worker when it is next used.
            None if !kernel_lives(&worker.dir) => {
                return Ok(format!(
                    "ended       the worker of {name} (pid {old}), which had no kernel"
                ));
            }
            _ if Instant::now() > deadline => {
                return Err(format!(
                    "no other came within {} seconds; its kernel lives on",
                    WITHIN.as_secs()
                ));
            }
            _ => sleep(POLL).await,
        }
    }
}

/// The worker that holds the session's lock and listens.
fn living_worker(dir: &Path) -> Option<i32> {
    let record = WorkerRecord::read(dir).ok()?;
    record.process.open().ok()??;
    Some(record.process.pid)
}

fn kernel_lives(dir: &Path) -> bool {
    KernelRecord::read(dir).is_ok_and(|record| matches!(record.process.open(), Ok(Some(_))))
}
