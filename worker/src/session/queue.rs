//! Executions: submitted, started, finished, skipped, orphaned.
//!
//! The journal's `queued` rows are the queue; what is here in memory is only a reading of them (I4).

use std::collections::VecDeque;

use serde_json::{Value, json};
use tithon_ipc::{
    client::{Frame, Submission},
    ids::ExecId,
    json,
};
use tokio::time::Instant;

use super::{
    Session,
    foreign::Foreign,
    kernel::{Kernel, KernelSlot},
    prompt::Prompt,
    reply::ExecuteReply,
    store::Effect,
};
use crate::{
    client::{Answer, ClientId},
    journal::{Change, Channel, Loaded, NewExecution, REPLY, Row, Status, now},
};

/// A cell that waits.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) exec: ExecId,
    pub(super) batch: ExecId,
    code: String,
    allow_stdin: bool,
    stop_on_error: bool,
}

/// The cell that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) exec: ExecId,
    batch: ExecId,
    code: String,
    allow_stdin: bool,
    stop_on_error: bool,
    pub(super) msg_id: String,
    pub(super) started: f64,
    /// The kernel's word on how it ended.
    pub(super) reply: Option<ExecuteReply>,
    /// Whether its `idle` is committed.
    idle: bool,
    /// When to stop waiting for the `idle` that belongs to the reply.
    pub(super) barrier: Option<Instant>,
    /// What the kernel numbered it, as it said before any reply.
    pub(super) execution_count: Option<i64>,
    /// The prompt it waits at.
    pub(super) prompt: Option<Prompt>,
    /// A prompt whose answer may have died with the worker that sent it.
    pub(super) unanswered: Option<Prompt>,
    /// Whether an earlier worker sent it, and any sign of it was journaled since.
    pub(super) adopted: Option<SignOfLife>,
}

/// What an earlier worker's journal says of a cell it had started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignOfLife {
    /// The kernel had begun with it.
    Seen,
    /// Nothing came of it: it may never have reached the kernel.
    None,
}

/// Whether a row is the `idle` of its execution.
pub(super) fn is_idle(row: &Row) -> bool {
    row.msg_type == "status" && row.content.as_str().contains("\"idle\"")
}

impl Session {
    /// Rebuilds queue and running cell from the journal's open executions.
    pub(super) fn restore_queue(&mut self, loaded: Loaded) {
        let (prompt, unanswered) = (loaded.prompt.as_ref(), loaded.unanswered.as_ref());
        let reply: Option<(String, ExecuteReply)> = loaded
            .meta
            .get(REPLY)
            .and_then(|reply| serde_json::from_str(reply).ok());
        for execution in loaded.open {
            if execution.state.is_some() {
                self.restore_run(&execution);
            } else if execution.is_foreign() {
                self.foreign.extend(Foreign::restore(&execution));
            } else if execution.status == Status::Running.name() {
                let seen = self.lifecycle.saw_running();
                let reply = reply
                    .as_ref()
                    .filter(|(exec, _)| *exec == execution.exec.to_string())
                    .map(|(_, reply)| reply.clone());
                self.running = Some(Running {
                    exec: execution.exec,
                    batch: execution.batch,
                    code: execution.code,
                    allow_stdin: execution.allow_stdin,
                    stop_on_error: execution.stop_on_error,
                    msg_id: execution.kernel_msg_id.unwrap_or_default(),
                    started: execution.started_at.unwrap_or_else(now),
                    barrier: reply
                        .is_some()
                        .then(|| Instant::now() + self.settings.idle_barrier),
                    reply,
                    idle: loaded.running_idle,
                    execution_count: None,
                    prompt: prompt
                        .filter(|row| row.msg_type == "tithon.input_request")
                        .and_then(Prompt::of),
                    unanswered: unanswered.and_then(Prompt::of),
                    adopted: Some(if seen {
                        SignOfLife::Seen
                    } else {
                        SignOfLife::None
                    }),
                });
            } else {
                self.queue.push_back(Queued {
                    exec: execution.exec,
                    batch: execution.batch,
                    code: execution.code,
                    allow_stdin: execution.allow_stdin,
                    stop_on_error: execution.stop_on_error,
                });
            }
        }
    }

    /// Queues cells; the client hears of it once they are durable (I1).
    pub(super) fn submit(&mut self, client: ClientId, submission: Submission) {
        if let Some(reason) = &self.stalled {
            let message = format!("nothing was queued: the journal cannot be written ({reason})");
            return self.frame(client, &Frame::Error { message: &message });
        }
        self.reopen();
        let batch = ExecId(self.last_exec + 1);
        let mut ids = Vec::with_capacity(submission.cells.len());
        for cell in submission.cells {
            let exec = self.new_execution();
            ids.push(exec.to_string());
            let raw = cell
                .origin
                .as_ref()
                .map_or(Value::Null, |origin| origin.raw.clone());
            self.change(Change::Submitted(NewExecution {
                origin_uri: cell.origin.as_ref().and_then(|origin| origin.uri.clone()),
                origin_range: cell
                    .origin
                    .as_ref()
                    .and_then(|origin| origin.range.as_ref())
                    .map(json::to_string),
                origin_index: cell.origin.as_ref().and_then(|origin| origin.index),
                allow_stdin: submission.allow_stdin,
                batch,
                stop_on_error: submission.stop_on_error,
                ..NewExecution::of(exec, cell.code.clone(), submission.submitted_by.clone())
            }));
            let mut queued = json!({"code": cell.code, "origin": raw});
            if let Some(who) = &submission.submitted_by {
                queued["submitted_by"] = who.as_str().into();
            }
            self.row(Some(exec), "tithon.queued", &queued);
            self.queue.push_back(Queued {
                exec,
                batch,
                code: cell.code,
                allow_stdin: submission.allow_stdin,
                stop_on_error: submission.stop_on_error,
            });
        }
        let ack = if submission.single {
            Frame::ExecuteAck {
                exec_id: ids.first().map(String::as_str),
                exec_ids: None,
            }
        } else {
            Frame::ExecuteAck {
                exec_id: None,
                exec_ids: Some(&ids),
            }
        };
        self.durably();
        self.after_commit(Effect::Answer(client, Answer::Frame(ack.to_text().into())));
        self.start_next();
    }

    /// The number of an execution that begins to exist, and shows nothing yet.
    pub(super) fn new_execution(&mut self) -> ExecId {
        self.last_exec += 1;
        self.executions += 1;
        let exec = ExecId(self.last_exec);
        self.folds.entry(exec).or_default();
        exec
    }

    /// Starts the next cell if the kernel is free for it.
    pub(super) fn start_next(&mut self) {
        while self.running.is_none() {
            let dead = match &self.kernel {
                KernelSlot::Running(kernel) if kernel.ready && kernel.end.is_none() => false,
                KernelSlot::Dead { .. } => true,
                _ => return,
            };
            if !dead && (self.is_being_copied() || self.is_making_checkpoint()) {
                return;
            }
            if !self.queue.is_empty() && !self.foreign.is_empty() {
                return self.wait_for_others();
            }
            // One that nobody waited for, or was told to go on by itself only when it was dead.
            if dead && !self.queue.is_empty() && self.restore_by_itself() {
                return;
            }
            let Some(next) = self.queue.pop_front() else {
                return;
            };
            let ts = now();
            let msg_id = self.execute_msg_id(next.exec);
            self.note_started(next.exec, (!dead).then(|| msg_id.clone()), ts);
            if !dead {
                self.after_commit(Effect::Execute(next.exec));
            }
            self.running = Some(Running {
                exec: next.exec,
                batch: next.batch,
                code: next.code,
                allow_stdin: next.allow_stdin,
                stop_on_error: next.stop_on_error,
                msg_id,
                started: ts,
                reply: None,
                idle: false,
                barrier: None,
                execution_count: None,
                prompt: None,
                unanswered: None,
                adopted: None,
            });
            if dead {
                self.refuse_running();
            }
        }
    }

    /// Journals that an execution starts; without a `msg_id` where there is no kernel to send it to.
    pub(super) fn note_started(&mut self, exec: ExecId, kernel_msg_id: Option<String>, ts: f64) {
        let mut started = json!({"ts": ts});
        if let Some(msg_id) = &kernel_msg_id {
            started["kernel_msg_id"] = msg_id.as_str().into();
        }
        self.change(Change::Started {
            exec,
            kernel_msg_id,
            ts,
        });
        self.row(Some(exec), "tithon.started", &started);
        self.requests.started(exec);
    }

    /// Sends the running cell to the kernel, its start being journaled.
    pub(super) fn send_execute(&mut self, exec: ExecId) {
        let Some(running) = self.running.as_ref().filter(|running| running.exec == exec) else {
            return;
        };
        let content = json!({
            "code": running.code,
            "silent": false,
            "store_history": true,
            "user_expressions": {},
            "allow_stdin": running.allow_stdin,
            "stop_on_error": false,
        });
        let Some(kernel) = self.kernel.running_mut() else {
            return;
        };
        kernel.memory.begin_again();
        let request = kernel
            .signer
            .request(&running.msg_id, "execute_request", &content);
        kernel.channels.send(Channel::Shell, request);
        self.read_spool_at_once();
    }

    /// The running cell's reply: it ends once everything it printed is committed too.
    pub(super) fn replied(&mut self, reply: ExecuteReply) {
        let barrier = Instant::now() + self.settings.idle_barrier;
        if let Some(running) = &mut self.running {
            // Its message is read once: a worker that replaces this one before the cell is over must
            // know what it said.
            let value = serde_json::to_string(&(running.exec.to_string(), &reply));
            running.reply = Some(reply);
            running.barrier = Some(barrier);
            self.change(Change::Meta {
                key: REPLY,
                value: value.unwrap_or_default(),
            });
        }
        self.finish_if_complete();
    }

    pub(super) fn idle_applied(&mut self, exec: ExecId) {
        if let Some(running) = self.running.as_mut().filter(|running| running.exec == exec) {
            running.idle = true;
        }
    }

    pub(super) fn finish_if_complete(&mut self) {
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.idle && running.reply.is_some())
        {
            self.finish_running();
        }
    }

    /// Ends the running cell with what is known of its end.
    pub(super) fn finish_running(&mut self) {
        let Some(exec) = self.running.as_ref().map(|running| running.exec) else {
            return;
        };
        self.journal_missing(exec);
        let Some(running) = &self.running else {
            return;
        };
        let failed = self
            .folds
            .get(&running.exec)
            .is_some_and(super::store::LiveFold::has_error);
        let known = running.reply.clone();
        self.kernel_log.look();
        let reply = known.unwrap_or_else(|| ExecuteReply::guess(failed, running.execution_count));
        self.end_running(
            reply.ended(),
            &reply.status,
            reply.execution_count,
            Some(now()),
        );
        self.note_ran(exec, reply.ended() == Status::Done);
        self.start_next();
    }

    /// Ends everything that runs or waits because its kernel is replaced or gone for good.
    pub(super) fn orphan_all(&mut self) {
        if self.running.is_some() {
            let ts = now();
            self.end_running(Status::Orphaned, Status::Orphaned.name(), None, Some(ts));
        }
        self.foreign_orphaned();
        for queued in std::mem::take(&mut self.queue) {
            self.end(
                queued.exec,
                Status::Orphaned,
                Status::Orphaned.name(),
                None,
                None,
            );
        }
    }

    pub(super) fn end_running(
        &mut self,
        status: Status,
        word: &str,
        execution_count: Option<i64>,
        ts: Option<f64>,
    ) {
        let Some(running) = self.running.take() else {
            return;
        };
        if running.prompt.is_some() && status != Status::Orphaned {
            self.row(
                Some(running.exec),
                "tithon.input_resolved",
                &json!({"exec_id": running.exec.to_string()}),
            );
        }
        self.store_folds();
        self.end(running.exec, status, word, execution_count, ts);
        if status == Status::Error && running.stop_on_error {
            self.skip_rest_of(running.batch);
        }
        let batch_goes_on = self
            .queue
            .iter()
            .any(|queued| queued.batch == running.batch);
        if !batch_goes_on || status == Status::Orphaned {
            self.share();
        }
    }

    fn skip_rest_of(&mut self, batch: ExecId) {
        let (rest, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|queued| queued.batch == batch);
        self.queue = kept;
        for queued in rest {
            self.end(
                queued.exec,
                Status::Skipped,
                Status::Skipped.name(),
                None,
                Some(now()),
            );
        }
    }

    pub(super) fn end(
        &mut self,
        exec: ExecId,
        status: Status,
        word: &str,
        execution_count: Option<i64>,
        ts: Option<f64>,
    ) {
        self.change(Change::Finished {
            exec,
            status,
            execution_count,
            ts,
        });
        let ts = ts.unwrap_or_else(now);
        self.row(
            Some(exec),
            "tithon.done",
            &json!({"status": word, "execution_count": execution_count, "ts": ts}),
        );
    }

    /// How many batches wait; the running one does not count.
    pub(super) fn queue_len(&self) -> usize {
        let running = self.running.as_ref().map(|running| running.batch);
        let mut batches: Vec<_> = self
            .queue
            .iter()
            .map(|queued| queued.batch)
            .filter(|batch| Some(*batch) != running)
            .collect();
        batches.dedup();
        batches.len()
    }

    /// Looks whether a cell that an earlier worker started ever reached the kernel, now that the
    /// kernel is known to be free.
    pub(super) fn kernel_is_free(&mut self) {
        self.others_are_done();
        self.repeat_comms();
        let Some(running) = self
            .running
            .as_mut()
            .filter(|running| running.adopted.is_some())
        else {
            return;
        };
        let recorded = self
            .kernel
            .running()
            .is_some_and(Kernel::records_everything);
        if running.reply.is_some() && !recorded {
            // Its `idle` may still be on its way.
            return;
        }
        match running.adopted.take() {
            Some(SignOfLife::None) if recorded => {
                let exec = running.exec;
                self.send_execute(exec);
            }
            Some(SignOfLife::None) => {
                // It may have run while nobody listened: running it again could do it twice.
                self.end_running(Status::Orphaned, Status::Orphaned.name(), None, Some(now()));
                self.start_next();
            }
            _ => self.finish_running(),
        }
    }
}
