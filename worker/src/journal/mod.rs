//! The session's append-only record, and the one source of truth (DESIGN §5).
//!
//! One thread owns the database. It commits what the session sends, in order, and answers reads
//! between commits. A row exists for clients only once its transaction is committed.

mod read;
mod record;
mod schema;
mod thread;
mod wire;
mod write;

use std::{path::Path, sync::mpsc};

pub use read::{Loaded, StoredExecution, StoredRow};
pub use record::{Change, Content, NewExecution, Row, Status, Traffic, Transaction};
use tithon_ipc::ids::{ExecId, Seq};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};
use tokio_tungstenite::tungstenite::Utf8Bytes;
pub use wire::{Channel, date_of, now, rebuild};

/// The name in `meta` of the execution whose prompt the kernel has not taken an answer for.
pub const PROMPT_OPEN: &str = "prompt_open";
/// The name in `meta` of the process id of the kernel that records everything.
pub const GREETED: &str = "spool_greeted";

/// The name in `meta` of the last `execute_reply`: the execution and what it said, in JSON.
pub const REPLY: &str = "execute_reply";

/// The name in `meta` of what has come of a kernel that is read over zmq.
pub const NUMBERING: &str = "zmq_numbering";

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite refused.
    #[error("the journal {path}: {source}")]
    Sqlite {
        path: String,
        source: rusqlite::Error,
    },
    /// The file could not be made.
    #[error("the journal {path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
    /// The journal was written by a later version.
    #[error(
        "the journal {path} has layout {found}, newer than this version's {known}\nhint: use the newer tithon that wrote it"
    )]
    Newer {
        path: String,
        found: i64,
        known: i64,
    },
    /// The journal's thread is gone: a defect, or out of memory.
    #[error("the journal's thread ended")]
    Gone,
}

/// What the journal tells the session, in the order in which it happened.
#[derive(Debug)]
pub enum JournalEvent {
    /// A transaction is committed; with it the folds it asked for.
    Committed(Transaction, Vec<(ExecId, StoredFold)>),
    /// Every execution, for the client of the ticket; in step with the commits before it.
    Snapshot(u64, Vec<StoredExecution>),
    /// The transaction cannot be written for now; it is kept and tried again.
    Stalled(String),
    /// The stalled transaction went through.
    Resumed,
}

/// A stored fold: outputs and state as the fold renders them.
#[derive(Clone, Debug, Default)]
pub struct StoredFold {
    /// `executions.folded_json`.
    pub outputs: Option<String>,
    /// `executions.fold_state`.
    pub state: Option<String>,
}

/// One event as clients receive it.
#[derive(Clone, Debug)]
pub struct EventFrame {
    /// The row's seq.
    pub seq: Seq,
    /// The frame's JSON text.
    pub text: Utf8Bytes,
}

enum Command {
    Commit(Transaction),
    Snapshot(u64),
    Events {
        after: Seq,
        through: Seq,
        max_bytes: usize,
        reply: oneshot::Sender<Vec<EventFrame>>,
    },
    Close(oneshot::Sender<()>),
}

/// A handle on the journal's thread.
#[derive(Clone, Debug)]
pub struct Journal {
    // Unbounded, yet short: one commit is under way at a time, and each client waits for its read.
    commands: mpsc::Sender<Command>,
}

impl Journal {
    /// Opens or makes the journal of a session and reads what the session goes on from.
    ///
    /// # Errors
    /// When the file cannot be opened, is no journal, or is a later version's.
    pub fn open(
        path: &Path,
        session_id: &str,
    ) -> Result<(Self, Loaded, tokio_mpsc::UnboundedReceiver<JournalEvent>), JournalError> {
        let failed = |source| JournalError::Sqlite {
            path: path.display().to_string(),
            source,
        };
        let connection = schema::open(path, session_id)?;
        let loaded = read::load(&connection).map_err(failed)?;
        let (commands, inbox) = mpsc::channel();
        let (events, outbox) = tokio_mpsc::unbounded_channel();
        thread::spawn(connection, inbox, events, loaded.logical_bytes).map_err(|source| {
            JournalError::Io {
                path: path.display().to_string(),
                source,
            }
        })?;
        Ok((Self { commands }, loaded, outbox))
    }

    /// Commits a transaction; [`JournalEvent::Committed`] follows, however long the disk is full.
    pub fn commit(&self, transaction: Transaction) {
        self.send(Command::Commit(transaction));
    }

    /// Reads every execution; [`JournalEvent::Snapshot`] follows, in step with the commits.
    pub fn snapshot(&self, ticket: u64) {
        self.send(Command::Snapshot(ticket));
    }

    /// The events after one seq and through another, oldest first, about `max_bytes` of them.
    pub async fn events(
        &self,
        after: Seq,
        through: Seq,
        max_bytes: usize,
    ) -> Result<Vec<EventFrame>, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Events {
            after,
            through,
            max_bytes,
            reply,
        });
        answer.await.map_err(|_| JournalError::Gone)
    }

    /// Writes everything to the disk and closes the database.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Close(reply));
        // A thread that is gone has nothing left to close.
        drop(answer.await);
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the journal's thread ended");
        }
    }
}
