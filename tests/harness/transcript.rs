//! Events in the order in which a client got them, and what they say about a cell.

use serde_json::Value;

/// Events of one session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Transcript(pub(crate) Vec<Value>);

impl Transcript {
    /// The events shown under an execution.
    pub(crate) fn of<'a>(&'a self, exec_id: &str) -> impl Iterator<Item = &'a Value> {
        self.0
            .iter()
            .filter(move |event| event["exec_id"] == exec_id)
    }

    /// The payloads of one kind of event of an execution.
    pub(crate) fn payloads<'a>(
        &'a self,
        exec_id: &str,
        kind: &str,
    ) -> impl Iterator<Item = &'a Value> {
        self.of(exec_id)
            .filter(move |event| event["kind"] == kind)
            .map(|event| &event["payload"])
    }

    /// The contents of an execution's outputs of one type.
    pub(crate) fn outputs<'a>(
        &'a self,
        exec_id: &str,
        msg_type: &str,
    ) -> impl Iterator<Item = &'a Value> {
        self.payloads(exec_id, "output")
            .filter(move |payload| payload["msg_type"] == msg_type)
            .map(|payload| &payload["content"])
    }

    /// What an execution printed to stdout.
    pub(crate) fn stdout(&self, exec_id: &str) -> String {
        self.outputs(exec_id, "stream")
            .filter(|content| content["name"] == "stdout")
            .filter_map(|content| content["text"].as_str())
            .collect()
    }

    /// How an execution ended; there must be exactly one end.
    pub(crate) fn done(&self, exec_id: &str) -> &Value {
        let ends: Vec<_> = self.payloads(exec_id, "done").collect();
        assert_eq!(ends.len(), 1, "{exec_id} ended {} times", ends.len());
        ends[0]
    }

    /// The kinds of an execution's events in order, repeated ones once.
    pub(crate) fn kinds(&self, exec_id: &str) -> Vec<&str> {
        let mut kinds: Vec<_> = self
            .of(exec_id)
            .filter_map(|event| event["kind"].as_str())
            .collect();
        kinds.dedup();
        kinds
    }

    /// The states that `kernel` events tell, in order.
    pub(crate) fn kernel(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter(|event| event["kind"] == "kernel")
            .filter_map(|event| event["payload"]["status"].as_str())
            .collect()
    }

    /// The last event's seq.
    pub(crate) fn last_seq(&self) -> i64 {
        self.0.last().map_or(0, seq)
    }
}

/// An event's seq.
pub(crate) fn seq(event: &Value) -> i64 {
    event["seq"]
        .as_i64()
        .unwrap_or_else(|| panic!("no seq: {event}"))
}
