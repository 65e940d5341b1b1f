//! Bytes and descriptors over a unix stream.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer, SendAncillaryMessage, recvmsg,
    sendmsg,
};
use tokio::{io::Interest, net::UnixStream};

use crate::platform::sockets;

/// Descriptors one `recvmsg` may bring; a frame carries at most one.
const FDS_MAX: usize = 4;

/// A unix stream whose bytes may be accompanied by descriptors, at most four at a time.
#[derive(Debug)]
pub struct FdStream {
    stream: UnixStream,
    fds: VecDeque<OwnedFd>,
}

impl FdStream {
    /// Sends and receives on a stream.
    pub fn new(stream: UnixStream) -> Self {
        sockets::prepare(&stream);
        Self {
            stream,
            fds: VecDeque::new(),
        }
    }

    /// The stream itself; descriptors that came and were not taken are closed.
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// Sends all bytes, the descriptors beside the first of them.
    ///
    /// # Errors
    /// When the other side is gone, or there are too many descriptors.
    pub async fn send(&mut self, mut bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut fds = fds;
        while !bytes.is_empty() {
            let sent = self
                .stream
                .async_io(Interest::WRITABLE, || {
                    let mut space =
                        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
                    let mut beside = SendAncillaryBuffer::new(&mut space);
                    if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
                        return Err(io::ErrorKind::InvalidInput.into());
                    }
                    Ok(sendmsg(
                        self.stream.as_fd(),
                        &[IoSlice::new(bytes)],
                        &mut beside,
                        sockets::SEND,
                    )?)
                })
                .await?;
            fds = &[];
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// Fills the buffer.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other side closes before.
    pub async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            let (stream, fds) = (&self.stream, &mut self.fds);
            let rest = &mut buffer[filled..];
            let received = stream
                .async_io(Interest::READABLE, || {
                    let mut space =
                        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
                    let mut beside = RecvAncillaryBuffer::new(&mut space);
                    let message = recvmsg(
                        stream.as_fd(),
                        &mut [IoSliceMut::new(rest)],
                        &mut beside,
                        sockets::RECEIVE,
                    )?;
                    for part in beside.drain() {
                        if let RecvAncillaryMessage::ScmRights(more) = part {
                            let came: Vec<_> = more.collect();
                            sockets::keep(&came);
                            fds.extend(came);
                        }
                    }
                    Ok(message.bytes)
                })
                .await?;
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += received;
        }
        Ok(())
    }

    /// The oldest descriptor that came and was not taken.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }
}
