//! Which of a kernel's messages never came. Kernels built on jupyter_client number what they send
//! (`<session>_<pid>_<N>`), over all channels together; a hole that is still there when a cell is over is a
//! message that zmq dropped or that nobody was there for.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Numbers this far ahead of a hole are no numbering: a kernel that counts otherwise is not counted.
const AHEAD_MAX: usize = 1 << 20;

/// The numbers that have come. Kept in the journal with the messages, so that a hole shows that was there
/// when a worker took over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbering {
    /// What stands before the number; empty before the first message.
    prefix: String,
    /// Every number below has come or was reported.
    next: u64,
    /// What came out of turn: sockets do not wait for one another.
    #[serde(default)]
    ahead: BTreeSet<u64>,
}

impl Numbering {
    /// Takes note of a message by its `msg_id` and `session`. Messages that are not numbered, or that a
    /// forked child made, are passed over.
    pub fn note(&mut self, msg_id: &str, session: &str) {
        let Some((prefix, number)) = msg_id.rsplit_once('_') else {
            return;
        };
        let Ok(number) = number.parse::<u64>() else {
            return;
        };
        if session.is_empty() || !prefix.starts_with(session) {
            return;
        }
        if self.prefix.is_empty() {
            // What came before anybody listened is not missed.
            prefix.clone_into(&mut self.prefix);
            self.next = number;
        }
        if prefix != self.prefix || number < self.next || self.ahead.len() >= AHEAD_MAX {
            return;
        }
        self.ahead.insert(number);
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
    }

    /// How many messages are missing among those that must have come by now; they are not counted again.
    pub fn missing(&mut self) -> u64 {
        let Some(last) = self.ahead.last() else {
            return 0;
        };
        let missing = last + 1 - self.next - self.ahead.len() as u64;
        self.next = last + 1;
        self.ahead.clear();
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(numbering: &mut Numbering, numbers: &[u64]) {
        for number in numbers {
            numbering.note(&format!("ab_7_{number}"), "ab");
        }
    }

    #[test]
    fn holes_are_counted_once_and_order_does_not_matter() {
        let mut numbering = Numbering::default();
        noted(&mut numbering, &[5, 6, 9, 8, 7]);
        assert_eq!(numbering.missing(), 0);
        noted(&mut numbering, &[10, 13, 16]);
        assert_eq!(numbering.missing(), 4, "11, 12, 14, 15");
        assert_eq!(numbering.missing(), 0);
        noted(&mut numbering, &[12, 17]);
        assert_eq!(
            numbering,
            Numbering {
                prefix: "ab_7".to_owned(),
                next: 18,
                ahead: BTreeSet::new()
            }
        );
    }

    #[test]
    fn other_ids_are_passed_over() {
        let mut numbering = Numbering::default();
        numbering.note("5c9a-11", "5c9a");
        numbering.note("no_number", "no");
        numbering.note("other_1", "ab");
        assert_eq!(numbering, Numbering::default());
        noted(&mut numbering, &[1, 2]);
        numbering.note("ab_8_40", "ab");
        assert_eq!(numbering.missing(), 0, "a forked child counts for itself");
    }
}
