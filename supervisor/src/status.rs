//! The status of every session: each living worker's own words, and what is known of the rest.

use std::{collections::BTreeMap, path::Path, time::Duration};

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::value::RawValue;
use tithon_ipc::{
    client::Frame,
    control::{Reply, Request},
    ids::SessionId,
    json,
};
use tokio::time::timeout;

use crate::{
    House,
    client::Client,
    discover,
    session::{Demand, Session, Unavailable},
};

/// How long a worker may take to say how it is. A worker that hangs delays the answer by this much.
const STATUS_LIMIT: Duration = Duration::from_secs(1);

/// What is said of a session whose worker does not speak for it.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    session: &'a SessionId,
    worker_pid: Option<i32>,
    kernel_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workdir: Option<&'a Path>,
}

/// What was learnt of a session.
enum Condition {
    /// The worker's own words.
    Told(Box<RawValue>),
    /// It did not answer; its pid if it has one.
    Unknown(Option<i32>),
    /// It has none, for this reason.
    Failed(String),
    /// It has none.
    Stopped,
}

/// Answers a global `status`; `false` when the client does not take the answer.
pub(crate) async fn tell(client: &mut Client, house: &House, all: bool) -> bool {
    let sessions = house.registry.all().await;
    let conditions = join_all(sessions.iter().map(condition)).await;
    let mut known: BTreeMap<_, _> = sessions.iter().map(Session::id).zip(conditions).collect();
    let directories = if all {
        discover::directories(&house.sessions)
    } else {
        Vec::new()
    };
    let on_disk: Vec<_> = directories
        .iter()
        .filter_map(|dir| discover::meta(dir))
        .collect();
    for (id, _) in &on_disk {
        known.entry(id).or_insert(Condition::Stopped);
    }
    let workdirs: BTreeMap<_, _> = on_disk.iter().map(|(id, workdir)| (id, workdir)).collect();
    let entries: Vec<_> = known
        .iter()
        .filter_map(|(id, condition)| {
            let workdir = workdirs.get(id).map(|workdir| workdir.as_path());
            entry(id, condition, workdir, all)
        })
        .collect();
    let daemon_pid = std::process::id();
    let frame = Frame::StatusReply {
        daemon_pid,
        tasks: tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        sessions: &entries,
    };
    client.tell(&frame).await
}

async fn condition(session: &Session) -> Condition {
    let mut pid = None;
    let asked = timeout(STATUS_LIMIT, async {
        let Some(worker) = session.worker(&Demand::Existing).await? else {
            return Ok(None);
        };
        pid = Some(worker.process.pid);
        session
            .call(&Demand::Existing, &Request::Status, None, STATUS_LIMIT)
            .await
    });
    match asked.await {
        Ok(Ok(Some(Reply::Status(text)))) => {
            RawValue::from_string(text).map_or(Condition::Unknown(pid), Condition::Told)
        }
        Ok(Ok(None)) => Condition::Stopped,
        Ok(Err(Unavailable::Failed(reason))) => Condition::Failed(reason),
        Ok(Ok(Some(_)) | Err(_)) | Err(_) => Condition::Unknown(pid),
    }
}

fn entry(
    session: &SessionId,
    condition: &Condition,
    workdir: Option<&Path>,
    all: bool,
) -> Option<Box<RawValue>> {
    let (worker_pid, kernel_status, failed_reason) = match condition {
        Condition::Told(text) => return Some(text.clone()),
        Condition::Unknown(Some(pid)) => (Some(*pid), "unknown", None),
        Condition::Unknown(None) => (None, "starting", None),
        Condition::Failed(reason) if all => (None, "failed", Some(reason.as_str())),
        // One that was known but has no directory any more was removed.
        Condition::Stopped if all && workdir.is_some() => (None, "stopped", None),
        Condition::Failed(_) | Condition::Stopped => return None,
    };
    let entry = Entry {
        session,
        worker_pid,
        kernel_status,
        failed_reason,
        workdir,
    };
    RawValue::from_string(json::to_string(&entry)).ok()
}
