//! Executions that other Jupyter programs ask of the kernel (`jupyter console --existing` and the
//! like): each becomes an execution of the session, attributed to who asked.
//!
//! The kernel runs them whenever it gets them; nothing here sends anything. Ours wait meanwhile, so
//! that `started` is said of a cell that the kernel can begin with.

use serde::Deserialize;
use serde_json::json;
use tithon_ipc::{
    ids::ExecId,
    jupyter::{Message, ParentView},
};
use tokio::time::Instant;

use super::{Session, reply::ExecuteReply, store::LiveFold};
use crate::{
    journal::{Change, NewExecution, Status, StoredExecution, date_of, now},
    kernel::death::Evidence,
};

/// An execution of another program that has not ended.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) exec: ExecId,
    pub(super) msg_id: String,
    /// The kernel's word on how it ended, where replies to others are recorded.
    reply: Option<ExecuteReply>,
    execution_count: Option<i64>,
    /// Whether its `idle` is committed.
    idle: bool,
    /// Whether the kernel was asked, behind it, to say when it is free.
    asked: bool,
}

impl Foreign {
    /// Takes up an execution that an earlier worker saw begin.
    pub(super) fn restore(execution: &StoredExecution) -> Option<Self> {
        let msg_id = execution.kernel_msg_id.clone()?;
        Some(Self {
            exec: execution.exec,
            msg_id,
            reply: None,
            execution_count: None,
            idle: false,
            asked: true,
        })
    }
}

#[derive(Deserialize)]
struct Input {
    code: String,
    execution_count: Option<i64>,
}

impl Session {
    /// The kernel says which code it runs for another program.
    pub(super) fn foreign_started(&mut self, parent: &ParentView<'_>, message: &Message) {
        let Ok(input) = serde_json::from_slice::<Input>(&message.content) else {
            return;
        };
        self.last_touch = Instant::now();
        let exec = self.new_execution();
        let ts = date_of(&message.header).unwrap_or_else(now);
        let submitted_by = format!("jupyter:{}@{}", parent.username, parent.session);
        self.requests.remember(&parent.msg_id, exec);
        let queued =
            json!({"code": input.code, "origin": null, "submitted_by": submitted_by.clone()});
        let new = NewExecution::of(exec, input.code, Some(submitted_by));
        self.change(Change::Submitted(new));
        self.row(Some(exec), "tithon.queued", &queued);
        self.note_started(exec, Some(parent.msg_id.to_string()), ts);
        // The kernel's own came before it was known whose it is, and is kept with what is no event.
        self.row(Some(exec), "status", &json!({"execution_state": "busy"}));
        self.foreign.push(Foreign {
            exec,
            msg_id: parent.msg_id.to_string(),
            reply: None,
            execution_count: input.execution_count,
            idle: false,
            asked: false,
        });
    }

    /// The reply that another program gets.
    pub(super) fn foreign_replied(&mut self, msg_id: &str, content: &[u8]) {
        let exec = self.foreign.iter().find(|open| open.msg_id == msg_id);
        let Some(exec) = exec.map(|open| open.exec) else {
            return;
        };
        let reply = self.outcome_of(exec, content);
        if let Some(open) = self.foreign.iter_mut().find(|open| open.exec == exec) {
            open.reply = Some(reply);
        }
    }

    /// An execution's `idle` is committed.
    pub(super) fn foreign_idle(&mut self, exec: ExecId) {
        if let Some(open) = self.foreign.iter_mut().find(|open| open.exec == exec) {
            open.idle = true;
        }
    }

    /// Ends what the kernel is done with.
    pub(super) fn finish_foreign(&mut self) {
        let (over, open) = std::mem::take(&mut self.foreign)
            .into_iter()
            .partition(|foreign| foreign.idle);
        self.foreign = open;
        self.end_foreign(over);
    }

    /// Lets a cell of ours wait until the kernel is free. What tells is an answer behind everything
    /// that others have asked: an `idle` may be lost where there is no spool.
    pub(super) fn wait_for_others(&mut self) {
        if !self.foreign.iter().all(|foreign| foreign.asked) {
            self.foreign
                .iter_mut()
                .for_each(|foreign| foreign.asked = true);
            if let Some(kernel) = self.kernel.running_mut() {
                kernel.ask_whether_free();
            }
        }
    }

    /// The kernel's shell had nothing left before a question of ours.
    pub(super) fn others_are_done(&mut self) {
        let (over, open) = std::mem::take(&mut self.foreign)
            .into_iter()
            .partition(|foreign| foreign.asked);
        self.foreign = open;
        self.end_foreign(over);
    }

    fn end_foreign(&mut self, over: Vec<Foreign>) {
        if over.is_empty() {
            return;
        }
        self.store_folds();
        for Foreign {
            exec,
            reply,
            execution_count,
            ..
        } in over
        {
            let failed = self.folds.get(&exec).is_some_and(LiveFold::has_error);
            let reply = reply.unwrap_or_else(|| ExecuteReply::guess(failed, execution_count));
            let status = reply.ended();
            self.end(
                exec,
                status,
                &reply.status,
                reply.execution_count,
                Some(now()),
            );
            self.note_ran(exec, status == Status::Done);
        }
        self.last_touch = Instant::now();
        self.start_next();
    }

    /// Ends what runs for others because its kernel died.
    pub(super) fn foreign_died(&mut self, evidence: &Evidence) {
        for at in 0..self.foreign.len() {
            self.death_row(self.foreign[at].exec, evidence);
        }
        self.foreign_over(Status::Error);
    }

    /// Ends what runs for others because its kernel is replaced or gone for good.
    pub(super) fn foreign_orphaned(&mut self) {
        self.foreign_over(Status::Orphaned);
    }

    fn foreign_over(&mut self, status: Status) {
        let open = std::mem::take(&mut self.foreign);
        if open.is_empty() {
            return;
        }
        self.store_folds();
        for foreign in open {
            self.end(foreign.exec, status, status.name(), None, Some(now()));
        }
    }
}
