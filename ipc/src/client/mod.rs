//! The client protocol: JSON over WebSocket over `daemon.sock` (PROTOCOL §2 to §8).

mod connection;
mod frame;
mod op;
mod services;
mod states;
mod values;

pub use connection::{Connection, ConnectionError, MESSAGE_MAX, websocket_config};
pub use frame::{Event, EventKind, Frame, copy_event};
pub use op::{
    Binding, BranchWish, Call, Cell, CheckpointWish, Clear, Direction, LaunchWish, NotebookWish,
    Op, Origin, Parsed, Submission, Trial,
};
pub use services::{Comm, CommKind, Outcome, Question, QuestionKind, reply_text};
pub use states::{StateName, StateOp, StateRun};
/// A frame's text as [`Connection::next`] gives it, not copied.
pub use tokio_tungstenite::tungstenite::Utf8Bytes as FrameText;
