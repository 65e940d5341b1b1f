//! What the supervisor asks of the session.

use serde_json::json;
use tithon_ipc::control::{Reply, Request};
use tokio::sync::oneshot;

use super::{Ending, Session};

impl Session {
    pub(super) async fn control(&mut self, request: Request, reply: oneshot::Sender<Reply>) {
        let answer = match request {
            Request::Status => Reply::Status(self.status()),
            Request::Interrupt => Reply::Done(self.interrupt()),
            Request::Kill if self.ending == Some(Ending::Retired) => Reply::Done(false),
            Request::Kill => {
                self.kill().await;
                Reply::Done(true)
            }
            Request::Stop { kill_kernel } => {
                self.stop(kill_kernel).await;
                Reply::Done(true)
            }
            Request::Handover(_) => {
                Reply::Refused("a client is handed over to the door, not to the session".to_owned())
            }
        };
        // A supervisor that did not wait for the answer does not need it.
        reply.send(answer).ok();
    }

    async fn stop(&mut self, kill_kernel: bool) {
        if kill_kernel {
            self.orphan_all();
            self.journal_kernel(&json!({"status": "shutdown", "deliberate": true}));
            self.end_kernel().await;
        }
        self.store_folds();
        self.ending = Some(Ending::Stopped);
    }
}
