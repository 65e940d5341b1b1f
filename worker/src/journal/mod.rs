//! The session's append-only record, and the one source of truth (DESIGN §5).
//!
//! One thread owns the database. It commits what the session sends, in order, and answers reads
//! between commits. A row exists for clients only once its transaction is committed.

mod artifacts;
mod branch;
mod migrate;
mod outage;
mod read;
mod record;
pub(crate) mod retention;
mod schema;
mod thread;
mod wire;
mod write;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
        mpsc,
    },
};

pub use artifacts::LoadedArtifacts;
pub use branch::{Cut, branch};
pub(crate) use outage::RESUMED_AT;
pub use read::{Loaded, StoredExecution, StoredRow};
pub use record::{Change, Content, NewExecution, Row, Status, TakenImage, Traffic, Transaction};
pub use retention::{Retained, Retention};
use tithon_ipc::{
    ids::{ExecId, Seq},
    process::boot_id,
};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};
use tokio_tungstenite::tungstenite::Utf8Bytes;
pub use wire::{Channel, Rebuilt, date_of, now, rebuild};

/// The name in `meta` of the execution whose prompt the kernel has not taken an answer for.
pub const PROMPT_OPEN: &str = "prompt_open";
/// The name in `meta` of the process id of the kernel that records everything.
pub const GREETED: &str = "spool_greeted";
/// The name in `meta` of the checkpoints that are kept, and of the wishes for them.
pub const CHECKPOINTS: &str = "checkpoints";
/// The name in `meta` of what is run in states.
pub const RUNS: &str = "runs";
/// The name in `meta` of the seq of the last comm message of a client that the kernel has taken up.
pub const HEARD: &str = "comms_heard";
/// The name in `meta` of when the session began, in unix seconds.
pub const CREATED: &str = "created_at";

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
    /// What is in the file is no journal, or not all of it.
    #[error(
        "the journal {path} is damaged ({what}); it was left as it is\nhint: `sqlite3 {path} .recover | sqlite3 recovered.db` saves what can be read; put that in its place, or move the journal away to begin a new one"
    )]
    Damaged { path: String, what: String },
    /// An older journal cannot be copied before it is changed.
    #[error(
        "the journal {path} is the Python program's and must be copied before it is taken over: that needs {needed} MiB, and {free} MiB are free\nhint: free some space, or move the journal away to begin a new one"
    )]
    NoRoom {
        path: String,
        needed: u64,
        free: u64,
    },
    /// The journal's thread is gone: a defect, or out of memory.
    #[error("the journal's thread ended")]
    Gone,
}

impl JournalError {
    fn of_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match source.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::damaged(path, source.to_string()),
            _ => Self::Sqlite {
                path: path.display().to_string(),
                source,
            },
        }
    }

    fn damaged(path: &Path, what: String) -> Self {
        Self::Damaged {
            path: path.display().to_string(),
            what,
        }
    }

    fn of_io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            source,
        }
    }
}

/// What the journal tells the session, in the order in which it happened.
#[derive(Debug)]
pub enum JournalEvent {
    /// A transaction is committed; with it the folds it asked for.
    Committed(Transaction, Vec<(ExecId, StoredFold)>),
    /// Every execution, for the client of the ticket; in step with the commits before it.
    Snapshot(u64, Vec<StoredExecution>),
    /// A step of a retention pass is done.
    Retained(Retained),
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
    Retain(Retention),
    RetainOn,
    Events {
        after: Seq,
        through: Seq,
        max_bytes: usize,
        reply: oneshot::Sender<Vec<EventFrame>>,
    },
    Rest,
    Close(oneshot::Sender<()>),
}

/// A handle on the journal's thread.
#[derive(Clone, Debug)]
pub struct Journal {
    // Unbounded, yet short: one commit is under way at a time, and each client waits for its read.
    commands: mpsc::Sender<Command>,
    logical_bytes: Arc<AtomicI64>,
    /// Set to give up what cannot be written.
    given_up: Arc<AtomicBool>,
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
        let mut connection = schema::open(path, session_id)?;
        let of_sqlite = |source| JournalError::of_sqlite(path, source);
        let owed = outage::begin(&mut connection, boot_id()).map_err(of_sqlite)?;
        let mut loaded = read::load(&connection).map_err(of_sqlite)?;
        if let Some(owed) = &owed {
            owed.apply(&mut loaded);
        }
        let (commands, inbox) = mpsc::channel();
        let (events, outbox) = tokio_mpsc::unbounded_channel();
        let logical_bytes = Arc::new(AtomicI64::new(loaded.logical_bytes));
        let given_up = Arc::new(AtomicBool::new(false));
        let keeper = thread::Keeper::new(
            connection,
            owed,
            events,
            Arc::clone(&logical_bytes),
            Arc::clone(&given_up),
        );
        thread::spawn(keeper, inbox).map_err(|source| JournalError::of_io(path, source))?;
        let journal = Self {
            commands,
            logical_bytes,
            given_up,
        };
        Ok((journal, loaded, outbox))
    }

    /// Commits a transaction; [`JournalEvent::Committed`] follows, however long the disk is full.
    pub fn commit(&self, transaction: Transaction) {
        self.send(Command::Commit(transaction));
    }

    /// Reads every execution; [`JournalEvent::Snapshot`] follows, in step with the commits.
    pub fn snapshot(&self, ticket: u64) {
        self.send(Command::Snapshot(ticket));
    }

    /// Begins a retention pass; [`JournalEvent::Retained`] follows.
    pub fn retain(&self, retention: Retention) {
        self.send(Command::Retain(retention));
    }

    /// Goes on with the retention pass, behind whatever was sent meanwhile.
    pub fn retain_on(&self) {
        self.send(Command::RetainOn);
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

    /// UTF-8 bytes of contents, code and folds in committed rows (PROTOCOL §8).
    pub fn logical_bytes(&self) -> i64 {
        self.logical_bytes.load(Ordering::Relaxed)
    }

    /// Gives back the memory that nobody needs while the session rests, behind whatever was sent before.
    pub fn rest(&self) {
        self.send(Command::Rest);
    }

    /// Tries no longer to write what cannot be written, if anything: the journal is about to be closed.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
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
