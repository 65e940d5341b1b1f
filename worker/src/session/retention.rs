//! Retention: when to make room in the journal, and what of it must stay for the moment.

use std::collections::HashSet;

use serde_json::{Value, json};
use tithon_ipc::ids::{ExecId, Seq};
use tokio::time::Instant;

use super::Session;
use crate::{
    journal::{
        Loaded, RESUMED_AT, Retained, Retention, now,
        retention::{CLEANUP, FLOOR},
    },
    settings::Settings,
};

const SECONDS_PER_DAY: f64 = 86_400.0;
const BYTES_PER_MIB: f64 = 1_048_576.0;

/// What was deleted so far, and what is being deleted.
#[derive(Debug)]
pub(super) struct History {
    /// The highest seq that was ever deleted.
    pub(super) floor: Seq,
    /// The last cleanup, as `status` shows it.
    pub(super) cleanup: Value,
    /// When to look again; `None` where nothing is to be deleted, or a pass is under way.
    pub(super) due: Option<Instant>,
    /// Through where a pass under way may delete.
    under_way: Option<Seq>,
    /// Where seqs began after the last power loss.
    resumed_at: Seq,
    deleted_before: u64,
}

impl History {
    pub(super) fn load(loaded: &Loaded, settings: &Settings) -> Self {
        let stored = |key: &str| loaded.meta.get(key);
        let cleanup: Value = stored(CLEANUP)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or(Value::Null);
        let wanted = settings.retention_days > 0.0 || settings.target_mib > 0.0;
        Self {
            floor: stored(FLOOR)
                .and_then(|floor| floor.parse().ok())
                .unwrap_or(0),
            deleted_before: cleanup["total_deleted_messages"].as_u64().unwrap_or(0),
            cleanup,
            due: wanted.then(Instant::now),
            under_way: None,
            resumed_at: stored(RESUMED_AT)
                .and_then(|seq| seq.parse().ok())
                .unwrap_or(0),
        }
    }

    /// How many rows were ever deleted.
    pub(super) fn deleted(&self) -> Seq {
        let total = self.cleanup["total_deleted_messages"].as_u64();
        Seq::try_from(total.unwrap_or(0)).unwrap_or(Seq::MAX)
    }

    /// A client that goes on from below this may miss rows, now or in a moment, or have seen some that are
    /// gone: it gets a snapshot.
    pub(super) fn unsteady_below(&self) -> Seq {
        self.floor
            .max(self.under_way.unwrap_or(0))
            .max(self.resumed_at)
    }
}

impl Session {
    /// Begins to delete what the policy no longer wants.
    pub(super) fn make_room(&mut self) {
        self.history.due = None;
        let before = Some(self.settings.retention_days)
            .filter(|days| *days > 0.0)
            .map(|days| now() - days * SECONDS_PER_DAY);
        let open: HashSet<ExecId> = self
            .queue
            .iter()
            .map(|queued| queued.exec)
            .chain(self.running.as_ref().map(|running| running.exec))
            .chain(self.copies.executions())
            .collect();
        // Who is still reading shall not find holes.
        let through = self
            .feed
            .lowest_cursor()
            .unwrap_or(Seq::MAX)
            .min(self.applied);
        self.history.under_way = Some(through);
        self.journal.retain(Retention {
            before,
            excess_bytes: self.excess_bytes(),
            through,
            open,
            floor: self.history.floor,
            deleted_before: self.history.deleted_before,
        });
    }

    /// A step is done: the next one follows whatever came meanwhile.
    pub(super) fn made_room(&mut self, progress: &Retained) {
        self.history.floor = progress.floor;
        if progress.deleted > 0 {
            self.history.cleanup = json!({
                "at": progress.at,
                "deleted_messages": progress.deleted,
                "total_deleted_messages": self.history.deleted_before + progress.deleted,
            });
        }
        if !progress.finished {
            return self.journal.retain_on();
        }
        if progress.deleted > 0 {
            tracing::info!(rows = progress.deleted, "made room in the journal");
            for exec in self.artifacts.elided_through(progress.floor) {
                self.release_elided(exec);
            }
        }
        self.history.deleted_before += progress.deleted;
        self.history.under_way = None;
        self.history.due = Some(Instant::now() + self.settings.retention_poll);
    }

    /// By how many bytes the history is larger than it should be; not positive where it is not.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a target beyond 8 EiB is none; casts of floats saturate"
    )]
    pub(super) fn excess_bytes(&self) -> i64 {
        if self.settings.target_mib <= 0.0 {
            return 0;
        }
        let target = (self.settings.target_mib * BYTES_PER_MIB) as i64;
        let images = i64::try_from(self.artifacts.totals().0).unwrap_or(i64::MAX);
        self.journal
            .logical_bytes()
            .saturating_add(images)
            .saturating_sub(target)
    }
}
