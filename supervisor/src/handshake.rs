//! The HTTP request that opens a WebSocket, read to its last byte and not beyond.

use std::io;

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_tungstenite::tungstenite::{
    self,
    error::ProtocolError,
    handshake::{
        machine::TryParse,
        server::{Request, create_response, write_response},
    },
};

use crate::{framewise::Framewise, parting::Parting};

/// The longest request head that is read, in bytes; browsers send a tenth of it.
const HEAD_MAX: usize = 16 << 10;

/// Why no WebSocket came of a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The client went away, or could not be written to.
    #[error("the client left: {0}")]
    Io(#[from] io::Error),
    /// HTTP, but no WebSocket of the version there is.
    #[error("a plain HTTP request: {0}")]
    Plain(tungstenite::Error),
    /// Not HTTP.
    #[error("not HTTP: {0}")]
    Foreign(tungstenite::Error),
    /// More head than anybody needs.
    #[error("the request's head is longer than {HEAD_MAX} bytes")]
    TooLong,
}

impl HandshakeError {
    fn status(&self) -> Option<&'static str> {
        match self {
            Self::Io(_) => None,
            Self::Plain(_) => Some("426 Upgrade Required"),
            Self::Foreign(_) => Some("400 Bad Request"),
            Self::TooLong => Some("431 Request Header Fields Too Large"),
        }
    }
}

/// Answers the request, whatever its path; any subprotocol or extension is declined by silence.
///
/// # Errors
/// When the client left or wants something else; it has then been told in HTTP.
pub(crate) async fn accept(mut stream: UnixStream) -> Result<Framewise, HandshakeError> {
    let answered = async {
        let (head, behind) = read_head(&mut stream).await?;
        stream.write_all(&response(&head)?).await?;
        Ok(behind)
    }
    .await;
    match answered {
        Ok(behind) => Ok(Framewise::new(stream, behind)),
        Err(err) => {
            if let Some(status) = HandshakeError::status(&err) {
                stream.write_all(refusal(status).as_bytes()).await?;
                Parting(stream).linger().await;
            }
            Err(err)
        }
    }
}

/// The head up to its blank line, and what came behind it.
async fn read_head(stream: &mut UnixStream) -> Result<(BytesMut, BytesMut), HandshakeError> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = BytesMut::with_capacity(1024);
    loop {
        if let Some(at) = head.windows(END.len()).position(|window| window == END) {
            let behind = head.split_off(at + END.len());
            return Ok((head, behind));
        }
        if head.len() >= HEAD_MAX {
            return Err(HandshakeError::TooLong);
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

fn response(head: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let request = match Request::try_parse(head) {
        Ok(Some((_, request))) => request,
        Ok(None) => {
            return Err(HandshakeError::Foreign(
                ProtocolError::HandshakeIncomplete.into(),
            ));
        }
        Err(
            err @ tungstenite::Error::Protocol(
                ProtocolError::WrongHttpMethod | ProtocolError::WrongHttpVersion,
            ),
        ) => return Err(HandshakeError::Plain(err)),
        Err(err) => return Err(HandshakeError::Foreign(err)),
    };
    let response = create_response(&request).map_err(HandshakeError::Plain)?;
    let mut bytes = Vec::with_capacity(256);
    write_response(&mut bytes, &response).map_err(HandshakeError::Foreign)?;
    Ok(bytes)
}

fn refusal(status: &str) -> String {
    let body = "This socket speaks WebSocket, version 13.\n";
    format!(
        "HTTP/1.1 {status}\r\nUpgrade: websocket\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROPER: &str = "GET /any?path HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

    /// What a client that sends `request` and then waits is told, and what is left unread.
    async fn exchange(request: &[u8]) -> (String, Option<Vec<u8>>) {
        let (near, mut far) = UnixStream::pair().unwrap();
        let client = async move {
            far.write_all(request).await.unwrap();
            let mut told = String::new();
            far.read_to_string(&mut told).await.unwrap();
            told
        };
        let server = async {
            accept(near)
                .await
                .ok()
                .map(|accepted| accepted.into_parts().1)
        };
        tokio::join!(client, server)
    }

    #[tokio::test]
    async fn a_websocket_is_accepted_and_what_is_pipelined_is_kept() {
        let (told, unread) = exchange(format!("{PROPER}frames").as_bytes()).await;
        assert!(told.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
        assert!(told.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{told}");
        assert!(!told.to_lowercase().contains("extensions"));
        assert_eq!(unread.unwrap(), b"frames");
    }

    #[tokio::test]
    async fn everything_else_is_told_so_in_http() {
        let older = PROPER.replace("Version: 13", "Version: 8");
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEAD_MAX));
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "426"),
            ("POST / HTTP/1.1\r\nHost: x\r\n\r\n", "426"),
            ("GET / HTTP/1.0\r\n\r\n", "426"),
            (older.as_str(), "426"),
            ("{\"op\": \"attach\"}\r\n\r\n", "400"),
            (long.as_str(), "431"),
        ] {
            let (told, accepted) = exchange(request.as_bytes()).await;
            assert!(
                told.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request}: {told}"
            );
            assert!(accepted.is_none());
        }
    }
}
