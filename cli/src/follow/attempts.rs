//! How often and how fast a lost connection is tried again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::link::Link;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nobody said why: a process died, or gave up on a reader that was too slow.
    Broken,
    /// The server closed it properly: somebody stopped or restarts the supervisor.
    Goodbye,
}

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// About half a minute in all: longer than any restart or replacement takes.
const ATTEMPTS_MAX: u32 = 22;
/// After this many (0.3 s) a service manager would have replaced the supervisor: so we do.
const PATIENCE: u32 = 5;
/// From here on a person wonders.
const NOTICEABLE: Duration = Duration::from_millis(1200);

/// The attempts since something last arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempts {
    made: u32,
    /// Whether there is always another one.
    is_endless: bool,
}

impl Attempts {
    /// Over a network, which may be away for as long as a lid is closed, attempts never end.
    pub(crate) fn over(link: &Link) -> Self {
        Self {
            made: 0,
            is_endless: link.remote().is_some(),
        }
    }

    /// Something arrived.
    pub(crate) fn reset(&mut self) {
        self.made = 0;
    }

    /// The pause before the next attempt; `None` when there is to be none.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        if self.are_over() {
            return None;
        }
        let doubled = 2_u32.saturating_pow(self.made);
        self.made = self.made.saturating_add(1);
        Some(FIRST_DELAY.saturating_mul(doubled).min(LONGEST_DELAY))
    }

    /// Whether no attempt is left.
    pub(crate) fn are_over(self) -> bool {
        self.made >= ATTEMPTS_MAX && !self.is_endless
    }

    /// Does something meanwhile, and tells the user when a connection that was lost at `since` has been
    /// away for long: an attempt over a network that hangs takes its time.
    pub(crate) async fn telling<T>(
        since: Instant,
        tell: impl FnOnce(),
        attempt: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(attempt);
        tokio::select! {
            biased;
            done = &mut attempt => return done,
            () = sleep_until(since + NOTICEABLE) => {}
        }
        tell();
        attempt.await
    }

    /// Whether the next attempt may start a supervisor. One that somebody stopped stays stopped: a
    /// command that merely waits must not undo `tithon shutdown`.
    pub(crate) fn may_start(self, how: Lost) -> bool {
        how == Lost::Broken && self.made > PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_quick_at_first_and_end() {
        let mut attempts = Attempts::default();
        let delays: Vec<_> = std::iter::from_fn(|| attempts.next()).collect();
        assert_eq!(delays[0], FIRST_DELAY);
        assert!(delays.is_sorted() && delays.last() == Some(&LONGEST_DELAY));
        let total: Duration = delays.iter().sum();
        assert!((20..60).contains(&total.as_secs()), "{total:?}");
        let patient: Duration = delays[..PATIENCE as usize].iter().sum();
        assert!(patient < Duration::from_millis(500), "{patient:?}");
    }

    #[test]
    fn a_stopped_supervisor_is_not_started_again() {
        let mut attempts = Attempts::default();
        assert!(
            !attempts.may_start(Lost::Broken),
            "a manager may be quicker"
        );
        while attempts.next().is_some() {
            assert!(!attempts.may_start(Lost::Goodbye));
        }
        assert!(attempts.may_start(Lost::Broken));
    }
}
