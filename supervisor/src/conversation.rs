//! A client's first operations: those that need no session are answered here, the first that needs
//! one ends the conversation with a hand-over.

use std::{borrow::Cow, path::Path, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use tithon_ipc::{
    client::{Binding, Call, Frame, Op, Parsed},
    control::{Reply, Request},
    files::CheckpointRecord,
    ids::SessionId,
    naming::session_dir,
};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::{
    House, Shutdown,
    client::{Client, Dismissal, Heard},
    exchange,
    framewise::Framewise,
    handover::hand_over,
    session::{Demand, Session},
    status,
};

/// How long a worker may take to send a signal.
const INTERRUPT_LIMIT: Duration = Duration::from_secs(5);
/// How long a worker may take to end its kernel: a polite second, a forced one, and a slow disk.
pub(crate) const KILL_LIMIT: Duration = Duration::from_secs(15);

/// How a conversation goes on or ends.
enum Turn {
    /// The next operation, please.
    Next,
    /// The client belongs to this session; the message that said so comes with it.
    Bind(Session, Demand, String),
    /// The client is sent away.
    Dismiss(Dismissal),
    /// The client wishes the supervisor to end.
    ShutDown(Shutdown),
    /// The client left.
    Gone,
}

/// Serves a client until it leaves, is sent away, or belongs to a session.
pub(crate) async fn hold(stream: Framewise, house: &House) {
    let mut client = Client::new(stream).await;
    let end = tokio::select! {
        end = converse(&mut client, house) => end,
        () = house.closing.wait() => Turn::Dismiss(Dismissal { code: CloseCode::Away, error: None }),
    };
    match end {
        Turn::Bind(session, demand, first) => hand_over(client, &session, &demand, first).await,
        Turn::Dismiss(dismissal) => client.dismiss(&dismissal).await,
        Turn::ShutDown(wish) => {
            let normal = Dismissal {
                code: CloseCode::Normal,
                error: None,
            };
            let parting = match client.tell(&Frame::ShuttingDown).await {
                true => client.close(&normal).await,
                false => None,
            };
            // Whether or not the asker still listens: it has asked.
            let _ = house.shutdown.send(wish).await;
            if let Some(parting) = parting {
                parting.linger().await;
            }
        }
        Turn::Next | Turn::Gone => {}
    }
}

async fn converse(client: &mut Client, house: &House) -> Turn {
    loop {
        let turn = match client.hear().await {
            Heard::Message(text) => answer(client, house, text).await,
            Heard::Over(dismissal) => Turn::Dismiss(dismissal),
            Heard::Gone => Turn::Gone,
        };
        if !matches!(turn, Turn::Next) {
            return turn;
        }
    }
}

async fn answer(client: &mut Client, house: &House, text: String) -> Turn {
    let call = match Parsed::from_text(&text) {
        Parsed::Call(call) => *call,
        Parsed::Ignored => return Turn::Next,
        Parsed::Malformed(reason) => {
            return Turn::Dismiss(Dismissal {
                code: CloseCode::Error,
                error: Some(reason.into()),
            });
        }
    };
    match call {
        Call { op, binding } if op.binds() => bind(house, binding, text).await,
        Call {
            op: Op::Status { all },
            ..
        } => told(status::tell(client, house, all).await),
        Call {
            op: Op::Interrupt,
            binding,
        } => {
            let ok = interrupt(house, binding.session).await;
            told(client.tell(&Frame::Interrupted { ok }).await)
        }
        Call {
            op: Op::KillKernel { target },
            ..
        } => {
            let ok = kill(house, target).await;
            let session = &target_of(&text);
            told(client.tell(&Frame::KernelKilled { ok, session }).await)
        }
        Call {
            op: Op::Shutdown { kill_kernels },
            ..
        } => Turn::ShutDown(if kill_kernels {
            Shutdown::WithKernels
        } else {
            Shutdown::Alone
        }),
        Call {
            op: Op::Convert(wish),
            ..
        } => told(exchange::convert(client, house, wish).await),
        Call { .. } => Turn::Next,
    }
}

fn told(taken: bool) -> Turn {
    if taken { Turn::Next } else { Turn::Gone }
}

/// Gets the session a worker before the client is let go: while one starts, the client is still ours
/// to say goodbye to.
async fn bind(house: &House, binding: Binding, text: String) -> Turn {
    let demand = Demand::Start(binding.workdir.clone());
    let opened = async {
        let session = house
            .registry
            .open(binding.session, binding.workdir)
            .await?;
        session.worker(&demand).await?;
        Ok::<_, crate::session::Unavailable>(session)
    };
    match opened.await {
        Ok(session) => Turn::Bind(session, demand, text),
        Err(err) => Turn::Dismiss(Dismissal {
            code: CloseCode::Normal,
            error: Some(Cow::Owned(err.to_string())),
        }),
    }
}

async fn interrupt(house: &House, id: SessionId) -> bool {
    let Some(session) = house.registry.find(id).await else {
        return false;
    };
    let asked = session.call(&Demand::Revive, &Request::Interrupt, None, INTERRUPT_LIMIT);
    matches!(asked.await, Ok(Some(Reply::Done(true))))
}

async fn kill(house: &House, target: Option<SessionId>) -> bool {
    let Some(target) = target else { return false };
    let dir = session_dir(&house.sessions, &target, None);
    let Some(session) = house.registry.find(target).await else {
        return end_checkpoints(&dir);
    };
    let asked = session.call(&Demand::Revive, &Request::Kill, None, KILL_LIMIT);
    matches!(asked.await, Ok(Some(Reply::Done(true))))
}

/// Ends what a session keeps of a kernel that is gone with its worker; says whether there was anything.
pub(crate) fn end_checkpoints(dir: &Path) -> bool {
    let kept = CheckpointRecord::read(dir).processes;
    let living = kept
        .iter()
        .filter_map(|process| process.open().ok().flatten());
    living
        .filter(|process| process.signal(Signal::KILL).is_ok())
        .count()
        > 0
}

/// The target as the client wrote it, whatever it is, to be echoed.
fn target_of(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Object(mut fields)) => fields.remove("target").unwrap_or_default(),
        _ => Value::Null,
    }
}
