//! What is written: rows that become events, changes to executions, and the traffic beside them.

use std::ops::Range;

use bytes::Bytes;
use tithon_ipc::{
    ids::{ExecId, Seq, sha256_hex},
    jupyter::Message,
};

use super::wire::Channel;
use crate::{
    artifacts::{Encoding, NewFile, StoredArtifact},
    sidecar::ImportedExecution,
};

/// Everything that becomes durable, and visible, at once.
#[derive(Debug, Default)]
pub struct Transaction {
    /// New events, with ascending seqs.
    pub rows: Vec<Row>,
    /// Messages that are no events, kept verbatim.
    pub traffic: Vec<Traffic>,
    /// What else changes.
    pub changes: Vec<Change>,
    /// Files that the rows name: they are on the disk before the rows are.
    pub files: Vec<NewFile>,
    /// Finished executions whose folds the rows touch: they come back with the commit.
    pub wanted_folds: Vec<ExecId>,
    /// Whether the commit must survive a power loss before it is reported.
    pub durable: bool,
    /// Ties the commit to what the session does after it.
    pub ticket: u64,
}

impl Transaction {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.traffic.is_empty() && self.changes.is_empty()
    }
}

/// One event: a row of `messages`.
#[derive(Debug)]
pub struct Row {
    /// Its seq.
    pub seq: Seq,
    /// The execution that caused it.
    pub exec: Option<ExecId>,
    /// The execution it is shown under, where that is another.
    pub target: Option<ExecId>,
    /// The Jupyter message type, or one of Tithon's (PROTOCOL §6).
    pub msg_type: String,
    /// JSON text; for kernel messages the content frame as it came.
    pub content: Content,
    /// Unix time in seconds.
    pub ts: f64,
    /// The kernel's message, for what `content` does not keep of it.
    pub message: Option<Box<Message>>,
    /// Images of the message that are references in `content`, in order.
    pub images: Vec<TakenImage>,
}

/// An image that left its message.
#[derive(Debug)]
pub struct TakenImage {
    /// The artifact it became.
    pub artifact_id: String,
    /// Where the reference stands in the row's content.
    pub reference: Range<usize>,
    /// What turns the file back into the JSON text.
    pub encoding: Encoding,
}

impl Row {
    /// The execution the event is shown under.
    pub fn shown_under(&self) -> Option<ExecId> {
        self.target.or(self.exec)
    }

    /// Whether the event can change what its execution shows. A widget that moves does not; only an
    /// output area's claim does, and for thousands of moves no stored fold need be taken up.
    pub fn touches_fold(&self) -> bool {
        match self.msg_type.as_str() {
            "comm_msg" => self.content.as_str().contains("\"msg_id\""),
            "comm_open" | "status" => false,
            _ => true,
        }
    }

    /// `messages.artifact_ref`: the ids of the artifacts it names.
    pub(super) fn artifact_ref(&self) -> Option<String> {
        let ids: Vec<_> = self
            .images
            .iter()
            .map(|image| image.artifact_id.as_str())
            .collect();
        (!ids.is_empty()).then(|| ids.join(","))
    }
}

/// A row's content: the kernel's bytes as they came, or text of ours.
#[derive(Clone, Debug)]
pub struct Content(Bytes);

impl Content {
    /// Takes a kernel's content frame; `None` when it is not UTF-8.
    pub fn from_frame(frame: Bytes) -> Option<Self> {
        std::str::from_utf8(&frame).ok()?;
        Some(Self(frame))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        // Only made from text that was checked.
        std::str::from_utf8(&self.0).unwrap_or("{}")
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// A message that is no event: replies, prompts as they came, what nobody asked for.
#[derive(Debug)]
pub struct Traffic {
    /// Where it came from.
    pub channel: Channel,
    /// Unix time in seconds.
    pub ts: f64,
    /// The message.
    pub message: Message,
}

/// An execution's state in `executions.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waiting.
    Queued,
    /// Sent to the kernel, or about to be.
    Running,
    /// Ended well.
    Done,
    /// Ended with an error.
    Error,
    /// Its kernel is gone and its end cannot be known.
    Orphaned,
    /// Not run, because a cell before it in its batch failed.
    Skipped,
}

impl Status {
    /// The column's text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Error => "error",
            Self::Orphaned => "orphaned",
            Self::Skipped => "skipped",
        }
    }
}

/// A submitted execution.
#[derive(Debug)]
pub struct NewExecution {
    /// Its number.
    pub exec: ExecId,
    /// The code, verbatim.
    pub code: String,
    /// SHA-256 of the code, in hex.
    pub cell_hash: String,
    /// The document.
    pub origin_uri: Option<String>,
    /// The lines, as JSON text.
    pub origin_range: Option<String>,
    /// The cell's number in the document.
    pub origin_index: Option<i64>,
    /// Who asked.
    pub submitted_by: Option<String>,
    /// Whether `input()` may ask.
    pub allow_stdin: bool,
    /// The first execution of its batch.
    pub batch: ExecId,
    /// Whether an error skips the rest of the batch.
    pub stop_on_error: bool,
    /// Where it is run in a state rather than the kernel: `{"name", "from"}`, as JSON text.
    pub state: Option<String>,
}

impl NewExecution {
    /// An execution of no document, a batch of its own, that cannot ask.
    pub fn of(exec: ExecId, code: String, submitted_by: Option<String>) -> Self {
        Self {
            exec,
            cell_hash: sha256_hex(code.as_bytes()),
            code,
            origin_uri: None,
            origin_range: None,
            origin_index: None,
            submitted_by,
            allow_stdin: false,
            batch: exec,
            stop_on_error: false,
            state: None,
        }
    }
}

/// What a transaction changes beside adding rows.
#[derive(Debug)]
pub enum Change {
    /// A cell entered the queue.
    Submitted(NewExecution),
    /// A cell is sent to the kernel once this is committed.
    Started {
        exec: ExecId,
        kernel_msg_id: Option<String>,
        ts: f64,
    },
    /// A cell ended.
    Finished {
        exec: ExecId,
        status: Status,
        execution_count: Option<i64>,
        ts: Option<f64>,
    },
    /// What came of one that was run in a state: its `executions.state`.
    State { exec: ExecId, state: String },
    /// An execution's fold, as of the transaction's `folds_at`.
    Fold {
        exec: ExecId,
        outputs: String,
        state: String,
    },
    /// Every stored fold holds exactly the rows through this seq.
    FoldsAt(Seq),
    /// An image became a file.
    Artifact(StoredArtifact),
    /// A file is gone, because nothing shows it.
    ForgetArtifact(String),
    /// A file is kept, or no longer, for an execution whose fold had no room for it.
    ElideArtifact { id: String, exec: Option<ExecId> },
    /// Every execution that came from a sidecar goes.
    DropImported,
    /// An execution came from a sidecar.
    Imported {
        exec: ExecId,
        /// The document it is shown in.
        uri: String,
        execution: Box<ImportedExecution>,
    },
    /// A display is shown by this execution.
    Display { display_id: String, exec: ExecId },
    /// A value kept by name.
    Meta { key: &'static str, value: String },
}
