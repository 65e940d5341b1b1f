//! The living workers of a home, asked directly: for when no supervisor runs, or is not to be asked.

use std::{path::PathBuf, time::Duration};

use tithon_ipc::{
    control::{Client, Reply, Request},
    files::{Meta, WorkerRecord},
    paths::Home,
};
use tokio::time::timeout;

use crate::{error::CliError, link::Link};

/// How long a worker may take to end its kernel: a polite second, a forced one, and a slow disk.
const DONE_WITHIN: Duration = Duration::from_secs(15);

/// A worker that lives.
pub(crate) struct Worker {
    /// The session's name.
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    record: WorkerRecord,
}

/// Those of this home.
pub(crate) fn living(home: &Home) -> Vec<Worker> {
    tithon_supervisor::directories(&home.sessions())
        .into_iter()
        .filter_map(|dir| {
            let record = WorkerRecord::read(&dir).ok()?;
            record.process.open().ok()??;
            Some(Worker {
                name: Meta::read(&dir).ok()?.session_id,
                record,
                dir,
            })
        })
        .collect()
}

/// Has a session's worker do what no supervisor was there to be asked for, which `err` said; returns whether
/// there was a kernel to do it to.
///
/// # Errors
/// `err` itself, if it says something else or no worker lives: then nobody knows of the kernel.
pub(crate) async fn instead(
    link: &Link,
    err: CliError,
    session: &str,
    request: &Request,
) -> Result<bool, CliError> {
    if !matches!(err, CliError::NoneRuns(_)) || link.remote().is_some() {
        return Err(err);
    }
    let mut living = living(link.home()).into_iter();
    let Some(worker) = living.find(|worker| worker.name == session) else {
        return Err(err);
    };
    let why = match worker.ask(request, DONE_WITHIN).await {
        Ok(Reply::Done(done)) => return Ok(done),
        Ok(Reply::Refused(why)) | Err(why) => why,
        Ok(Reply::Status(_)) => "it answered something else".to_owned(),
    };
    Err(CliError::Server(format!(
        "the worker of session '{session}' (pid {}) does not do it: {why}",
        worker.pid()
    )))
}

impl Worker {
    pub(crate) fn pid(&self) -> i32 {
        self.record.process.pid
    }

    /// What it answers; why it does not.
    pub(crate) async fn ask(&self, request: &Request, within: Duration) -> Result<Reply, String> {
        let asked = async {
            let mut client = Client::connect(&self.record.control).await?;
            client.call(request, None).await
        };
        timeout(within, asked)
            .await
            .map_err(|_| format!("it did not answer within {} seconds", within.as_secs()))?
            .map_err(|err| err.to_string())
    }
}
