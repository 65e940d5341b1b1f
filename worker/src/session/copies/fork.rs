//! Asking the live kernel to fork a copy, between two cells.

use std::path::PathBuf;

use serde_json::json;
use tokio::time::Instant;

use super::{Asked, CopyEvent, Wanted};
use crate::{
    journal::Channel,
    kernel::checkpoint::{
        self, ANSWER_PATIENCE, FREEZE_PATIENCE, ForkReply, REST_PATIENCE, REST_PAUSE,
    },
    session::{
        Session,
        kernel::{KernelSlot, PROBE},
        launch::LaunchEvent,
    },
};

/// Begins the `msg_id` of a request to fork; the copy's number follows.
fn request_prefix() -> String {
    format!("{PROBE}copy-")
}

/// Whether a request was for a copy that is not kept.
pub(in crate::session) fn is_request(msg_id: &str) -> bool {
    msg_id.starts_with(&request_prefix())
}

impl Session {
    /// Whether the kernel is to fork a copy before it gets anything else; asks for it if it can.
    pub(in crate::session) fn is_being_copied(&mut self) -> bool {
        if self.copies.asked.is_some() {
            return true;
        }
        self.copies.retry = None;
        if self.copies.wanted.is_empty() {
            return false;
        }
        let Some(kernel) = self.kernel.running().filter(|_| self.may_be_forked()) else {
            self.copies.retry = Some(Instant::now() + REST_PAUSE);
            return false;
        };
        let Some(mut wanted) = self.copies.wanted.pop_front() else {
            return false;
        };
        let now = Instant::now();
        wanted.tried_since.get_or_insert(now);
        let socket = self.copy_socket(wanted.number);
        let request = kernel.signer.request(
            &format!("{}{}", request_prefix(), wanted.number),
            "tithon_checkpoint_request",
            &json!({"socket": &socket, "name": "tithon copy", "brief": true}),
        );
        std::fs::remove_file(&socket).ok();
        kernel.channels.send(Channel::Shell, request);
        self.copies.asked = Some(Asked { wanted, since: now });
        true
    }

    pub(super) fn copy_socket(&self, number: u64) -> PathBuf {
        self.place.home.copy_endpoint(&self.place.key, number)
    }

    /// The kernel says what came of a request.
    pub(in crate::session) fn copy_answered(&mut self, parent: &str, content: &[u8]) {
        let number = parent
            .strip_prefix(&request_prefix())
            .and_then(|digits| digits.parse::<u64>().ok());
        let Some(Asked { wanted, .. }) = self
            .copies
            .asked
            .take_if(|asked| Some(asked.wanted.number) == number)
        else {
            return;
        };
        let reply = serde_json::from_slice::<ForkReply>(content);
        match reply.as_ref().map(|reply| reply.status.as_str()) {
            Ok("ok") => {
                let (number, events) = (wanted.number, self.launch_sender.clone());
                let socket = self.copy_socket(number);
                // Between two cells: all that led to this state is in the history.
                self.copies.freezing.push((wanted, self.last_seq));
                tokio::task::spawn_local(async move {
                    let found = checkpoint::find(&socket, FREEZE_PATIENCE).await;
                    drop(events.send(LaunchEvent::Copy(CopyEvent::Frozen { number, found })));
                });
            }
            Ok("busy")
                if wanted
                    .tried_since
                    .is_some_and(|since| since.elapsed() < REST_PATIENCE) =>
            {
                self.copies.wanted.push_front(wanted);
                self.copies.retry = Some(Instant::now() + REST_PAUSE);
            }
            Ok("busy") => self.copy_refused(&wanted, "its event loop does not come to rest"),
            _ => {
                let reason = reply.map_or_else(|err| err.to_string(), |reply| reply.reason);
                self.copy_refused(&wanted, &reason);
            }
        }
        if self.copies.retry.is_none() {
            self.start_next();
        }
    }

    pub(super) fn copy_refused(&self, wanted: &Wanted, reason: &str) {
        tracing::info!("no copy of the kernel: {reason}");
        let message = format!("the kernel cannot be copied: {reason}");
        self.copy_failed(wanted.client, &message);
    }

    /// When a kernel that does not fork is to be asked again, or given up.
    pub(in crate::session) fn copies_deadline(&self) -> Option<Instant> {
        let answer = self
            .copies
            .asked
            .as_ref()
            .map(|asked| asked.since + ANSWER_PATIENCE);
        let retry = self.copies.retry.filter(|_| self.running.is_none());
        [answer, retry].into_iter().flatten().min()
    }

    pub(in crate::session) fn copies_deadline_reached(&mut self, now: Instant) {
        let late = self
            .copies
            .asked
            .take_if(|asked| now >= asked.since + ANSWER_PATIENCE);
        if let Some(asked) = late {
            self.copy_refused(&asked.wanted, "it does not answer");
            self.start_next();
        }
        if self.copies.retry.is_some_and(|due| now >= due) {
            self.start_next();
        }
    }

    /// Whether a fork of the kernel would find it between two requests.
    pub(in crate::session) fn may_be_forked(&self) -> bool {
        let able = matches!(&self.kernel, KernelSlot::Running(kernel)
            if kernel.ready && kernel.end.is_none() && kernel.records_everything());
        able && self.running.is_none()
            && self.foreign.is_empty()
            // Answered by another thread of the kernel: whatever lock it holds would stay locked in a copy.
            && self.questions.deadline().is_none()
            && !self.checkpoints.is_asked()
    }
}
