//! The checkpoints of the session: when one is taken, how many are kept, and what they may cost.
//!
//! The kernel is asked between two cells and never by itself, so a session without checkpoints runs
//! exactly as if there were none. A taken one costs the kernel a fork, and a copy of each page that the
//! kernel then overwrites: all of that together may cost 1 % of the time, and a second more, so that a
//! few quick cells each get theirs.

mod cost;
mod list;

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use tithon_ipc::{
    client::{CheckpointWish, Frame},
    files::CheckpointRecord,
    ids::{ExecId, Seq},
    process::ProcessIdentity,
};
use tokio::time::Instant;

use self::list::Asked;
pub(super) use self::list::{Checkpoint, Checkpoints, StateOf, widgets_at};
use super::{Session, kernel::PROBE, launch::LaunchEvent};
use crate::{
    client::ClientId,
    journal::{CHECKPOINTS, Change, Channel, now},
    kernel::checkpoint::{self, FREEZE_PATIENCE, ForkReply},
};

/// After a refusal.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a copy may take from the fork to its socket when its kernel has died and others wait.
const LAST_LOOK: Duration = Duration::from_secs(1);
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

    pub(super) fn checkpoint_socket(&self, exec: ExecId) -> PathBuf {
        self.place.home.checkpoint_socket(&self.place.key, exec)
    }

    /// A cell was run to its end.
    pub(super) fn note_ran(&mut self, exec: ExecId, succeeded: bool) {
        let keeps = self.checkpoints.keep() > 0;
        if !keeps && self.checkpoints.is_empty() {
            // Nothing to go back to: it is enough to know what a state is made after.
            self.checkpoints.kept.line.clear();
            self.checkpoints.kept.line.push(exec.0);
            return;
        }
        self.checkpoints.kept.line.push(exec.0);
        // What failed has left its mark too: an earlier state cannot be had any more.
        self.checkpoints.wanted = (keeps && succeeded).then_some((exec, self.last_seq));
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
        self.may_be_forked()
            && !self.checkpoints.given_up
            && self.checkpoints.freezing.is_none()
            && self.checkpoints.keep() > 0
    }

    /// The kernel says what came of a request.
    pub(super) fn checkpoint_answered(&mut self, parent: &str, content: &[u8]) {
        let exec = parent
            .strip_prefix(&request_prefix())
            .and_then(|digits| digits.parse().ok())
            .map(ExecId);
        let (Some(exec), Ok(answer)) = (exec, serde_json::from_slice::<ForkReply>(content)) else {
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
        self.checkpoints.refused_at = crate::journal::now();
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
        self.checkpoints.add(Checkpoint {
            exec: exec.0,
            seq,
            made: now(),
            process,
            state: None,
            widgets,
            memory: 0,
        });
        self.keep_no_more_than_wished();
        self.store_checkpoints();
    }

    fn keep_no_more_than_wished(&mut self) {
        while self.checkpoints.count() > self.checkpoints.keep() as usize {
            self.give_up_one();
        }
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
        self.give_up_runs("the kernel was given up");
        if self.checkpoints.is_empty() {
            return;
        }
        while let Some(last) = self.checkpoints.kept.list.pop() {
            checkpoint::end(&last.process, &self.checkpoint_socket(ExecId(last.exec)));
        }
        self.checkpoints.together = 0;
        self.store_checkpoints();
    }

    /// Ends the checkpoint that is missed least; returns the bytes that it alone held, or `None` if there is
    /// no checkpoint left.
    fn give_up_one(&mut self) -> Option<u64> {
        let least = self.checkpoints.least_useful()?;
        self.give_up(least)
    }

    /// Ends a checkpoint or state; returns the bytes that it alone held.
    pub(super) fn give_up(&mut self, exec: ExecId) -> Option<u64> {
        let list = &mut self.checkpoints.kept.list;
        let at = list.iter().position(|known| known.exec == exec.0)?;
        let given_up = list.remove(at);
        checkpoint::end(&given_up.process, &self.checkpoint_socket(exec));
        Some(given_up.memory)
    }

    pub(super) fn store_checkpoints(&mut self) {
        let frozen = self
            .checkpoints
            .kept
            .list
            .iter()
            .map(|known| &known.process);
        let record = CheckpointRecord {
            processes: frozen.chain(self.copies.processes()).cloned().collect(),
        };
        if let Err(err) = record.write(&self.place.dir) {
            tracing::warn!("failed to note the checkpoints: {err}");
        }
        self.journal_checkpoints();
    }

    fn journal_checkpoints(&mut self) {
        // Only what can still be asked for: a line is as long as the session's life.
        let list = &self.checkpoints.kept.list;
        let first =
            |known: &Checkpoint| known.state.as_ref().map_or(known.exec, |state| state.base);
        let oldest = list.iter().map(first).min().unwrap_or(u64::MAX);
        let newest = self.checkpoints.kept.line.last().copied();
        self.checkpoints
            .kept
            .line
            .retain(|exec| *exec >= oldest || Some(*exec) == newest);
        let due = self.checkpoints.wanted.map(|(exec, seq)| (exec.0, seq));
        self.checkpoints.kept.due = due;
        let value = serde_json::to_string(&self.checkpoints.kept).unwrap_or_default();
        self.change(Change::Meta {
            key: CHECKPOINTS,
            value,
        });
    }

    /// The system may have ended some for their memory.
    pub(super) fn forget_ended_checkpoints(&mut self) {
        let list = &mut self.checkpoints.kept.list;
        let before = list.len();
        list.retain(|known| matches!(known.process.open(), Ok(Some(_))));
        if list.len() != before {
            self.store_checkpoints();
        }
    }

    /// With when that was found, in unix seconds, where it is not so by itself.
    fn why_no_checkpoint(&self) -> Option<(&str, Option<f64>)> {
        if self.checkpoints.keep() == 0 {
            return None;
        }
        let kernel = self.kernel.running();
        if kernel.is_some_and(|kernel| kernel.ready && !kernel.records_everything()) {
            let why = "only Python kernels under Tithon's launcher can be copied";
            return Some((why, None));
        }
        let refused = self.checkpoints.refused.as_deref()?;
        Some((refused, Some(self.checkpoints.refused_at)))
    }

    // -- what clients ask

    /// Answers what checkpoints there are, after taking over what the client wishes of them.
    pub(super) fn show_checkpoints(&mut self, client: ClientId, wish: &CheckpointWish) {
        if let Some(keep) = wish.keep {
            self.checkpoints.kept.keep = Some(keep);
            self.keep_no_more_than_wished();
        }
        if let Some(auto_restore) = wish.auto_restore {
            self.checkpoints.kept.auto_restore = Some(auto_restore);
        }
        if *wish != CheckpointWish::default() {
            self.store_checkpoints();
        }
        self.forget_ended_checkpoints();
        let line = &self.checkpoints.kept.line;
        let list: Vec<_> = self
            .checkpoints
            .kept
            .list
            .iter()
            .filter(|known| known.state.is_none())
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
        let refused = self.why_no_checkpoint();
        let frame = Frame::Checkpoints {
            keep: self.checkpoints.keep(),
            auto_restore: self.checkpoints.restores_by_itself(),
            memory_bytes: self.checkpoints.together,
            memory_max: self.checkpoints.memory_max,
            refused: refused.map(|(why, _)| why),
            refused_ts: refused.and_then(|(_, at)| at),
            checkpoints: &list,
        }
        .to_text();
        self.answer(client, crate::client::Answer::Frame(frame.into()));
    }
}
