//! The newest events, kept once for all subscribers.
//!
//! Subscribers are fed, not buffered: each has a cursor, and takes what follows it from here or,
//! when it has fallen behind what is kept here, from the journal. A slow reader therefore costs no
//! memory, and nobody is dropped for reading slowly.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
};

use tithon_ipc::ids::Seq;
use tokio::sync::watch;

use crate::journal::EventFrame;

/// Bytes of frames kept, whatever their number.
const BYTES_MAX: usize = 1 << 20;

/// The events just published. Lives on one thread; no borrow is held across an await.
#[derive(Debug)]
pub(crate) struct Feed {
    recent: RefCell<VecDeque<EventFrame>>,
    bytes: Cell<usize>,
    events_max: usize,
    readers: Cell<usize>,
    cursors: RefCell<Vec<Weak<Cell<Seq>>>>,
    head: watch::Sender<Seq>,
}

/// Where to find what follows a cursor.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing does yet.
    UpToDate,
    /// These.
    Frames(Vec<EventFrame>),
    /// The journal has it, up to and including this seq.
    Journal(Seq),
}

impl Feed {
    /// A feed after `head`, keeping at most `events_max` events (`TITHON_SUB_QUEUE_MAX`).
    pub(crate) fn new(head: Seq, events_max: usize) -> Self {
        Self {
            recent: RefCell::default(),
            bytes: Cell::new(0),
            events_max: events_max.max(1),
            readers: Cell::new(0),
            cursors: RefCell::default(),
            head: watch::Sender::new(head),
        }
    }

    /// Publishes committed events, in order, and then wakes the subscribers.
    pub(crate) fn publish(&self, frames: impl Iterator<Item = EventFrame>) {
        let mut head = *self.head.borrow();
        let mut recent = self.recent.borrow_mut();
        for frame in frames {
            head = frame.seq;
            if self.readers.get() == 0 {
                continue;
            }
            self.bytes.set(self.bytes.get() + frame.text.len());
            recent.push_back(frame);
            while recent.len() > self.events_max || self.bytes.get() > BYTES_MAX && recent.len() > 1
            {
                if let Some(oldest) = recent.pop_front() {
                    self.bytes.set(self.bytes.get() - oldest.text.len());
                }
            }
        }
        drop(recent);
        self.head.send_replace(head);
    }

    /// The newest published seq.
    pub(crate) fn head(&self) -> Seq {
        *self.head.borrow()
    }

    /// Whether anybody would read a frame.
    pub(crate) fn has_readers(&self) -> bool {
        self.readers.get() > 0
    }

    /// How many subscribers there are.
    pub(crate) fn readers(&self) -> usize {
        self.readers.get()
    }

    /// What follows a cursor, about `max_bytes` of it.
    pub(crate) fn after(&self, cursor: Seq, max_bytes: usize) -> Next {
        if cursor >= self.head() {
            return Next::UpToDate;
        }
        let recent = self.recent.borrow();
        let before = match recent.front() {
            Some(oldest) if oldest.seq <= cursor + 1 => cursor + 1 - oldest.seq,
            Some(oldest) => return Next::Journal(oldest.seq - 1),
            None => return Next::Journal(self.head()),
        };
        let mut bytes = 0;
        let frames = recent
            .iter()
            .skip(usize::try_from(before).unwrap_or(usize::MAX))
            .take_while(|frame| {
                let room = bytes < max_bytes;
                bytes += frame.text.len();
                room
            })
            .cloned()
            .collect();
        Next::Frames(frames)
    }

    /// Registers a subscriber that wants what follows `cursor`; frames are kept while there is one.
    pub(crate) fn subscribe(self: &Rc<Self>, cursor: Seq) -> Subscription {
        self.readers.set(self.readers.get() + 1);
        let cursor = Rc::new(Cell::new(cursor));
        let mut cursors = self.cursors.borrow_mut();
        cursors.retain(|cursor| cursor.strong_count() > 0);
        cursors.push(Rc::downgrade(&cursor));
        Subscription {
            feed: Rc::clone(self),
            cursor,
            head: self.head.subscribe(),
        }
    }

    /// How far the slowest subscriber has read; `None` where there is none.
    pub(crate) fn lowest_cursor(&self) -> Option<Seq> {
        let cursors = self.cursors.borrow();
        let living = cursors.iter().filter_map(Weak::upgrade);
        living.map(|cursor| cursor.get()).min()
    }
}

/// One subscriber's share of the feed.
#[derive(Debug)]
pub(crate) struct Subscription {
    feed: Rc<Feed>,
    cursor: Rc<Cell<Seq>>,
    head: watch::Receiver<Seq>,
}

impl Subscription {
    /// The feed.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The last seq the subscriber has, or does not want.
    pub(crate) fn cursor(&self) -> Seq {
        self.cursor.get()
    }

    /// The subscriber has everything through this seq.
    pub(crate) fn advance(&self, cursor: Seq) {
        self.cursor.set(cursor);
    }

    /// Waits until something follows the cursor.
    pub(crate) async fn beyond(&mut self) {
        let cursor = self.cursor.get();
        // The feed outlives its subscriptions.
        self.head.wait_for(|head| *head > cursor).await.ok();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let left = self.feed.readers.get() - 1;
        self.feed.readers.set(left);
        if left == 0 {
            self.feed.recent.take();
            self.feed.bytes.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seq: Seq) -> EventFrame {
        EventFrame {
            seq,
            text: "x".repeat(100).into(),
        }
    }

    fn seqs(next: Next) -> Vec<Seq> {
        match next {
            Next::Frames(frames) => frames.iter().map(|frame| frame.seq).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cursors_are_served_from_memory_or_sent_to_the_journal() {
        let feed = Rc::new(Feed::new(10, 3));
        feed.publish([frame(11)].into_iter());
        let subscription = feed.subscribe(11);
        assert!(
            matches!(feed.after(10, 1000), Next::Journal(11)),
            "published while nobody read"
        );
        feed.publish((12..=15).map(frame));
        assert!(matches!(feed.after(15, 1000), Next::UpToDate));
        assert!(
            matches!(feed.after(11, 1000), Next::Journal(12)),
            "12 fell out"
        );
        assert_eq!(seqs(feed.after(12, 1000)), [13, 14, 15]);
        assert_eq!(seqs(feed.after(14, 1000)), [15]);
        assert_eq!(seqs(feed.after(12, 1)), [13], "at least one");
        assert_eq!(feed.lowest_cursor(), Some(11));
        let slower = feed.subscribe(3);
        subscription.advance(15);
        assert_eq!(feed.lowest_cursor(), Some(3));
        drop(slower);
        assert_eq!(feed.lowest_cursor(), Some(15));
        drop(subscription);
        assert_eq!(feed.lowest_cursor(), None);
        assert!(matches!(feed.after(14, 1000), Next::Journal(15)));
    }

    #[test]
    fn memory_is_bounded_by_bytes_too() {
        let feed = Rc::new(Feed::new(0, usize::MAX));
        let _subscription = feed.subscribe(0);
        feed.publish((1..=100_000).map(frame));
        assert!(feed.bytes.get() <= BYTES_MAX);
        assert_eq!(
            feed.recent
                .borrow()
                .iter()
                .map(|f| f.text.len())
                .sum::<usize>(),
            feed.bytes.get()
        );
    }
}
