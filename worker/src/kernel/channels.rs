//! The kernel's zmq channels, driven by a thread of their own.
//!
//! libzmq's sockets are neither async nor shareable, and its descriptor is edge-triggered: one
//! missed read of it is a hang. A thread that polls the sockets and an alarm has no such edges,
//! and what arrives waits in our memory rather than behind zmq's high-water marks. The thread does
//! nothing but receive and send, so that no work of ours makes the kernel drop messages (I10).

use std::{
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, mpsc},
    thread,
};

use bytes::Bytes;
use tithon_ipc::jupyter::{ConnectionFile, Message};
use tokio::sync::mpsc as tokio_mpsc;

use crate::{journal::Channel, platform::Alarm};

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

/// What the thread is asked to do.
#[derive(Debug)]
enum Request {
    Send(Channel, Box<Message>),
    Subscribe,
}

/// The sending end; dropping it ends the thread and closes the sockets.
#[derive(Debug)]
pub struct Channels {
    requests: mpsc::Sender<Request>,
    alarm: Arc<Alarm>,
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
    ) -> Result<(Self, tokio_mpsc::UnboundedReceiver<Incoming>), ChannelsError> {
        let context = zmq::Context::new();
        let dealer = |channel, port| {
            dealer(&context, &connection.endpoint(port), identity).map(|socket| (channel, socket))
        };
        let sockets = vec![
            dealer(Channel::Shell, connection.shell_port)?,
            dealer(Channel::Control, connection.control_port)?,
            dealer(Channel::Stdin, connection.stdin_port)?,
        ];
        let alarm = Arc::new(Alarm::new()?);
        // Unbounded both ways: requests are few, and a message that came must not be dropped.
        let (sender, requests) = mpsc::channel();
        let (messages, incoming) = tokio_mpsc::unbounded_channel();
        let poller = Poller {
            context,
            iopub: connection.endpoint(connection.iopub_port),
            sockets,
            requests,
            messages,
            alarm: Arc::clone(&alarm),
        };
        thread::Builder::new()
            .name("zmq".to_owned())
            .stack_size(STACK)
            .spawn(move || poller.run())?;
        Ok((
            Self {
                requests: sender,
                alarm,
            },
            incoming,
        ))
    }

    /// Sends a message; one that the kernel is not there to take waits for it.
    pub fn send(&self, channel: Channel, message: Message) {
        self.ask(Request::Send(channel, Box::new(message)));
    }

    /// Listens to what the kernel publishes from now on. Where there is a spool nobody needs to,
    /// and the kernel prints faster for it.
    pub fn subscribe(&self) {
        self.ask(Request::Subscribe);
    }

    fn ask(&self, request: Request) {
        if self.requests.send(request).is_err() {
            tracing::error!("the channels' thread ended");
        }
        self.alarm.ring();
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        self.requests = closed;
        self.alarm.ring();
    }
}

struct Poller {
    context: zmq::Context,
    iopub: String,
    sockets: Vec<(Channel, zmq::Socket)>,
    requests: mpsc::Receiver<Request>,
    messages: tokio_mpsc::UnboundedSender<Incoming>,
    alarm: Arc<Alarm>,
}

impl Poller {
    fn run(mut self) {
        loop {
            let mut items: Vec<_> = self
                .sockets
                .iter()
                .map(|(_, socket)| socket.as_poll_item(zmq::POLLIN))
                .collect();
            items.push(zmq::PollItem::from_fd(
                self.alarm.as_fd().as_raw_fd(),
                zmq::POLLIN,
            ));
            match zmq::poll(&mut items, -1) {
                Ok(_) | Err(zmq::Error::EINTR) => {}
                Err(err) => {
                    return tracing::error!("failed to wait for the kernel's messages: {err}");
                }
            }
            let readable: Vec<bool> = items.iter().map(zmq::PollItem::is_readable).collect();
            if readable.last() == Some(&true) {
                self.alarm.heard();
                if !self.serve_requests() {
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

    /// Does what is asked; false once nobody will ask any more.
    fn serve_requests(&mut self) -> bool {
        loop {
            match self.requests.try_recv() {
                Ok(Request::Send(channel, message)) => self.send(channel, *message),
                Ok(Request::Subscribe) => match subscriber(&self.context, &self.iopub) {
                    Ok(socket) => self.sockets.push((Channel::Iopub, socket)),
                    Err(err) => tracing::error!("failed to listen to the kernel: {err}"),
                },
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn send(&self, channel: Channel, message: Message) {
        let Some((_, socket)) = self.sockets.iter().find(|(known, _)| *known == channel) else {
            return;
        };
        let frames = message.into_frames();
        if let Err(err) =
            socket.send_multipart(frames.iter().map(AsRef::<[u8]>::as_ref), zmq::DONTWAIT)
        {
            tracing::error!("failed to send to the kernel on {}: {err}", channel.name());
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
    endpoint: &str,
    identity: &str,
) -> Result<zmq::Socket, ChannelsError> {
    connect(context, zmq::DEALER, endpoint, |socket| {
        socket.set_identity(identity.as_bytes())
    })
}

fn subscriber(context: &zmq::Context, endpoint: &str) -> Result<zmq::Socket, ChannelsError> {
    connect(context, zmq::SUB, endpoint, |socket| {
        socket.set_subscribe(b"")
    })
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
