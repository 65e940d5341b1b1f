//! The checkpoints of the session: when one is taken, how many are kept, and what they may cost.
//!
//! The kernel is asked between two cells and never by itself, so a session without checkpoints runs
//! exactly as if there were none. A taken one costs the kernel a fork, and a copy of each page that the
//! kernel then overwrites: all of that together may cost 1 % of the time, and a second more, so that a
//! few quick cells each get theirs.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tithon_ipc::{
    client::{CheckpointWish, Frame},
    files::CheckpointRecord,
    ids::{ExecId, Seq},
    process::ProcessIdentity,
};
use tokio::time::Instant;

use super::{
    Session,
    kernel::{KernelSlot, PROBE},
    launch::LaunchEvent,
};
use crate::{
    client::ClientId,
    journal::{CHECKPOINTS, Change, Channel, Loaded, now},
    kernel::checkpoint::{self, Weights},
    widgets::WidgetMirror,
};

/// After a refusal.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a kernel may take to answer; a fork of a hundred gigabytes needs a second.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a copy may take from the fork to its socket.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);
/// The same when its kernel has died and others wait.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// How often checkpoints are weighed while a cell runs: what it overwrites, they keep.
const WEIGH_INTERVAL: Duration = Duration::from_secs(2);
/// How often where nothing runs.
const WEIGH_INTERVAL_IDLE: Duration = Duration::from_secs(30);
/// How many bytes the system copies in a second, page by page, for a kernel that overwrites what it shares.
const COPIED_PER_SECOND: f64 = 1.5e9;
/// Most that can be kept, whatever is asked.
pub(super) const KEEP_MAX: u32 = 100;

/// A frozen copy of the kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The execution after which it was taken.
    pub(super) exec: u64,
    /// The last seq then.
    pub(super) seq: Seq,
    /// When, in unix seconds.
    pub(super) made: f64,
    /// Its process.
    pub(super) process: ProcessIdentity,
    /// The widgets at that time, as a snapshot; `None` where that is not known any more.
    #[serde(skip)]
    pub(super) widgets: Option<String>,
    /// Bytes that it alone holds.
    #[serde(skip)]
    memory: u64,
}

/// What is journaled of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    keep: Option<u32>,
    auto_restore: Option<bool>,
    list: Vec<Checkpoint>,
    line: Vec<u64>,
}

/// A request that the kernel has not answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    exec: ExecId,
    seq: Seq,
    since: Instant,
}

/// The checkpoints of one session.
#[derive(Debug)]
pub(super) struct Checkpoints {
    kept: Kept,
    default_keep: u32,
    default_auto_restore: bool,
    memory_max: u64,
    /// A cell has succeeded since the newest.
    wanted: Option<(ExecId, Seq)>,
    asked: Option<Asked>,
    /// Forked, and not listening yet.
    freezing: Option<(ExecId, Seq)>,
    /// Not asked for before.
    earliest: Instant,
    allowance: Allowance,
    /// Whether this kernel failed to answer.
    given_up: bool,
    /// Why there was none the last time.
    refused: Option<String>,
    weigh_due: Option<Instant>,
    weighing: bool,
    /// Bytes they hold together.
    together: u64,
    /// Told apart from those that were given up since.
    epoch: u64,
    /// One is becoming the kernel.
    pub(super) waking: bool,
    /// The last restore came to nothing: none is tried until a person asks.
    pub(super) failed: bool,
}

impl Checkpoints {
    pub(super) fn load(loaded: &Loaded, settings: &crate::settings::Settings) -> Self {
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
            weigh_due: (!kept.list.is_empty()).then(Instant::now),
            kept,
            default_keep: settings.checkpoints,
            default_auto_restore: settings.auto_restore,
            memory_max: share_of(checkpoint::total_memory(), percent),
            wanted: None,
            asked: None,
            freezing: None,
            earliest: Instant::now(),
            allowance: Allowance::new(Instant::now()),
            given_up: false,
            refused: None,
            weighing: false,
            together: 0,
            epoch: 0,
            waking: false,
            failed: false,
        }
    }

    fn keep(&self) -> u32 {
        self.kept.keep.unwrap_or(self.default_keep).min(KEEP_MAX)
    }

    pub(super) fn restores_by_itself(&self) -> bool {
        self.kept.auto_restore.unwrap_or(self.default_auto_restore)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.list.is_empty()
    }

    pub(super) fn get(&self, exec: ExecId) -> Option<&Checkpoint> {
        self.kept.list.iter().find(|known| known.exec == exec.0)
    }

    /// The newest of the line of executions that the kernel is, or was, the end of.
    pub(super) fn newest_in_line(&self) -> Option<&Checkpoint> {
        self.kept
            .list
            .iter()
            .rev()
            .find(|known| self.kept.line.contains(&known.exec))
    }

    /// What was run since a checkpoint and is not in it.
    pub(super) fn lost_since(&self, exec: ExecId) -> Vec<u64> {
        let line = &self.kept.line;
        let after = line.iter().position(|known| *known == exec.0);
        line[after.map_or(0, |at| at + 1)..].to_vec()
    }

    /// The kernel is that of a checkpoint again.
    pub(super) fn line_ends_at(&mut self, exec: ExecId) {
        match self.kept.line.iter().position(|known| *known == exec.0) {
            Some(at) => self.kept.line.truncate(at + 1),
            None => self.kept.line = vec![exec.0],
        }
        self.kernel_is_new();
    }

    fn kernel_is_new(&mut self) {
        self.wanted = None;
        self.asked = None;
        self.given_up = false;
        self.refused = None;
    }

    /// Which one to give up first: where the others lie closest together, seen from the newest.
    fn least_useful(&self) -> Option<usize> {
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

/// The time that checkpoints may cost: it grows by a share of the time that passes.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    /// Seconds; below 0 once more was spent than there was.
    left: f64,
    at: Instant,
}

impl Allowance {
    const SHARE: f64 = 0.01;
    const MAX: f64 = 1.0;

    fn new(at: Instant) -> Self {
        Self {
            left: Self::MAX,
            at,
        }
    }

    /// Spends the cost of one; returns when there is something left again.
    fn spend(&mut self, cost: Duration, now: Instant) -> Instant {
        let grown = self.left + (now - self.at).as_secs_f64() * Self::SHARE;
        self.left = grown.min(Self::MAX) - cost.as_secs_f64();
        self.at = now;
        now + Duration::try_from_secs_f64(-self.left / Self::SHARE).unwrap_or_default()
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of the memory, to the nearest megabyte"
)]
fn share_of(total: u64, percent: f64) -> u64 {
    (total as f64 * percent / 100.0) as u64
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

/// Begins the `msg_id` of a request; the execution's number follows.
fn request_prefix() -> String {
    format!("{PROBE}checkpoint-")
}

impl Session {
    /// Ends copies that an earlier worker did not live to note: nobody can ask for them.
    pub(super) async fn end_stray_checkpoints(&self) {
        let prefix = self
            .place
            .home
            .checkpoint_socket(&self.place.key, ExecId(0));
        let (Some(run), Some(name)) = (prefix.parent(), prefix.file_name()) else {
            return;
        };
        let name = name.to_string_lossy();
        let prefix = name.strip_suffix('0').unwrap_or(&name);
        for entry in std::fs::read_dir(run).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let exec = file.to_str().and_then(|file| file.strip_prefix(prefix));
            let Some(exec) = exec.and_then(|digits| digits.parse().ok()).map(ExecId) else {
                continue;
            };
            if self.checkpoints.get(exec).is_some() {
                continue;
            }
            match checkpoint::find(&entry.path(), Duration::ZERO).await {
                Ok(process) => checkpoint::end(&process, &entry.path()),
                Err(_) => drop(std::fs::remove_file(entry.path())),
            }
        }
    }

    fn checkpoint_socket(&self, exec: ExecId) -> PathBuf {
        self.place.home.checkpoint_socket(&self.place.key, exec)
    }

    /// A cell was run to its end.
    pub(super) fn note_ran(&mut self, exec: ExecId, succeeded: bool) {
        if self.checkpoints.keep() == 0 {
            return;
        }
        self.checkpoints.kept.line.push(exec.0);
        if succeeded {
            self.checkpoints.wanted = Some((exec, self.last_seq));
        }
        self.journal_checkpoints();
    }

    /// Whether the kernel is to make a checkpoint before it gets anything else; asks for it if it is due.
    pub(super) fn is_making_checkpoint(&mut self) -> bool {
        if self.checkpoints.asked.is_some() {
            return true;
        }
        let Some((exec, seq)) = self.checkpoints.wanted else {
            return false;
        };
        if !self.may_take_checkpoint() || Instant::now() < self.checkpoints.earliest {
            return false;
        }
        self.checkpoints.wanted = None;
        let Some(kernel) = self.kernel.running() else {
            return false;
        };
        let request = kernel.signer.request(
            &format!("{}{}", request_prefix(), exec.0),
            "tithon_checkpoint_request",
            &json!({
                "socket": self.checkpoint_socket(exec),
                "name": format!("tithon {exec}"),
            }),
        );
        std::fs::remove_file(self.checkpoint_socket(exec)).ok();
        kernel.channels.send(Channel::Shell, request);
        self.checkpoints.asked = Some(Asked {
            exec,
            seq,
            since: Instant::now(),
        });
        true
    }

    fn may_take_checkpoint(&self) -> bool {
        let able = matches!(&self.kernel, KernelSlot::Running(kernel)
            if kernel.ready && kernel.end.is_none() && kernel.records_everything());
        able && self.running.is_none()
            && self.foreign.is_empty()
            // Answered by another thread of the kernel: whatever lock it holds would stay locked in a copy.
            && self.questions.deadline().is_none()
            && !self.checkpoints.given_up
            && self.checkpoints.freezing.is_none()
            && self.checkpoints.keep() > 0
    }

    /// The kernel says what came of a request.
    pub(super) fn checkpoint_answered(&mut self, parent: &str, content: &[u8]) {
        #[derive(Deserialize)]
        struct Answer {
            status: String,
            #[serde(default)]
            reason: String,
            /// What it cost the kernel, in seconds.
            #[serde(default)]
            seconds: f64,
        }
        let exec = parent
            .strip_prefix(&request_prefix())
            .and_then(|digits| digits.parse().ok())
            .map(ExecId);
        let (Some(exec), Ok(answer)) = (exec, serde_json::from_slice::<Answer>(content)) else {
            return;
        };
        let asked = self.checkpoints.asked.take();
        let seq = asked.map_or(self.last_seq, |asked| asked.seq);
        let now = Instant::now();
        let cost = Duration::try_from_secs_f64(answer.seconds).unwrap_or(PAUSE);
        self.checkpoints.earliest = self.checkpoints.allowance.spend(cost, now);
        match answer.status.as_str() {
            "ok" => {
                self.checkpoints.refused = None;
                self.await_freeze(exec, seq);
            }
            "busy" => {
                self.checkpoints.wanted = Some((exec, seq));
                self.checkpoints.earliest = self.checkpoints.earliest.max(now + PAUSE);
            }
            _ => {
                self.checkpoints.earliest = self.checkpoints.earliest.max(now + PAUSE);
                self.checkpoint_refused(exec, answer.reason);
            }
        }
        self.start_next();
    }

    fn checkpoint_refused(&mut self, exec: ExecId, reason: String) {
        if self.checkpoints.refused.as_ref() != Some(&reason) {
            tracing::info!("no checkpoint after {exec}: {reason}");
            self.notice(&format!("no checkpoint after {exec}: {reason}"));
        }
        self.checkpoints.refused = Some(reason);
    }

    fn await_freeze(&mut self, exec: ExecId, seq: Seq) {
        self.checkpoints.freezing = Some((exec, seq));
        let (socket, events) = (self.checkpoint_socket(exec), self.launch_sender.clone());
        let epoch = self.checkpoints.epoch;
        tokio::task::spawn_local(async move {
            let found = checkpoint::find(&socket, FREEZE_PATIENCE).await;
            // The session may have ended meanwhile: then nobody wants it.
            drop(events.send(LaunchEvent::Frozen { exec, epoch, found }));
        });
    }

    /// A copy waits, or did not come that far.
    pub(super) fn frozen(
        &mut self,
        exec: ExecId,
        epoch: u64,
        found: std::io::Result<ProcessIdentity>,
    ) {
        let Some((_, seq)) = self
            .checkpoints
            .freezing
            .take_if(|(freezing, _)| *freezing == exec)
        else {
            // It was looked for already, or its kernel was given up.
            if let Ok(process) = found
                && epoch != self.checkpoints.epoch
            {
                checkpoint::end(&process, &self.checkpoint_socket(exec));
            }
            return;
        };
        match found {
            Ok(process) => self.keep_checkpoint(exec, seq, process),
            Err(err) => self.checkpoint_refused(exec, format!("the copy does not answer: {err}")),
        }
        self.start_next();
    }

    fn keep_checkpoint(&mut self, exec: ExecId, seq: Seq, process: ProcessIdentity) {
        tracing::debug!(%exec, pid = process.pid, "took a checkpoint");
        let widgets = (seq >= self.lifecycle.generation).then(|| self.widgets.snapshot_json());
        let list = &mut self.checkpoints.kept.list;
        list.retain(|known| known.exec != exec.0);
        list.push(Checkpoint {
            exec: exec.0,
            seq,
            made: now(),
            process,
            widgets,
            memory: 0,
        });
        list.sort_by_key(|known| known.exec);
        while self.checkpoints.kept.list.len() > self.checkpoints.keep() as usize {
            self.give_up_one();
        }
        self.checkpoints.weigh_due = Some(Instant::now());
        self.store_checkpoints();
    }

    /// Before what a dead kernel left is ended: a checkpoint that it has just made is to be spared.
    pub(super) async fn look_for_last_checkpoint(&mut self) {
        let asked = self.checkpoints.asked.take();
        let last = self
            .checkpoints
            .freezing
            .take()
            .or(asked.map(|asked| (asked.exec, asked.seq)));
        let Some((exec, seq)) = last else { return };
        let socket = self.checkpoint_socket(exec);
        if self.checkpoints.freezing.is_none() && !socket.exists() && asked.is_some() {
            return;
        }
        if let Ok(process) = checkpoint::find(&socket, LAST_LOOK).await {
            self.keep_checkpoint(exec, seq, process);
        }
    }

    /// Ends every checkpoint: their kernel was given up.
    pub(super) fn give_up_checkpoints(&mut self) {
        self.checkpoints.epoch += 1;
        self.checkpoints.freezing = None;
        self.checkpoints.kernel_is_new();
        self.checkpoints.kept.line.clear();
        if self.checkpoints.is_empty() {
            return;
        }
        while let Some(last) = self.checkpoints.kept.list.pop() {
            checkpoint::end(&last.process, &self.checkpoint_socket(ExecId(last.exec)));
        }
        self.checkpoints.together = 0;
        self.store_checkpoints();
    }

    fn give_up_one(&mut self) {
        let at = self.checkpoints.least_useful().unwrap_or(0);
        if at < self.checkpoints.kept.list.len() {
            let least = self.checkpoints.kept.list.remove(at);
            checkpoint::end(&least.process, &self.checkpoint_socket(ExecId(least.exec)));
        }
    }

    pub(super) fn store_checkpoints(&mut self) {
        let list = &self.checkpoints.kept.list;
        let record = CheckpointRecord {
            processes: list.iter().map(|known| known.process.clone()).collect(),
        };
        if let Err(err) = record.write(&self.place.dir) {
            tracing::warn!("failed to note the checkpoints: {err}");
        }
        self.journal_checkpoints();
    }

    fn journal_checkpoints(&mut self) {
        // Only what can still be asked for: a line is as long as the session's life.
        let oldest = self
            .checkpoints
            .kept
            .list
            .first()
            .map_or(u64::MAX, |known| known.exec);
        let newest = self.checkpoints.kept.line.last().copied();
        self.checkpoints
            .kept
            .line
            .retain(|exec| *exec >= oldest || Some(*exec) == newest);
        let value = serde_json::to_string(&self.checkpoints.kept).unwrap_or_default();
        self.change(Change::Meta {
            key: CHECKPOINTS,
            value,
        });
    }

    // -- what they cost

    /// When something is due that nobody asks for.
    pub(super) fn checkpoint_deadline(&self) -> Option<Instant> {
        let answer = self
            .checkpoints
            .asked
            .map(|asked| asked.since + ANSWER_PATIENCE);
        let take = (self.checkpoints.wanted.is_some() && self.may_take_checkpoint())
            .then_some(self.checkpoints.earliest);
        let weigh = self
            .checkpoints
            .weigh_due
            .filter(|_| !self.checkpoints.weighing && !self.checkpoints.is_empty());
        [answer, take, weigh].into_iter().flatten().min()
    }

    pub(super) fn checkpoint_deadline_reached(&mut self, at: Instant) {
        if let Some(asked) = self.checkpoints.asked
            && at >= asked.since + ANSWER_PATIENCE
        {
            self.checkpoints.asked = None;
            self.checkpoints.given_up = true;
            self.checkpoint_refused(asked.exec, "the kernel does not answer".to_owned());
            return self.start_next();
        }
        if self.checkpoints.wanted.is_some() && at >= self.checkpoints.earliest {
            self.start_next();
        }
        if self.checkpoints.weigh_due.is_some_and(|due| at >= due) {
            self.weigh_checkpoints();
        }
    }

    fn weigh_checkpoints(&mut self) {
        self.checkpoints.weigh_due = None;
        if self.checkpoints.is_empty() || self.checkpoints.weighing {
            return;
        }
        self.checkpoints.weighing = true;
        let kernel = self.kernel.running().map(|kernel| kernel.process.pid());
        let processes: Vec<_> = self
            .checkpoints
            .kept
            .list
            .iter()
            .map(|known| known.process.clone())
            .collect();
        let events = self.launch_sender.clone();
        std::thread::spawn(move || {
            let weights = checkpoint::weigh(kernel, &processes);
            drop(events.send(LaunchEvent::Weighed { processes, weights }));
        });
    }

    /// What checkpoints hold more than at the last look was copied by the kernel meanwhile.
    #[expect(clippy::cast_precision_loss, reason = "a time, to the millisecond")]
    fn charge_copying(&mut self, together: u64) {
        let grown = together.saturating_sub(self.checkpoints.together);
        let cost = Duration::try_from_secs_f64(grown as f64 / COPIED_PER_SECOND);
        let allowed = self
            .checkpoints
            .allowance
            .spend(cost.unwrap_or_default(), Instant::now());
        self.checkpoints.earliest = self.checkpoints.earliest.max(allowed);
    }

    /// Keeps within the budget; those that the system has ended are forgotten.
    pub(super) fn checkpoints_weighed(&mut self, processes: &[ProcessIdentity], weights: &Weights) {
        self.checkpoints.weighing = false;
        let before = self.checkpoints.kept.list.len();
        for (process, private) in processes.iter().zip(&weights.private) {
            let list = &mut self.checkpoints.kept.list;
            match private {
                Some(bytes) => list
                    .iter_mut()
                    .filter(|known| known.process == *process)
                    .for_each(|known| known.memory = *bytes),
                None => list.retain(|known| known.process != *process),
            }
        }
        self.charge_copying(weights.together);
        self.checkpoints.together = weights.together;
        let mut excess = weights.together.saturating_sub(self.checkpoints.memory_max);
        if weights.pressure || excess > 0 {
            // One at a time, and weighed again: what it shared with another only is that one's now.
            let freed = self
                .checkpoints
                .least_useful()
                .or((!self.checkpoints.is_empty()).then_some(0))
                .map_or(0, |at| self.checkpoints.kept.list[at].memory);
            self.give_up_one();
            excess = excess.saturating_sub(freed);
            self.checkpoints.refused = Some(if weights.pressure {
                "checkpoints are given up, for memory is short".to_owned()
            } else {
                "checkpoints are given up, for their memory is used up".to_owned()
            });
        }
        if self.checkpoints.kept.list.len() != before {
            self.store_checkpoints();
        }
        let soon = weights.pressure || excess > 0;
        let interval = match self.running {
            _ if soon => Duration::ZERO,
            Some(_) => WEIGH_INTERVAL,
            None => WEIGH_INTERVAL_IDLE,
        };
        self.checkpoints.weigh_due = Some(Instant::now() + interval);
    }

    fn why_no_checkpoint(&self) -> Option<&str> {
        let plain = self.checkpoints.keep() > 0
            && self
                .kernel
                .running()
                .is_some_and(|kernel| kernel.ready && !kernel.records_everything());
        match plain {
            true => Some("only Python kernels under Tithon's launcher can be copied"),
            false => self.checkpoints.refused.as_deref(),
        }
    }

    // -- what clients ask

    /// Answers what checkpoints there are, after taking over what the client wishes of them.
    pub(super) fn show_checkpoints(&mut self, client: ClientId, wish: &CheckpointWish) {
        if let Some(keep) = wish.keep {
            self.checkpoints.kept.keep = Some(keep);
            while self.checkpoints.kept.list.len() > self.checkpoints.keep() as usize {
                self.give_up_one();
            }
        }
        if let Some(auto_restore) = wish.auto_restore {
            self.checkpoints.kept.auto_restore = Some(auto_restore);
        }
        self.checkpoints
            .kept
            .list
            .retain(|known| matches!(known.process.open(), Ok(Some(_))));
        self.store_checkpoints();
        let line = &self.checkpoints.kept.line;
        let list: Vec<_> = self
            .checkpoints
            .kept
            .list
            .iter()
            .map(|known| {
                json!({
                    "exec_id": ExecId(known.exec).to_string(),
                    "ts": known.made,
                    "pid": known.process.pid,
                    "private_bytes": known.memory,
                    "undone": !line.contains(&known.exec),
                })
            })
            .collect();
        let frame = Frame::Checkpoints {
            keep: self.checkpoints.keep(),
            auto_restore: self.checkpoints.restores_by_itself(),
            memory_bytes: self.checkpoints.together,
            memory_max: self.checkpoints.memory_max,
            refused: self.why_no_checkpoint(),
            checkpoints: &list,
        }
        .to_text();
        self.answer(client, crate::client::Answer::Frame(frame.into()));
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
    fn all_together_cost_one_per_cent_and_a_second() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        let cost = Duration::from_millis(50);
        let (mut now, mut spent) = (begin, Duration::ZERO);
        while now - begin < Duration::from_secs(1000) {
            spent += cost;
            now = allowance.spend(cost, now) + Duration::from_millis(10);
        }
        assert!(spent <= Duration::from_millis(11_100), "{spent:?}");
        assert!(spent >= Duration::from_secs(9), "{spent:?}");
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
