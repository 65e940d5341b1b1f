//! Questions that clients ask the kernel: sent, matched with their answers, given up in time.
//!
//! They change nothing and so leave no event. Each is answered exactly once: by the kernel, by the
//! clock, or because the kernel ended.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, value::RawValue};
use tithon_ipc::{
    client::{Outcome, Question, QuestionKind, reply_text},
    jupyter::Message,
};
use tokio::time::Instant;

use super::{Session, kernel::KernelSlot};
use crate::{
    client::{Answer, ClientId},
    journal::Channel,
};

/// Questions one client may have open. Fewer than the operations it may have under way, so that
/// questions to a kernel that hangs never keep an interrupt from being read.
const PER_CLIENT_MAX: usize = 16;
/// Questions all clients may have open.
const OPEN_MAX: usize = 128;

/// Begins the `msg_id` of every question.
const PREFIX: &str = "tithon-ask-";

/// The open questions.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: HashMap<String, Open>,
    asked: u64,
}

#[derive(Debug)]
struct Open {
    client: ClientId,
    kind: QuestionKind,
    req_id: Option<Value>,
    due: Instant,
}

impl Questions {
    /// Whether a `msg_id` is a question's, perhaps an earlier worker's.
    pub(super) fn is_one(msg_id: &str) -> bool {
        msg_id.starts_with(PREFIX)
    }

    /// When the next question is to be given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|open| open.due).min()
    }

    /// Forgets what a client that left wanted to know.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.open.retain(|_, open| open.client != client);
    }

    fn has_room_for(&self, client: ClientId) -> bool {
        let own = self.open.values().filter(|open| open.client == client);
        self.open.len() < OPEN_MAX && own.count() < PER_CLIENT_MAX
    }

    fn add(&mut self, client: ClientId, question: &Question, limit: Duration) -> String {
        self.asked += 1;
        // A reply owed to an earlier worker comes to this one, which must not take it for its own.
        let msg_id = format!("{PREFIX}{}_{}", std::process::id(), self.asked);
        let open = Open {
            client,
            kind: question.kind,
            req_id: question.req_id.clone(),
            due: Instant::now() + limit,
        };
        self.open.insert(msg_id.clone(), open);
        msg_id
    }

    fn take_due(&mut self, now: Instant) -> Vec<Open> {
        self.open
            .extract_if(|_, open| now >= open.due)
            .map(|(_, open)| open)
            .collect()
    }
}

impl Session {
    /// Asks the kernel for a client.
    pub(super) fn ask(&mut self, client: ClientId, question: &Question) {
        let refused = match &self.kernel {
            KernelSlot::Running(kernel) if kernel.end.is_none() => {
                (!self.questions.has_room_for(client)).then_some("too many questions are open")
            }
            _ => Some("the kernel is not running"),
        };
        if let Some(reason) = refused {
            let outcome = Outcome::Unavailable(reason);
            let text = reply_text(question.kind, question.req_id.as_ref(), outcome);
            return self.answer(client, Answer::Frame(text.into()));
        }
        let limit = self.settings.question_limit;
        let msg_id = self.questions.add(client, question, limit);
        let Some(kernel) = self.kernel.running() else {
            return;
        };
        let msg_type = format!("{}_request", question.kind.name());
        let request = kernel.signer.request(&msg_id, &msg_type, &question.content);
        kernel.channels.send(kernel.question_channel(), request);
    }

    /// The kernel answered a question; nobody may want to know any more.
    pub(super) fn question_answered(&mut self, msg_id: &str, reply: &Message) {
        let Some(open) = self.questions.open.remove(msg_id) else {
            return;
        };
        let content = reply
            .content_text()
            .and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        let outcome = match content {
            Some(content) => Outcome::Answered(content),
            None => Outcome::Unavailable("the kernel's reply is not JSON"),
        };
        self.reply(&open, outcome);
    }

    /// Gives up what is overdue.
    pub(super) fn expire_questions(&mut self, now: Instant) {
        for open in self.questions.take_due(now) {
            let limit = self.settings.question_limit.as_secs_f64();
            let message = format!("the kernel did not answer within {limit} seconds");
            self.reply(&open, Outcome::Timeout(&message));
        }
    }

    /// The kernel is over: nobody will answer.
    pub(super) fn abandon_questions(&mut self) {
        for open in std::mem::take(&mut self.questions.open).into_values() {
            self.reply(&open, Outcome::Unavailable("the kernel ended"));
        }
    }

    fn reply(&mut self, open: &Open, outcome: Outcome<'_>) {
        let text = reply_text(open.kind, open.req_id.as_ref(), outcome);
        self.answer(open.client, Answer::Frame(text.into()));
    }
}

impl super::kernel::Kernel {
    /// Where a question is answered soonest.
    ///
    /// ipykernel serves the control channel in a thread of its own, busy or not, with the handlers of
    /// the shell. Its subshells would do as well, but a request to one becomes the parent of what
    /// threads and C code of the running cell print. Other kernels may ignore such requests on control.
    pub(super) fn question_channel(&self) -> Channel {
        if self.launch.under_launcher() || self.implementation.as_deref() == Some("ipython") {
            Channel::Control
        } else {
            Channel::Shell
        }
    }
}
