//! Attaching: a snapshot or a cursor, and where live events take over (PROTOCOL §5.1, §7).

use std::fmt::Write as _;

use serde_json::json;
use tithon_ipc::{ids::Seq, json};

use super::{Session, store::Effect};
use crate::{
    client::{Answer, ClientId},
    journal::StoredExecution,
};

impl Session {
    pub(super) fn attach(&mut self, client: ClientId, last_seen: Seq) {
        if last_seen < 0 {
            let (cursor, cutoff) = (self.applied, self.applied);
            self.answer(
                client,
                Answer::Attach {
                    snapshot: None,
                    cursor,
                    cutoff,
                },
            );
        } else if last_seen == 0 || last_seen < self.history_floor() || last_seen > self.applied {
            // Also for a cursor of another history: it would be deaf until the journal got there.
            self.last_ticket += 1;
            self.snapshots.insert(self.last_ticket, client);
            if self.pending.is_empty() || self.stalled.is_some() {
                self.journal.snapshot(self.last_ticket);
            } else {
                // What the snapshot says of the kernel is to be what the journal says at its seq.
                self.after_commit(Effect::Snapshot(self.last_ticket));
            }
        } else {
            self.answer(
                client,
                Answer::Attach {
                    snapshot: None,
                    cursor: last_seen,
                    cutoff: self.applied,
                },
            );
        }
    }

    /// The journal's executions are here. It answers in order, so they are exactly as far as what
    /// is applied: the live folds and the stored rest are one moment.
    pub(super) fn snapshot_read(&mut self, ticket: u64, executions: &[StoredExecution]) {
        let Some(client) = self.snapshots.remove(&ticket) else {
            return;
        };
        let snapshot = self.snapshot(executions);
        let (cursor, cutoff) = (self.applied, self.applied);
        self.answer(
            client,
            Answer::Attach {
                snapshot: Some(snapshot.into()),
                cursor,
                cutoff,
            },
        );
    }

    fn snapshot(&self, executions: &[StoredExecution]) -> String {
        let kernel = json!({
            "status": self.kernel.status(),
            "pid": self.kernel.pid(),
            "python": self.kernel.running().and_then(|kernel| kernel.language_version.as_deref()),
            "lost_state": self.lifecycle.lost_state,
            "reattached": self.kernel.running().is_some_and(|kernel| kernel.reattached),
            "generation": self.lifecycle.generation,
        });
        let pending_input = self.running.as_ref().and_then(|running| {
            let prompt = running.prompt.as_ref()?;
            Some(json!({
                "exec_id": running.exec.to_string(),
                "prompt": prompt.prompt,
                "password": prompt.password,
            }))
        });
        let mut text = format!(
            r#"{{"op": "snapshot", "session": {}, "max_seq": {}, "kernel": {}, "queue_len": {}, "executions": ["#,
            json::to_string(&self.place.id),
            self.applied,
            json::to_string(&kernel),
            self.queue_len(),
        );
        for (at, execution) in executions.iter().enumerate() {
            let live = self
                .folds
                .get(&execution.exec)
                .map(super::store::LiveFold::rendered);
            text.push_str(if at == 0 { "" } else { ", " });
            text.push_str(&execution.entry(live.as_ref()));
        }
        // Writing to a String cannot fail.
        write!(
            text,
            r#"], "closed_by_user": {}, "widgets": {}, "pending_input": {}, "history_floor": {}}}"#,
            self.lifecycle.closed_by_user,
            self.widgets.snapshot_json(),
            json::to_string(&pending_input),
            self.history_floor(),
        )
        .ok();
        text
    }

    /// The highest seq that retention has deleted.
    pub(super) fn history_floor(&self) -> Seq {
        0
    }
}
