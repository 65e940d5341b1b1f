//! What a client that follows the protocol knows of a session: from a snapshot, from events, or from both.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tithon_ipc::ids::sha256_hex;

use super::naive::Naive;

/// A session as a client has it.
pub(crate) struct View {
    seq: i64,
    executions: BTreeMap<u64, Execution>,
    widgets: Widgets,
    pending_input: Value,
    generation: Value,
    lost_state: Value,
}

struct Execution {
    /// Everything but what it shows.
    entry: Value,
    shows: Shows,
}

enum Shows {
    /// It came with the project and nothing is folded into it.
    Imported(Value),
    Folded(Naive),
}

/// Models by comm id, those of the kernel apart from those that came with the project.
#[derive(Default)]
struct Widgets {
    models: BTreeMap<String, Value>,
    /// Which models a fresh kernel does not end: the ones that no comm of it opened.
    shared: Vec<String>,
}

impl View {
    pub(crate) fn from_snapshot(snapshot: &Value) -> Self {
        let executions = snapshot["executions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|execution| {
                let mut entry = execution.clone();
                let outputs = entry["outputs"].take();
                let fold_state = entry["fold_state"].take();
                let shows = if fold_state.is_null() {
                    Shows::Imported(outputs)
                } else {
                    Shows::Folded(Naive::seeded(&outputs, &fold_state))
                };
                if entry["status"] == "orphaned" {
                    // When its last message came, which no event says.
                    entry["finished_at"].take();
                }
                let number = execution["seq"].as_u64().unwrap();
                (number, Execution { entry, shows })
            });
        let models = snapshot["widgets"]["state"].as_object().unwrap().iter();
        let models: BTreeMap<_, _> = models
            .map(|(comm_id, model)| {
                (
                    comm_id.clone(),
                    json!({"state": model["state"], "buffers": model["buffers"]}),
                )
            })
            .collect();
        Self {
            seq: snapshot["max_seq"].as_i64().unwrap(),
            executions: executions.collect(),
            widgets: Widgets {
                shared: models.keys().cloned().collect(),
                models,
            },
            pending_input: snapshot["pending_input"].clone(),
            generation: snapshot["kernel"]["generation"].clone(),
            lost_state: snapshot["kernel"]["lost_state"].clone(),
        }
    }

    /// The seq it is at.
    pub(crate) fn seq(&self) -> i64 {
        self.seq
    }

    /// All of it, to be compared.
    pub(crate) fn state(&self) -> Value {
        let executions: Vec<_> = self
            .executions
            .values()
            .map(|execution| match &execution.shows {
                Shows::Imported(outputs) => json!([execution.entry, outputs, null]),
                Shows::Folded(fold) => json!([execution.entry, fold.outputs(), fold.state()]),
            })
            .collect();
        json!({
            "executions": executions,
            "widgets": self.widgets.models,
            "pending_input": self.pending_input,
            "generation": self.generation,
            "lost_state": self.lost_state,
        })
    }

    /// The widgets' models by comm id.
    pub(crate) fn widgets(&self) -> Value {
        json!(self.widgets.models)
    }

    /// What a cell shows.
    pub(crate) fn shown(&self, cell: &str) -> Value {
        let execution = self
            .executions
            .values()
            .find(|execution| execution.entry["exec_id"] == cell);
        match &execution
            .unwrap_or_else(|| panic!("there is no {cell}"))
            .shows
        {
            Shows::Imported(outputs) => outputs.clone(),
            Shows::Folded(fold) => fold.outputs(),
        }
    }

    /// Goes on with an event.
    pub(crate) fn apply(&mut self, event: &Value) {
        let payload = &event["payload"];
        self.seq = event["seq"].as_i64().unwrap();
        let number = event["exec_id"]
            .as_str()
            .and_then(|id| id[1..].parse::<u64>().ok());
        match (event["kind"].as_str().unwrap(), number) {
            ("queued", Some(number)) => self.queued(number, payload),
            ("started", Some(number)) => {
                let entry = &mut self.executions.get_mut(&number).unwrap().entry;
                (entry["status"], entry["started_at"]) = (json!("running"), payload["ts"].clone());
            }
            ("done", Some(number)) => {
                let entry = &mut self.executions.get_mut(&number).unwrap().entry;
                let status = payload["status"].as_str().unwrap();
                entry["status"] = json!(if status == "ok" { "done" } else { status });
                entry["execution_count"] = payload["execution_count"].clone();
                if status != "orphaned" {
                    entry["finished_at"] = payload["ts"].clone();
                }
            }
            ("output", Some(number)) => {
                self.fold(number, &payload["msg_type"], payload["content"].clone())
            }
            ("widget", number) => {
                if let Some(number) = number.filter(|_| claims(payload)) {
                    self.fold(number, &payload["msg_type"], payload.clone());
                }
                self.widgets.apply(payload);
            }
            ("input_request", _) => self.pending_input = payload.clone(),
            ("input_resolved", _) => self.pending_input = Value::Null,
            ("kernel", _) => self.kernel(event["seq"].clone(), payload),
            _ => {}
        }
    }

    fn queued(&mut self, number: u64, payload: &Value) {
        let code = payload["code"].as_str().unwrap();
        let mut entry = json!({
            "exec_id": format!("e{number}"), "seq": number, "code": code, "status": "queued", "execution_count": null,
            "cell_hash": sha256_hex(code.as_bytes()), "origin": payload["origin"], "outputs": null, "fold_state": null,
            "started_at": null, "finished_at": null,
        });
        if let Some(who) = payload.get("submitted_by") {
            entry["submitted_by"] = who.clone();
        }
        let shows = Shows::Folded(Naive::default());
        self.executions.insert(number, Execution { entry, shows });
    }

    fn fold(&mut self, number: u64, msg_type: &Value, content: Value) {
        const FOLDED: [&str; 8] = [
            "stream",
            "display_data",
            "update_display_data",
            "execute_result",
            "error",
            "clear_output",
            "comm_msg",
            "comm_close",
        ];
        let msg_type = FOLDED
            .into_iter()
            .find(|folded| msg_type == folded)
            .unwrap();
        match &mut self.executions.get_mut(&number).unwrap().shows {
            Shows::Folded(fold) => fold.apply(&(msg_type, content)),
            Shows::Imported(outputs) => panic!("{msg_type} for {outputs}"),
        }
    }

    fn kernel(&mut self, seq: Value, payload: &Value) {
        if matches!(payload["status"].as_str(), Some("restarted" | "replaced")) {
            self.generation = seq;
            self.lost_state = json!(payload["status"] == "replaced");
            let shared = &self.widgets.shared;
            self.widgets
                .models
                .retain(|comm_id, _| shared.contains(comm_id));
        }
    }
}

/// Whether a comm message begins or ends the claim of an output area.
fn claims(payload: &Value) -> bool {
    let is_update = matches!(
        payload["data"]["method"].as_str(),
        Some("update" | "echo_update")
    );
    payload["msg_type"] == "comm_close"
        || is_update && payload["data"]["state"].get("msg_id").is_some()
}

impl Widgets {
    fn apply(&mut self, payload: &Value) {
        let comm_id = payload["comm_id"].as_str().unwrap();
        let (data, msg_type) = (&payload["data"], payload["msg_type"].as_str().unwrap());
        match msg_type {
            "comm_open" if payload["target_name"] == "jupyter.widget" => {
                self.shared.retain(|shared| shared != comm_id);
                self.models
                    .insert(comm_id.to_owned(), json!({"state": {}, "buffers": []}));
            }
            "comm_msg" if matches!(data["method"].as_str(), Some("update" | "echo_update")) => {}
            "comm_close" => {
                self.models.remove(comm_id);
                return;
            }
            _ => return,
        }
        let Some(model) = self.models.get_mut(comm_id) else {
            return;
        };
        let state = data["state"].as_object().cloned().unwrap_or_default();
        let mut buffers: Vec<Value> = model["buffers"].as_array().unwrap().clone();
        buffers.retain(|buffer| !state.contains_key(buffer["path"][0].as_str().unwrap()));
        let paths = data["buffer_paths"].as_array().into_iter().flatten();
        for (path, bytes) in paths.zip(payload["_buffers_b64"].as_array().into_iter().flatten()) {
            buffers.retain(|buffer| buffer["path"] != *path);
            buffers.push(json!({"encoding": "base64", "path": path, "data": bytes}));
        }
        buffers.sort_by_key(|buffer| buffer["path"].to_string());
        model["buffers"] = json!(buffers);
        for (name, value) in state {
            model["state"][name] = value;
        }
    }
}
