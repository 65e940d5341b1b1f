//! When a spool is read: at once, or a little later together with what comes meanwhile.

use std::time::Duration;

use tokio::time::Instant;

/// Reads in close succession after which a kernel counts as streaming.
const BURST: u32 = 8;
/// How close that is.
const SUCCESSION: Duration = Duration::from_millis(40);
/// How often a streaming kernel's spool is read: a transaction for every line would cost more than
/// all the lines in it.
const STREAM_INTERVAL: Duration = Duration::from_millis(5);
/// Reads after which it has streamed for long: half a second.
const LONG_BURST: u32 = 100;
/// How often it is read then. A kernel that builds whole messages says too few in the shorter time to pay for
/// a transaction.
const LONG_INTERVAL: Duration = Duration::from_millis(20);

/// The pace at which a spool is read.
#[derive(Debug)]
pub(super) struct Pace {
    last: Instant,
    burst: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
            burst: 0,
        }
    }

    /// When to read next; in the past if that is at once.
    pub(super) fn due(&self) -> Instant {
        match self.burst {
            ..BURST => self.last,
            BURST..LONG_BURST => self.last + STREAM_INTERVAL,
            LONG_BURST.. => self.last + LONG_INTERVAL,
        }
    }

    /// Somebody waits for what comes next: it is no stream.
    pub(super) fn begin_again(&mut self) {
        self.burst = 0;
    }

    pub(super) fn has_read(&mut self) {
        let now = Instant::now();
        self.burst = if now - self.last < SUCCESSION {
            self.burst.saturating_add(1)
        } else {
            0
        };
        self.last = now;
    }
}
