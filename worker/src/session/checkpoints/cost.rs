//! What checkpoints cost, in time and in memory, and keeping within it.

use std::time::Duration;

use tithon_ipc::process::ProcessIdentity;
use tokio::time::Instant;

use crate::{
    kernel::checkpoint::{self, ANSWER_PATIENCE, Weights},
    session::{Session, launch::LaunchEvent},
};

/// How often checkpoints are weighed while a cell runs: what it overwrites, they keep.
const WEIGH_INTERVAL: Duration = Duration::from_secs(2);
/// How often where nothing runs.
const WEIGH_INTERVAL_IDLE: Duration = Duration::from_secs(30);
/// How many bytes the system copies in a second, page by page, for a kernel that overwrites what it shares.
const COPIED_PER_SECOND: f64 = 1.5e9;
/// The time that checkpoints may cost: it grows by a share of the time that passes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Seconds; below 0 once more was spent than there was.
    left: f64,
    at: Instant,
}

impl Allowance {
    const SHARE: f64 = 0.01;
    const MAX: f64 = 1.0;

    pub(super) fn new(at: Instant) -> Self {
        Self {
            left: Self::MAX,
            at,
        }
    }

    /// Spends the cost of one; returns when there is something left again.
    pub(super) fn spend(&mut self, cost: Duration, now: Instant) -> Instant {
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
pub(super) fn share_of(total: u64, percent: f64) -> u64 {
    (total as f64 * percent / 100.0) as u64
}

impl Session {
    /// When something is due that nobody asks for.
    pub(in crate::session) fn checkpoint_deadline(&self) -> Option<Instant> {
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

    pub(in crate::session) fn checkpoint_deadline_reached(&mut self, at: Instant) {
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
    pub(in crate::session) fn checkpoints_weighed(
        &mut self,
        processes: &[ProcessIdentity],
        weights: &Weights,
    ) {
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
        if !std::mem::take(&mut self.checkpoints.together_grows) {
            self.charge_copying(weights.together);
        }
        self.checkpoints.together = weights.together;
        let mut excess = weights.together.saturating_sub(self.checkpoints.memory_max);
        if weights.pressure || excess > 0 {
            // One at a time, and weighed again: what it shared with another only is that one's now.
            match self.give_up_one() {
                Some(freed) => {
                    excess = excess.saturating_sub(freed);
                    self.checkpoints.refused_at = crate::journal::now();
                    self.checkpoints.refused = Some(if weights.pressure {
                        "checkpoints are given up, for memory is short".to_owned()
                    } else {
                        "checkpoints are given up, for their memory is used up".to_owned()
                    });
                }
                // States are a person's to give up, or the system's.
                None => excess = 0,
            }
        }
        if self.checkpoints.kept.list.len() != before {
            self.store_checkpoints();
        }
        let soon = (weights.pressure || excess > 0) && self.checkpoints.count() > 0;
        let interval = match self.running {
            _ if soon => Duration::ZERO,
            Some(_) => WEIGH_INTERVAL,
            None => WEIGH_INTERVAL_IDLE,
        };
        // Unless something has come meanwhile that is to be weighed at once.
        self.checkpoints
            .weigh_due
            .get_or_insert(Instant::now() + interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
