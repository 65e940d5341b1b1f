//! The end of a kernel: one path, whether it died, did not start, was killed or is replaced.
//!
//! A kernel is over only once its last words are read; what follows its end comes after that.

use std::time::Duration;

use serde_json::json;
use tithon_ipc::{client::LaunchWish, logs};

use super::{
    Ending, Session,
    kernel::{Capture, Kernel, KernelSlot},
    restore::Restored,
};
use crate::client::ClientId;

/// What follows once a kernel is over.
#[derive(Debug)]
pub(super) enum End {
    /// It died: its cells end with an error.
    Died,
    /// It did not answer in time after its start.
    Late,
    /// Another is started, for this client.
    Replaced(ClientId, Option<LaunchWish>),
    /// A checkpoint takes its place, for this client.
    Restored(ClientId, Restored),
    /// The worker ends too.
    Wanted(Ending),
}

impl Session {
    /// The kernel's process ended by itself. What it said last is still to be read.
    pub(super) async fn kernel_ended(&mut self) {
        if let Some(kernel) = self.kernel.running_mut() {
            kernel.exit = kernel.process.exit().await;
            let exit = kernel.exit.map(tracing::field::display);
            tracing::warn!(pid = kernel.process.pid(), exit, "the kernel died");
            kernel.end = Some(End::Died);
        }
        self.look_for_last_checkpoint().await;
        crate::kernel::process::sweep(&self.place.dir, self.place.leaf().as_ref()).await;
        self.read_last_words().await;
    }

    /// Begins to read what a kernel whose process is over said last; [`Session::kernel_gone`] follows.
    async fn read_last_words(&mut self) {
        const QUIET: Duration = Duration::from_millis(100);
        match self.kernel.running_mut().map(|kernel| &mut kernel.capture) {
            Some(Capture::Spool(spool)) => spool.read_on(),
            Some(Capture::Zmq) => {
                // What it had sent is on its way through the channels' thread.
                while let Ok(Some((channel, frames))) =
                    tokio::time::timeout(QUIET, self.kernel_events.recv()).await
                {
                    self.zmq_message(channel, frames);
                }
                self.kernel_gone();
            }
            None => {}
        }
    }

    /// The kernel is over and everything it said is read.
    pub(super) fn kernel_gone(&mut self) {
        let KernelSlot::Running(kernel) = std::mem::replace(&mut self.kernel, KernelSlot::Absent)
        else {
            return;
        };
        self.kernel_log.look();
        self.abandon_questions();
        self.copies_lose_kernel();
        self.withdraw();
        let pid = kernel.process.pid();
        let evidence = self.evidence(&kernel);
        let started = kernel.ready || kernel.reattached;
        self.checkpoints.failed |= kernel.restored.is_some();
        let (restart, log_start) = (kernel.restart, kernel.log_start);
        self.kernel = KernelSlot::Dead { pid };
        self.remove_endpoints();
        match kernel.end {
            Some(End::Replaced(client, wish)) => self.start_kernel(wish, Some(client)),
            Some(End::Restored(client, restored)) => self.wake(client, restored),
            Some(End::Wanted(ending)) => self.ending = Some(ending),
            Some(End::Late) => {
                let log = logs::kernel(&self.place.dir);
                let reason = format!(
                    "kernel did not become ready in time (see {})",
                    log.display()
                );
                self.start_failed(&reason, restart);
            }
            _ if !started => {
                let reason = self.died_at_start(log_start);
                self.start_failed(&reason, restart);
            }
            _ => {
                self.running_over(Some(&evidence));
                self.foreign_died(&evidence);
                self.journal_kernel(&json!({"status": "dead", "pid": pid, "deliberate": false}));
                if !self.restore_by_itself() {
                    self.start_next();
                }
            }
        }
    }

    /// Why the worker may end now, though the journal cannot be written: the disk is full, and whoever ends a
    /// kernel on it is not to wait for space. What was not written is in the kernel's spool still, and is
    /// read when the session is opened next; only a kernel without one takes it along.
    pub(super) fn leaves_unwritten(&mut self) -> Option<Ending> {
        self.stalled.as_ref()?;
        let kernel = self.kernel.running();
        let ending = match kernel.map(|kernel| &kernel.end) {
            Some(Some(End::Wanted(ending))) => *ending,
            // Its kernel goes on, and what that said is nowhere else.
            Some(None) if !kernel.is_some_and(Kernel::records_everything) => return None,
            _ => self.ending?,
        };
        if self
            .kernel
            .running()
            .is_some_and(|kernel| kernel.end.is_some())
        {
            self.remove_endpoints();
        }
        tracing::warn!("the worker ends while the journal cannot be written");
        self.journal.give_up();
        Some(ending)
    }

    /// Ends the kernel's process and all it started; what follows is done once its last words are read.
    pub(super) async fn end_kernel(&mut self, end: End) {
        if matches!(end, End::Wanted(_)) {
            self.give_up_runs("its session was ended");
            self.end_copies().await;
        }
        if matches!(end, End::Replaced(..) | End::Wanted(_)) {
            self.give_up_checkpoints();
        } else {
            self.look_for_last_checkpoint().await;
        }
        if let Some(kernel) = self.kernel.running_mut() {
            kernel.end = Some(end);
            let leaf = self.place.leaf();
            kernel
                .process
                .terminate(&self.place.dir, leaf.as_ref())
                .await;
            return self.read_last_words().await;
        }
        if self.checkpoints.waking {
            // The copy may be on its way already, and nobody waits for it any more.
            crate::kernel::process::sweep(&self.place.dir, self.place.leaf().as_ref()).await;
        }
        match end {
            End::Replaced(client, wish) => self.start_kernel(wish, Some(client)),
            End::Restored(client, restored) => self.wake(client, restored),
            End::Wanted(ending) => self.ending = Some(ending),
            End::Died | End::Late => {}
        }
    }
}
