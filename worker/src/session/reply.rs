//! How the kernel says that an execution ended.

use serde_json::json;
use tithon_ipc::ids::ExecId;

use super::Session;
use crate::journal::Status;

/// How the kernel says a cell ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct ExecuteReply {
    /// `ok`, `error` or `aborted`.
    pub(super) status: String,
    /// The kernel's count.
    pub(super) execution_count: Option<i64>,
}

impl ExecuteReply {
    /// What is known of an end whose reply was lost: what was printed tells how it ended.
    pub(super) fn guess(failed: bool, execution_count: Option<i64>) -> Self {
        Self {
            status: if failed { "error" } else { "ok" }.to_owned(),
            execution_count,
        }
    }

    /// The execution's status after it.
    pub(super) fn ended(&self) -> Status {
        if self.status == "ok" {
            Status::Done
        } else {
            Status::Error
        }
    }
}

/// The content of an `execute_reply`.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Reply {
    status: String,
    #[serde(default)]
    execution_count: Option<i64>,
    #[serde(default)]
    payload: Vec<serde_json::Value>,
}

impl Reply {
    /// Reads it; one that cannot be read is an error's.
    pub(super) fn of(content: &[u8]) -> Self {
        serde_json::from_slice(content).unwrap_or_else(|_| {
            tracing::warn!("the kernel's execute_reply cannot be understood");
            Self {
                status: "error".to_owned(),
                execution_count: None,
                payload: Vec::new(),
            }
        })
    }

    /// How it says that the cell ended.
    pub(super) fn outcome(self) -> ExecuteReply {
        ExecuteReply {
            status: self.status,
            execution_count: self.execution_count,
        }
    }

    /// Texts for a pager.
    pub(super) fn pages(&self) -> impl Iterator<Item = &str> {
        self.payload
            .iter()
            .filter_map(|payload| payload.pointer("/data/text~1plain")?.as_str())
    }
}

impl Session {
    /// An execute reply's outcome; its pager texts become output of the execution.
    pub(super) fn outcome_of(&mut self, exec: ExecId, content: &[u8]) -> ExecuteReply {
        let reply = Reply::of(content);
        for text in reply.pages() {
            self.row(
                Some(exec),
                "stream",
                &json!({"name": "stdout", "text": text, "tithon_scope": "cell"}),
            );
        }
        reply.outcome()
    }
}
