//! Readers that take over: at any byte, from segment to segment, behind a torn end, and from a dead kernel.

use super::*;

#[test]
fn a_file_cut_at_any_byte_gives_its_whole_records_and_later_the_rest() {
    let mut script = Script::new(1, 0);
    script
        .parent(0, "p")
        .text(0, "one ")
        .put(kind::IOPUB, 0, 0, b"x")
        .text(0, "two ")
        .fd(3, "é!".as_bytes());
    for cut in 0..=script.bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        script.save_cut(dir.path(), cut);
        let mut reader = open(&dir);
        let mut records = all(&mut reader);
        let position = serde_json::to_string(&reader.position()).unwrap();
        script.save(dir.path());
        let mut successor =
            SpoolReader::open(dir.path(), serde_json::from_str(&position).unwrap()).unwrap();

        let rest = all(&mut successor);
        assert_eq!(all(&mut reader), rest, "cut at {cut}");
        records.extend(rest);

        assert_eq!(joined(&records), "one [message]two é!", "cut at {cut}");
        assert_eq!(successor.position().offset, script.end());
    }
}

/// Rotated segments, a kernel that replaced another and characters cut in two, seen at every byte of their
/// growth by a reader that takes record by record, and from there by its successor.
#[test]
fn readers_that_take_over_at_any_byte_lose_and_double_nothing() {
    let whole = tempfile::tempdir().unwrap();
    let mut first = Script::new(1, 0);
    let (e, acute) = "é".as_bytes().split_at(1);
    first.parent(0, "p").text(0, "one ").fd(1, e);
    first.rotate(whole.path());
    first
        .parent(0, "p")
        .put(kind::IOPUB, 0, 0, b"x")
        .fd(2, acute);
    first.rotate(whole.path());
    first.parent(1, "q").text(1, "two ").save(whole.path());
    let mut second = Script::new(2, first.end());
    second.parent(0, "r").text(0, "three").save(whole.path());
    let segments: Vec<(u64, Vec<u8>)> = segment::bases(whole.path())
        .unwrap()
        .into_iter()
        .map(|base| (base, fs::read(segment::path(whole.path(), base)).unwrap()))
        .collect();

    for cut in 0..=second.end() {
        let dir = tempfile::tempdir().unwrap();
        let grow_to = |end: u64| {
            for (base, bytes) in &segments {
                let there = usize::try_from(end.saturating_sub(*base)).unwrap();
                // A segment has its name only with its header complete.
                if there >= SEGMENT_HEADER {
                    let there = there.min(bytes.len());
                    fs::write(segment::path(dir.path(), *base), &bytes[..there]).unwrap();
                }
            }
        };
        let mut position = SpoolPosition::default();
        let mut records = Vec::new();
        for end in [cut, second.end()] {
            grow_to(end);
            let mut reader = SpoolReader::open(dir.path(), position).unwrap();
            loop {
                let more = reader.read(1).unwrap();
                position = reader.position();
                reader.release(&position).unwrap();
                if more.is_empty() {
                    break;
                }
                records.extend(more);
            }
        }
        assert_eq!(joined(&records), "one [message]étwo three", "cut at {cut}");
        assert_eq!(position.offset, second.end(), "cut at {cut}");
    }
}

#[test]
fn a_torn_end_is_waited_for_until_a_later_writer_proves_it_final() {
    let mut first = Script::new(1, 0);
    first.parent(0, "p").text(0, "whole");
    let good = first.bytes.len();
    first.text(0, "torn");
    for cut in good..first.bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        first.save_cut(dir.path(), cut);
        let mut reader = open(&dir);
        assert_eq!(said(&all(&mut reader)), "p:whole");

        let mut second = Script::new(2, cut as u64);
        second.parent(0, "q").text(0, "next").save(dir.path());

        let hole = if cut == good {
            String::new()
        } else {
            format!("hole({},None) ", cut - good)
        };
        assert_eq!(said(&all(&mut reader)), format!("{hole}q:next"));
    }
}

#[test]
fn reading_goes_on_over_segments_and_releases_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::new(1, 0);
    for segment in 0..4 {
        script.parent(0, "p").text(0, &segment.to_string());
        script.rotate(dir.path());
    }
    let mut reader = open(&dir);
    let mut text = String::new();
    loop {
        // Committed after every record, by a reader that then dies.
        let records = reader.read(1).unwrap();
        if records.is_empty() {
            break;
        }
        text += &said(&records);
        let committed = reader.position();
        reader.release(&committed).unwrap();
        assert_eq!(
            segment::bases(dir.path())
                .unwrap()
                .first()
                .map(|base| *base <= committed.offset),
            Some(true)
        );
        reader = SpoolReader::open(dir.path(), committed).unwrap();
    }
    assert_eq!(text, "p:0p:1p:2p:3");
    assert_eq!(
        segment::bases(dir.path()).unwrap().len(),
        1,
        "the newest tells a later kernel where to go on"
    );
}

#[test]
fn what_a_dead_kernel_left_in_its_fd_files_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::new(1, 0);
    script.parent(0, "p").fd(5, b"taken");
    script.bytes.extend_from_slice(b"torn"); // the kernel died in the middle of a write
    script.save(dir.path());
    fs::write(dir.path().join("fd1.log"), "takenleft").unwrap();
    fs::write(dir.path().join("fd2.log"), "error").unwrap();

    let mut reader = open(&dir);
    assert!(matches!(reader.finish("p"), Err(SpoolError::Unread { .. })));
    assert_eq!(said(&all(&mut reader)), "p:taken");
    reader.finish("p").unwrap();
    // The worker that did so dies, and its successor does it again.
    let mut reader = SpoolReader::open(dir.path(), reader.position()).unwrap();
    reader.finish("p").unwrap();

    assert_eq!(said(&all(&mut reader)), "hole(4,None) p:left p:error");
    reader.finish("p").unwrap();
    assert_eq!(all(&mut reader), []);
}
