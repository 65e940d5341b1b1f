//! A client's end of the connection.

use std::path::{Path, PathBuf};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use crate::{json, paths::Home};

/// The longest message a server accepts, in bytes (PROTOCOL §22).
pub const MESSAGE_MAX: usize = 64 << 20;

/// Why talking to the supervisor or a worker failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody listens on the socket.
    #[error("cannot reach daemon at {path}: {source}")]
    Unreachable {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The connection ended before it was done with.
    #[error("the connection was closed{}", .0.as_deref().map(|why| format!(": {why}")).unwrap_or_default())]
    Closed(Option<String>),
    /// The other side does not keep to WebSocket.
    #[error("the connection failed: {0}")]
    Broken(#[from] tungstenite::Error),
}

/// A connection to `daemon.sock`.
#[derive(Debug)]
pub struct Connection(WebSocketStream<UnixStream>);

impl Connection {
    /// Connects to the supervisor of a home.
    ///
    /// # Errors
    /// [`ConnectionError::Unreachable`] when no supervisor listens.
    pub async fn open(home: &Home) -> Result<Self, ConnectionError> {
        let mut opened = Self::open_at(&home.socket()).await;
        if let Err(ConnectionError::Unreachable { path, .. }) = &mut opened {
            *path = home.public_socket();
        }
        opened
    }

    /// Connects to a supervisor by whatever socket leads to it.
    ///
    /// # Errors
    /// [`ConnectionError::Unreachable`] when nobody listens there.
    pub async fn open_at(path: &Path) -> Result<Self, ConnectionError> {
        let stream =
            UnixStream::connect(path)
                .await
                .map_err(|source| ConnectionError::Unreachable {
                    path: path.to_owned(),
                    source,
                })?;
        // A client believes its server: a snapshot has no size limit.
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let (socket, _) =
            tokio_tungstenite::client_async_with_config("ws://localhost/", stream, Some(config))
                .await?;
        Ok(Self(socket))
    }

    /// Sends an operation.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, op: &Value) -> Result<(), ConnectionError> {
        self.send_text(&json::to_string(op)).await
    }

    /// Sends an operation that is text already.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_text(&mut self, op: &str) -> Result<(), ConnectionError> {
        Ok(self.0.send(Message::text(op)).await?)
    }

    /// The next frame's JSON text, verbatim; `None` once the server has closed the connection properly.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] when the connection broke off, or was closed for a reason.
    pub async fn next(&mut self) -> Result<Option<tungstenite::Utf8Bytes>, ConnectionError> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(Some(text)),
                Some(Ok(Message::Close(Some(close))))
                    if !matches!(u16::from(close.code), 1000 | 1001) =>
                {
                    return Err(ConnectionError::Closed(Some(close.reason.to_string())));
                }
                Some(Ok(Message::Close(_))) => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(tungstenite::Error::Io(_) | tungstenite::Error::Protocol(_))) | None => {
                    return Err(ConnectionError::Closed(None));
                }
                Some(Err(err)) => return Err(err.into()),
            }
        }
    }

    /// Ends the connection politely; errors no longer matter.
    pub async fn close(mut self) {
        drop(self.0.close(None).await);
    }
}

/// How servers configure a client's WebSocket.
pub fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
        // Small: fifty idle clients must not hold megabytes.
        .read_buffer_size(8 << 10)
        .write_buffer_size(16 << 10)
}
