//! The reader over files written here, byte by byte.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use super::format::*;
use super::*;

mod takeover;

/// Writes a spool as a launcher would, into memory; `save` puts as much of it on disk as asked.
struct Script {
    incarnation: u8,
    base: u64,
    writes: u64,
    bytes: Vec<u8>,
}

impl Script {
    fn new(incarnation: u8, base: u64) -> Self {
        let mut script = Self {
            incarnation,
            base,
            writes: 0,
            bytes: Vec::new(),
        };
        script.begin();
        script
    }

    fn begin(&mut self) {
        let header = SegmentHeader {
            incarnation: Incarnation::new([self.incarnation; 16]),
            base: self.base,
            time_ns: 1,
            writes: self.writes,
            pid: 1,
            writer: Writer::Kernel,
        };
        self.bytes = header.to_bytes().to_vec();
    }

    fn put(&mut self, kind: u8, flags: u8, aux: u32, body: &[u8]) -> &mut Self {
        write_record(&mut self.bytes, kind, flags, aux, 7, body);
        self.writes += u64::from(kind != kind::PARENT && kind != kind::SEAL);
        self
    }

    fn parent(&mut self, index: u32, id: &str) -> &mut Self {
        self.put(kind::PARENT, 0, index, id.as_bytes())
    }

    fn text(&mut self, parent: u32, text: &str) -> &mut Self {
        self.put(kind::RAW, 0, parent, text.as_bytes())
    }

    fn fd(&mut self, end: u64, bytes: &[u8]) -> &mut Self {
        self.put(kind::RAW, FLAG_FD, 0, &[&end.to_le_bytes(), bytes].concat())
    }

    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    fn save(&self, dir: &Path) {
        self.save_cut(dir, self.bytes.len());
    }

    fn save_cut(&self, dir: &Path, len: usize) {
        fs::write(segment::path(dir, self.base), &self.bytes[..len]).unwrap();
    }

    /// Saves the segment and begins the next one.
    fn rotate(&mut self, dir: &Path) {
        let next = self.end() + (RECORD_HEADER + 8) as u64;
        self.put(kind::SEAL, 0, 0, &next.to_le_bytes());
        self.save(dir);
        self.base = next;
        self.begin();
    }
}

fn open(dir: &TempDir) -> SpoolReader {
    SpoolReader::open(dir.path(), SpoolPosition::default()).unwrap()
}

fn all(reader: &mut SpoolReader) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let more = reader.read(1 << 20).unwrap();
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

fn said(records: &[Record]) -> String {
    let text = |record: &Record| match record {
        Record::Stream(stream) => format!("{}:{} ", stream.parent, stream.text),
        Record::Iopub(frames) => format!("iopub{} ", frames.len()),
        Record::IopubFor(request, frames) => format!("iopub{} for {request} ", frames.len()),
        Record::Hole { from, to, writes } => format!("hole({},{writes:?}) ", to - from),
        Record::Gap { writes, bytes } => format!("gap({writes},{bytes}) "),
        other => format!("{other:?} "),
    };
    records
        .iter()
        .map(text)
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// The same without regard to where runs of text begin and end.
fn joined(records: &[Record]) -> String {
    let text = |record: &Record| match record {
        Record::Stream(stream) => stream.text.clone(),
        _ => "[message]".to_owned(),
    };
    records.iter().map(text).collect()
}

#[test]
fn writes_to_one_stream_under_one_parent_are_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::new(1, 0);
    script
        .parent(0, "a")
        .parent(1, "b")
        .text(0, "1")
        .text(0, "2")
        .text(1, "3");
    script
        .put(kind::RAW, FLAG_STDERR, 1, b"4")
        .text(1, "5")
        .put(kind::IOPUB, 0, 0, b"frame")
        .text(1, "6");
    script.save(dir.path());

    let records = all(&mut open(&dir));

    assert_eq!(said(&records), "a:12 b:3 b:4 b:5 iopub1 b:6");
    let Record::Stream(stderr) = &records[2] else {
        panic!("{records:?}")
    };
    assert_eq!(
        (stderr.name, &stderr.parent),
        (StreamName::Stderr, &Arc::from("b"))
    );
}

#[test]
fn frames_are_the_ones_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::new(1, 0);
    let body = [
        &3_u32.to_le_bytes()[..],
        &0_u32.to_le_bytes(),
        &2_u32.to_le_bytes(),
        b"abcde",
    ]
    .concat();
    script.put(kind::REPLY, 0, 0, &body);
    let at = script.bytes.len() - body.len() - 14; // `frames` of the record header
    script.bytes[at..at + 2].copy_from_slice(&3_u16.to_le_bytes());
    let crc = crc32fast::hash(&script.bytes[SEGMENT_HEADER + 8..]);
    script.bytes[SEGMENT_HEADER + 4..SEGMENT_HEADER + 8].copy_from_slice(&crc.to_le_bytes());
    script.save(dir.path());

    let frames: Vec<Bytes> = vec!["abc".into(), "".into(), "de".into()];
    assert_eq!(all(&mut open(&dir)), [Record::Reply(frames)]);
}

#[test]
fn a_record_with_a_wrong_byte_is_never_returned() {
    let mut script = Script::new(1, 0);
    script.parent(0, "p");
    let good = script.bytes.len();
    script.text(0, "damaged");
    for at in good..script.bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        script.save(dir.path());
        let mut bytes = script.bytes.clone();
        bytes[at] ^= 0x80;
        fs::write(segment::path(dir.path(), 0), bytes).unwrap();
        assert_eq!(said(&all(&mut open(&dir))), "", "byte {at}");
    }
}

#[test]
fn missing_and_unreadable_segments_are_exact_holes() {
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::new(1, 0);
    let mut bases = Vec::new();
    for segment in 0..5 {
        bases.push(script.base);
        script
            .parent(0, "p")
            .text(0, &segment.to_string())
            .text(0, "x");
        script.rotate(dir.path());
    }
    let mut reader = open(&dir);
    assert_eq!(said(&reader.read(1).unwrap()), "p:0");
    fs::remove_file(segment::path(dir.path(), bases[1])).unwrap();
    fs::remove_file(segment::path(dir.path(), bases[2])).unwrap();
    fs::write(segment::path(dir.path(), bases[3]), "").unwrap();
    script.save(dir.path());

    let records = all(&mut reader);

    let lost = bases[3] - bases[1];
    let unreadable = bases[4] - bases[3];
    assert_eq!(
        said(&records),
        format!("p:x hole({},None) p:4x", lost + unreadable)
    );
}

#[test]
fn a_hole_tells_how_many_writes_it_swallowed() {
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::new(1, 0);
    script.parent(0, "p").text(0, "kept");
    script.rotate(dir.path());
    let dropped = script.base;
    script
        .parent(0, "p")
        .text(0, "a")
        .text(0, "b")
        .put(kind::IOPUB, 0, 0, b"c");
    script.rotate(dir.path());
    script.parent(0, "p").text(0, "end").save(dir.path());
    fs::remove_file(segment::path(dir.path(), dropped)).unwrap();

    let records = all(&mut open(&dir));

    let hole = Record::Hole {
        from: dropped,
        to: script.base,
        writes: Some(3),
    };
    assert_eq!(records[1], hole, "{records:?}");
}

#[test]
fn characters_cut_between_writes_to_a_descriptor_are_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::new(1, 0);
    let smile = "😀".as_bytes();
    script.parent(0, "p").fd(2, &smile[..2]);
    script.save(dir.path());
    let mut reader = open(&dir);
    assert_eq!(said(&all(&mut reader)), "");
    let position = reader.position();
    script.fd(4, &smile[2..]).save(dir.path());

    let mut successor = SpoolReader::open(dir.path(), position).unwrap();
    assert_eq!(said(&all(&mut successor)), "p:😀");
    assert_eq!(successor.position().fds[0].end, 4);
}

#[test]
fn a_character_that_a_dead_kernel_began_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::new(1, 0);
    script.parent(0, "p").fd(1, b"\xc3").save(dir.path());
    Script::new(2, script.end())
        .parent(0, "q")
        .text(0, "new")
        .save(dir.path());
    assert_eq!(said(&all(&mut open(&dir))), ":\u{fffd} q:new");
}

#[test]
fn another_layout_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = Script::new(1, 0).bytes;
    bytes[..8].copy_from_slice(b"TSPL0009");
    fs::write(segment::path(dir.path(), 0), bytes).unwrap();
    let error = open(&dir).read(1).unwrap_err();
    assert!(
        error.to_string().contains("TSPL0009") && error.to_string().contains("TSPL0001"),
        "{error}"
    );
}

#[test]
fn a_spool_that_was_replaced_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::new(1, 0);
    script.parent(0, "p").text(0, "some text").save(dir.path());
    let mut reader = open(&dir);
    all(&mut reader);
    let mut other = Script::new(2, 0);
    other.put(kind::IOPUB, 0, 0, &[b'x'; 500]).save(dir.path());
    let mut reader = SpoolReader::open(dir.path(), reader.position()).unwrap();
    assert!(matches!(reader.read(1), Err(SpoolError::Misplaced { .. })));
}

#[test]
fn symlinks_and_absurd_lengths_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, Script::new(1, 0).bytes).unwrap();
    symlink(&elsewhere, segment::path(dir.path(), 0)).unwrap();
    assert!(matches!(open(&dir).read(1), Err(SpoolError::Io { .. })));

    fs::remove_file(segment::path(dir.path(), 0)).unwrap();
    for length in [1_u32 << 30, u32::MAX] {
        let mut script = Script::new(1, 0);
        script.bytes.extend_from_slice(&length.to_le_bytes());
        script.bytes.extend_from_slice(&[0; 100]);
        script.save(dir.path());
        assert_eq!(all(&mut open(&dir)), []);
    }
}

#[test]
fn a_directory_that_comes_later_is_watched_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let mut reader = SpoolReader::open(&spool, SpoolPosition::default()).unwrap();
    assert_eq!(reader.read(1).unwrap(), []);
    let mut script = Script::new(1, 0);
    script.parent(0, "p").text(0, "x");
    fs::write(spool.join("new"), &script.bytes).unwrap();
    fs::rename(spool.join("new"), segment::path(&spool, 0)).unwrap();

    let mut fds = [PollFd::new(&reader, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1);
    assert_eq!(said(&all(&mut reader)), "p:x");
}
