//! What is known of a session's checkpoints and states, and which checkpoint is given up first.

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
/// A frozen copy of the kernel: a checkpoint, or a state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::session) struct Checkpoint {
    /// The execution after which it was taken; for a state, the one that made it.
    pub(in crate::session) exec: u64,
    /// The last seq of the history that led to it, without what made a state of it.
    pub(in crate::session) seq: Seq,
    /// When, in unix seconds.
    pub(in crate::session) made: f64,
    /// Its process.
    pub(in crate::session) process: ProcessIdentity,
    /// What makes it a state, which stays until somebody gives it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::session) state: Option<StateOf>,
    /// The widgets at that seq, as a snapshot; `None` where that is not known any more.
    #[serde(skip)]
    pub(in crate::session) widgets: Option<String>,
    /// Bytes that it alone holds.
    #[serde(skip)]
    pub(in crate::session) memory: u64,
}

impl Checkpoint {
    /// The widgets that are in it, as a snapshot; `None` where that is not known.
    pub(in crate::session) fn widgets(&self) -> Option<&str> {
        let own = self
            .state
            .as_ref()
            .and_then(|state| state.widgets.as_deref());
        own.or(self.widgets.as_deref())
    }
}

/// What is known of a state beside its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::session) struct StateOf {
    /// What it is called.
    pub(in crate::session) name: String,
    /// The state or the execution whose checkpoint it was made from; the kernel as it was if `None`.
    pub(in crate::session) from: Option<String>,
    /// The last execution of the kernel that is in it; 0 if there was none.
    pub(in crate::session) base: u64,
    /// Its widgets as a snapshot, if what made it has done anything to some: no row of the journal tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::session) widgets: Option<String>,
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
    /// Whether what they hold more at the next look is a new state's own, and nothing that was copied.
    pub(super) together_grows: bool,
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
        if kept.list.is_empty() && kept.keep.unwrap_or(settings.checkpoints) == 0 {
            // Not kept up while there was nothing to go back to.
            kept.line.clear();
        }
        let known = kept.list.iter_mut();
        widgets_at(
            loaded,
            known.map(|known| (known.seq, &mut known.widgets)).collect(),
        );
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
            together_grows: false,
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

    /// The state of that name.
    pub(in crate::session) fn named(&self, name: &str) -> Option<&Checkpoint> {
        let is_called = |state: &StateOf| state.name == name;
        self.states()
            .find(|known| known.state.as_ref().is_some_and(is_called))
    }

    /// The states, oldest first.
    pub(in crate::session) fn states(&self) -> impl Iterator<Item = &Checkpoint> {
        self.kept.list.iter().filter(|known| known.state.is_some())
    }

    /// Adds one, in its place.
    pub(in crate::session) fn add(&mut self, known: Checkpoint) {
        let list = &mut self.kept.list;
        list.retain(|other| other.exec != known.exec);
        list.push(known);
        list.sort_by_key(|known| known.exec);
        self.weigh_due = Some(Instant::now());
    }

    /// A state has got memory of its own, by what made it or by the end of what shared it.
    pub(in crate::session) fn state_has_grown(&mut self) {
        self.together_grows = true;
        self.weigh_due = Some(Instant::now());
    }

    /// How many checkpoints there are; states do not count.
    pub(super) fn count(&self) -> usize {
        self.kept.list.len() - self.states().count()
    }

    /// What a checkpoint or state is called.
    pub(in crate::session) fn name_of(&self, exec: ExecId) -> Option<&str> {
        let state = self.get(exec)?.state.as_ref()?;
        Some(&state.name)
    }

    /// The last execution of the line that is in the kernel; 0 if that has run nothing.
    pub(in crate::session) fn end_of_line(&self) -> u64 {
        self.kept.line.last().copied().unwrap_or(0)
    }

    /// The last execution of the line that is in a checkpoint or state.
    pub(in crate::session) fn base_of(&self, known: &Checkpoint) -> u64 {
        match &known.state {
            Some(state) if !self.kept.line.contains(&known.exec) => state.base,
            _ => known.exec,
        }
    }

    /// What all that is kept holds, and what it may, in bytes.
    pub(in crate::session) fn memory(&self) -> (u64, u64) {
        (self.together, self.memory_max)
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
        let base = self.get(exec).map_or(exec.0, |known| self.base_of(known));
        let after = line.iter().position(|known| *known == base);
        line[after.map_or(0, |at| at + 1)..].to_vec()
    }

    /// The kernel is that of a checkpoint again.
    pub(in crate::session) fn line_ends_at(&mut self, exec: ExecId) {
        let base = self.get(exec).map_or(exec.0, |known| self.base_of(known));
        let line = &mut self.kept.line;
        let common = line.iter().position(|known| *known == base);
        line.truncate(common.map_or(0, |at| at + 1));
        if line.last() != Some(&exec.0) {
            line.push(exec.0);
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

    /// Which checkpoint to give up first: where the others lie closest together, seen from the newest, which
    /// is the last to go.
    pub(super) fn least_useful(&self) -> Option<ExecId> {
        let kept = self.kept.list.iter().filter(|known| known.state.is_none());
        let list: Vec<u64> = kept.map(|known| known.exec).collect();
        let newest = *list.last()?;
        let distance = |at: usize| (newest - list[at]) as f64;
        let least = (0..list.len() - 1).min_by(|&a, &b| {
            let loss = |at: usize| {
                let older = if at == 0 {
                    2.0 * distance(at)
                } else {
                    distance(at - 1)
                };
                (older - distance(at + 1)) / older.max(1.0)
            };
            loss(a).total_cmp(&loss(b))
        });
        Some(ExecId(least.map_or(newest, |at| list[at])))
    }
}

/// Fills in the widgets at seqs of the current kernel's life, from the rows that made them.
pub(in crate::session) fn widgets_at(loaded: &Loaded, mut wanted: Vec<(Seq, &mut Option<String>)>) {
    let mut mirror = WidgetMirror::new();
    let mut rows = loaded.comms.iter().peekable();
    wanted.sort_by_key(|(seq, _)| *seq);
    wanted.retain(|(seq, _)| *seq >= loaded.comms_after);
    for (seq, widgets) in wanted {
        while let Some(row) = rows.next_if(|row| row.seq <= seq) {
            mirror.replay(&row.msg_type, &row.content);
        }
        *widgets = Some(mirror.snapshot_json());
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
                state: None,
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
                known.kept.list.retain(|known| known.exec != least.0);
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

    #[test]
    fn a_state_belongs_to_the_line_that_it_was_made_from() {
        let mut known = checkpoints(&[2, 3]);
        known.kept.list[1].state = Some(StateOf {
            name: "tuned".to_owned(),
            from: None,
            base: 2,
            widgets: None,
        });
        known.kept.line = vec![1, 2, 4, 5];
        assert_eq!(known.lost_since(ExecId(3)), [4, 5]);
        assert_eq!(known.newest_in_line().map(|known| known.exec), Some(2));
        known.line_ends_at(ExecId(3));
        assert_eq!(known.kept.line, [1, 2, 3]);
        assert_eq!(known.newest_in_line().map(|known| known.exec), Some(3));
        known.kept.line.push(6);
        assert_eq!(known.lost_since(ExecId(3)), [6]);
        assert_eq!(known.lost_since(ExecId(2)), [3, 6]);
        // Given up by a person only.
        assert_eq!((known.least_useful(), known.count()), (Some(ExecId(2)), 1));
    }
}
