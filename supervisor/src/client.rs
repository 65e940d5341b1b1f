//! A client that belongs to no session yet: its messages, its pulse, and a decent end.

use std::{borrow::Cow, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tithon_ipc::client::{Frame, MESSAGE_MAX, websocket_config};
use tokio::{
    net::UnixStream,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::{framewise::Framewise, parting::Parting};

/// Between two pings; a client that has not answered one by the next is gone.
const PULSE: Duration = Duration::from_secs(20);
/// How long one frame may take to be accepted by a client.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// What comes of listening to a client.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message that is text, or bytes that are.
    Message(String),
    /// The client is gone, or accepts nothing any more.
    Gone,
    /// The conversation is to end.
    Over(Dismissal),
}

/// How a conversation ends.
#[derive(Debug)]
pub(crate) struct Dismissal {
    /// The WebSocket close code.
    pub(crate) code: CloseCode,
    /// Sent as an `error` frame first.
    pub(crate) error: Option<Cow<'static, str>>,
}

/// A client whose handshake is done.
#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocketStream<Framewise>,
    pulse: Interval,
    pong_due: bool,
}

impl Client {
    /// A client at the start of a frame.
    pub(crate) async fn new(stream: Framewise) -> Self {
        let config = Some(websocket_config());
        let mut pulse = interval_at(Instant::now() + PULSE, PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            socket: WebSocketStream::from_raw_socket(stream, Role::Server, config).await,
            pulse,
            pong_due: false,
        }
    }

    /// The next message. Pings are answered and sent meanwhile.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => return Heard::Message(text.as_str().to_owned()),
                    Some(Ok(Message::Binary(bytes))) => match String::from_utf8(bytes.into()) {
                        Ok(text) => return Heard::Message(text),
                        // Not text is not JSON, and what is not JSON is ignored.
                        Err(_) => continue,
                    },
                    Some(Ok(Message::Pong(_))) => self.pong_due = false,
                    // tungstenite answers both; the end of a closed stream follows by itself.
                    Some(Ok(Message::Ping(_) | Message::Close(_) | Message::Frame(_))) => {}
                    Some(Err(err)) => return failed(err),
                    None => return Heard::Gone,
                },
                _ = self.pulse.tick() => {
                    if self.pong_due {
                        return Heard::Over(Dismissal { code: CloseCode::Error, error: None });
                    }
                    self.pong_due = true;
                    if !self.send(Message::Ping(tungstenite::Bytes::new())).await {
                        return Heard::Gone;
                    }
                }
            }
        }
    }

    /// Sends a frame; `false` when the client does not take it.
    pub(crate) async fn tell(&mut self, frame: &Frame<'_>) -> bool {
        self.send(Message::text(frame.to_text())).await
    }

    async fn send(&mut self, message: Message) -> bool {
        matches!(
            timeout(SEND_LIMIT, self.socket.send(message)).await,
            Ok(Ok(()))
        )
    }

    /// The stream between two messages, and what has been read of the next one.
    ///
    /// `None` when the client takes nothing any more.
    pub(crate) async fn take_apart(mut self) -> Option<(UnixStream, Vec<u8>)> {
        // Pongs that are still to be sent would be lost with the WebSocket's buffer.
        match timeout(SEND_LIMIT, self.socket.flush()).await {
            Ok(Ok(())) => Some(self.socket.into_inner().into_parts()),
            _ => None,
        }
    }

    /// Ends the conversation: the reason if there is one, the close code, and time to read them.
    pub(crate) async fn dismiss(self, dismissal: &Dismissal) {
        if let Some(parting) = self.close(dismissal).await {
            parting.linger().await;
        }
    }

    /// Says why and closes, without waiting for the client to have read it.
    pub(crate) async fn close(mut self, dismissal: &Dismissal) -> Option<Parting> {
        if let Some(message) = &dismissal.error
            && !self.tell(&Frame::Error { message }).await
        {
            return None;
        }
        let close = CloseFrame {
            code: dismissal.code,
            reason: tungstenite::Utf8Bytes::default(),
        };
        self.send(Message::Close(Some(close)))
            .await
            .then(|| Parting(self.socket.into_inner().into_stream()))
    }
}

fn failed(err: tungstenite::Error) -> Heard {
    use tungstenite::Error as E;
    let (code, error) = match err {
        E::Capacity(_) => (
            CloseCode::Size,
            Some(Cow::Owned(format!(
                "the message is longer than {} MiB",
                MESSAGE_MAX >> 20
            ))),
        ),
        E::Utf8(_) => (CloseCode::Invalid, None),
        E::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)
        | E::ConnectionClosed
        | E::AlreadyClosed
        | E::Io(_) => return Heard::Gone,
        _ => (CloseCode::Protocol, None),
    };
    Heard::Over(Dismissal { code, error })
}
