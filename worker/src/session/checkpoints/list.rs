//! What is known of a session's checkpoints, and which of them is given up first.

use serde::{Deserialize, Serialize};
use tithon_ipc::{
    ids::{ExecId, Seq},
    process::ProcessIdentity,
};
use tokio::time::Instant;

use super::cost::{Allowance, share_of};
use crate::{
    journal::{CHECKPOINTS, Loaded},
    kernel::checkpoint,
    widgets::WidgetMirror,
};

/// Most that can be kept, whatever is asked.
const KEEP_MAX: u32 = 100;
/// A frozen copy of the kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::session) struct Checkpoint {
    /// The execution after which it was taken.
    pub(in crate::session) exec: u64,
    /// The last seq then.
    pub(in crate::session) seq: Seq,
    /// When, in unix seconds.
    pub(in crate::session) made: f64,
    /// Its process.
    pub(in crate::session) process: ProcessIdentity,
    /// The widgets at that time, as a snapshot; `None` where that is not known any more.
    #[serde(skip)]
    pub(in crate::session) widgets: Option<String>,
    /// Bytes that it alone holds.
    #[serde(skip)]
    pub(super) memory: u64,
}

/// What is journaled of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) keep: Option<u32>,
    pub(super) auto_restore: Option<bool>,
    pub(super) list: Vec<Checkpoint>,
    pub(super) line: Vec<u64>,
    /// The execution after which one was still to be taken, and the last seq then.
    pub(super) due: Option<(u64, Seq)>,
}

impl Kept {
    /// What an earlier worker did not live to ask for; whoever asks must not have run anything since.
    fn owed(&self) -> Option<(ExecId, Seq)> {
        let (exec, seq) = self.due?;
        let is_newest = self.line.last() == Some(&exec);
        let is_taken = self.list.iter().any(|known| known.exec == exec);
        (is_newest && !is_taken).then_some((ExecId(exec), seq))
    }
}

/// A request that the kernel has not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) exec: ExecId,
    pub(super) seq: Seq,
    pub(super) since: Instant,
}

/// The checkpoints of one session.
#[derive(Debug)]
pub(in crate::session) struct Checkpoints {
    pub(super) kept: Kept,
    pub(super) default_keep: u32,
    pub(super) default_auto_restore: bool,
    pub(super) memory_max: u64,
    /// A cell has succeeded since the newest.
    pub(super) wanted: Option<(ExecId, Seq)>,
    pub(super) asked: Option<Asked>,
    /// Forked, and not listening yet.
    pub(super) freezing: Option<(ExecId, Seq)>,
    /// Not asked for before.
    pub(super) earliest: Instant,
    pub(super) allowance: Allowance,
    /// Whether this kernel failed to answer.
    pub(super) given_up: bool,
    /// Why there was none the last time.
    pub(super) refused: Option<String>,
    /// When that was, in unix seconds.
    pub(super) refused_at: f64,
    pub(super) weigh_due: Option<Instant>,
    pub(super) weighing: bool,
    /// Bytes they hold together.
    pub(super) together: u64,
    /// Told apart from those that were given up since.
    pub(super) epoch: u64,
    /// One is becoming the kernel.
    pub(in crate::session) waking: bool,
    /// The last restore came to nothing: none is tried until a person asks.
    pub(in crate::session) failed: bool,
}

impl Checkpoints {
    pub(in crate::session) fn load(loaded: &Loaded, settings: &crate::settings::Settings) -> Self {
        let mut kept: Kept = loaded
            .meta
            .get(CHECKPOINTS)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        kept.list
            .retain(|checkpoint| matches!(checkpoint.process.open(), Ok(Some(_))));
        restore_widgets(&mut kept.list, loaded);
        let percent = settings.checkpoint_memory.clamp(0.0, 90.0);
        Self {
            wanted: kept.owed(),
            weigh_due: (!kept.list.is_empty()).then(Instant::now),
            kept,
            default_keep: settings.checkpoints,
            default_auto_restore: settings.auto_restore,
            memory_max: share_of(checkpoint::total_memory(), percent),
            asked: None,
            freezing: None,
            earliest: Instant::now(),
            allowance: Allowance::new(Instant::now()),
            given_up: false,
            refused: None,
            refused_at: 0.0,
            weighing: false,
            together: 0,
            epoch: 0,
            waking: false,
            failed: false,
        }
    }

    pub(super) fn keep(&self) -> u32 {
        self.kept.keep.unwrap_or(self.default_keep).min(KEEP_MAX)
    }

    pub(in crate::session) fn restores_by_itself(&self) -> bool {
        self.kept.auto_restore.unwrap_or(self.default_auto_restore)
    }

    pub(in crate::session) fn is_empty(&self) -> bool {
        self.kept.list.is_empty()
    }

    /// Whether the kernel was asked for one and has not answered.
    pub(in crate::session) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    pub(in crate::session) fn get(&self, exec: ExecId) -> Option<&Checkpoint> {
        self.kept.list.iter().find(|known| known.exec == exec.0)
    }

    /// The newest of the line of executions that the kernel is, or was, the end of.
    pub(in crate::session) fn newest_in_line(&self) -> Option<&Checkpoint> {
        self.kept
            .list
            .iter()
            .rev()
            .find(|known| self.kept.line.contains(&known.exec))
    }

    /// What was run since a checkpoint and is not in it.
    pub(in crate::session) fn lost_since(&self, exec: ExecId) -> Vec<u64> {
        let line = &self.kept.line;
        let after = line.iter().position(|known| *known == exec.0);
        line[after.map_or(0, |at| at + 1)..].to_vec()
    }

    /// The kernel is that of a checkpoint again.
    pub(in crate::session) fn line_ends_at(&mut self, exec: ExecId) {
        match self.kept.line.iter().position(|known| *known == exec.0) {
            Some(at) => self.kept.line.truncate(at + 1),
            None => self.kept.line = vec![exec.0],
        }
        self.kernel_is_new();
    }

    /// Nothing that was to be asked of the one before is meant for this kernel.
    pub(in crate::session) fn kernel_is_new(&mut self) {
        self.wanted = None;
        self.asked = None;
        self.given_up = false;
        self.refused = None;
    }

    /// Which one to give up first: where the others lie closest together, seen from the newest.
    pub(super) fn least_useful(&self) -> Option<usize> {
        let list = &self.kept.list;
        let newest = list.last()?.exec;
        let distance = |at: usize| (newest - list[at].exec) as f64;
        (0..list.len().saturating_sub(1)).min_by(|&a, &b| {
            let loss = |at: usize| {
                let older = if at == 0 {
                    2.0 * distance(at)
                } else {
                    distance(at - 1)
                };
                (older - distance(at + 1)) / older.max(1.0)
            };
            loss(a).total_cmp(&loss(b))
        })
    }
}

/// The widgets at each checkpoint of the current kernel's life, from the rows that made them.
fn restore_widgets(list: &mut [Checkpoint], loaded: &Loaded) {
    let mut mirror = WidgetMirror::new();
    let mut rows = loaded.comms.iter().peekable();
    for checkpoint in list
        .iter_mut()
        .filter(|checkpoint| checkpoint.seq >= loaded.comms_after)
    {
        while let Some(row) = rows.next_if(|row| row.seq <= checkpoint.seq) {
            mirror.replay(&row.msg_type, &row.content);
        }
        checkpoint.widgets = Some(mirror.snapshot_json());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(execs: &[u64]) -> Checkpoints {
        let settings = crate::settings::Settings::from_env();
        let mut checkpoints = Checkpoints::load(&Loaded::default(), &settings);
        checkpoints.kept.list = execs
            .iter()
            .map(|exec| Checkpoint {
                exec: *exec,
                seq: 0,
                made: 0.0,
                process: ProcessIdentity::current().unwrap(),
                widgets: None,
                memory: 0,
            })
            .collect();
        checkpoints
    }

    #[test]
    fn what_is_kept_lies_the_closer_the_newer_it_is() {
        let mut known = checkpoints(&[]);
        for exec in 1..=1000 {
            known
                .kept
                .list
                .push(checkpoints(&[exec]).kept.list.remove(0));
            if known.kept.list.len() > 8 {
                let least = known.least_useful().unwrap();
                known.kept.list.remove(least);
            }
        }
        let kept: Vec<u64> = known.kept.list.iter().map(|known| known.exec).collect();
        assert_eq!(kept.last(), Some(&1000), "{kept:?}");
        assert!(kept[0] <= 900 && kept.contains(&999), "{kept:?}");
        let gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.windows(2).all(|pair| pair[0] >= pair[1]), "{kept:?}");
    }

    #[test]
    fn what_a_restore_loses_is_what_was_run_since() {
        let mut known = checkpoints(&[1, 2, 4]);
        known.kept.line = vec![1, 2, 3, 4, 5];
        assert_eq!(known.lost_since(ExecId(2)), [3, 4, 5]);
        known.line_ends_at(ExecId(2));
        assert_eq!(known.newest_in_line().map(|known| known.exec), Some(2));
        // One of another line: nothing of this one is in it.
        assert_eq!(known.lost_since(ExecId(4)), [1, 2]);
        known.line_ends_at(ExecId(4));
        assert_eq!(known.newest_in_line().map(|known| known.exec), Some(4));
    }
}
