//! The living workers of a home, asked directly: for when no supervisor runs, or is not to be asked.

use std::{path::PathBuf, time::Duration};

use tithon_ipc::{
    control::{Client, Reply, Request},
    files::{Meta, WorkerRecord},
    paths::Home,
};
use tokio::time::timeout;

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
