//! Bytes of segments and records. The drawing and its invariants are in `launcher/tithon_spool.py`.
//!
//! Nothing here trusts a length before it is known that so many bytes exist.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(super) const MAGIC_TEXT: &str = "TSPL0001";
/// The magic without the layout version.
const MAGIC_NAME: &[u8] = b"TSPL";
pub(super) const SEGMENT_HEADER: usize = 64;
pub(super) const RECORD_HEADER: usize = 24;
/// More than this is not written, so a larger length is not a length.
const MAX_BODY: usize = 1 << 30;

pub(super) const FLAG_STDERR: u8 = 1;
pub(super) const FLAG_FD: u8 = 2;
pub(super) const FLAG_FOR: u8 = 4;

/// Record types.
pub(super) mod kind {
    pub(in super::super) const IOPUB: u8 = 1;
    pub(in super::super) const REPLY: u8 = 2;
    pub(in super::super) const STDIN_REQ: u8 = 3;
    pub(in super::super) const STDIN_END: u8 = 4;
    pub(in super::super) const RAW: u8 = 5;
    pub(in super::super) const HELLO: u8 = 6;
    pub(in super::super) const BYE: u8 = 7;
    pub(in super::super) const SEAL: u8 = 8;
    pub(in super::super) const GAP: u8 = 9;
    pub(in super::super) const CONTROL: u8 = 10;
    pub(in super::super) const PARENT: u8 = 11;
}

/// One life of a writer, chosen at random.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Incarnation(u128);

impl Incarnation {
    pub(super) fn new(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> Self {
        incarnation.to_string()
    }
}

impl TryFrom<String> for Incarnation {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Self)
    }
}

/// Who wrote a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Kernel,
    /// A worker, for a kernel that died.
    Worker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) incarnation: Incarnation,
    pub(super) base: u64,
    pub(super) time_ns: u64,
    pub(super) writes: u64,
    pub(super) pid: u32,
    pub(super) writer: Writer,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// Of this magic, but not of this version.
    Layout(String),
    Unreadable,
}

impl SegmentHeader {
    pub(super) fn parse(bytes: &[u8; SEGMENT_HEADER]) -> Result<Self, HeaderError> {
        if &bytes[..8] != MAGIC_TEXT.as_bytes() {
            return Err(if bytes.starts_with(MAGIC_NAME) {
                HeaderError::Layout(bytes[..8].escape_ascii().to_string())
            } else {
                HeaderError::Unreadable
            });
        }
        let writer = match u32_at(bytes, 52) {
            0 => Writer::Kernel,
            1 => Writer::Worker,
            _ => return Err(HeaderError::Unreadable),
        };
        if crc32(&[&bytes[..60]]) != u32_at(bytes, 60) {
            return Err(HeaderError::Unreadable);
        }
        let mut incarnation = [0; 16];
        incarnation.copy_from_slice(&bytes[8..24]);
        Ok(Self {
            incarnation: Incarnation::new(incarnation),
            base: u64_at(bytes, 24),
            time_ns: u64_at(bytes, 32),
            writes: u64_at(bytes, 40),
            pid: u32_at(bytes, 48),
            writer,
        })
    }

    pub(super) fn to_bytes(self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(MAGIC_TEXT.as_bytes());
        bytes[8..24].copy_from_slice(&self.incarnation.0.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.base.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.time_ns.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.writes.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.pid.to_le_bytes());
        bytes[52] = u8::from(self.writer == Writer::Worker);
        let crc = crc32(&[&bytes[..60]]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) frames: u16,
    pub(super) aux: u32,
    pub(super) time_ns: u64,
    pub(super) body_len: usize,
}

impl RecordHeader {
    /// Bytes from this record to the next.
    pub(super) fn record_len(&self) -> usize {
        RECORD_HEADER + self.body_len
    }
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Record(RecordHeader),
    /// At least this many bytes are needed to tell.
    Short(usize),
    Corrupt,
}

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    if bytes.len() < RECORD_HEADER {
        return Parsed::Short(RECORD_HEADER);
    }
    let body_len = u32_at(bytes, 0) as usize;
    if body_len > MAX_BODY {
        return Parsed::Corrupt;
    }
    let Some(record) = bytes.get(..RECORD_HEADER + body_len) else {
        return Parsed::Short(RECORD_HEADER + body_len);
    };
    if crc32(&[&record[8..]]) != u32_at(record, 4) {
        return Parsed::Corrupt;
    }
    Parsed::Record(RecordHeader {
        kind: record[8],
        flags: record[9],
        frames: u16::from_le_bytes([record[10], record[11]]),
        aux: u32_at(record, 12),
        time_ns: u64_at(record, 16),
        body_len,
    })
}

/// Appends a record of one frame.
pub(super) fn write_record(
    out: &mut Vec<u8>,
    kind: u8,
    flags: u8,
    aux: u32,
    time_ns: u64,
    body: &[u8],
) {
    let mut tail = [0; RECORD_HEADER - 8];
    tail[0] = kind;
    tail[1] = flags;
    tail[2..4].copy_from_slice(&1_u16.to_le_bytes());
    tail[4..8].copy_from_slice(&aux.to_le_bytes());
    tail[8..].copy_from_slice(&time_ns.to_le_bytes());
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX); // callers write small pieces
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&crc32(&[&tail, body]).to_le_bytes());
    out.extend_from_slice(&tail);
    out.extend_from_slice(body);
}

/// The frames of a body, sharing one allocation; `None` if their lengths do not add up.
pub(super) fn frames(count: u16, body: &[u8]) -> Option<Vec<Bytes>> {
    let body = Bytes::copy_from_slice(body);
    if count == 1 {
        return Some(vec![body]);
    }
    let count = usize::from(count);
    let lengths = body.get(..count * 4)?;
    let mut start = count * 4;
    let mut frames = Vec::with_capacity(count);
    for length in lengths.chunks_exact(4) {
        let end = start.checked_add(u32_at(length, 0) as usize)?;
        if end > body.len() {
            return None;
        }
        frames.push(body.slice(start..end));
        start = end;
    }
    (start == body.len()).then_some(frames)
}

/// Panics unless `bytes` reach that far; callers have looked.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Panics unless `bytes` reach that far; callers have looked.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn crc32(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}
