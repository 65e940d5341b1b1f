//! The kernel's zmq channels, driven by a thread of their own.
//!
//! libzmq's sockets are neither async nor shareable, and its descriptor is edge-triggered: one
//! missed read of it is a hang. A thread that polls the sockets and an eventfd has no such edges,
//! and what arrives waits in our memory rather than behind zmq's high-water marks. The thread does
//! nothing but receive and send, so that no work of ours makes the kernel drop messages.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, mpsc},
    thread,
};

use bytes::Bytes;
use rustix::event::{EventfdFlags, eventfd};
use tithon_ipc::jupyter::{ConnectionFile, Message};
use tokio::sync::mpsc as tokio_mpsc;

use crate::journal::Channel;

/// libzmq's own calls are shallow.
const STACK: usize = 128 << 10;
/// Messages taken from one socket before the others get their turn.
const TURN: usize = 1024;

/// Why the channels cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ChannelsError {
    /// libzmq refused.
    #[error("zmq on {endpoint}: {source}")]
    Zmq {
        endpoint: String,
        source: zmq::Error,
    },
    /// No descriptor or thread is to be had.
    #[error("the channels' thread: {0}")]
    Io(#[from] std::io::Error),
}

/// Whether to listen to what the kernel publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iopub {
    /// Over zmq: the only source for kernels without a spool.
    Subscribe,
    /// Not at all: the spool has it.
    Spool,
}

/// The sending end; dropping it ends the thread and closes the sockets.
#[derive(Debug)]
pub struct Channels {
    outgoing: mpsc::Sender<(Channel, Message)>,
    wake: Arc<OwnedFd>,
}

/// What the kernel sent: the channel and the frames as they came.
pub type Incoming = (Channel, Vec<Bytes>);

impl Channels {
    /// Connects to a kernel. `identity` is the routing id on shell, control and stdin: a later
    /// worker that uses the same is the same peer to the kernel, and gets what is owed to this one.
    ///
    /// # Errors
    /// When an endpoint is malformed or no socket or thread can be made; a kernel that is not there
    /// yet is no error.
    pub fn open(
        connection: &ConnectionFile,
        identity: &str,
        iopub: Iopub,
    ) -> Result<(Self, tokio_mpsc::UnboundedReceiver<Incoming>), ChannelsError> {
        let context = zmq::Context::new();
        let mut sockets = vec![
            dealer(
                &context,
                connection,
                connection.shell_port,
                identity,
                Channel::Shell,
            )?,
            dealer(
                &context,
                connection,
                connection.control_port,
                identity,
                Channel::Control,
            )?,
            dealer(
                &context,
                connection,
                connection.stdin_port,
                identity,
                Channel::Stdin,
            )?,
        ];
        if iopub == Iopub::Subscribe {
            sockets.push(subscriber(&context, connection)?);
        }
        let wake = Arc::new(
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(std::io::Error::from)?,
        );
        // Unbounded both ways: requests are few, and a message that came must not be dropped.
        let (outgoing, requests) = mpsc::channel();
        let (messages, incoming) = tokio_mpsc::unbounded_channel();
        let poller = Poller {
            sockets,
            requests,
            messages,
            wake: Arc::clone(&wake),
        };
        thread::Builder::new()
            .name("zmq".to_owned())
            .stack_size(STACK)
            .spawn(move || poller.run())?;
        Ok((Self { outgoing, wake }, incoming))
    }

    /// Sends a message; one that the kernel is not there to take waits for it.
    pub fn send(&self, channel: Channel, message: Message) {
        if self.outgoing.send((channel, message)).is_err() {
            tracing::error!("the channels' thread ended");
        }
        self.wake();
    }

    fn wake(&self) {
        // Full means the thread has been woken often enough already.
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).ok();
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        self.outgoing = closed;
        self.wake();
    }
}

struct Poller {
    sockets: Vec<(Channel, zmq::Socket)>,
    requests: mpsc::Receiver<(Channel, Message)>,
    messages: tokio_mpsc::UnboundedSender<Incoming>,
    wake: Arc<OwnedFd>,
}

impl Poller {
    fn run(self) {
        loop {
            let mut items: Vec<_> = self
                .sockets
                .iter()
                .map(|(_, socket)| socket.as_poll_item(zmq::POLLIN))
                .collect();
            items.push(zmq::PollItem::from_fd(self.wake.as_raw_fd(), zmq::POLLIN));
            match zmq::poll(&mut items, -1) {
                Ok(_) | Err(zmq::Error::EINTR) => {}
                Err(err) => {
                    return tracing::error!("failed to wait for the kernel's messages: {err}");
                }
            }
            let readable: Vec<bool> = items.iter().map(zmq::PollItem::is_readable).collect();
            if readable.last() == Some(&true) {
                rustix::io::read(&self.wake, &mut [0; 8]).ok();
                if !self.send_all() {
                    return;
                }
            }
            for ((channel, socket), _) in self
                .sockets
                .iter()
                .zip(&readable)
                .filter(|(_, readable)| **readable)
            {
                for frames in std::iter::from_fn(|| receive(socket)).take(TURN) {
                    if self.messages.send((*channel, frames)).is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Sends what waits; false once nobody will send any more.
    fn send_all(&self) -> bool {
        loop {
            match self.requests.try_recv() {
                Ok((channel, message)) => {
                    let Some((_, socket)) =
                        self.sockets.iter().find(|(known, _)| *known == channel)
                    else {
                        continue;
                    };
                    let frames = message.into_frames();
                    if let Err(err) = socket
                        .send_multipart(frames.iter().map(AsRef::<[u8]>::as_ref), zmq::DONTWAIT)
                    {
                        tracing::error!(
                            "failed to send to the kernel on {}: {err}",
                            channel.name()
                        );
                    }
                }
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }
}

fn receive(socket: &zmq::Socket) -> Option<Vec<Bytes>> {
    match socket.recv_multipart(zmq::DONTWAIT) {
        Ok(frames) => Some(frames.into_iter().map(Bytes::from).collect()),
        Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => None,
        Err(err) => {
            tracing::error!("failed to receive from the kernel: {err}");
            None
        }
    }
}

fn dealer(
    context: &zmq::Context,
    connection: &ConnectionFile,
    port: u16,
    identity: &str,
    channel: Channel,
) -> Result<(Channel, zmq::Socket), ChannelsError> {
    connect(context, zmq::DEALER, &connection.endpoint(port), |socket| {
        socket.set_identity(identity.as_bytes())
    })
    .map(|socket| (channel, socket))
}

fn subscriber(
    context: &zmq::Context,
    connection: &ConnectionFile,
) -> Result<(Channel, zmq::Socket), ChannelsError> {
    connect(
        context,
        zmq::SUB,
        &connection.endpoint(connection.iopub_port),
        |socket| socket.set_subscribe(b""),
    )
    .map(|socket| (Channel::Iopub, socket))
}

fn connect(
    context: &zmq::Context,
    kind: zmq::SocketType,
    endpoint: &str,
    prepare: impl FnOnce(&zmq::Socket) -> zmq::Result<()>,
) -> Result<zmq::Socket, ChannelsError> {
    let connected = || {
        let socket = context.socket(kind)?;
        // No high-water mark on our side: what the kernel managed to send is not dropped here.
        socket.set_rcvhwm(0)?;
        socket.set_sndhwm(0)?;
        socket.set_linger(0)?;
        prepare(&socket)?;
        socket.connect(endpoint)?;
        Ok(socket)
    };
    connected().map_err(|source| ChannelsError::Zmq {
        endpoint: endpoint.to_owned(),
        source,
    })
}
