//! Collects records for one `read`, joining runs of writes to the same stream under the same parent.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::format::{FLAG_FD, FLAG_FOR, FLAG_STDERR, RecordHeader, frames, kind, u64_at};
use super::utf8::decode;
use super::{FdProgress, HelloInfo, Record, StdinOutcome, StreamName, StreamRecord};

/// A run of writes ends when it has this many bytes; a single write may have more.
const RUN: usize = 64 * 1024;

/// The body of a record does not have the form its type asks for.
pub(super) struct Malformed;

pub(super) struct Batch {
    records: Vec<Record>,
    run: Option<StreamRecord>,
    left: usize,
}

impl Batch {
    /// A batch that is full after `max_bytes` of spool, but never before it holds a record.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            records: Vec::new(),
            run: None,
            left: max_bytes,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.left == 0 && !(self.records.is_empty() && self.run.is_none())
    }

    pub(super) fn into_records(mut self) -> Vec<Record> {
        self.records.extend(self.run.take().map(Record::Stream));
        self.records
    }

    pub(super) fn push(&mut self, record: Record) {
        self.records.extend(self.run.take().map(Record::Stream));
        self.records.push(record);
    }

    /// Counts bytes of spool that were taken.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Adds a record that is not about streams; types of a future launcher are passed over.
    pub(super) fn message(&mut self, header: RecordHeader, body: &[u8]) -> Result<(), Malformed> {
        let message = || frames(header.frames, body).ok_or(Malformed);
        let record = match header.kind {
            kind::IOPUB if header.flags & FLAG_FOR != 0 => {
                let mut frames = message()?;
                if frames.is_empty() {
                    return Err(Malformed);
                }
                let request = String::from_utf8(frames.remove(0).into()).map_err(|_| Malformed)?;
                Record::IopubFor(request, frames)
            }
            kind::IOPUB => Record::Iopub(message()?),
            kind::REPLY => Record::Reply(message()?),
            kind::CONTROL => Record::Control(message()?),
            kind::STDIN_REQ => Record::StdinRequest(message()?),
            kind::STDIN_END if body == b"answered" => Record::StdinEnd(StdinOutcome::Answered),
            kind::STDIN_END => Record::StdinEnd(StdinOutcome::Abandoned),
            kind::HELLO => {
                Record::Hello(serde_json::from_slice::<HelloInfo>(body).map_err(|_| Malformed)?)
            }
            kind::BYE => Record::Bye,
            kind::GAP if body.len() == 16 => Record::Gap {
                writes: u64_at(body, 0),
                bytes: u64_at(body, 8),
            },
            kind::GAP => return Err(Malformed),
            _ => return Ok(()),
        };
        self.push(record);
        Ok(())
    }

    /// Adds a RAW record.
    pub(super) fn raw(
        &mut self,
        header: RecordHeader,
        body: &[u8],
        offset: u64,
        parent: &Arc<str>,
        fds: &mut [FdProgress; 2],
    ) -> Result<(), Malformed> {
        let (name, fd) = match header.flags & FLAG_STDERR {
            0 => (StreamName::Stdout, 0),
            _ => (StreamName::Stderr, 1),
        };
        let of_fd = header.flags & FLAG_FD != 0;
        if of_fd && body.len() < 8 {
            return Err(Malformed);
        }
        let run = self.run_of(parent, name, offset, header.time_ns);
        if of_fd {
            fds[fd].decode(&body[8..], &mut run.text);
            fds[fd].end = u64_at(body, 0);
        } else if !decode(body, &mut run.text).is_empty() {
            run.text.push(char::REPLACEMENT_CHARACTER);
        }
        if run.text.is_empty() {
            self.run = None; // only the first bytes of a character so far
        }
        Ok(())
    }

    /// Text that stands for bytes which never became a character.
    pub(super) fn replacement(&mut self, name: StreamName, offset: u64) {
        let run = self.run_of(&Arc::from(""), name, offset, 0);
        run.text.push(char::REPLACEMENT_CHARACTER);
    }

    fn run_of(
        &mut self,
        parent: &Arc<str>,
        name: StreamName,
        offset: u64,
        time_ns: u64,
    ) -> &mut StreamRecord {
        let ended = self
            .run
            .take_if(|run| run.name != name || run.parent != *parent || run.text.len() >= RUN);
        self.records.extend(ended.map(Record::Stream));
        self.run.get_or_insert_with(|| StreamRecord {
            parent: Arc::clone(parent),
            name,
            text: String::new(),
            offset,
            time: SystemTime::UNIX_EPOCH + Duration::from_nanos(time_ns),
        })
    }
}
