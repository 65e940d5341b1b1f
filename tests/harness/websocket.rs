//! WebSocket by hand, so that a test can send what no well-behaved library would.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Instant,
};

use super::PATIENCE;

/// A frame's kind, as RFC 6455 numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a close frame.
    Closed { code: u16, reason: String },
    /// Without one.
    Broken,
}

impl End {
    /// The close code; 1006 stands for none, as in RFC 6455.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Closed { code, .. } => *code,
            Self::Broken => 1006,
        }
    }
}

/// A client's end.
#[derive(Debug)]
pub(crate) struct WebSocket {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl WebSocket {
    /// Connects and shakes hands.
    pub(crate) fn open(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let mut opened = Self {
            stream,
            unread: Vec::new(),
        };
        let head = loop {
            let end = opened.unread.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                break opened.unread.drain(..end + 4).collect::<Vec<_>>();
            }
            if opened.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&head);
        // The answer to the key above, as RFC 6455 itself gives it.
        if head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
            Ok(opened)
        } else {
            Err(io::Error::other(format!("no upgrade: {head}")))
        }
    }

    /// The stream itself, for what is no frame at all.
    pub(crate) fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    /// Sends one frame.
    pub(crate) fn send(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        let mut frame = header(opcode, payload.len() as u64);
        // A mask of zeroes is a mask: the payload travels as it is.
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame)
    }

    /// The next message's bytes; pings are answered meanwhile.
    pub(crate) fn next(&mut self) -> Result<Vec<u8>, End> {
        let mut message = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Pings come as long as the server lives: they are not what is waited for.
            assert!(Instant::now() < deadline, "no message came");
            let (is_last, opcode, payload) = self.frame().map_err(|err| {
                let is_late = matches!(
                    err.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                );
                assert!(!is_late, "no frame came");
                End::Broken
            })?;
            match opcode {
                8 => {
                    let code = payload
                        .first_chunk::<2>()
                        .map_or(1005, |code| u16::from_be_bytes(*code));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    let reason = reason.into_owned();
                    // The handshake of closing; the server may be gone already.
                    drop(self.send(Opcode::Close, &payload));
                    return Err(End::Closed { code, reason });
                }
                9 => drop(self.send(Opcode::Pong, &payload)),
                10 => {}
                _ => {
                    message.extend(payload);
                    if is_last {
                        return Ok(message);
                    }
                }
            }
        }
    }

    fn frame(&mut self) -> io::Result<(bool, u8, Vec<u8>)> {
        let [first, second] = self.take()?;
        let length = match second {
            126 => u64::from(u16::from_be_bytes(self.take()?)),
            127 => u64::from_be_bytes(self.take()?),
            short => u64::from(short),
        };
        let length = usize::try_from(length).map_err(io::Error::other)?;
        Ok((first & 0x80 != 0, first & 0x0f, self.take_some(length)?))
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let taken = self.take_some(N)?;
        taken.try_into().map_err(|_| io::Error::other("too few"))
    }

    fn take_some(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < length {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.unread.split_off(length);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 64 << 10];
        let read = self.stream.read(&mut chunk)?;
        self.unread.extend_from_slice(&chunk[..read]);
        Ok(read)
    }
}

/// The header of a client's unfragmented frame, masked with zeroes.
pub(crate) fn header(opcode: Opcode, length: u64) -> Vec<u8> {
    let mut header = vec![0x80 | opcode as u8];
    match length {
        0..126 => header.push(0x80 | length.to_be_bytes()[7]),
        126..65_536 => {
            header.push(0x80 | 126);
            header.extend(&length.to_be_bytes()[6..]);
        }
        _ => {
            header.push(0x80 | 127);
            header.extend(length.to_be_bytes());
        }
    }
    header.extend([0; 4]);
    header
}
