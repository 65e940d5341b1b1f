//! A log from its oldest line to its newest, and on as it grows, across its rotations.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tithon_ipc::logs;

/// A line longer than this is shown in pieces; bytes.
const LINE_MAX: usize = 1 << 20;

/// A line, and where it stands.
pub(super) struct Found<'a> {
    /// Without its end.
    pub(super) text: &'a [u8],
    /// Of the file it is in.
    pub(super) inode: u64,
    /// Of its first byte.
    pub(super) offset: u64,
}

pub(super) struct Tail {
    path: PathBuf,
    /// How much of each file is read at most, from its end.
    newest: u64,
    open: Option<Open>,
    /// Between two calls: a home has more sessions than a process may have files.
    closed: Option<Place>,
}

struct Open {
    file: File,
    place: Place,
}

/// How far a file was read.
struct Place {
    id: Identity,
    /// What was read of a line whose end has not come yet, and where it begins.
    line: Vec<u8>,
    offset: u64,
}

impl Place {
    fn read_to(&self) -> u64 {
        self.offset + self.line.len() as u64
    }
}

impl Tail {
    pub(super) fn new(path: PathBuf, newest: u64) -> Self {
        Self {
            path,
            newest,
            open: None,
            closed: None,
        }
    }

    /// Tells every line that was completed since the last call.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    pub(super) fn read(&mut self, tell: &mut dyn FnMut(Found<'_>)) -> io::Result<()> {
        self.open = match self.closed.take() {
            Some(place) if self.is_unchanged(&place) => {
                self.closed = Some(place);
                return Ok(());
            }
            Some(place) => self.reopen(place)?,
            None => self.oldest()?,
        };
        let read = self.read_on(tell);
        self.closed = self.open.take().map(|open| open.place);
        read
    }

    fn read_on(&mut self, tell: &mut dyn FnMut(Found<'_>)) -> io::Result<()> {
        while let Some(open) = &mut self.open {
            open.read(tell)?;
            let Some(next) = self.next()? else {
                return Ok(());
            };
            // What was appended between the last look and the rename.
            if let Some(mut done) = self.open.replace(next) {
                done.read(tell)?;
                done.end(tell);
            }
        }
        Ok(())
    }

    fn is_unchanged(&self, place: &Place) -> bool {
        fs::metadata(&self.path)
            .is_ok_and(|found| id(&found) == place.id && found.len() == place.read_to())
    }

    /// Goes on where it was, wherever that file is now.
    fn reopen(&self, place: Place) -> io::Result<Option<Open>> {
        for n in 0..=logs::OLDER {
            if let Some(mut open) = Open::at(&logs::older(&self.path, n), u64::MAX)?
                && open.place.id == place.id
            {
                open.file.seek(SeekFrom::Start(place.read_to()))?;
                open.place = place;
                return Ok(Some(open));
            }
        }
        // Put aside so often that it is gone.
        self.oldest()
    }

    /// The file after the one that is open, if that one was put aside.
    fn next(&self) -> io::Result<Option<Open>> {
        loop {
            let Some(age) = self.age() else {
                // Put aside so often that it is gone: go on with the oldest that is left.
                return self.oldest();
            };
            let Some(younger) = age.checked_sub(1) else {
                return Ok(None);
            };
            let next = Open::at(&logs::older(&self.path, younger), u64::MAX)?;
            // Else all were renamed meanwhile, and this may be one too far.
            if self.age() == Some(age) {
                return Ok(next);
            }
        }
    }

    /// Which of the log's files is open, counted from the newest.
    fn age(&self) -> Option<usize> {
        let open = self.open.as_ref()?;
        (0..=logs::OLDER).find(|n| {
            fs::metadata(logs::older(&self.path, *n)).is_ok_and(|found| id(&found) == open.place.id)
        })
    }

    fn oldest(&self) -> io::Result<Option<Open>> {
        for n in (0..=logs::OLDER).rev() {
            if let Some(open) = Open::at(&logs::older(&self.path, n), self.newest)? {
                return Ok(Some(open));
            }
        }
        Ok(None)
    }
}

impl Open {
    fn at(path: &Path, newest: u64) -> io::Result<Option<Self>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err),
        };
        let found = file.metadata()?;
        let offset = file.seek(SeekFrom::Start(found.len().saturating_sub(newest)))?;
        Ok(Some(Self {
            file,
            place: Place {
                id: id(&found),
                line: Vec::new(),
                offset,
            },
        }))
    }

    fn read(&mut self, tell: &mut dyn FnMut(Found<'_>)) -> io::Result<()> {
        if self.file.metadata()?.len() < self.place.read_to() {
            // Somebody cut it short.
            self.place.line.clear();
            self.place.offset = self.file.seek(SeekFrom::Start(0))?;
        }
        let mut chunk = [0; 1 << 16];
        loop {
            let read = self.file.read(&mut chunk)?;
            if read == 0 {
                return Ok(());
            }
            for part in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
                self.place.line.extend_from_slice(part);
                if part.ends_with(b"\n") || self.place.line.len() >= LINE_MAX {
                    self.end(tell);
                }
            }
        }
    }

    /// What was read is a line.
    fn end(&mut self, tell: &mut dyn FnMut(Found<'_>)) {
        let place = &mut self.place;
        if place.line.is_empty() {
            return;
        }
        tell(Found {
            text: place.line.strip_suffix(b"\n").unwrap_or(&place.line),
            inode: place.id.1,
            offset: place.offset,
        });
        place.offset += place.line.len() as u64;
        place.line.clear();
    }
}

/// Device, inode, and when it was made: the inode of a file that is gone is soon another's.
type Identity = (u64, u64, Option<SystemTime>);

fn id(found: &fs::Metadata) -> Identity {
    (found.dev(), found.ino(), found.created().ok())
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write};

    use super::*;

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new();
        let mut file = file.append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn read(tail: &mut Tail) -> Vec<String> {
        let mut lines = Vec::new();
        let mut tell =
            |found: Found<'_>| lines.push(String::from_utf8_lossy(found.text).into_owned());
        tail.read(&mut tell).unwrap();
        lines
    }

    #[test]
    fn every_line_is_read_once_across_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut tail = Tail::new(path.clone(), u64::MAX);
        assert_eq!(read(&mut tail), [] as [&str; 0], "there is none yet");
        append(&path, "a\nb");
        assert_eq!(read(&mut tail), ["a"]);
        append(&path, "c\n");
        logs::shift(&path).unwrap();
        assert_eq!(read(&mut tail), ["bc"], "and the new one is not there yet");
        append(&logs::older(&path, 1), "late\n");
        append(&path, "d\n");
        assert_eq!(read(&mut tail), ["late", "d"]);
        // Twice between two looks.
        append(&path, "e\n");
        logs::shift(&path).unwrap();
        append(&path, "f\n");
        logs::shift(&path).unwrap();
        append(&path, "g\n");
        assert_eq!(read(&mut tail), ["e", "f", "g"]);
        let mut whole = Tail::new(path.clone(), u64::MAX);
        assert_eq!(read(&mut whole), ["d", "e", "f", "g"]);
        // So often that what was open is gone.
        for text in ["h\n", "i\n", "j\n"] {
            logs::shift(&path).unwrap();
            append(&path, text);
        }
        assert_eq!(read(&mut tail), ["h", "i", "j"]);
    }

    #[test]
    fn a_file_that_was_cut_short_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        append(&path, "one\ntwo\n");
        let mut tail = Tail::new(path.clone(), 4);
        assert_eq!(read(&mut tail), ["two"], "the newest bytes alone");
        fs::write(&path, "3\n").unwrap();
        assert_eq!(read(&mut tail), ["3"]);
    }
}
