//! When a worker that died is replaced, and when no more.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// How long each further replacement waits; the first does not.
const DELAYS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
/// How long a death counts.
const MEMORY: Duration = Duration::from_secs(60);

/// What follows a death.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Replace the worker after this long.
    Replace(Duration),
    /// It died too often: a loop helps nobody.
    GiveUp,
}

/// The recent deaths of one session's workers.
#[derive(Debug, Default)]
pub(crate) struct Deaths(VecDeque<Instant>);

impl Deaths {
    /// Counts a death.
    pub(crate) fn count(&mut self, now: Instant) -> Verdict {
        self.0.retain(|death| now.duration_since(*death) < MEMORY);
        let verdict = DELAYS
            .get(self.0.len())
            .map_or(Verdict::GiveUp, |delay| Verdict::Replace(*delay));
        self.0.push_back(now);
        self.0.truncate(DELAYS.len() + 1);
        verdict
    }

    /// Whether so many died lately that a further death is one too many.
    pub(crate) fn are_too_many(&self, now: Instant) -> bool {
        let recent = |death: &&Instant| now.duration_since(**death) < MEMORY;
        self.0.iter().filter(recent).count() > DELAYS.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_deaths_within_a_minute_are_too_many() {
        let mut deaths = Deaths::default();
        let start = Instant::now();
        for delay in DELAYS {
            assert_eq!(deaths.count(start), Verdict::Replace(delay));
        }
        assert!(!deaths.are_too_many(start));
        assert_eq!(deaths.count(start), Verdict::GiveUp);
        assert!(deaths.are_too_many(start));
        assert_eq!(deaths.count(start), Verdict::GiveUp);
        assert!(!deaths.are_too_many(start + MEMORY));
        assert_eq!(
            deaths.count(start + MEMORY),
            Verdict::Replace(Duration::ZERO),
            "what is long past is forgotten"
        );
    }
}
