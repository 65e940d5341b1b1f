//! From what happens to what is committed, and from commits to folds and published events.

use serde_json::json;
use tithon_ipc::{
    client::Event,
    ids::{ExecId, Seq},
    jupyter::Message,
};
use tokio::{sync::oneshot, time::Instant};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{FOLD_INTERVAL, LATE_FOLD_INTERVAL, Session, queue};
use crate::{
    client::{Answer, ClientId},
    fold::Fold,
    journal::{
        CREATED, Change, Channel, Content, EventFrame, JournalEvent, Loaded, NUMBERING, Row,
        StoredFold, StoredRow, Traffic, Transaction, now,
    },
    kernel::spool::SpoolPosition,
};

/// What follows a commit.
#[derive(Debug)]
pub(super) enum Effect {
    /// Answer a client: what it hears is durable.
    Answer(ClientId, Answer),
    /// Send the cell to the kernel: its start is journaled.
    Execute(ExecId),
    /// Send a message to the kernel: the answer of a prompt.
    Send(Channel, Box<Message>),
    /// Send a client's comm message to the kernel, behind those that are still to be repeated.
    Comm(Box<Message>),
    /// Read the executions for a client's snapshot.
    Snapshot(u64),
    /// Let go of what the spool holds before this position.
    Release(SpoolPosition),
    /// Remove the files of artifacts that nothing shows: what took their place is durable.
    Reclaim(Vec<String>),
    /// Bring the shared sidecar up to date.
    Publish,
    /// Let a copy go on to speak.
    Taken(oneshot::Sender<()>),
}

/// A fold in memory: of a cell that runs, or of one that still receives output.
#[derive(Debug, Default)]
pub(super) struct LiveFold {
    fold: Fold,
    /// Whether the stored form lags.
    dirty: bool,
    /// Whether it showed images when that was last looked at.
    with_images: bool,
    /// Whether it may show others since.
    images_changed: bool,
}

impl LiveFold {
    fn restore(exec: ExecId, stored: &StoredFold) -> Self {
        let outputs = stored.outputs.as_deref().unwrap_or("[]");
        let fold = Fold::restore(outputs, stored.state.as_deref()).unwrap_or_else(|err| {
            tracing::warn!("failed to take up the stored outputs of {exec}: {err}");
            Fold::default()
        });
        Self {
            fold,
            dirty: false,
            with_images: true,
            images_changed: true,
        }
    }

    pub(super) fn rendered(&self) -> StoredFold {
        StoredFold {
            outputs: Some(self.fold.outputs_json()),
            state: Some(self.fold.state_json()),
        }
    }

    pub(super) fn has_error(&self) -> bool {
        self.fold.has_error()
    }

    fn apply(&mut self, msg_type: &str, content: &str) {
        if let Err(err) = self.fold.apply(msg_type, content) {
            tracing::warn!("failed to fold a {msg_type} message: {err}");
        }
        self.dirty = true;
        // Whatever a cell without images prints, it shows none.
        self.images_changed |= self.with_images
            || matches!(
                msg_type,
                "display_data" | "update_display_data" | "execute_result"
            );
    }

    /// The fold, if it may show other images than when this was last asked.
    pub(super) fn take_changed_images(&mut self) -> Option<&mut Fold> {
        std::mem::take(&mut self.images_changed).then_some(&mut self.fold)
    }

    pub(super) fn shows_images(&mut self, with_images: bool) {
        self.with_images = with_images;
    }
}

impl Session {
    /// Takes up what the journal holds of a session that ran before.
    pub(super) fn restore(&mut self, mut loaded: Loaded) {
        let imported = self.import_sidecar(&loaded);
        for execution in &loaded.open {
            self.folds.insert(
                execution.exec,
                LiveFold::restore(execution.exec, &execution.fold),
            );
        }
        for (exec, stored) in &loaded.folds {
            self.folds.insert(*exec, LiveFold::restore(*exec, stored));
        }
        for StoredRow {
            exec,
            msg_type,
            content,
            ..
        } in &loaded.unfolded
        {
            if let Some(fold) = exec.and_then(|exec| self.folds.get_mut(&exec)) {
                fold.apply(msg_type, content);
            }
        }
        for row in &loaded.comms {
            self.widgets.replay(&row.msg_type, &row.content);
        }
        self.comms
            .restore(&loaded.comms, std::mem::take(&mut loaded.unheard));
        if !loaded.meta.contains_key(CREATED) {
            self.change(Change::Meta {
                key: CREATED,
                value: self.created.to_string(),
            });
        }
        self.requests.restore(
            std::mem::take(&mut loaded.foreign_requests),
            loaded.last_started_exec,
        );
        if !loaded.unfolded.is_empty() {
            self.folds_due = Some(Instant::now() + LATE_FOLD_INTERVAL);
        }
        self.displays.clone_from(&loaded.displays);
        let artifacts = std::mem::take(&mut loaded.artifacts);
        self.restore_queue(loaded);
        if !imported {
            self.restore_artifacts(artifacts);
        }
    }

    /// Adds an event of ours.
    pub(super) fn row(
        &mut self,
        exec: Option<ExecId>,
        msg_type: &str,
        content: &serde_json::Value,
    ) -> Seq {
        self.push(Row {
            seq: 0,
            exec,
            target: None,
            msg_type: msg_type.to_owned(),
            content: tithon_ipc::json::to_string(content).into(),
            ts: now(),
            message: None,
            images: Vec::new(),
        })
    }

    /// Adds an event, giving it its seq.
    pub(super) fn push(&mut self, mut row: Row) -> Seq {
        self.last_seq += 1;
        row.seq = self.last_seq;
        if let Some(exec) = row.shown_under()
            && row.touches_fold()
            && !self.folds.contains_key(&exec)
            && !self.pending.wanted_folds.contains(&exec)
        {
            self.pending.wanted_folds.push(exec);
        }
        self.pending.rows.push(row);
        self.last_seq
    }

    /// Keeps a message that is no event.
    pub(super) fn keep(&mut self, channel: Channel, message: Message) {
        let ts = crate::journal::date_of(&message.header).unwrap_or_else(now);
        self.pending.traffic.push(Traffic {
            channel,
            ts,
            message,
        });
    }

    pub(super) fn change(&mut self, change: Change) {
        self.pending.changes.push(change);
    }

    pub(super) fn after_commit(&mut self, effect: Effect) {
        self.pending_effects.push(effect);
    }

    /// Makes the pending transaction's commit survive a power loss.
    pub(super) fn durably(&mut self) {
        self.pending.durable = true;
    }

    /// Sends what is pending to the journal. One transaction is under way at a time: what arrives
    /// meanwhile is the next one, so that the journal's speed sets the size of its batches.
    pub(super) fn commit_pending(&mut self) {
        if !self.in_flight.is_empty() || self.pending.is_empty() && self.pending_effects.is_empty()
        {
            return;
        }
        self.journal_numbering();
        let transaction = std::mem::take(&mut self.pending);
        self.in_flight
            .push_back(std::mem::take(&mut self.pending_effects));
        self.journal.commit(transaction);
    }

    /// What has come is committed with the messages themselves: what dies with this worker is missing.
    fn journal_numbering(&mut self) {
        if self.numbering != self.journaled_numbering {
            self.journaled_numbering.clone_from(&self.numbering);
            self.change(Change::Meta {
                key: NUMBERING,
                value: serde_json::to_string(&self.numbering).unwrap_or_default(),
            });
        }
    }

    /// Says, where a cell ends, how many of the kernel's messages never came.
    pub(super) fn journal_missing(&mut self, exec: ExecId) {
        let missing = self.numbering.missing();
        if missing == 0 {
            return;
        }
        let text = format!(
            "[tithon: {missing} messages of the kernel did not arrive before this point: zmq dropped them, or they \
             were another client's]\n"
        );
        tracing::warn!(missing, "messages of the kernel did not arrive");
        self.row(
            Some(exec),
            "stream",
            &json!({"name": "stderr", "text": text, "tithon_scope": "cell"}),
        );
    }

    pub(super) fn journal_event(&mut self, event: JournalEvent) {
        match event {
            JournalEvent::Committed(transaction, folds) => self.committed(&transaction, folds),
            JournalEvent::Snapshot(ticket, executions) => {
                let for_sidecar = self.publication.as_ref().and_then(|wanted| wanted.ticket);
                if for_sidecar == Some(ticket) {
                    self.write_sidecar(executions);
                } else {
                    self.snapshot_read(ticket, &executions);
                }
            }
            JournalEvent::Retained(progress) => self.made_room(&progress),
            JournalEvent::Stalled(reason) => {
                self.notice(&format!(
                    "the journal cannot be written ({reason}): output is kept in memory until it can; \
                     free some space under {}",
                    self.place.dir.display()
                ));
                self.stalled = Some(reason);
            }
            JournalEvent::Resumed => {
                self.stalled = None;
                self.notice("the journal is written again: nothing was lost");
            }
        }
    }

    fn committed(&mut self, transaction: &Transaction, folds: Vec<(ExecId, StoredFold)>) {
        let effects = self.in_flight.pop_front().unwrap_or_default();
        self.artifacts.settle(transaction.files.len());
        for (exec, stored) in folds {
            self.folds
                .entry(exec)
                .or_insert_with(|| LiveFold::restore(exec, &stored));
        }
        let mut shown_under = None;
        for row in &transaction.rows {
            if let Some(exec) = shown_under.filter(|exec| Some(*exec) != row.shown_under()) {
                self.shown_by(exec);
            }
            shown_under = row.shown_under();
            self.apply(row);
        }
        if let Some(exec) = shown_under {
            self.shown_by(exec);
        }
        let wanted = self.feed.has_readers();
        self.feed.publish(
            transaction
                .rows
                .iter()
                .filter_map(|row| frame_of(row, wanted)),
        );
        for effect in effects {
            match effect {
                Effect::Answer(client, answer) => self.answer(client, answer),
                Effect::Execute(exec) => self.send_execute(exec),
                Effect::Send(channel, message) => self.send(channel, *message),
                Effect::Comm(message) => self.send_comm(*message),
                Effect::Snapshot(ticket) => self.journal.snapshot(ticket),
                Effect::Release(position) => self.release_spool(&position),
                Effect::Reclaim(ids) => self.reclaim_now(ids),
                Effect::Publish => self.shared(),
                // It may have ended meanwhile.
                Effect::Taken(taken) => drop(taken.send(())),
            }
        }
        self.finish_if_complete();
        self.finish_foreign();
        self.forget_folds();
    }

    fn apply(&mut self, row: &Row) {
        self.applied = row.seq;
        let Some(exec) = row.shown_under() else {
            return;
        };
        if queue::is_idle(row) {
            self.idle_applied(exec);
            self.foreign_idle(exec);
        }
        if let Some(live) = self.folds.get_mut(&exec)
            && row.msg_type != "status"
        {
            live.apply(&row.msg_type, row.content.as_str());
            let running = self
                .running
                .as_ref()
                .is_some_and(|running| running.exec == exec);
            let interval = if running {
                FOLD_INTERVAL
            } else {
                LATE_FOLD_INTERVAL
            };
            self.folds_due
                .get_or_insert_with(|| Instant::now() + interval);
        }
    }

    /// Stores every fold whose stored form lags, as of what is applied (I5).
    pub(super) fn store_folds(&mut self) {
        self.folds_due = None;
        for (exec, live) in &mut self.folds {
            if std::mem::take(&mut live.dirty) {
                let StoredFold { outputs, state } = live.rendered();
                self.pending.changes.push(Change::Fold {
                    exec: *exec,
                    outputs: outputs.unwrap_or_default(),
                    state: state.unwrap_or_default(),
                });
            }
        }
        self.pending.changes.push(Change::FoldsAt(self.applied));
    }

    /// Lets go of the folds of finished cells once nothing under way can touch them.
    fn forget_folds(&mut self) {
        if self.applied != self.last_seq {
            return;
        }
        let running = self.running.as_ref().map(|running| running.exec);
        let (queue, foreign, copies) = (&self.queue, &self.foreign, &self.copies);
        self.folds.retain(|exec, live| {
            live.dirty
                || Some(*exec) == running
                || queue.iter().any(|queued| queued.exec == *exec)
                || foreign.iter().any(|open| open.exec == *exec)
                || copies.runs(*exec)
        });
    }
}

/// The event as clients see it, live as in a replay (I6); its text is only built when somebody reads it.
fn frame_of(row: &Row, wanted: bool) -> Option<EventFrame> {
    if !wanted {
        return Some(EventFrame {
            seq: row.seq,
            text: Utf8Bytes::default(),
        });
    }
    let exec_id = row.shown_under().map(|exec| exec.to_string());
    let event = Event {
        seq: row.seq,
        exec_id: exec_id.as_deref(),
        msg_type: &row.msg_type,
        content: row.content.as_str(),
    };
    event.to_text().map(|text| EventFrame {
        seq: row.seq,
        text: Utf8Bytes::from(text),
    })
}

/// A kernel message's content as a row keeps it; `None` when it is not UTF-8.
pub(super) fn content_of(message: &Message) -> Option<Content> {
    Content::from_frame(message.content.clone())
}
