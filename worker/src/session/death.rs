//! A kernel's end: the error that names it, and what is left of one that ended with nobody watching.

use serde_json::json;
use tithon_ipc::{
    client::{LaunchWish, Op},
    ids::{ExecId, session_flag},
};

use super::{
    Session,
    kernel::{Capture, Kernel, KernelSlot},
    spool::Spool,
};
use crate::{
    journal::{Status, now},
    kernel::{
        death::{Crash, Evidence},
        spool::crash_log,
    },
};

/// What a kernel left that ended while no worker was there.
#[derive(Debug)]
pub(super) struct Remains {
    /// What process it was.
    pub(super) pid: i32,
    /// What it said last.
    pub(super) spool: Spool,
    /// Whether the machine has been up since: then the spool is complete, and a cell whose reply
    /// is not there cannot have ended.
    pub(super) complete: bool,
    /// What kernel the clients that wait would like.
    pub(super) wish: Option<LaunchWish>,
}

impl Session {
    /// What is known of the end of a kernel whose process is over and whose spool is read.
    pub(super) fn evidence(&self, kernel: &Kernel) -> Evidence {
        let (took_leave, crash) = match &kernel.capture {
            Capture::Spool(spool) => (spool.took_leave(), self.crash()),
            Capture::Zmq => (false, None),
        };
        Evidence {
            exit: kernel.exit,
            out_of_memory: kernel.memory.has_killed(),
            took_leave,
            crash,
        }
    }

    fn crash(&self) -> Option<Crash> {
        Crash::read(&crash_log(&self.spool_dir()))
    }

    /// Ends the running cell, all that its kernel said being read: as the kernel said it ended, or
    /// with the kernel, if the spool tells that it had not ended before.
    pub(super) fn running_over(&mut self, evidence: Option<&Evidence>) {
        let replied = self
            .running
            .as_ref()
            .is_some_and(|running| running.reply.is_some());
        match evidence {
            _ if replied => self.finish_running(),
            Some(evidence) => self.running_died(evidence),
            None => {}
        }
    }

    /// Ends the running cell because its kernel is gone.
    fn running_died(&mut self, evidence: &Evidence) {
        if let Some(exec) = self.running.as_ref().map(|running| running.exec) {
            self.death_row(exec, evidence);
            self.end_running(Status::Error, "error", None, Some(now()));
        }
    }

    /// Says in an execution's output how its kernel died.
    pub(super) fn death_row(&mut self, exec: ExecId, evidence: &Evidence) {
        let cause = evidence.cause();
        let mut traceback = vec![format!(
            "KernelDied: the kernel process exited during execution: {cause}."
        )];
        traceback.extend_from_slice(evidence.stack());
        self.failure_row(
            exec,
            &format!("the kernel died during execution: {cause}"),
            traceback,
        );
    }

    /// Ends a cell that was to run on a kernel that is dead.
    pub(super) fn refuse_running(&mut self) {
        let Some(exec) = self.running.as_ref().map(|running| running.exec) else {
            return;
        };
        self.failure_row(
            exec,
            "the kernel is dead: the cell was not run",
            vec!["KernelDied: the kernel is dead, and this cell was not run.".to_owned()],
        );
        self.end_running(Status::Error, "error", None, Some(now()));
    }

    fn failure_row(&mut self, exec: ExecId, reason: &str, mut traceback: Vec<String>) {
        // Whoever does as they are told must not meet another session's kernel.
        let named = session_flag(self.place.id.as_str());
        traceback.push(match self.way_back() {
            Some(exec) if self.checkpoints.restores_by_itself() && !self.checkpoints.failed => {
                format!("The session goes on from its state after {exec}.")
            }
            Some(exec) => format!(
                "`tithon restore{named}` goes on from the state after {exec}; restart the kernel \
                 (tithon restart{named}, or Tithon: Restart Kernel) for an empty one."
            ),
            None => format!(
                "Restart the kernel (tithon restart{named}, or Tithon: Restart Kernel) to continue; \
                 `tithon replay{named}` runs the recorded cells again in a fresh one."
            ),
        });
        self.row(
            Some(exec),
            "error",
            &json!({
                "tithon_scope": "cell",
                "ename": "KernelDied",
                "evalue": reason,
                "traceback": traceback,
            }),
        );
    }

    /// What a kernel left that ended unwatched is read: its cell ends as it did, those that waited
    /// never ran.
    pub(super) fn remains_read(&mut self) {
        let KernelSlot::Remains(remains) = std::mem::replace(&mut self.kernel, KernelSlot::Absent)
        else {
            return;
        };
        let evidence = remains.complete.then(|| Evidence {
            took_leave: remains.spool.took_leave(),
            crash: self.crash(),
            ..Evidence::default()
        });
        self.running_over(evidence.as_ref());
        if let Some(evidence) = &evidence {
            self.foreign_died(evidence);
        }
        self.orphan_all();
        if !self.waiting.is_empty() {
            let restart = self
                .waiting
                .iter()
                .position(|(_, op)| matches!(op, Op::RestartKernel));
            let restart = restart.map(|at| self.waiting.remove(at).0);
            if restart.is_some() {
                self.give_up_checkpoints();
            }
            self.start_kernel(remains.wish, restart);
        }
    }
}
