//! A stream that hands a WebSocket the bytes of one frame at a time.
//!
//! Whoever takes over a connection must know exactly which bytes were consumed. tungstenite reads
//! ahead into a buffer it does not give back; behind this adapter there is never anything ahead:
//! once it has returned a message, its buffer is empty and ours is exactly what is unread.

use std::{
    io::{self, Cursor},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

/// Read at once while looking for a frame's header: pipelined small frames cost one system call.
const AHEAD: usize = 1024;

/// A client's stream, read frame by frame.
#[derive(Debug)]
pub(crate) struct Framewise {
    stream: UnixStream,
    /// Read from the stream, not yet handed on.
    pending: BytesMut,
    /// Bytes of the current frame that are not yet handed on; 0 between frames.
    frame_left: u64,
}

impl Framewise {
    /// A stream that stands at the start of a frame, of which some may have been read already.
    pub(crate) fn new(stream: UnixStream, pending: BytesMut) -> Self {
        Self {
            stream,
            pending,
            frame_left: 0,
        }
    }

    /// The stream, and the bytes that were read from it but not handed on.
    ///
    /// The reader stands between two frames if it was last seen returning a message.
    pub(crate) fn into_parts(self) -> (UnixStream, Vec<u8>) {
        debug_assert_eq!(self.frame_left, 0, "taken apart inside a frame");
        (self.stream, self.pending.into())
    }

    /// The stream, for good: what is unread no longer matters.
    pub(crate) fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// The length of the frame that `pending` begins with; 0 while its header is incomplete.
    fn next_frame(&self) -> u64 {
        let mut cursor = Cursor::new(&self.pending[..]);
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((_, payload))) => cursor.position().saturating_add(payload),
            Ok(None) => 0,
            // Not a frame. The WebSocket is to see it and say so.
            Err(_) => self.pending.len() as u64,
        }
    }
}

impl AsyncRead for Framewise {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.frame_left == 0 {
                this.frame_left = this.next_frame();
            }
            let wanted = usize::try_from(this.frame_left)
                .unwrap_or(usize::MAX)
                .min(buf.remaining());
            let ready = wanted.min(this.pending.len());
            if ready > 0 {
                buf.put_slice(&this.pending[..ready]);
                this.pending.advance(ready);
                this.frame_left -= ready as u64;
                return Poll::Ready(Ok(()));
            }
            if wanted > 0 {
                // Inside a frame: straight to the reader, and not a byte beyond the frame's end.
                let mut rest = ReadBuf::new(buf.initialize_unfilled_to(wanted));
                ready!(Pin::new(&mut this.stream).poll_read(cx, &mut rest))?;
                let read = rest.filled().len();
                buf.advance(read);
                this.frame_left -= read as u64;
                return Poll::Ready(Ok(()));
            }
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut ahead = [0; AHEAD];
            let mut ahead = ReadBuf::new(&mut ahead);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut ahead))?;
            if ahead.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.pending.extend_from_slice(ahead.filled());
        }
    }
}

impl AsyncWrite for Framewise {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tithon_ipc::client::websocket_config;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{
            Message,
            protocol::{
                Role,
                frame::{
                    Frame,
                    coding::{Control, Data, OpCode},
                },
            },
        },
    };

    use super::*;

    fn frame(payload: &[u8], opcode: OpCode, is_final: bool) -> Vec<u8> {
        let header = FrameHeader {
            is_final,
            opcode,
            mask: Some([1, 2, 3, 4]),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload.to_vec().into())
            .format(&mut bytes)
            .unwrap();
        bytes
    }

    fn text(payload: &[u8]) -> Vec<u8> {
        frame(payload, OpCode::Data(Data::Text), true)
    }

    /// Feeds `sent` in two pieces and takes the connection apart after the first message.
    async fn first_message(sent: &[u8], split: usize, read_early: usize) -> (Message, Vec<u8>) {
        let (near, mut far) = UnixStream::pair().unwrap();
        let early = BytesMut::from(&sent[..read_early]);
        let mut socket = WebSocketStream::from_raw_socket(
            Framewise::new(near, early),
            Role::Server,
            Some(websocket_config()),
        )
        .await;
        let late = &sent[read_early..];
        let (one, two) = late.split_at(split.min(late.len()));
        let feed = async {
            far.write_all(one).await.unwrap();
            tokio::task::yield_now().await;
            far.write_all(two).await.unwrap();
            far
        };
        let read = async {
            loop {
                match socket.next().await.unwrap().unwrap() {
                    Message::Ping(_) | Message::Pong(_) => {}
                    message => return (message, socket.into_inner().into_parts()),
                }
            }
        };
        let (mut far, (message, (mut stream, mut unread))) = tokio::join!(feed, read);
        far.shutdown().await.unwrap();
        stream.read_to_end(&mut unread).await.unwrap();
        (message, unread)
    }

    #[tokio::test]
    async fn what_follows_a_message_stays_unread_wherever_the_stream_splits() {
        let ping = frame(b"?", OpCode::Control(Control::Ping), true);
        let fragmented = [
            frame(b"{\"op\": ", OpCode::Data(Data::Text), false),
            ping.clone(),
            frame(b"\"attach\"", OpCode::Data(Data::Continue), false),
            frame(b"}", OpCode::Data(Data::Continue), true),
        ]
        .concat();
        for (first, expected) in [
            (text(b"{}"), "{}".to_owned()),
            (text(b""), String::new()),
            (text(&[b'x'; 300]), "x".repeat(300)),
            ([ping, text(b"{}")].concat(), "{}".to_owned()),
            (fragmented, "{\"op\": \"attach\"}".to_owned()),
        ] {
            let rest = [
                text(b"second"),
                frame(b"!", OpCode::Control(Control::Ping), true),
                text(b"third")[..5].to_vec(),
            ]
            .concat();
            let sent = [first.clone(), rest.clone()].concat();
            for split in 0..=sent.len() {
                let (message, unread) = first_message(&sent, split, 0).await;
                assert_eq!(message.to_text().unwrap(), expected, "split at {split}");
                assert_eq!(unread, rest, "split at {split}");
                let (message, unread) = first_message(&sent, 1, split).await;
                assert_eq!(message.to_text().unwrap(), expected, "{split} read early");
                assert_eq!(unread, rest, "{split} read early");
            }
        }
    }

    #[tokio::test]
    async fn a_message_larger_than_any_buffer_passes() {
        let payload = vec![b'y'; 3 << 20];
        let sent = [text(&payload), text(b"next")].concat();
        let (message, unread) = first_message(&sent, 1 << 20, 0).await;
        assert_eq!(message.len(), payload.len());
        assert_eq!(unread, text(b"next"));
    }

    #[tokio::test]
    async fn what_is_no_frame_fails_in_the_websocket() {
        for hostile in [&b"\xff\xff\xff\xff"[..], b"GET / HTTP/1.1\r\n\r\n", b"\x81"] {
            let (near, mut far) = UnixStream::pair().unwrap();
            let mut socket = WebSocketStream::from_raw_socket(
                Framewise::new(near, BytesMut::new()),
                Role::Server,
                Some(websocket_config()),
            )
            .await;
            far.write_all(hostile).await.unwrap();
            far.shutdown().await.unwrap();
            assert!(socket.next().await.unwrap().is_err());
        }
    }
}
