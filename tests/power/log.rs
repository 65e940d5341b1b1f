//! The recorder's log: what happened to the files of a home, in order.

use std::path::PathBuf;

/// What the recorder saw.
#[derive(Debug)]
pub(crate) enum Operation {
    /// A file that was not there before.
    Create { path: PathBuf, inode: u64 },
    /// A directory.
    MakeDir { path: PathBuf, inode: u64 },
    /// Bytes at an offset of a file.
    Write { inode: u64, at: u64, bytes: Vec<u8> },
    /// A file was cut or stretched.
    Size { inode: u64, size: u64 },
    /// A file or a directory was synced.
    Sync { inode: u64 },
    /// A name was given to what had another.
    Rename { from: PathBuf, to: PathBuf },
    /// A name of a file or of an empty directory was taken away.
    Remove { path: PathBuf },
    /// About to be sent to a client.
    Send { bytes: Vec<u8> },
}

/// An operation, who did it and when.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) pid: u32,
    /// Nanoseconds of the monotonic clock.
    pub(crate) ns: u64,
    pub(crate) operation: Operation,
}

/// Reads a log up to its last whole record.
pub(crate) fn parse(mut log: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = log.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap();
        let Some((record, rest)) = rest.split_at_checked(length) else {
            break;
        };
        log = rest;
        entries.push(entry(record));
    }
    entries
}

fn entry(record: &[u8]) -> Entry {
    let long = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    let short = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
    let (inode, number) = (long(13), long(21));
    let first = usize::try_from(short(29)).unwrap();
    let (a, b) = record[37..].split_at(first);
    let path = |bytes: &[u8]| PathBuf::from(String::from_utf8(bytes.to_vec()).unwrap());
    let operation = match record[0] {
        1 => Operation::Create {
            path: path(a),
            inode,
        },
        2 => Operation::MakeDir {
            path: path(a),
            inode,
        },
        3 => Operation::Write {
            inode,
            at: number,
            bytes: a.to_vec(),
        },
        4 => Operation::Size {
            inode,
            size: number,
        },
        5 => Operation::Sync { inode },
        6 => Operation::Rename {
            from: path(a),
            to: path(b),
        },
        7 | 8 => Operation::Remove { path: path(a) },
        9 => Operation::Send { bytes: a.to_vec() },
        other => panic!("the recorder wrote operation {other}"),
    };
    Entry {
        pid: short(1),
        ns: long(5),
        operation,
    }
}
