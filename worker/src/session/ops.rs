//! What clients ask of the session, one hop from here to each answer.

use serde_json::{Value, json};
use tithon_ipc::{
    client::{Clear, Frame, LaunchWish, Op, StateOp},
    ids::ExecId,
};
use tokio::time::Instant;

use super::{
    Ending, Parting, Session,
    copies::{Purpose, Wish},
    ending::End,
    kernel::{Kernel, KernelSlot},
    store::Effect,
};
use crate::{
    client::{Answer, ClientId},
    journal::Channel,
};

impl Session {
    pub(super) async fn op(&mut self, client: ClientId, op: Op, launch: Option<LaunchWish>) {
        self.last_touch = Instant::now();
        if self.is_sent_on(client) {
            return;
        }
        if launch.is_some() {
            self.noticing.insert(client);
        }
        if let Some(wish) = &launch
            && !matches!(op, Op::RestartKernel)
            && self.kernel.running().is_some()
        {
            if let Some(bytes) = wish.memory_max {
                self.limit_later(bytes);
            }
            self.tell_unmet(wish);
        }
        if self.ending == Some(Ending::Retired)
            || self.kernel.running().is_some_and(Kernel::is_last)
        {
            return self.answer(client, killed(&op));
        }
        match op {
            Op::Interrupt => {
                let ok = self.interrupt();
                let answer = Answer::Frame(Frame::Interrupted { ok }.to_text().into());
                if self.stalled.is_some() {
                    self.answer(client, answer);
                } else {
                    self.after_commit(Effect::Answer(client, answer));
                }
            }
            Op::KillKernel { .. } => {
                let session = Value::from(self.place.id.as_str());
                let killed = Frame::KernelKilled {
                    ok: true,
                    session: &session,
                }
                .to_text();
                self.partings
                    .push(Parting::Client(client, Answer::Frame(killed.into())));
                self.kill().await;
            }
            Op::Checkpoints(wish) => self.show_checkpoints(client, &wish),
            Op::RestoreKernel { to } => self.restore_kernel(client, to.as_deref()).await,
            Op::Try(trial) if trial.from.is_some() => {
                self.want_copy(client, Purpose::Try(trial));
            }
            // Of a session without a kernel there is nothing to branch off.
            Op::Branch(wish)
                if wish.from.is_some() || matches!(self.kernel, KernelSlot::Absent) =>
            {
                self.want_copy(client, Purpose::Branch(wish));
            }
            Op::States(op) if !needs_kernel(&op) => self.state_op(client, *op),
            Op::CopyInput { value } => self.wish_of_copy(client, Wish::Input(value)),
            Op::CopyInterrupt => self.wish_of_copy(client, Wish::Interrupt),
            Op::RestartKernel if self.is_being_restored() => {
                let message = "the kernel is being restored: try again in a moment";
                self.frame(client, &Frame::Error { message });
            }
            // What the journal alone answers starts no kernel and waits for none.
            op @ (Op::Observe { .. } | Op::ClearOutput(_)) => self.answer_op(client, op),
            // Nobody's variables are missed then: a fresh kernel is what was asked for.
            Op::RestartKernel if matches!(self.kernel, KernelSlot::Absent) => {
                self.give_up_checkpoints();
                self.start_kernel(launch, Some(client));
            }
            op if self.kernel.is_loading() => {
                self.waiting.push((client, op));
                match &mut self.kernel {
                    KernelSlot::Absent => self.start_kernel(launch, None),
                    KernelSlot::Remains(remains) => {
                        remains.wish = remains.wish.take().or(launch);
                    }
                    _ => {}
                }
            }
            Op::RestartKernel => self.restart(client, launch).await,
            op => self.answer_op(client, op),
        }
    }

    /// Operations that waited for the kernel.
    pub(super) fn answer_waiting(&mut self) {
        for (client, op) in std::mem::take(&mut self.waiting) {
            match op {
                // Whoever asked while the kernel was being started has a fresh one now.
                Op::RestartKernel => {
                    let kernel_pid = self.kernel.pid().unwrap_or(0);
                    self.frame(client, &Frame::KernelRestarted { kernel_pid });
                }
                op => self.answer_op(client, op),
            }
        }
    }

    fn answer_op(&mut self, client: ClientId, op: Op) {
        match op {
            Op::Attach { last_seen_seq } | Op::Observe { last_seen_seq } => {
                self.attach(client, last_seen_seq);
                self.say_refused(client);
            }
            Op::Submit(submission) => self.submit(client, submission),
            Op::Try(trial) => self.want_copy(client, Purpose::Try(trial)),
            Op::Branch(wish) => self.want_copy(client, Purpose::Branch(wish)),
            Op::States(op) => self.state_op(client, *op),
            Op::InputReply { value } => self.input_reply(client, &value),
            Op::ClearOutput(which) => self.clear_output(client, which),
            Op::Comm(comm) => self.comm_from_client(client, &comm),
            Op::Ask(question) => self.ask(client, &question),
            Op::GetArtifact {
                artifact_id,
                req_id,
            } => self.send_artifact(client, artifact_id, req_id),
            Op::SessionStatus => {
                let status = self.status();
                let text = format!(r#"{{"op": "status_reply", {}"#, &status[1..]);
                self.answer(client, Answer::Frame(text.into()));
            }
            Op::Interrupt
            | Op::RestartKernel
            | Op::Checkpoints(_)
            | Op::RestoreKernel { .. }
            | Op::CopyInput { .. }
            | Op::CopyInterrupt
            | Op::KillKernel { .. }
            | Op::Status { .. }
            | Op::Convert(_)
            | Op::Shutdown { .. } => {
                unreachable_op(&op);
            }
        }
    }

    fn input_reply(&mut self, client: ClientId, value: &str) {
        let prompt = self
            .running
            .as_mut()
            .and_then(|running| Some((running.exec, running.prompt.take()?)));
        let answered = prompt.and_then(|(exec, prompt)| {
            let kernel = self.kernel.running()?;
            let content = tithon_ipc::json::to_string(&json!({"value": value, "status": "ok"}));
            let msg_id = format!("tithon-{}_input_{}", self.place.key, self.last_seq + 1);
            let message =
                kernel
                    .signer
                    .message(&msg_id, "input_reply", prompt.header, content.into());
            self.row(
                Some(exec),
                "tithon.input_resolved",
                &json!({"exec_id": exec.to_string()}),
            );
            // Resolved first: a worker that replaces this one must not ask again.
            self.after_commit(Effect::Send(Channel::Stdin, Box::new(message)));
            Some(())
        });
        let frame = Frame::InputAck {
            ok: answered.is_some(),
        }
        .to_text();
        self.after_commit(Effect::Answer(client, Answer::Frame(frame.into())));
    }

    fn clear_output(&mut self, client: ClientId, which: Clear) {
        let execs: Vec<ExecId> = match which {
            Clear::All => (1..=self.last_exec).map(ExecId).collect(),
            Clear::Only(ids) => ids
                .iter()
                .filter_map(|id| ExecId::parse(id))
                .filter(|exec| exec.0 <= self.last_exec && exec.0 > 0)
                .collect(),
        };
        for exec in &execs {
            self.row(
                Some(*exec),
                "clear_output",
                &json!({"wait": false, "tithon_scope": "cell"}),
            );
        }
        self.share();
        let frame = Frame::Cleared { count: execs.len() }.to_text();
        self.after_commit(Effect::Answer(client, Answer::Frame(frame.into())));
    }

    async fn restart(&mut self, client: ClientId, launch: Option<LaunchWish>) {
        let old = self.kernel.pid().unwrap_or(0);
        self.orphan_all();
        self.journal_kernel(&json!({"status": "restarting", "pid": old, "deliberate": true}));
        self.end_kernel(End::Replaced(client, launch)).await;
    }

    /// Ends the session's kernel at a user's wish.
    pub(super) async fn kill(&mut self) {
        self.orphan_all();
        self.close_by_user();
        self.journal_kernel(&json!({"status": "killed", "deliberate": true}));
        self.end_kernel(End::Wanted(Ending::Retired)).await;
    }

    /// Ends a kernel that nobody has used for the idle timeout.
    pub(super) async fn collect_if_idle(&mut self) {
        let Some(timeout) = self.settings.idle_timeout else {
            return;
        };
        let idle = self.last_touch.elapsed();
        let unused = self.feed.readers() == 0
            && self.queue.is_empty()
            && self.running.is_none()
            && self.foreign.is_empty()
            && self.questions.deadline().is_none()
            && self.waiting.is_empty()
            && self.copies.is_empty()
            && self
                .kernel
                .running()
                .is_some_and(|kernel| kernel.ready && kernel.execution_state != "busy");
        if unused && idle >= timeout && self.ending.is_none() {
            self.journal_kernel(&json!({"status": "gc", "idle_seconds": idle.as_secs()}));
            self.end_kernel(End::Wanted(Ending::Retired)).await;
        }
    }
}

/// The answer to anything asked of a session whose kernel was ended for good. Only who asks for a
/// fresh kernel is let go with it: an editor that reconnects by itself would revive what was killed.
pub(crate) fn killed(op: &Op) -> Answer {
    let text = Frame::Error {
        message: "session was killed\nhint: connect again for a fresh kernel",
    }
    .to_text()
    .into();
    match op {
        Op::RestartKernel => Answer::Close(text),
        _ => Answer::Frame(text),
    }
}

/// Whether it is about the kernel as it is, which has to be started first.
fn needs_kernel(op: &StateOp) -> bool {
    matches!(op, StateOp::Run(run) if run.from.is_none())
}

/// Operations that are answered before they get here.
fn unreachable_op(op: &Op) {
    // Not what is in it: that may be code.
    let kind = std::mem::discriminant(op);
    tracing::error!(?kind, "an operation reached the session that is not its");
}
