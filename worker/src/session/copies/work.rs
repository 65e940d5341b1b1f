//! What is asked of a copy, and what comes of it.

use tithon_ipc::{client::Frame, process::ProcessIdentity};

use super::{Source, freeze::Keep};
use crate::{kernel::spool::SpoolPosition, session::reply::ExecuteReply};

/// What a client wants of its copy.
#[derive(Debug)]
pub(in crate::session) enum Wish {
    /// Interrupt what it runs.
    Interrupt,
    /// The answer of its prompt.
    Input(String),
}

impl Wish {
    /// The frame that says what came of it.
    pub(super) fn answer(&self, ok: bool) -> String {
        match self {
            Self::Interrupt => Frame::Interrupted { ok }.to_text(),
            Self::Input(_) => Frame::InputAck { ok }.to_text(),
        }
    }
}

/// Where a copy comes from.
pub(super) enum Origin {
    /// It is to be forked.
    Forked(Source),
    /// An earlier worker made it.
    Found(Found),
}

/// What is known of a copy that an earlier worker made.
pub(super) struct Found {
    pub(super) process: ProcessIdentity,
    /// How far its spool was read.
    pub(super) position: SpoolPosition,
    /// How the code ended, if it has.
    pub(super) reply: Option<ExecuteReply>,
}

/// What a copy is to do.
pub(super) struct Work {
    /// The code, verbatim.
    pub(super) code: String,
    /// Whether `input()` may ask.
    pub(super) allow_stdin: bool,
    /// How its state is to stay, if the code succeeds.
    pub(super) keep: Option<Keep>,
}

/// What came of the code.
#[derive(Debug)]
pub(in crate::session) struct Done {
    /// What the kernel said; an error where the copy died.
    pub(super) reply: ExecuteReply,
    /// The state, or why there is none, if one was wanted and the code succeeded.
    pub(super) kept: Option<Result<ProcessIdentity, String>>,
}

/// What to tell a client of how a copy ended.
pub(super) fn told(ended: &Result<Done, Stop>) -> String {
    match ended {
        Ok(Done { reply, .. }) => Frame::Tried {
            status: &reply.status,
            execution_count: reply.execution_count,
        }
        .to_text(),
        Err(Stop::Left) => Frame::Error {
            message: "the copy of the kernel was given up: its session ends",
        }
        .to_text(),
        Err(Stop::Failed(why)) => Frame::Error { message: why }.to_text(),
    }
}

/// Why a copy is not run to its end.
#[derive(Debug)]
pub(in crate::session) enum Stop {
    /// Nobody is there any more.
    Left,
    /// It cannot be made, or not be read.
    Failed(String),
}

impl<T: std::fmt::Display> From<T> for Stop {
    fn from(err: T) -> Self {
        Self::Failed(err.to_string())
    }
}
