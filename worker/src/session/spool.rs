//! Reading a kernel's spool at the journal's pace (DESIGN §7.1).
//!
//! What is read is committed in one transaction with the position behind it, and only then is more
//! read: however often a worker is killed, each record becomes one event, once (I3).

use std::{os::fd::AsFd, path::Path};

use serde_json::json;
use tithon_ipc::{ids::ExecId, jupyter::Message, readiness::readable};
use tokio::io::unix::AsyncFd;

use super::{
    Session,
    kernel::{Capture, KernelSlot},
    store::Effect,
};
use crate::{
    journal::{Change, Channel, Row, Traffic},
    kernel::spool::{
        Record, SpoolError, SpoolPosition, SpoolReader, StdinOutcome, StreamName, StreamRecord,
    },
};

/// The name under which the position is kept in `meta`.
pub(super) const POSITION: &str = "spool_position";
/// Bytes read at once, and so about what a transaction holds.
const READ_MAX: usize = 1 << 20;

/// A spool being read.
#[derive(Debug)]
pub(super) struct Spool {
    reader: SpoolReader,
    changed: AsyncFd<std::os::fd::OwnedFd>,
    /// Whether there may be more to read.
    more: bool,
    /// Whether the kernel's launcher has said that it records everything.
    greeted: bool,
    /// Whether the kernel has answered, so that a greeting must be there if one ever comes.
    answered: bool,
    /// Whether the kernel's shell had nothing before a question of ours.
    free: bool,
    /// Whether what a dead kernel left was put in order.
    finished: bool,
}

impl Spool {
    /// Opens a session's spool where the journal has read to.
    pub(super) fn open(
        dir: &Path,
        position: Option<&str>,
        greeted: bool,
    ) -> Result<Self, SpoolError> {
        let position = position
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let reader = SpoolReader::open(dir, position)?;
        let watched = reader.as_fd().try_clone_to_owned().and_then(readable);
        let changed = watched.map_err(|source| SpoolError::Io {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            reader,
            changed,
            more: true,
            greeted,
            answered: false,
            free: false,
            finished: false,
        })
    }

    /// The kernel has answered a question of ours, on shell or elsewhere.
    pub(super) fn kernel_answered(&mut self, on_shell: bool) {
        self.answered = true;
        self.free |= on_shell;
        self.more = true;
    }

    /// There may be more to read.
    pub(super) fn read_on(&mut self) {
        self.more = true;
    }

    /// The offset behind the last record read.
    pub(super) fn offset(&self) -> u64 {
        self.reader.position().offset
    }

    /// Forgets what is committed.
    pub(super) fn release(&mut self, position: &SpoolPosition) {
        if let Err(err) = self.reader.release(position) {
            tracing::warn!("failed to {err}");
        }
    }
}

impl KernelSlot {
    fn spool_mut(&mut self) -> Option<&mut Spool> {
        match &mut self.running_mut()?.capture {
            Capture::Spool(spool) => Some(spool),
            Capture::Zmq => None,
        }
    }

    /// Returns once the spool may hold more; never where there is none.
    pub(super) async fn spool_changed(&self) {
        match self.running().map(|kernel| &kernel.capture) {
            Some(Capture::Spool(spool)) if !spool.more => {
                if let Ok(mut ready) = spool.changed.readable().await {
                    // The reader takes the notifications themselves when it reads.
                    ready.clear_ready();
                }
            }
            _ => std::future::pending().await,
        }
    }
}

impl Session {
    /// The spool's directory said that something is new.
    pub(super) fn spool_has_more(&mut self) {
        if let Some(spool) = self.kernel.spool_mut() {
            spool.more = true;
        }
    }

    pub(super) fn release_spool(&mut self, position: &SpoolPosition) {
        if let Some(spool) = self.kernel.spool_mut() {
            spool.release(position);
        }
    }

    /// Takes in what the spool holds, if the journal has taken what was read before.
    pub(super) fn read_spool(&mut self) {
        while self.in_flight.is_empty() && self.pending.is_empty() {
            let Some(spool) = self.kernel.spool_mut().filter(|spool| spool.more) else {
                return;
            };
            match spool.reader.read(READ_MAX) {
                Ok(records) if records.is_empty() => {
                    spool.more = false;
                    self.spool_is_read();
                }
                Ok(records) => {
                    let position = spool.reader.position();
                    for record in records {
                        self.record(record);
                    }
                    let value = serde_json::to_string(&position).unwrap_or_default();
                    self.change(Change::Meta {
                        key: POSITION,
                        value: value.clone(),
                    });
                    self.spool_position = Some(value);
                    self.after_commit(Effect::Release(position));
                }
                Err(err) => self.spool_failed(&err),
            }
        }
    }

    /// Everything the spool holds is taken in: what waited for that goes on.
    fn spool_is_read(&mut self) {
        let parent = self
            .running
            .as_ref()
            .map(|running| running.msg_id.clone())
            .unwrap_or_default();
        let Some(kernel) = self.kernel.running_mut() else {
            return;
        };
        let ended = kernel.end.is_some();
        let Capture::Spool(spool) = &mut kernel.capture else {
            return;
        };
        if ended && !spool.finished {
            // What its C code and children wrote last is in no record yet.
            spool.finished = true;
            spool.more = true;
            if let Err(err) = spool.reader.finish(&parent) {
                tracing::warn!("failed to {err}");
            }
            return;
        }
        if ended {
            return self.kernel_gone();
        }
        if spool.answered && !spool.greeted {
            // The launcher could not take its hooks: this is a plain kernel.
            tracing::warn!("the kernel runs without a spool: its output is read over zmq");
            return self.read_over_zmq();
        }
        let free = std::mem::take(&mut spool.free);
        self.check_ready();
        if free {
            self.kernel_is_free();
        }
    }

    fn spool_failed(&mut self, err: &SpoolError) {
        tracing::error!("failed to {err}");
        self.notice(&format!(
            "failed to {err}: output is read over zmq from here on; `tithon restart` gives a kernel with a new spool"
        ));
        let ended = self
            .kernel
            .running()
            .is_some_and(|kernel| kernel.end.is_some());
        self.read_over_zmq();
        if ended {
            self.kernel_gone();
        }
    }

    fn read_over_zmq(&mut self) {
        if let Some(kernel) = self.kernel.running_mut() {
            kernel.capture = Capture::Zmq;
            kernel.channels.subscribe();
        }
    }

    fn record(&mut self, record: Record) {
        match record {
            Record::Iopub(frames) => self.kernel_messages(Channel::Iopub, frames),
            Record::Reply(frames) => self.kernel_messages(Channel::Shell, frames),
            Record::Control(frames) => self.kernel_messages(Channel::Control, frames),
            Record::StdinRequest(frames) => self.kernel_messages(Channel::Stdin, frames),
            Record::StdinEnd(StdinOutcome::Answered | StdinOutcome::Abandoned) => {
                self.prompt_ended()
            }
            Record::Stream(stream) => self.streamed(&stream),
            Record::Hello(hello) => {
                tracing::debug!(
                    pid = hello.pid,
                    ipykernel = hello.ipykernel,
                    "the kernel records everything"
                );
                if let Some(spool) = self.kernel.spool_mut() {
                    spool.greeted = true;
                }
            }
            Record::Bye => {}
            Record::Gap { writes, bytes } => self.gap(Some(writes), bytes, "the disk was full"),
            Record::Hole { from, to, writes } => self.gap(
                writes,
                to - from,
                "the kernel died while writing, or nobody read",
            ),
        }
    }

    /// Text that the program wrote, under a header that only we could have made.
    fn streamed(&mut self, stream: &StreamRecord) {
        let exec = self.exec_of(&stream.parent);
        let name = match stream.name {
            StreamName::Stdout => "stdout",
            StreamName::Stderr => "stderr",
        };
        let content = tithon_ipc::json::to_string(&Stream {
            name,
            text: &stream.text,
        });
        let ts = stream
            .time
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64());
        if exec.is_some() {
            let msg_type = "stream".to_owned();
            self.push(Row {
                seq: 0,
                exec,
                target: None,
                msg_type,
                content: content.into(),
                ts,
                message: None,
                images: Vec::new(),
            });
        } else {
            let header = json!({
                "msg_id": format!("tithon-spool-{}", stream.offset),
                "msg_type": "stream",
                "tithon_synthesised": true,
            });
            let message = Message {
                identities: Vec::new(),
                signature: bytes::Bytes::new(),
                header: tithon_ipc::json::to_string(&header).into(),
                parent_header: tithon_ipc::json::to_string(&json!({"msg_id": &*stream.parent}))
                    .into(),
                metadata: bytes::Bytes::from_static(b"{}"),
                content: content.into(),
                buffers: Vec::new(),
            };
            self.pending.traffic.push(Traffic {
                channel: Channel::Iopub,
                ts,
                message,
            });
        }
    }

    /// Output that is gone for good, said where it is missing.
    fn gap(&mut self, writes: Option<u64>, bytes: u64, why: &str) {
        let exec: Option<ExecId> = self.running.as_ref().map(|running| running.exec);
        let writes = writes
            .map(|writes| format!("{writes} writes, "))
            .unwrap_or_default();
        let text = format!("[tithon: {writes}{bytes} bytes of output are missing here: {why}]\n");
        tracing::warn!("output is missing: {writes}{bytes} bytes: {why}");
        if exec.is_some() {
            self.row(
                exec,
                "stream",
                &json!({"name": "stderr", "text": text, "tithon_scope": "cell"}),
            );
        }
    }
}

#[derive(serde::Serialize)]
struct Stream<'a> {
    name: &'a str,
    text: &'a str,
}
