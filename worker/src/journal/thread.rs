//! The thread that owns the database.
//!
//! Commits go to the page cache at once and to the disk within [`SYNC_INTERVAL`], acknowledged
//! executions before they are reported. A commit that fails (a full disk) is kept and tried again:
//! nothing after it is written before it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tithon_ipc::platform::memory;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Change, Command, JournalEvent, Retained, StoredFold, Transaction,
    outage::{self, Owed},
    read,
    retention::Pass,
    wire, write,
};
use crate::artifacts::NewFile;

/// How much output a power loss may take back.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// The name in `meta` of when output was last put on the disk for its own sake, in unix seconds.
const SYNCED_AT: &str = "synced_at";
/// How long a failed commit waits before it is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// SQLite's own needs are modest and its depth is bounded by our few statements.
const STACK: usize = 256 << 10;

pub(super) fn spawn(keeper: Keeper, inbox: Receiver<Command>) -> io::Result<()> {
    thread::Builder::new()
        .name("journal".to_owned())
        .stack_size(STACK)
        .spawn(move || keeper.run(&inbox))
        .map(drop)
}

pub(super) struct Keeper {
    connection: Connection,
    owed: Option<Owed>,
    writer: write::Writer,
    outbox: UnboundedSender<JournalEvent>,
    /// When the oldest commit that is not on the disk yet was made.
    unsynced: Option<Instant>,
    pass: Option<Pass>,
    given_up: Arc<AtomicBool>,
}

impl Keeper {
    pub(super) fn new(
        connection: Connection,
        owed: Option<Owed>,
        outbox: UnboundedSender<JournalEvent>,
        logical_bytes: Arc<AtomicI64>,
        given_up: Arc<AtomicBool>,
    ) -> Self {
        Self {
            connection,
            owed,
            writer: write::Writer::new(logical_bytes),
            outbox,
            unsynced: None,
            pass: None,
            given_up,
        }
    }

    fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            let command = match self.unsynced {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => inbox.recv_timeout(SYNC_INTERVAL.saturating_sub(since.elapsed())),
            };
            match command {
                Ok(Command::Commit(transaction)) => self.commit(transaction),
                Ok(Command::Snapshot(ticket)) => {
                    let executions = read::executions(&self.connection).unwrap_or_else(|err| {
                        tracing::error!("failed to read the journal's executions: {err}");
                        Vec::new()
                    });
                    self.tell(JournalEvent::Snapshot(ticket, executions));
                }
                Ok(Command::Events {
                    after,
                    through,
                    max_bytes,
                    reply,
                }) => {
                    match read::events(&self.connection, after, through, max_bytes) {
                        // A client that left before its answer needs none.
                        Ok(frames) => drop(reply.send(frames)),
                        Err(err) => tracing::error!("failed to read the journal's events: {err}"),
                    }
                }
                Ok(Command::Retain(retention)) => {
                    match Pass::begin(&self.connection, retention, wire::now()) {
                        Ok(pass) => self.pass = Some(pass),
                        Err(err) => tracing::error!("failed to begin to make room: {err}"),
                    }
                    self.retain();
                }
                Ok(Command::RetainOn) => self.retain(),
                Ok(Command::Rest) => self.rest(),
                Ok(Command::Close(done)) => {
                    self.sync();
                    if let Err(err) = self.take_leave() {
                        tracing::warn!("failed to take leave of the journal: {err}");
                    }
                    drop(self.connection);
                    done.send(()).ok();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
        }
    }

    fn rest(&mut self) {
        // Nothing is lost by a cache that stays.
        self.connection.execute_batch("PRAGMA shrink_memory").ok();
        memory::give_back();
    }

    fn settle(&mut self) -> rusqlite::Result<()> {
        if let Some(owed) = &self.owed {
            owed.settle(&mut self.connection)?;
            self.owed = None;
        }
        Ok(())
    }

    fn take_leave(&mut self) -> rusqlite::Result<()> {
        self.settle()?;
        outage::end(&mut self.connection)
    }

    fn commit(&mut self, transaction: Transaction) {
        let due = self
            .unsynced
            .is_some_and(|since| since.elapsed() >= SYNC_INTERVAL);
        let durable = transaction.durable || due;
        // Before the rows that name them: no crash leaves a row whose image never was.
        NewFile::sync(&transaction.files);
        let mut stalled = false;
        while let Err(err) = self.attempt(&transaction, durable) {
            if !stalled {
                tracing::warn!(
                    "failed to write the journal, keeping what came and trying again: {err}"
                );
                self.tell(JournalEvent::Stalled(err.to_string()));
                stalled = true;
            }
            if self.given_up.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(RETRY_INTERVAL);
        }
        if stalled {
            tracing::info!("the journal is written again");
            self.tell(JournalEvent::Resumed);
        }
        self.unsynced = if durable {
            None
        } else {
            self.unsynced.or_else(|| Some(Instant::now()))
        };
        let folds = transaction
            .wanted_folds
            .iter()
            .map(|exec| {
                let fold = write::stored_fold(&self.connection, *exec).unwrap_or_else(|err| {
                    tracing::error!("failed to read the fold of {exec}: {err}");
                    StoredFold::default()
                });
                (*exec, fold)
            })
            .collect();
        self.tell(JournalEvent::Committed(transaction, folds));
    }

    fn attempt(&mut self, transaction: &Transaction, durable: bool) -> rusqlite::Result<()> {
        self.settle()?;
        if durable {
            self.connection.pragma_update(None, "synchronous", "FULL")?;
        }
        let written = self.writer.write(&mut self.connection, transaction);
        if durable {
            self.connection
                .pragma_update(None, "synchronous", "NORMAL")?;
        }
        written
    }

    fn retain(&mut self) {
        let Some(pass) = &mut self.pass else {
            return;
        };
        if pass.begins_to_mark() {
            self.writer.forget_frames();
        }
        let progress = match pass.step(&mut self.connection) {
            Ok(freed) => {
                self.writer.freed(freed);
                pass.progress()
            }
            // Most likely the disk is full: the next pass tries again.
            Err(err) => {
                tracing::warn!("failed to make room in the journal: {err}");
                Retained {
                    finished: true,
                    ..pass.progress()
                }
            }
        };
        if progress.finished {
            self.pass = None;
        }
        self.unsynced.get_or_insert_with(Instant::now);
        self.tell(JournalEvent::Retained(progress));
    }

    /// Puts earlier commits on the disk: a commit with `synchronous = FULL` syncs the whole log. If it
    /// changes anything: SQLite leaves alone what is written as it was, and then there is nothing to sync.
    fn sync(&mut self) {
        if self.unsynced.take().is_none() {
            return;
        }
        let mark = Transaction {
            changes: vec![Change::Meta {
                key: SYNCED_AT,
                value: wire::now().to_string(),
            }],
            ..Transaction::default()
        };
        if let Err(err) = self.attempt(&mark, true) {
            tracing::warn!("failed to sync the journal: {err}");
            self.unsynced = Some(Instant::now());
        }
    }

    fn tell(&self, event: JournalEvent) {
        // The session ends before its journal: then nobody needs to know.
        drop(self.outbox.send(event));
    }
}
