//! Reads what a kernel's launcher appended to its spool (`launcher/tithon_spool.py` draws the format).
//!
//! Promises each record once and in order to a caller who commits [`SpoolPosition`] together with what
//! it made of the records, however often either side is killed; what cannot be read is named exactly.
//! Never writes to a segment of a living kernel.

mod batch;
mod format;
mod reader;
mod remains;
mod segment;
mod utf8;
mod watch;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use format::Incarnation;
pub use reader::SpoolReader;
pub use utf8::FdProgress;

/// The file in a spool to which a kernel's `faulthandler` wrote its stack; often empty, only read after a death.
#[must_use]
pub fn crash_log(dir: &Path) -> PathBuf {
    dir.join("crash.log")
}

/// Where reading goes on. To be committed in the same transaction as what was made of the records before it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct SpoolPosition {
    /// Logical offset behind the last record taken.
    pub offset: u64,
    /// Writer of that record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// Records of that writer before `offset`: with a later count tells how many a hole has swallowed.
    #[serde(default)]
    pub writes: u64,
    /// How far the files in place of fd 1 and 2 have been taken over.
    #[serde(default)]
    pub fds: [FdProgress; 2],
}

/// One thing a kernel said. Frames are exactly those given to zmq, routing ids included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Iopub(Vec<Bytes>),
    /// A message that a thread or task of an earlier request sent while another was the newest: the `msg_id` of the
    /// one it is for, and its frames, which name the other.
    IopubFor(String, Vec<Bytes>),
    /// An `execute_reply`.
    Reply(Vec<Bytes>),
    /// A `shutdown_reply`.
    Control(Vec<Bytes>),
    /// An `input_request`; pending until [`Record::StdinEnd`] or the kernel's end.
    StdinRequest(Vec<Bytes>),
    StdinEnd(StdinOutcome),
    Stream(StreamRecord),
    /// Every hook is in place from the first message of the kernel on. A kernel that never says this is a plain one.
    Hello(HelloInfo),
    /// The kernel ended in an orderly way.
    Bye,
    /// The kernel had to drop output here, because the disk was full for too long.
    Gap {
        writes: u64,
        bytes: u64,
    },
    /// These bytes of the spool are missing or unreadable: dropped as the oldest, or torn when the kernel died.
    Hole {
        from: u64,
        to: u64,
        /// How many records they held, where that can be told.
        writes: Option<u64>,
    },
}

/// A run of writes to one stream under one parent.
///
/// Runs depend on how much was there when they were read, so the same `offset` read again may carry more text; read from
/// the same position, the text in sum is always the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRecord {
    /// `msg_id` of the request that caused it; empty if none did.
    pub parent: Arc<str>,
    pub name: StreamName,
    pub text: String,
    /// Logical offset of the first write: the run's identity.
    pub offset: u64,
    /// When the first write happened.
    pub time: SystemTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamName {
    Stdout,
    Stderr,
}

/// How a prompt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdinOutcome {
    /// With an `input_reply`, end of file included.
    Answered,
    /// By an interrupt or an error.
    Abandoned,
}

/// What a kernel says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HelloInfo {
    pub pid: u32,
    /// Version of the interpreter.
    pub python: String,
    /// Version of ipykernel.
    pub ipykernel: String,
}

/// Phrased to follow "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("read the spool: {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "read the spool: {} has the layout {found:?}, this tithon knows {:?}",
        path.display(),
        format::MAGIC_TEXT
    )]
    Layout { path: PathBuf, found: String },
    #[error("read the spool: no record begins at offset {offset} in {}: it is not the spool that was read before", path.display())]
    Misplaced { path: PathBuf, offset: u64 },
    #[error("close the spool of a dead kernel: {} is not read to its end", dir.display())]
    Unread { dir: PathBuf },
}

impl SpoolError {
    /// For `map_err`: names the file.
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
