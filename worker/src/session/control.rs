//! What the supervisor asks of the session.

use std::time::Duration;

use serde_json::json;
use tithon_ipc::control::{Reply, Request};
use tokio::sync::oneshot;

use super::{Ending, Parting, Session, ending::End};

impl Session {
    pub(super) async fn control(&mut self, request: Request, reply: oneshot::Sender<Reply>) {
        let answer = match request {
            Request::Status => Reply::Status(self.status()),
            Request::Interrupt => Reply::Done(self.interrupt()),
            Request::Kill => {
                self.partings
                    .push(Parting::Control(reply, Reply::Done(true)));
                return self.kill().await;
            }
            Request::Stop { kill_kernel } => {
                self.partings
                    .push(Parting::Control(reply, Reply::Done(true)));
                return self.stop(kill_kernel).await;
            }
            Request::Policy { idle_timeout_ms } => {
                self.settings.idle_timeout = idle_timeout_ms.map(Duration::from_millis);
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
            return self.end_kernel(End::Wanted(Ending::Stopped)).await;
        }
        self.leave_runs();
        self.end_copies().await;
        self.store_folds();
        self.ending = Some(Ending::Stopped);
    }
}
