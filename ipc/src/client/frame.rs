//! What servers send (PROTOCOL §5, §6): one JSON object per text frame.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{ids::Seq, json};

/// Every frame but `event`, `snapshot` and `status_reply`, which are assembled from stored text.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Frame<'a> {
    /// The backlog ends here; live events follow.
    Sync { seq: Seq },
    /// The client stopped reading and is dropped; it resumes by seq.
    Overflow,
    /// Something failed; often the connection's last frame.
    Error { message: &'a str },
    /// Something the person should know while the connection goes on; Tithon's own addition, sent
    /// only to clients that have said `launch`.
    Notice { message: &'a str },
    /// Queued and durable.
    ExecuteAck {
        #[serde(skip_serializing_if = "Option::is_none")]
        exec_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exec_ids: Option<&'a [String]>,
    },
    /// Whether a prompt was pending.
    InputAck { ok: bool },
    /// Whether a comm message is on its way to the kernel, and else why not.
    CommAck {
        ok: bool,
        comm_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        req_id: Option<&'a Value>,
    },
    /// How many executions were cleared.
    Cleared { count: usize },
    /// The fresh kernel is ready.
    KernelRestarted { kernel_pid: i32 },
    /// The kernel is that of a checkpoint again; Tithon's own addition.
    KernelRestored {
        kernel_pid: i32,
        /// The execution after which it was taken.
        to: &'a str,
        /// The state's name, if it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<&'a str>,
        /// The executions that have run since and are not in it.
        lost: &'a [String],
    },
    /// The checkpoints of the session, oldest first; Tithon's own addition.
    Checkpoints {
        /// How many are kept; 0 is none.
        keep: u32,
        auto_restore: bool,
        /// What they hold together, in bytes, and what they may.
        memory_bytes: u64,
        memory_max: u64,
        /// Why none was taken when one was last due, or those there were are given up.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<&'a str>,
        /// When that was, in unix seconds, where it is not so at any time.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused_ts: Option<f64>,
        checkpoints: &'a [Value],
    },
    /// The states of the session, oldest first, and the executions that are to become some; Tithon's
    /// own addition.
    States {
        /// What they and the checkpoints hold together, in bytes, and what they may.
        memory_bytes: u64,
        memory_max: u64,
        states: &'a [Value],
        running: &'a [Value],
    },
    /// A state and its variables: `{name: {"type", "repr"}}`; Tithon's own addition.
    State {
        state: &'a Value,
        variables: &'a Value,
        /// How many more variables there are.
        left_out: u64,
    },
    /// The states that were given up; Tithon's own addition.
    StatesRemoved { names: &'a [String] },
    /// What was tried on a copy of the kernel has ended, and the copy is gone; Tithon's own addition.
    Tried {
        /// `ok`, or what else the kernel said; `error` where the copy died.
        status: &'a str,
        execution_count: Option<i64>,
    },
    /// There is a second session, whose kernel is a copy; Tithon's own addition.
    Branched {
        /// Its name.
        session: &'a str,
        /// The state, or the execution whose checkpoint, it begins with, if not the kernel as it was.
        from: Option<&'a str>,
        kernel_pid: i32,
        /// How many executions its history has.
        executions: u64,
    },
    /// Bytes of an artifact.
    Artifact {
        artifact_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        mime: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data_b64: Option<&'a str>,
        found: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        req_id: Option<&'a Value>,
    },
    /// Whether there was a kernel to interrupt.
    Interrupted { ok: bool },
    /// Whether there was a kernel to kill.
    KernelKilled { ok: bool, session: &'a Value },
    /// The supervisor ends.
    ShuttingDown,
    /// The other file is written.
    NotebookConverted {
        cells: usize,
        destination: &'a str,
        /// Images that were gone or changed and were left out; Tithon's own addition.
        #[serde(skip_serializing_if = "is_zero")]
        missing_images: usize,
    },
    /// The status of every session.
    StatusReply {
        daemon_pid: u32,
        /// What the supervisor is at work on: connections, sessions it looks after, and a few of its own.
        tasks: usize,
        sessions: &'a [Box<RawValue>],
    },
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Frame<'_> {
    /// The frame's JSON text.
    pub fn to_text(&self) -> String {
        json::to_string(self)
    }
}

/// The kinds of events, by the journaled message type (PROTOCOL §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A cell entered the queue.
    Queued,
    /// A cell was sent to the kernel.
    Started,
    /// A cell ended.
    Done,
    /// A cell asks for input.
    InputRequest,
    /// The prompt is gone.
    InputResolved,
    /// The kernel's own life.
    Kernel,
    /// Busy or idle.
    Status,
    /// Something to show.
    Output,
    /// A widget's comm.
    Widget,
}

impl EventKind {
    /// The kind of a journaled message; `None` for a type that is no event.
    pub fn of(msg_type: &str) -> Option<Self> {
        Some(match msg_type {
            "tithon.queued" => Self::Queued,
            "tithon.started" => Self::Started,
            "tithon.done" => Self::Done,
            "tithon.input_request" => Self::InputRequest,
            "tithon.input_resolved" => Self::InputResolved,
            "tithon.kernel" => Self::Kernel,
            "status" => Self::Status,
            "stream"
            | "display_data"
            | "update_display_data"
            | "execute_result"
            | "error"
            | "clear_output" => Self::Output,
            "comm_open" | "comm_msg" | "comm_close" => Self::Widget,
            _ => return None,
        })
    }

    /// The kind's name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Started => "started",
            Self::Done => "done",
            Self::InputRequest => "input_request",
            Self::InputResolved => "input_resolved",
            Self::Kernel => "kernel",
            Self::Status => "status",
            Self::Output => "output",
            Self::Widget => "widget",
        }
    }
}

/// One journaled row as clients see it. Live and replayed events are both built here, so that they
/// cannot differ.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The row's seq.
    pub seq: Seq,
    /// The execution it is shown under.
    pub exec_id: Option<&'a str>,
    /// The journaled message type.
    pub msg_type: &'a str,
    /// The journaled content: JSON text, passed through as it is.
    pub content: &'a str,
}

impl Event<'_> {
    /// The frame's JSON text; `None` for a row that is no event.
    pub fn to_text(&self) -> Option<String> {
        let kind = EventKind::of(self.msg_type)?;
        let mut text = String::with_capacity(self.content.len() + 128);
        let exec_id = self
            .exec_id
            .map_or_else(|| "null".to_owned(), |id| json::to_string(&id));
        let _ = write!(
            text,
            r#"{{"op": "event", "seq": {}, "exec_id": {exec_id}, "kind": "{}", "payload": "#,
            self.seq,
            kind.name()
        );
        kind.write_payload(self.msg_type, self.content, &mut text);
        text.push('}');
        Some(text)
    }
}

impl EventKind {
    fn write_payload(self, msg_type: &str, content: &str, text: &mut String) {
        match self {
            Self::Status | Self::Output => {
                let _ = write!(
                    text,
                    r#"{{"msg_type": "{msg_type}", "content": {content}}}"#
                );
            }
            Self::Widget => {
                // The content is an object: its members join the message type's.
                let members = content.trim_start().strip_prefix('{').unwrap_or("}");
                let comma = if members.trim_start().starts_with('}') {
                    ""
                } else {
                    ", "
                };
                let _ = write!(text, r#"{{"msg_type": "{msg_type}"{comma}{members}"#);
            }
            _ => text.push_str(content),
        }
    }
}

/// What a copy of the kernel says to the one client that wants to know: as an event, only that no journal
/// has it. `None` for a message that is no event.
pub fn copy_event(msg_type: &str, content: &str) -> Option<String> {
    let kind = EventKind::of(msg_type)?;
    let mut text = String::with_capacity(content.len() + 128);
    let _ = write!(
        text,
        r#"{{"op": "copy_event", "kind": "{}", "payload": "#,
        kind.name()
    );
    kind.write_payload(msg_type, content, &mut text);
    text.push('}');
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(event: Event<'_>) -> Value {
        serde_json::from_str(&event.to_text().unwrap()).unwrap()
    }

    #[test]
    fn events_have_the_protocols_shape() {
        let event = |exec_id, msg_type, content| {
            parsed(Event {
                seq: 4,
                exec_id,
                msg_type,
                content,
            })
        };
        assert_eq!(
            event(
                Some("e1"),
                "stream",
                r#"{"name": "stdout", "text": "hi\n"}"#
            ),
            json!({"op": "event", "seq": 4, "exec_id": "e1", "kind": "output",
                "payload": {"msg_type": "stream", "content": {"name": "stdout", "text": "hi\n"}}})
        );
        assert_eq!(
            event(None, "tithon.kernel", r#"{"status": "interrupted"}"#),
            json!({"op": "event", "seq": 4, "exec_id": null, "kind": "kernel", "payload": {"status": "interrupted"}})
        );
        assert_eq!(
            event(None, "comm_close", "{}"),
            json!({"op": "event", "seq": 4, "exec_id": null, "kind": "widget", "payload": {"msg_type": "comm_close"}})
        );
        assert_eq!(
            event(None, "comm_msg", r#"{"comm_id": "c", "data": {}}"#)["payload"],
            json!({"msg_type": "comm_msg", "comm_id": "c", "data": {}})
        );
        assert!(
            Event {
                seq: 1,
                exec_id: None,
                msg_type: "debug_event",
                content: "{}"
            }
            .to_text()
            .is_none()
        );
    }

    #[test]
    fn frames_are_spaced_as_people_grep_for_them() {
        assert_eq!(
            Frame::Sync { seq: 35 }.to_text(),
            r#"{"op": "sync", "seq": 35}"#
        );
        assert_eq!(Frame::Overflow.to_text(), r#"{"op": "overflow"}"#);
        assert_eq!(
            Frame::ExecuteAck {
                exec_id: Some("e1"),
                exec_ids: None
            }
            .to_text(),
            r#"{"op": "execute_ack", "exec_id": "e1"}"#
        );
        let session = RawValue::from_string("{\"session\": \"a\"}".to_owned()).unwrap();
        assert_eq!(
            Frame::StatusReply {
                daemon_pid: 7,
                tasks: 5,
                sessions: &[session]
            }
            .to_text(),
            r#"{"op": "status_reply", "daemon_pid": 7, "tasks": 5, "sessions": [{"session": "a"}]}"#
        );
    }
}
