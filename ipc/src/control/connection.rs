//! Framing and the hello.
//!
//! ```text
//! hello   "TITHON" (6 bytes) · oldest u16 · newest u16 · length u16 · version text, UTF-8
//! frame   length u32 · postcard
//! ```
//!
//! Integers are little-endian. The hello never changes: it is how versions that share nothing else
//! part politely.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::{NEWEST, OLDEST, Reply, Request, socket::FdStream};

const MAGIC: &[u8; 6] = b"TITHON";
const HELLO_LEN: usize = 12;
/// An operation of 64 MiB and what a client may have sent behind it.
const FRAME_MAX: u32 = 96 << 20;

/// Why a control connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The other side is not there, or went away.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The other side is not Tithon.
    #[error("the other side does not speak Tithon's control protocol")]
    Foreign,
    /// The two versions have no protocol in common.
    #[error(
        "the other side is Tithon {version} and speaks control protocol {oldest} to {newest}; this one speaks {OLDEST} to {NEWEST}"
    )]
    Versions {
        version: String,
        oldest: u16,
        newest: u16,
    },
    /// A frame is longer than any request can be.
    #[error("a frame of {0} bytes is longer than any request")]
    TooLarge(u32),
    /// A frame is not what the protocol has there.
    #[error("a frame cannot be understood: {0}")]
    Malformed(#[from] postcard::Error),
    /// A handover came without its connection.
    #[error("a handover came without a descriptor")]
    NoDescriptor,
}

struct Channel {
    socket: FdStream,
    version: u16,
    peer: String,
}

impl Channel {
    async fn open(stream: UnixStream) -> Result<Self, ControlError> {
        let mut socket = FdStream::new(stream);
        socket
            .send(&hello(OLDEST, NEWEST, env!("CARGO_PKG_VERSION")), &[])
            .await?;
        let mut fixed = [0; HELLO_LEN];
        socket.receive(&mut fixed).await?;
        if !fixed.starts_with(MAGIC) {
            return Err(ControlError::Foreign);
        }
        let number = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let (oldest, newest) = (number(6), number(8));
        let mut version = vec![0; usize::from(number(10))];
        socket.receive(&mut version).await?;
        let peer = String::from_utf8_lossy(&version).into_owned();
        if newest < OLDEST || oldest > NEWEST {
            return Err(ControlError::Versions {
                version: peer,
                oldest,
                newest,
            });
        }
        Ok(Self {
            socket,
            version: newest.min(NEWEST),
            peer,
        })
    }

    async fn send(
        &mut self,
        message: &impl Serialize,
        fd: Option<&OwnedFd>,
    ) -> Result<(), ControlError> {
        let mut frame = postcard::to_extend(message, vec![0; 4])?;
        let length = u32::try_from(frame.len() - 4)
            .ok()
            .filter(|length| *length <= FRAME_MAX)
            .ok_or(ControlError::TooLarge(u32::MAX))?;
        frame[..4].copy_from_slice(&length.to_le_bytes());
        let beside: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        Ok(self.socket.send(&frame, &beside).await?)
    }

    async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, ControlError> {
        let mut length = [0; 4];
        self.socket.receive(&mut length).await?;
        let length = u32::from_le_bytes(length);
        if length > FRAME_MAX {
            return Err(ControlError::TooLarge(length));
        }
        let mut frame = vec![0; length as usize];
        self.socket.receive(&mut frame).await?;
        Ok(postcard::from_bytes(&frame)?)
    }
}

fn hello(oldest: u16, newest: u16, version: &str) -> Vec<u8> {
    let length = u16::try_from(version.len()).unwrap_or(0);
    let mut hello = MAGIC.to_vec();
    for number in [oldest, newest, length] {
        hello.extend(number.to_le_bytes());
    }
    hello.extend(&version.as_bytes()[..usize::from(length)]);
    hello
}

/// The supervisor's end.
pub struct Client(Channel);

impl Client {
    /// Connects to a worker's control socket and says hello.
    ///
    /// # Errors
    /// When nobody listens, or the worker's version has no protocol in common with ours.
    pub async fn connect(path: &Path) -> Result<Self, ControlError> {
        Ok(Self(Channel::open(UnixStream::connect(path).await?).await?))
    }

    /// Asks and waits for the answer. `fd` is the connection of a [`Request::Handover`].
    ///
    /// # Errors
    /// When the worker goes away before it answers; whether it acted is then unknown.
    pub async fn call(
        &mut self,
        request: &Request,
        fd: Option<&OwnedFd>,
    ) -> Result<Reply, ControlError> {
        self.0.send(request, fd).await?;
        self.0.receive().await
    }

    /// The worker's version text.
    pub fn peer_version(&self) -> &str {
        &self.0.peer
    }

    /// The protocol version both sides speak.
    pub fn protocol(&self) -> u16 {
        self.0.version
    }
}

/// The worker's end.
pub struct Server(Channel);

impl Server {
    /// Says hello on an accepted connection.
    ///
    /// # Errors
    /// When the other side is not Tithon or has no protocol in common with ours.
    pub async fn accept(stream: UnixStream) -> Result<Self, ControlError> {
        Ok(Self(Channel::open(stream).await?))
    }

    /// The next request, with the connection that a handover brings; `None` once the supervisor closes.
    ///
    /// # Errors
    /// When a frame is malformed or too long; the connection is then of no more use.
    pub async fn next(&mut self) -> Result<Option<(Request, Option<OwnedFd>)>, ControlError> {
        let request = match self.0.receive().await {
            Err(ControlError::Io(err)) if err.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(None);
            }
            received => received?,
        };
        let fd = self.0.socket.take_fd();
        if matches!(request, Request::Handover(_)) && fd.is_none() {
            return Err(ControlError::NoDescriptor);
        }
        Ok(Some((request, fd)))
    }

    /// Answers the last request.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub async fn reply(&mut self, reply: &Reply) -> Result<(), ControlError> {
        self.0.send(reply, None).await
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{super::Handover, *};

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap()
            .block_on(work)
    }

    async fn pair() -> (Client, Server) {
        let (a, b) = UnixStream::pair().unwrap();
        let (client, server) = tokio::join!(Channel::open(a), Channel::open(b));
        (Client(client.unwrap()), Server(server.unwrap()))
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(hello(1, 2, "0.1"), b"TITHON\x01\x00\x02\x00\x03\x000.1");
        for (request, bytes) in [
            (
                Request::Handover(Handover {
                    first: "{}".into(),
                    unread: vec![7],
                }),
                &b"\x00\x02{}\x01\x07"[..],
            ),
            (Request::Status, b"\x01"),
            (Request::Interrupt, b"\x02"),
            (Request::Kill, b"\x03"),
            (Request::Stop { kill_kernel: true }, b"\x04\x01"),
            (
                Request::Policy {
                    idle_timeout_ms: Some(300),
                },
                b"\x05\x01\xac\x02",
            ),
        ] {
            assert_eq!(postcard::to_stdvec(&request).unwrap(), bytes, "{request:?}");
        }
        for (reply, bytes) in [
            (Reply::Done(true), &b"\x00\x01"[..]),
            (Reply::Status("{}".into()), b"\x01\x02{}"),
            (Reply::Refused("no".into()), b"\x02\x02no"),
        ] {
            assert_eq!(postcard::to_stdvec(&reply).unwrap(), bytes, "{reply:?}");
        }
    }

    #[test]
    fn a_connection_is_handed_over_whole() {
        run(async {
            let (mut client, mut server) = pair().await;
            let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            near.write_all(b"before ").unwrap();
            // Larger than the socket's buffer: sent and received in pieces.
            let request = Request::Handover(Handover {
                first: "x".repeat(3 << 20),
                unread: b"left".to_vec(),
            });
            let serve = async {
                let (received, fd) = server.next().await.unwrap().unwrap();
                server.reply(&Reply::Done(true)).await.unwrap();
                (received, fd.unwrap())
            };
            let fd = OwnedFd::from(far);
            let (reply, (received, fd)) = tokio::join!(client.call(&request, Some(&fd)), serve);
            assert_eq!(reply.unwrap(), Reply::Done(true));
            assert_eq!(received, request);
            near.write_all(b"after").unwrap();
            drop(near);
            let mut all = String::new();
            std::os::unix::net::UnixStream::from(fd)
                .read_to_string(&mut all)
                .unwrap();
            assert_eq!(all, "before after");
            drop(client);
            assert!(server.next().await.unwrap().is_none());
        });
    }

    #[test]
    fn versions_part_politely() {
        run(async {
            for (bytes, expected) in [
                (hello(NEWEST + 1, NEWEST + 9, "9.9"), "is Tithon 9.9"),
                (b"GET / HTTP/1.1\r\n".to_vec(), "does not speak"),
                (b"TITH".to_vec(), "broke"),
            ] {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                theirs.write_all(&bytes).await.unwrap();
                theirs.shutdown().await.unwrap();
                let err = Channel::open(ours).await.err().unwrap().to_string();
                assert!(err.contains(expected), "{err}");
                let mut told = [0; HELLO_LEN];
                theirs.read_exact(&mut told).await.unwrap();
                assert!(
                    told.starts_with(MAGIC),
                    "the other side learns our version too"
                );
            }
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs
                .write_all(&hello(OLDEST, NEWEST + 9, "9.9"))
                .await
                .unwrap();
            assert_eq!(Channel::open(ours).await.unwrap().version, NEWEST);
        });
    }

    #[test]
    fn malformed_frames_cost_the_connection_only() {
        run(async {
            for bytes in [
                &b"\xff\xff\xff\xff"[..],
                b"\x01\0\0\0\x63",
                b"\x02\0\0\0\x00",
                b"\x03\0\0\0\x00\0\0",
            ] {
                let (a, mut raw) = UnixStream::pair().unwrap();
                raw.write_all(&hello(OLDEST, NEWEST, "x")).await.unwrap();
                raw.write_all(bytes).await.unwrap();
                raw.shutdown().await.unwrap();
                let mut server = Server::accept(a).await.unwrap();
                assert!(!matches!(server.next().await, Ok(Some(_))), "{bytes:?}");
            }
        });
    }
}
