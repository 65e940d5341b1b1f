//! To whom a copy speaks: the client that tries something, or the session's journal.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tithon_ipc::{client::copy_event, jupyter::Message, process::ProcessIdentity};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{CopyEvent, freeze::Keep, task::answers_request, work::Stop};
use crate::{
    client::{Answer, Link},
    kernel::spool::{Record, SpoolPosition},
    session::{launch::LaunchEvent, reply::Reply, spool::stream_content},
};

/// Answers that a client must have room for: a copy that floods it leaves some for what else it asked.
const ROOM: usize = 64;
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(2);

/// Who listens to a copy.
pub(super) enum Out {
    /// One client, as long as it is there.
    Client(Link),
    /// The session, which knows it by a number.
    Session {
        number: u64,
        events: mpsc::UnboundedSender<LaunchEvent>,
    },
}

impl Out {
    /// The code is sent to the copy.
    pub(super) async fn started(&self, pid: i32) -> Result<(), Stop> {
        match self {
            Self::Client(link) => {
                event(link, "tithon.started", &json!({"pid": pid}).to_string()).await
            }
            Self::Session { .. } => Ok(()),
        }
    }

    /// The copy was forked, and waits; returns how its state is to stay, if it is.
    pub(super) async fn made(&self, process: ProcessIdentity) -> Result<Option<Keep>, Stop> {
        let Self::Session { number, events } = self else {
            return Ok(None);
        };
        let (keep, how) = oneshot::channel();
        let (taken, when_taken) = oneshot::channel();
        let made = CopyEvent::Made {
            number: *number,
            process,
            keep,
            taken,
        };
        drop(events.send(LaunchEvent::Copy(made)));
        let keep = how.await.map_err(|_| Stop::Left)?;
        when_taken.await.map_err(|_| Stop::Left)?;
        Ok(Some(keep))
    }

    /// What the copy says, up to a place in its spool. Waits for whom it is for; the copy, whose spool is not read meanwhile, waits too.
    pub(super) async fn records(
        &self,
        records: Vec<Record>,
        position: &SpoolPosition,
    ) -> Result<(), Stop> {
        match self {
            Self::Client(link) => {
                for record in records {
                    tell(link, record).await?;
                }
                Ok(())
            }
            Self::Session { number, events } => {
                let (taken, when_taken) = oneshot::channel();
                let said = CopyEvent::Said {
                    number: *number,
                    records,
                    position: position.clone(),
                    taken,
                };
                drop(events.send(LaunchEvent::Copy(said)));
                when_taken.await.map_err(|_| Stop::Left)
            }
        }
    }

    /// The copy died, and what there is to say of that.
    pub(super) async fn died(&self, error: Value) -> Result<(), Stop> {
        match self {
            Self::Client(link) => event(link, "error", &error.to_string()).await,
            Self::Session { number, events } => {
                let died = CopyEvent::Died {
                    number: *number,
                    error,
                };
                drop(events.send(LaunchEvent::Copy(died)));
                Ok(())
            }
        }
    }

    /// What came of a wish.
    pub(super) async fn answer(&self, text: String) -> Result<(), Stop> {
        match self {
            Self::Client(link) => send(link, Answer::Frame(text.into())).await,
            // Who wished for it has its answer.
            Self::Session { .. } => Ok(()),
        }
    }
}

async fn tell(link: &Link, record: Record) -> Result<(), Stop> {
    match record {
        Record::Stream(said) => event(link, "stream", &stream_content(&said)).await,
        Record::Iopub(frames) | Record::IopubFor(_, frames) => match Message::from_frames(frames) {
            Ok(message) => published(link, &message).await,
            Err(_) => Ok(()),
        },
        Record::Reply(frames) => {
            let reply = answers_request(&frames).map(|message| Reply::of(&message.content));
            for text in reply.iter().flat_map(Reply::pages) {
                let content = json!({"name": "stdout", "text": text, "tithon_scope": "cell"});
                event(link, "stream", &content.to_string()).await?;
            }
            Ok(())
        }
        Record::StdinRequest(frames) => match Message::from_frames(frames) {
            Ok(message) => event(link, "tithon.input_request", &prompt(&message.content)).await,
            Err(_) => Ok(()),
        },
        Record::StdinEnd(_) => event(link, "tithon.input_resolved", "{}").await,
        Record::Gap { bytes, .. } => gap(link, bytes).await,
        Record::Hole { from, to, .. } => gap(link, to - from).await,
        Record::Hello(_) | Record::Control(_) | Record::Bye => Ok(()),
    }
}

async fn published(link: &Link, message: &Message) -> Result<(), Stop> {
    let (Ok(header), Some(content)) = (message.header_view(), message.content_text()) else {
        return Ok(());
    };
    match &*header.msg_type {
        // Nobody could answer a widget of a copy that is about to go.
        "comm_open" | "comm_msg" | "comm_close" => Ok(()),
        msg_type => event(link, msg_type, content).await,
    }
}

/// What a prompt shows.
fn prompt(content: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Request {
        prompt: String,
        password: bool,
    }
    let Request { prompt, password } = serde_json::from_slice(content).unwrap_or_default();
    json!({"prompt": prompt, "password": password}).to_string()
}

async fn gap(link: &Link, bytes: u64) -> Result<(), Stop> {
    let text = format!("[tithon: {bytes} bytes of output are missing here]\n");
    let content = json!({"name": "stderr", "text": text, "tithon_scope": "cell"});
    event(link, "stream", &content.to_string()).await
}

async fn event(link: &Link, msg_type: &str, content: &str) -> Result<(), Stop> {
    match copy_event(msg_type, content) {
        Some(text) => send(link, Answer::Extra(text.into())).await,
        None => Ok(()),
    }
}

async fn send(link: &Link, answer: Answer) -> Result<(), Stop> {
    while link.answers.capacity() < ROOM {
        if link.answers.is_closed() {
            return Err(Stop::Left);
        }
        sleep(LOOK).await;
    }
    link.answers.send(answer).await.map_err(|_| Stop::Left)
}
