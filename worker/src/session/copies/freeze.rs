//! Freezing a copy whose state is to stay: it forks, and what it forked belongs to the session.

use std::path::PathBuf;

use bytes::Bytes;
use serde_json::json;
use tithon_ipc::{
    jupyter::{Message, ParentView},
    process::ProcessIdentity,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{Wish, task::AtWork, work::Stop};
use crate::{
    journal::Channel,
    kernel::checkpoint::{
        self, ANSWER_PATIENCE, FREEZE_PATIENCE, ForkReply, REST_PATIENCE, REST_PAUSE,
    },
};

/// The request to freeze.
const FREEZE: &str = "tithon-copy_2";

/// How a state stays.
#[derive(Debug)]
pub(in crate::session) struct Keep {
    /// Where it waits.
    pub(super) socket: PathBuf,
    /// What `ps` shows.
    pub(super) title: String,
    /// The directory of the session, to which it belongs from then on.
    pub(super) mark: PathBuf,
    /// Where it enters the control group of the session's kernel.
    pub(super) group: Option<PathBuf>,
}

impl AtWork {
    /// Lets the copy fork what stays of it.
    pub(super) async fn freeze(
        &mut self,
        keep: &Keep,
        wishes: &mut mpsc::UnboundedReceiver<Wish>,
    ) -> Result<Result<ProcessIdentity, String>, Stop> {
        let Some((channels, incoming)) = &mut self.channels else {
            return Ok(Err("the copy was never asked".to_owned()));
        };
        let order = json!({
            "socket": keep.socket,
            "name": keep.title,
            "mark": keep.mark,
            "group": keep.group,
        });
        let tried_since = Instant::now();
        loop {
            std::fs::remove_file(&keep.socket).ok();
            let request = self
                .signer
                .request(FREEZE, "tithon_checkpoint_request", &order);
            channels.send(Channel::Shell, request);
            let answer = async {
                loop {
                    let (_, frames) = incoming.recv().await?;
                    if let Some(answer) = reply_of(frames) {
                        return Some(answer);
                    }
                }
            };
            let answer = tokio::select! {
                biased;
                // An interrupt has nothing to interrupt any more.
                () = until_closed(wishes) => return Err(Stop::Left),
                _ = self.body.ended() => return Ok(Err("the copy died over it".to_owned())),
                answer = tokio::time::timeout(ANSWER_PATIENCE, answer) => answer,
            };
            let Ok(Some(ForkReply { status, reason, .. })) = answer else {
                return Ok(Err("the copy does not answer".to_owned()));
            };
            match status.as_str() {
                "ok" => break,
                "busy" if tried_since.elapsed() < REST_PATIENCE => sleep(REST_PAUSE).await,
                "busy" => return Ok(Err("its event loop does not come to rest".to_owned())),
                _ => return Ok(Err(reason)),
            }
        }
        let found = checkpoint::find(&keep.socket, FREEZE_PATIENCE).await;
        Ok(found.map_err(|err| format!("it does not answer: {err}")))
    }
}

/// What comes of the request to freeze, if a message tells.
fn reply_of(frames: Vec<Bytes>) -> Option<ForkReply> {
    let message = Message::from_frames(frames).ok()?;
    let ours = ParentView::of(&message.parent_header).msg_id == FREEZE;
    let is_reply = message.header_view().ok()?.msg_type == "tithon_checkpoint_reply";
    (ours && is_reply)
        .then(|| serde_json::from_slice(&message.content).ok())
        .flatten()
}

async fn until_closed(wishes: &mut mpsc::UnboundedReceiver<Wish>) {
    while wishes.recv().await.is_some() {}
}
