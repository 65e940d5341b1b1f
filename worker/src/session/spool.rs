//! Reading a kernel's spool at the journal's pace (DESIGN §7.1).
//!
//! What is read is committed in one transaction with the position behind it, and only then is more
//! read: however often a worker is killed, each record becomes one event, once (I3).

use std::{os::fd::AsFd, path::Path};

use serde_json::json;
use tithon_ipc::{ids::ExecId, jupyter::Message, readiness::readable};
use tokio::{io::unix::AsyncFd, time::Instant};

use super::{
    Session,
    kernel::{Capture, KernelSlot},
    pace::Pace,
    prompt::Prompt,
    store::Effect,
};
use crate::{
    journal::{Change, Channel, GREETED, PROMPT_OPEN, Row, Traffic},
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
    pace: Pace,
    /// Whether the kernel's launcher has said that it records everything.
    greeted: bool,
    /// Whether the kernel has answered, so that a greeting must be there if one ever comes.
    answered: bool,
    /// Whether the kernel's shell had nothing before a question of ours.
    free: bool,
    /// Whether what a dead kernel left was put in order.
    finished: bool,
    /// Whether the kernel ended in an orderly way.
    took_leave: bool,
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
            pace: Pace::new(),
            greeted,
            answered: false,
            free: false,
            finished: false,
            took_leave: false,
        })
    }

    /// The kernel has answered a question of ours.
    pub(super) fn kernel_answered(&mut self) {
        self.answered = true;
        self.more = true;
    }

    /// The spool says that the shell is done with a question of ours. Only there it is certain that all
    /// it did before is recorded too: on a full disk records wait in the kernel, and a reply over zmq
    /// overtakes them.
    pub(super) fn shell_was_free(&mut self) {
        self.free = true;
        self.more = true;
    }

    /// There may be more to read.
    pub(super) fn read_on(&mut self) {
        self.more = true;
    }

    /// When to read next, if there may be anything to read.
    fn read_due(&self) -> Option<Instant> {
        self.more.then(|| self.pace.due())
    }

    /// Whether the kernel ended in an orderly way.
    pub(super) fn took_leave(&self) -> bool {
        self.took_leave
    }

    /// The offset behind the last record read.
    pub(super) fn offset(&self) -> u64 {
        self.reader.position().offset
    }

    /// Gives back the memory that reading takes.
    pub(super) fn rest(&mut self) {
        self.reader.rest();
    }

    /// Forgets what is committed.
    pub(super) fn release(&mut self, position: &SpoolPosition) {
        if let Err(err) = self.reader.release(position) {
            tracing::warn!("failed to {err}");
        }
    }
}

impl KernelSlot {
    pub(super) fn spool_mut(&mut self) -> Option<&mut Spool> {
        match self {
            Self::Remains(remains) => Some(&mut remains.spool),
            Self::Running(kernel) => match &mut kernel.capture {
                Capture::Spool(spool) => Some(spool),
                Capture::Zmq => None,
            },
            _ => None,
        }
    }

    /// When the spool is to be read.
    pub(super) fn spool_due(&self) -> Option<Instant> {
        match &self.running()?.capture {
            Capture::Spool(spool) => spool.read_due(),
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
    /// Somebody waits for what comes next: cells that follow each other closely are no stream.
    pub(super) fn read_spool_at_once(&mut self) {
        if let Some(spool) = self.kernel.spool_mut() {
            spool.pace.begin_again();
        }
    }

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
            let Some(spool) = self
                .kernel
                .spool_mut()
                .filter(|spool| spool.read_due().is_some_and(|due| due <= Instant::now()))
            else {
                return;
            };
            match spool.reader.read(READ_MAX) {
                Ok(records) if records.is_empty() => {
                    spool.more = false;
                    self.spool_is_read();
                }
                Ok(records) => {
                    spool.pace.has_read();
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
        let ended = match &self.kernel {
            KernelSlot::Remains(_) => true,
            KernelSlot::Running(kernel) => kernel.end.is_some(),
            _ => false,
        };
        let Some(spool) = self.kernel.spool_mut() else {
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
            return self.end_is_read();
        }
        if spool.answered && !spool.greeted {
            // The launcher could not take its hooks: this is a plain kernel.
            tracing::warn!("the kernel runs without a spool: its output is read over zmq");
            return self.read_over_zmq();
        }
        let free = std::mem::take(&mut spool.free);
        self.check_ready();
        self.ask_again();
        if free {
            self.kernel_is_free();
        }
    }

    /// Everything that a kernel whose process is over has said is taken in.
    fn end_is_read(&mut self) {
        if matches!(self.kernel, KernelSlot::Remains(_)) {
            self.remains_read();
        } else {
            self.kernel_gone();
        }
    }

    /// Shows a prompt again whose answer died with the worker that was to send it. If the kernel
    /// got it after all, it will say so in a moment, and drops a second one.
    fn ask_again(&mut self) {
        let unanswered = self
            .running
            .as_mut()
            .and_then(|running| Some((running.exec, running.unanswered.take()?)));
        if let Some((exec, prompt)) = unanswered {
            self.show_prompt(exec, prompt);
        }
    }

    /// Journals a prompt and waits for its answer.
    pub(super) fn show_prompt(&mut self, exec: ExecId, prompt: Prompt) {
        self.row(
            Some(exec),
            "tithon.input_request",
            &json!({"exec_id": exec.to_string(), "prompt": prompt.prompt, "password": prompt.password}),
        );
        if let Some(running) = &mut self.running {
            running.prompt = Some(prompt);
        }
    }

    fn spool_failed(&mut self, err: &SpoolError) {
        tracing::error!("failed to {err}");
        if matches!(self.kernel, KernelSlot::Remains(_)) {
            return self.remains_read();
        }
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
            Record::Iopub(frames) => self.kernel_messages(Channel::Iopub, frames, None),
            Record::IopubFor(request, frames) => {
                self.kernel_messages(Channel::Iopub, frames, Some(&request));
            }
            Record::Reply(frames) => self.kernel_messages(Channel::Shell, frames, None),
            Record::Control(frames) => self.kernel_messages(Channel::Control, frames, None),
            Record::StdinRequest(frames) => self.kernel_messages(Channel::Stdin, frames, None),
            Record::StdinEnd(StdinOutcome::Answered | StdinOutcome::Abandoned) => {
                if let Some(running) = &mut self.running {
                    running.unanswered = None;
                }
                self.prompt_open(None);
                self.prompt_ended();
            }
            Record::Stream(stream) => self.streamed(&stream),
            Record::Hello(hello) => {
                tracing::debug!(
                    pid = hello.pid,
                    ipykernel = hello.ipykernel,
                    "the kernel records everything"
                );
                let pid = self.kernel.pid().unwrap_or_default().to_string();
                self.greeted = Some(pid.clone());
                self.change(Change::Meta {
                    key: GREETED,
                    value: pid,
                });
                if let Some(spool) = self.kernel.spool_mut() {
                    spool.greeted = true;
                }
            }
            Record::Bye => {
                if let Some(spool) = self.kernel.spool_mut() {
                    spool.took_leave = true;
                }
            }
            Record::Gap { writes, bytes } => self.gap(
                self.current_execution(),
                Some(writes),
                bytes,
                "the disk was full",
            ),
            Record::Hole { from, to, writes } => self.gap(
                self.current_execution(),
                writes,
                to - from,
                "the kernel died while writing, or nobody read",
            ),
        }
    }

    /// Text that the program wrote, under a header that only we could have made.
    fn streamed(&mut self, stream: &StreamRecord) {
        if let Some(exec) = self.shown_for(&stream.parent, "") {
            self.push(stream_row(exec, stream));
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
                content: stream_content(stream).into(),
                buffers: Vec::new(),
            };
            self.pending.traffic.push(Traffic {
                channel: Channel::Iopub,
                ts: written_at(stream),
                message,
            });
        }
    }

    /// Notes whether the kernel waits for an answer of the running cell's prompt.
    pub(super) fn prompt_open(&mut self, exec: Option<ExecId>) {
        self.change(Change::Meta {
            key: PROMPT_OPEN,
            value: exec.map(|exec| exec.to_string()).unwrap_or_default(),
        });
    }

    /// Output that is gone for good, said where it is missing.
    pub(super) fn gap(&mut self, exec: Option<ExecId>, writes: Option<u64>, bytes: u64, why: &str) {
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

/// What a program wrote, as an event of an execution.
pub(super) fn stream_row(exec: ExecId, stream: &StreamRecord) -> Row {
    Row {
        seq: 0,
        exec: Some(exec),
        target: None,
        msg_type: "stream".to_owned(),
        content: stream_content(stream).into(),
        ts: written_at(stream),
        message: None,
        images: Vec::new(),
    }
}

/// The content of what a program wrote, as a `stream` message has it.
pub(super) fn stream_content(stream: &StreamRecord) -> String {
    let name = match stream.name {
        StreamName::Stdout => "stdout",
        StreamName::Stderr => "stderr",
    };
    tithon_ipc::json::to_string(&Stream {
        name,
        text: &stream.text,
    })
}

/// In unix seconds.
fn written_at(stream: &StreamRecord) -> f64 {
    let since = stream.time.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[derive(serde::Serialize)]
struct Stream<'a> {
    name: &'a str,
    text: &'a str,
}
