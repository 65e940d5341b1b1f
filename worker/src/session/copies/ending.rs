//! The end of all copies: with their kernel, or with their session.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::CopyEvent;
use crate::session::{Session, launch::LaunchEvent};

/// How long copies may take to end with their session.
const END_PATIENCE: Duration = Duration::from_secs(5);

impl Session {
    /// The kernel is over: whoever waits for a copy of it gets none.
    pub(in crate::session) fn copies_lose_kernel(&mut self) {
        let asked = self.copies.asked.take().map(|asked| asked.wanted);
        let wanted: Vec<_> = asked
            .into_iter()
            .chain(self.copies.wanted.drain(..))
            .collect();
        self.copies.retry = None;
        for wanted in wanted {
            self.copy_failed(wanted.client, "the kernel ended before it could be copied");
        }
    }

    /// Ends every copy, and returns when they are gone.
    pub(in crate::session) async fn end_copies(&mut self) {
        self.copies_lose_kernel();
        let running = std::mem::take(&mut self.copies.running);
        // Those that are at work notice.
        let tasks: Vec<_> = running.into_values().map(|running| running.task).collect();
        let deadline = Instant::now() + END_PATIENCE;
        let mut others = Vec::new();
        for mut task in tasks {
            loop {
                tokio::select! {
                    _ = &mut task => break,
                    () = tokio::time::sleep_until(deadline) => break,
                    Some(event) = self.launches.recv() => match event {
                        LaunchEvent::Copy(event) => self.last_of_copy(event),
                        other => others.push(other),
                    },
                }
            }
        }
        for other in others {
            self.launch_sender.send(other).ok();
        }
        self.lose_runs("the session's worker ended");
    }

    /// What is heard of a copy while nothing is committed: it is not to wait for that.
    fn last_of_copy(&mut self, event: CopyEvent) {
        let (nobody, _) = oneshot::channel();
        match event {
            CopyEvent::Said {
                number,
                records,
                position,
                ..
            } => self.run_said(number, records, position, nobody),
            CopyEvent::RunOver { number, ended, .. } => self.run_over(number, ended, nobody),
            CopyEvent::Made { .. } => {}
            event => self.copy_event(event),
        }
    }
}
