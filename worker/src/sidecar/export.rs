//! The sidecar's text: the same for the same outputs, and such that two people's changes merge.

use serde::Serialize;
use serde_json::{Map, Value, json, ser::PrettyFormatter};

use crate::journal::{StoredExecution, StoredFold};

/// The text for a session's executions, each with the fold it has in memory if it has one.
pub(crate) fn text_of(
    executions: &[(StoredExecution, Option<StoredFold>)],
    widgets: &str,
) -> String {
    let executions: Vec<_> = executions
        .iter()
        .filter_map(|(execution, live)| entry(execution, live.as_ref()))
        .collect();
    let none = || json!({"state": {}, "version_major": 2, "version_minor": 0});
    let widgets = serde_json::from_str(widgets).unwrap_or_else(|_| none());
    let file = json!({"version": 1, "executions": executions, "widgets": widgets});
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // A value serialises, and into memory.
    file.serialize(&mut serializer).ok();
    text.push(b'\n');
    String::from_utf8(text).unwrap_or_default()
}

fn entry(execution: &StoredExecution, live: Option<&StoredFold>) -> Option<Value> {
    if !matches!(&*execution.status, "done" | "error" | "orphaned") {
        return None;
    }
    // The history's own entry, less what is nobody else's business.
    let mut entry: Map<String, Value> = serde_json::from_str(&execution.entry(live))
        .map_err(|err| tracing::warn!("{} is not shared: {err}", execution.exec))
        .ok()?;
    entry.remove("fold_state");
    if let Some(origin) = entry.get_mut("origin").and_then(Value::as_object_mut) {
        origin.remove("uri");
    }
    Some(entry.into())
}
