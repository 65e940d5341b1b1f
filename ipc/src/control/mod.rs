//! What the supervisor says to a worker, over the worker's own unix socket.
//!
//! One connection carries a hello in each direction and then requests, each answered before the
//! next. The enums are postcard-encoded: append variants, never reorder or change them.

mod connection;
mod socket;

pub use connection::{Client, ControlError, Server};
use serde::{Deserialize, Serialize};
pub use socket::FdStream;

/// Oldest version of this protocol that is still understood.
pub const OLDEST: u16 = 1;
/// The version spoken where the other side understands it too.
///
/// 1: handover, status, interrupt, kill, stop. 2: policy.
pub const NEWEST: u16 = 2;

/// What the supervisor asks of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Serve a client from here on; its connection comes as a descriptor beside this frame.
    Handover(Handover),
    /// The session's status, as `status_reply` carries it.
    Status,
    /// Interrupt the running cell.
    Interrupt,
    /// End the kernel for good, at a user's wish, and then this worker.
    Kill,
    /// End this worker; its kernel only if asked.
    Stop {
        /// Whether the kernel goes too.
        kill_kernel: bool,
    },
    /// What the supervisor's command line says now, to a worker that may be older than it.
    Policy {
        /// How long an unused kernel lives; `None` is for ever.
        idle_timeout_ms: Option<u64>,
    },
}

/// A client whose WebSocket handshake is done.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The first operation for this session: the JSON text of the message.
    pub first: String,
    /// Bytes read from the client after that message.
    pub unread: Vec<u8>,
}

impl std::fmt::Debug for Handover {
    // Never the text: it holds the user's code.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Handover({} + {} bytes)",
            self.first.len(),
            self.unread.len()
        )
    }
}

/// A worker's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; for an interrupt or a kill, whether there was anything to do it to.
    Done(bool),
    /// The session's status as a JSON object's text.
    Status(String),
    /// Not done, and why.
    Refused(String),
}
