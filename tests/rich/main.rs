//! Rich output: images as files, the sidecar that shares outputs with a project, and what retention
//! leaves of both.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod images;
mod retention;
mod sidecar;

use std::{collections::BTreeSet, fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use harness::{Client, Home, until};
use serde_json::{Value, json};

/// The files in a project's outputs.
pub(crate) fn outputs(work: &Path) -> BTreeSet<String> {
    fs::read_dir(work.join(".tithon/outputs"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The references in a MIME bundle, by type.
pub(crate) fn references(content: &Value) -> Vec<(String, Value)> {
    let data = content["data"].as_object().unwrap();
    data.iter()
        .filter_map(|(mime, value)| Some((mime.clone(), value.get("$tithon_artifact")?.clone())))
        .collect()
}

/// The bytes of an artifact, as a client gets them.
pub(crate) fn bytes(client: &mut Client, id: &Value) -> Option<Vec<u8>> {
    let op = json!({"op": "get_artifact", "artifact_id": id, "req_id": [id, 7]});
    let frame = client.ask(&op, "artifact");
    assert_eq!(frame["req_id"], json!([id, 7]), "{frame}");
    (frame["found"] == true).then(|| {
        BASE64_STANDARD
            .decode(frame["data_b64"].as_str().unwrap())
            .unwrap()
    })
}

pub(crate) fn snapshot(home: &Home, session: &str) -> Value {
    home.client().attach(session, 0).0.unwrap()
}

/// What an execution shows in a snapshot.
pub(crate) fn shown(snapshot: &Value, exec_id: &str) -> Value {
    let executions = snapshot["executions"].as_array().unwrap();
    let execution = executions.iter().find(|one| one["exec_id"] == exec_id);
    execution.unwrap()["outputs"].clone()
}

/// Ends the worker as a crash does, and waits for another.
pub(crate) fn crash_worker(home: &Home, session: &str) {
    let worker = home.worker(session).unwrap();
    home.kill(worker);
    until("another worker", || {
        home.worker(session).filter(|other| *other != worker)
    });
}
