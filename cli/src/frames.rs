//! What servers send, as the command line reads it: fields it does not need are passed over.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use tithon_ipc::{ids::Seq, jupyter::without_lone_surrogates};

/// A frame, as far as it matters here.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    /// One journaled row.
    Event(Event<'a>),
    /// What a copy of the kernel says.
    CopyEvent(Event<'a>),
    /// The state of a whole session; its text is parsed by who needs it.
    Snapshot,
    /// The backlog ends.
    Sync(Seq),
    /// The cell is queued and durable.
    ExecuteAck(String),
    /// Something to tell the user meanwhile.
    Notice(String),
    /// The server cannot go on.
    Error(String),
    /// The server gives up on us for not reading.
    Overflow,
    /// The answer to another operation, by its name.
    Other(Cow<'a, str>),
}

/// An event whose payload is not looked at yet.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) seq: Seq,
    pub(crate) exec_id: Option<String>,
    pub(crate) kind: Cow<'a, str>,
    payload: Option<&'a RawValue>,
}

/// Every field any frame has; serde's tagged enums would copy the payload.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    op: Cow<'a, str>,
    #[serde(default)]
    seq: Seq,
    exec_id: Option<String>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    message: Option<String>,
}

impl<'a> Received<'a> {
    /// Reads one frame's text.
    ///
    /// # Errors
    /// When it is not a JSON object with fields of the protocol's types.
    pub(crate) fn parse(text: &'a str) -> serde_json::Result<Self> {
        let fields: Fields<'a> = serde_json::from_str(text)?;
        let event = |fields: Fields<'a>| Event {
            seq: fields.seq,
            exec_id: fields.exec_id,
            kind: fields.kind,
            payload: fields.payload,
        };
        Ok(match &*fields.op {
            "event" => Self::Event(event(fields)),
            "copy_event" => Self::CopyEvent(event(fields)),
            "snapshot" => Self::Snapshot,
            "sync" => Self::Sync(fields.seq),
            "execute_ack" => Self::ExecuteAck(fields.exec_id.unwrap_or_default()),
            "notice" => Self::Notice(fields.message.unwrap_or_default()),
            "error" => Self::Error(fields.message.unwrap_or_default()),
            "overflow" => Self::Overflow,
            _ => Self::Other(fields.op),
        })
    }
}

impl Event<'_> {
    /// The payload as the event's kind has it.
    ///
    /// # Errors
    /// When it is missing or of another shape.
    pub(crate) fn payload<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        parse(self.payload.map_or("null", RawValue::get))
    }
}

/// Parses JSON that may hold what no Unicode text can: Python prints lone surrogates, and they are
/// somebody's output.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text).or_else(|err| match without_lone_surrogates(text) {
        Cow::Borrowed(_) => Err(err),
        Cow::Owned(clean) => serde_json::from_str(&clean),
    })
}

/// Payload of `queued`.
#[derive(Debug, Deserialize)]
pub(crate) struct Queued {
    #[serde(default)]
    pub(crate) code: String,
    origin: Option<Value>,
    submitted_by: Option<String>,
}

impl Queued {
    /// Who submitted it, as [`Execution::author`] says.
    pub(crate) fn author(&self) -> Option<&str> {
        author(self.submitted_by.as_deref(), self.origin.as_ref())
    }

    /// The token that `run` put into the origin, echoed verbatim.
    pub(crate) fn token(&self) -> Option<&str> {
        self.origin.as_ref()?.get(TOKEN)?.as_str()
    }
}

/// The member of an origin that tells one `run`'s submission from everybody else's.
pub(crate) const TOKEN: &str = "tithon_run";

/// Payload of `done`.
#[derive(Debug, Deserialize)]
pub(crate) struct Done {
    #[serde(default)]
    pub(crate) status: String,
    /// Of code that was to make a state.
    pub(crate) state: Option<StateEnd>,
}

/// What came of code that was to make a state.
#[derive(Debug, Deserialize)]
pub(crate) struct StateEnd {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) kept: bool,
}

/// Of an execution that was not the kernel's: the state that it was to make.
#[derive(Debug, Deserialize)]
pub(crate) struct StateOf {
    pub(crate) name: String,
    /// What it was run in, if not the kernel as it was.
    pub(crate) from: Option<String>,
    /// Whether there is one, once that is known.
    pub(crate) kept: Option<bool>,
}

impl StateOf {
    /// Whether nothing came of it.
    pub(crate) fn is_not_kept(&self) -> bool {
        self.kept == Some(false)
    }
}

/// Payload of `kernel`, and whatever else says how it ended.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) status: String,
}

/// Payload of `input_request`.
#[derive(Debug, Deserialize)]
pub(crate) struct InputRequest {
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    pub(crate) password: bool,
}

/// Payload of `output`.
#[derive(Debug, Deserialize)]
pub(crate) struct Output {
    pub(crate) msg_type: String,
    #[serde(default)]
    pub(crate) content: Content,
}

/// The content of everything that is shown; also an output item of a snapshot.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Content {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) data: BTreeMap<String, Value>,
    pub(crate) ename: String,
    pub(crate) evalue: Value,
    pub(crate) traceback: Vec<String>,
    pub(crate) tithon_scope: String,
}

/// A snapshot's executions.
#[derive(Debug, Deserialize)]
pub(crate) struct Snapshot {
    #[serde(default)]
    pub(crate) max_seq: Seq,
    #[serde(default)]
    pub(crate) executions: Vec<Execution>,
    #[serde(default)]
    pub(crate) kernel: Kernel,
    pub(crate) pending_input: Option<InputRequest>,
}

/// The kernel's state as a snapshot has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Kernel {
    pub(crate) status: String,
    pub(crate) pid: Option<i64>,
    pub(crate) python: Option<String>,
    pub(crate) lost_state: bool,
    pub(crate) generation: u64,
}

/// An execution's state as a snapshot has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Execution {
    pub(crate) exec_id: String,
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) outputs: Vec<Item>,
    pub(crate) submitted_by: Option<String>,
    pub(crate) origin: Option<Value>,
    pub(crate) started_at: Option<f64>,
    pub(crate) finished_at: Option<f64>,
    /// The kernel's own count, which begins at 1 with each kernel.
    pub(crate) execution_count: Option<u64>,
    /// Of one that was run in a state rather than by the kernel.
    pub(crate) state: Option<StateOf>,
    /// `None` also for what came with the project.
    #[serde(default)]
    pub(crate) fold_state: Option<FoldState>,
}

/// What continues a fold.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FoldState {
    /// Per output item, where the next character of a stream goes in its last line.
    pub(crate) stream_cursors: Vec<Option<usize>>,
}

impl InputRequest {
    /// What to ask with: `getpass()` without words of its own asks as Python's does.
    pub(crate) fn words(&self) -> &str {
        match (self.password, self.prompt.as_str()) {
            (true, "") => "Password: ",
            (_, prompt) => prompt,
        }
    }
}

impl Kernel {
    /// Whether there is one.
    pub(crate) fn is_living(&self) -> bool {
        !matches!(self.status.as_str(), "" | "unknown" | "dead")
    }
}

impl Execution {
    /// Whether it waits or runs.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.status.as_str(), "queued" | "running")
    }

    /// Who submitted it: what they say of themselves, else the document it came from.
    pub(crate) fn author(&self) -> Option<&str> {
        author(self.submitted_by.as_deref(), self.origin.as_ref())
    }
}

fn author<'a>(submitted_by: Option<&'a str>, origin: Option<&'a Value>) -> Option<&'a str> {
    submitted_by.or_else(|| {
        let uri = origin?.get("uri")?.as_str()?;
        uri.rsplit('/').next()
    })
}

/// One output of an execution.
#[derive(Debug, Deserialize)]
pub(crate) struct Item {
    pub(crate) output_type: String,
    #[serde(flatten)]
    pub(crate) content: Content,
}

impl Snapshot {
    /// Reads a snapshot frame's text.
    ///
    /// # Errors
    /// When it does not have a snapshot's shape.
    pub(crate) fn parse(text: &str) -> serde_json::Result<Self> {
        parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_with_their_payload() {
        let text = r#"{"op": "event", "seq": 4, "exec_id": "e1", "kind": "output",
            "payload": {"msg_type": "stream", "content": {"name": "stdout", "text": "a\ud800b"}}}"#;
        let Ok(Received::Event(event)) = Received::parse(text) else {
            panic!("not an event");
        };
        assert_eq!((event.seq, event.exec_id.as_deref()), (4, Some("e1")));
        let output: Output = event.payload().unwrap();
        assert_eq!(output.content.text, "a\u{fffd}b");
        assert!(event.payload::<InputRequest>().is_ok());
    }

    #[test]
    fn a_token_is_found_in_an_origin_of_ours_only() {
        for (origin, token) in [
            (r#"{"tithon_run": "t"}"#, Some("t")),
            (r#"{"uri": "file:///a"}"#, None),
            ("null", None),
            ("7", None),
        ] {
            let queued: Queued = parse(&format!(r#"{{"code": "1", "origin": {origin}}}"#)).unwrap();
            assert_eq!(queued.token(), token, "{origin}");
        }
    }

    #[test]
    fn unknown_frames_and_fields_are_passed_over() {
        let frame = Received::parse(r#"{"op": "from_the_future", "x": [1]}"#).unwrap();
        assert!(matches!(frame, Received::Other(op) if op == "from_the_future"));
        assert!(Received::parse("[]").is_err());
    }
}
