//! What clients ask of the kernel itself: comm messages, and questions that change nothing.
//!
//! Tithon's own additions to the protocol; the fields are those of the Jupyter messaging
//! specification's requests, under the same names.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json, value::RawValue};

use super::values::{self, FieldError};

/// A comm message on its way to the kernel.
#[derive(Clone, Debug)]
pub struct Comm {
    /// Which of the three.
    pub kind: CommKind,
    /// The comm's name, chosen by whoever opened it.
    pub comm_id: String,
    /// Who in the kernel is to answer; only of an opening one.
    pub target_name: Option<String>,
    /// The comm's own language.
    pub data: Map<String, Value>,
    /// The message's metadata, e.g. the version of the widgets' protocol.
    pub metadata: Map<String, Value>,
    /// Binary payloads.
    pub buffers: Vec<Bytes>,
    /// Echoed in the acknowledgement.
    pub req_id: Option<Value>,
}

/// The comm messages there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommKind {
    /// A new comm.
    Open,
    /// Something said on it.
    Message,
    /// The end of it.
    Close,
}

impl CommKind {
    /// The specification's name.
    pub fn msg_type(self) -> &'static str {
        match self {
            Self::Open => "comm_open",
            Self::Message => "comm_msg",
            Self::Close => "comm_close",
        }
    }
}

impl Comm {
    pub(super) fn from_fields(
        kind: CommKind,
        fields: &Map<String, Value>,
    ) -> Result<Self, FieldError> {
        let comm_id = values::text(fields, "comm_id")?.unwrap_or_default();
        let target_name = values::text(fields, "target_name")?;
        if comm_id.is_empty() {
            return Err("a comm message must name its \"comm_id\"".to_owned());
        }
        if kind == CommKind::Open && target_name.is_none() {
            return Err("a \"comm_open\" must name its \"target_name\"".to_owned());
        }
        let buffers = values::list(fields, "buffers")?
            .iter()
            .map(|buffer| {
                let text = buffer.as_str()?;
                BASE64_STANDARD.decode(text).map(Bytes::from).ok()
            })
            .collect::<Option<_>>()
            .ok_or("every one of \"buffers\" must be base64 text")?;
        Ok(Self {
            kind,
            comm_id: comm_id.to_owned(),
            target_name: target_name
                .filter(|_| kind == CommKind::Open)
                .map(str::to_owned),
            data: values::object(fields, "data")?.cloned().unwrap_or_default(),
            metadata: values::object(fields, "metadata")?
                .cloned()
                .unwrap_or_default(),
            buffers,
            req_id: fields.get("req_id").cloned(),
        })
    }

    /// The message's content, as the specification has it.
    pub fn content(&self) -> Value {
        let mut content = json!({"comm_id": self.comm_id, "data": self.data});
        if let Some(target) = &self.target_name {
            content["target_name"] = target.as_str().into();
        }
        content
    }
}

/// A question to the kernel.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is asked.
    pub kind: QuestionKind,
    /// The request's content.
    pub content: Value,
    /// Echoed in the reply: replies may come in any order.
    pub req_id: Option<Value>,
}

/// The questions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// What could follow the cursor.
    Complete,
    /// What the name at the cursor is.
    Inspect,
    /// Whether code is whole, for prompts that take several lines.
    IsComplete,
    /// What was run before.
    History,
    /// What kind of kernel it is.
    KernelInfo,
}

impl QuestionKind {
    /// The operation's name; the request and the reply are named after it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Inspect => "inspect",
            Self::IsComplete => "is_complete",
            Self::History => "history",
            Self::KernelInfo => "kernel_info",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [
            Self::Complete,
            Self::Inspect,
            Self::IsComplete,
            Self::History,
            Self::KernelInfo,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }
}

/// The fields of a `history` question, as the specification names them.
const HISTORY: [&str; 9] = [
    "hist_access_type",
    "output",
    "raw",
    "session",
    "start",
    "stop",
    "n",
    "pattern",
    "unique",
];
/// How much history is given to a client that does not say.
const HISTORY_LENGTH: i64 = 100;

impl Question {
    pub(super) fn from_fields(
        kind: QuestionKind,
        fields: &Map<String, Value>,
    ) -> Result<Self, FieldError> {
        let code = values::text(fields, "code")?.unwrap_or_default();
        // The specification counts code points; without a cursor it is behind the code.
        let cursor_pos = match values::integer(fields, "cursor_pos")? {
            Some(at) => json!(at),
            None => json!(code.chars().count()),
        };
        let content = match kind {
            QuestionKind::Complete => json!({"code": code, "cursor_pos": cursor_pos}),
            QuestionKind::Inspect => json!({
                "code": code,
                "cursor_pos": cursor_pos,
                "detail_level": values::integer(fields, "detail_level")?.unwrap_or(0),
            }),
            QuestionKind::IsComplete => json!({"code": code}),
            QuestionKind::History => {
                let mut content = Map::new();
                content.insert("hist_access_type".to_owned(), json!("tail"));
                content.insert("output".to_owned(), json!(false));
                content.insert("raw".to_owned(), json!(true));
                content.insert("n".to_owned(), json!(HISTORY_LENGTH));
                for name in HISTORY {
                    if let Some(value) = fields.get(name).filter(|value| {
                        // `session` is the Tithon session here, unless it is a number.
                        name != "session" || value.is_number()
                    }) {
                        content.insert(name.to_owned(), value.clone());
                    }
                }
                Value::Object(content)
            }
            QuestionKind::KernelInfo => json!({}),
        };
        Ok(Self {
            kind,
            content,
            req_id: fields.get("req_id").cloned(),
        })
    }
}

/// What came of a question.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The kernel answered; its own `status` is in the content.
    Answered(&'a RawValue),
    /// It did not, within the time there is.
    Timeout(&'a str),
    /// There is no kernel to answer, or too much is asked at once.
    Unavailable(&'a str),
}

/// The reply to a question; the kernel's content is passed through as it is.
pub fn reply_text(kind: QuestionKind, req_id: Option<&Value>, outcome: Outcome<'_>) -> String {
    let mut text = format!(r#"{{"op": "{}_reply""#, kind.name());
    if let Some(req_id) = req_id {
        text.push_str(r#", "req_id": "#);
        text.push_str(&crate::json::to_string(req_id));
    }
    let mut finish = |status: &str, message: Option<&str>, content: &str| {
        text.push_str(&format!(r#", "status": "{status}""#));
        if let Some(message) = message {
            text.push_str(r#", "message": "#);
            text.push_str(&crate::json::to_string(&message));
        }
        text.push_str(&format!(r#", "content": {content}}}"#));
    };
    match outcome {
        Outcome::Answered(content) => finish("ok", None, content.get()),
        Outcome::Timeout(message) => finish("timeout", Some(message), "null"),
        Outcome::Unavailable(message) => finish("unavailable", Some(message), "null"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(fields) => fields,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn comm_messages_have_the_specifications_content() {
        let comm = Comm::from_fields(
            CommKind::Open,
            &fields(
                json!({"comm_id": "c", "target_name": "t", "data": {"a": 1}, "buffers": ["AwQ="]}),
            ),
        )
        .unwrap();
        assert_eq!(
            comm.content(),
            json!({"comm_id": "c", "target_name": "t", "data": {"a": 1}})
        );
        assert_eq!(comm.buffers, [Bytes::from_static(&[3, 4])]);
        for bad in [
            json!({"target_name": "t"}),
            json!({"comm_id": "c"}),
            json!({"comm_id": "c", "target_name": "t", "buffers": ["%"]}),
            json!({"comm_id": "c", "target_name": "t", "data": []}),
        ] {
            assert!(
                Comm::from_fields(CommKind::Open, &fields(bad.clone())).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_cursor_is_behind_the_code_unless_it_is_said() {
        let asked = |value| Question::from_fields(QuestionKind::Complete, &fields(value)).unwrap();
        assert_eq!(asked(json!({"code": "🦀x"})).content["cursor_pos"], 2);
        assert_eq!(
            asked(json!({"code": "abc", "cursor_pos": 1})).content["cursor_pos"],
            1
        );
    }

    #[test]
    fn history_takes_the_specifications_fields_and_no_session_name() {
        let asked = |value| {
            Question::from_fields(QuestionKind::History, &fields(value))
                .unwrap()
                .content
        };
        let tail = asked(json!({"session": "default", "n": 3}));
        assert_eq!(
            tail,
            json!({"hist_access_type": "tail", "output": false, "raw": true, "n": 3})
        );
        assert_eq!(asked(json!({"session": 0}))["session"], 0);
    }

    #[test]
    fn replies_pass_the_kernels_content_through() {
        let content = RawValue::from_string(r#"{"status":"ok","x":"\ud800"}"#.to_owned()).unwrap();
        assert_eq!(
            reply_text(
                QuestionKind::Complete,
                Some(&json!(7)),
                Outcome::Answered(&content)
            ),
            r#"{"op": "complete_reply", "req_id": 7, "status": "ok", "content": {"status":"ok","x":"\ud800"}}"#
        );
        assert_eq!(
            reply_text(QuestionKind::KernelInfo, None, Outcome::Timeout("late")),
            r#"{"op": "kernel_info_reply", "status": "timeout", "message": "late", "content": null}"#
        );
    }
}
