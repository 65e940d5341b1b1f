//! A client's WebSocket, and whether the client takes what is written to it.

use std::{
    cell::Cell,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tithon_ipc::client::websocket_config;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, Utf8Bytes,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::settings::Settings;

/// Why something could not be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteError {
    /// The client has accepted no byte for the send timeout.
    Stalled,
    /// The connection is gone.
    Gone,
}

pub(super) struct Socket {
    socket: WebSocketStream<Metered>,
    progress: Rc<Cell<Instant>>,
    send_timeout: Duration,
}

impl Socket {
    /// Goes on with a connection whose handshake is done.
    pub(super) async fn adopt(stream: UnixStream, unread: Vec<u8>, settings: &Settings) -> Self {
        // Refused means the system's own bound applies, which is as good.
        rustix::net::sockopt::set_socket_send_buffer_size(&stream, settings.send_buffer).ok();
        let progress = Rc::new(Cell::new(Instant::now()));
        let metered = Metered {
            stream,
            progress: Rc::clone(&progress),
        };
        let socket = WebSocketStream::from_partially_read(
            metered,
            unread,
            Role::Server,
            Some(websocket_config()),
        )
        .await;
        Self {
            socket,
            progress,
            send_timeout: settings.send_timeout,
        }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        self.socket.next().await
    }

    /// Writes messages; a client that reads slowly may take as long as it likes.
    pub(super) async fn write(
        &mut self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<(), WriteError> {
        for message in messages {
            let sending = self.socket.feed(message);
            within(sending, &self.progress, self.send_timeout).await?;
        }
        self.flush().await
    }

    /// Writes what is buffered, answers to pings included.
    pub(super) async fn flush(&mut self) -> Result<(), WriteError> {
        within(self.socket.flush(), &self.progress, self.send_timeout).await
    }

    /// How long no byte has gone either way.
    pub(super) fn quiet_for(&self) -> Duration {
        self.progress.get().elapsed()
    }

    /// A last word and a close frame; as much of it as the client takes.
    pub(super) async fn close(&mut self, last: Option<Utf8Bytes>, code: CloseCode, reason: String) {
        if let Some(last) = last {
            self.socket.send(Message::Text(last)).await.ok();
        }
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        if self.socket.close(Some(frame)).await.is_ok() {
            // The close handshake: until the client has answered, a reset could take our last word back.
            while let Some(Ok(_)) = self.socket.next().await {}
        }
    }
}

async fn within(
    sending: impl Future<Output = Result<(), tungstenite::Error>>,
    progress: &Cell<Instant>,
    limit: Duration,
) -> Result<(), WriteError> {
    let mut sending = pin!(sending);
    let started = Instant::now();
    loop {
        let deadline = progress.get().max(started) + limit;
        tokio::select! {
            biased;
            sent = &mut sending => return sent.map_err(|_| WriteError::Gone),
            () = tokio::time::sleep_until(deadline) => {
                if progress.get().max(started) + limit <= Instant::now() {
                    return Err(WriteError::Stalled);
                }
            }
        }
    }
}

/// A stream that remembers when a byte last went through it.
struct Metered {
    stream: UnixStream,
    progress: Rc<Cell<Instant>>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.progress.set(Instant::now());
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(polled, Poll::Ready(Ok(written)) if written > 0) {
            self.progress.set(Instant::now());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
