//! Segment files: which there are, and a window on the bytes of one.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SpoolError;
use super::format::{
    HeaderError, Parsed, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader, parse,
};

/// Read at once; what a longer record needs is read for it alone.
const WINDOW: usize = 256 * 1024;

/// Bases of the segments in a directory, ascending.
pub(super) fn bases(dir: &Path) -> Result<Vec<u64>, SpoolError> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir).map_err(SpoolError::at(dir))? {
        let name = entry.map_err(SpoolError::at(dir))?.file_name();
        if let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".seg"))
            && stem.len() == 16
            && let Ok(base) = u64::from_str_radix(stem, 16)
        {
            bases.push(base);
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

pub(super) fn path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:016x}.seg"))
}

/// Opens a regular file for reading, following no symlink and waiting for no pipe.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

/// What came of opening a segment.
pub(super) enum Opened {
    Segment(Segment),
    /// Unlinked since it was listed.
    Gone,
    /// Without a valid header: what power loss leaves, or somebody's hand.
    Unreadable,
}

/// A segment being read.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    /// Interned parents seen so far, by index.
    pub(super) parents: HashMap<u32, Arc<str>>,
    file: File,
    window: Vec<u8>,
    /// Offset in the file of the window's first byte.
    window_at: u64,
}

impl Segment {
    pub(super) fn open(dir: &Path, base: u64) -> Result<Opened, SpoolError> {
        let path = path(dir, base);
        let file = match open_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Opened::Gone),
            opened => opened.map_err(SpoolError::at(&path))?,
        };
        let mut bytes = [0; SEGMENT_HEADER];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok(Opened::Unreadable);
            }
            read => read.map_err(SpoolError::at(&path))?,
        }
        match SegmentHeader::parse(&bytes) {
            Err(HeaderError::Layout(found)) => Err(SpoolError::Layout { path, found }),
            Ok(header) if header.base == base => Ok(Opened::Segment(Self {
                path,
                header,
                parents: HashMap::new(),
                file,
                window: Vec::new(),
                window_at: 0,
            })),
            Ok(_) | Err(HeaderError::Unreadable) => Ok(Opened::Unreadable),
        }
    }

    /// Looks for a complete and valid record at a logical offset.
    pub(super) fn record_at(&mut self, offset: u64) -> Result<Option<RecordHeader>, SpoolError> {
        let at = offset - self.header.base;
        let mut parsed = parse(self.window_from(at));
        if !matches!(parsed, Parsed::Record(_)) {
            // Read anew, not only further: a full disk makes the writer cut off what it began.
            self.fill(at, WINDOW).map_err(SpoolError::at(&self.path))?;
            parsed = parse(self.window_from(at));
        }
        if let Parsed::Short(needed) = parsed
            && needed > WINDOW
        {
            self.fill(at, needed).map_err(SpoolError::at(&self.path))?;
            parsed = parse(self.window_from(at));
        }
        Ok(match parsed {
            Parsed::Record(header) => Some(header),
            Parsed::Short(_) | Parsed::Corrupt => None,
        })
    }

    /// The body of the record that `record_at` has just found there.
    pub(super) fn body(&self, offset: u64, header: RecordHeader) -> &[u8] {
        self.window_from(offset - self.header.base)
            .get(RECORD_HEADER..header.record_len())
            .unwrap_or_default()
    }

    /// Notes what a PARENT record says.
    pub(super) fn intern(&mut self, offset: u64, header: RecordHeader) {
        let parent = Arc::from(String::from_utf8_lossy(self.body(offset, header)));
        self.parents.insert(header.aux, parent);
    }

    /// Gives the window's memory back: whatever is asked for next is read anew.
    pub(super) fn forget_window(&mut self) {
        self.window = Vec::new();
    }

    fn window_from(&self, at: u64) -> &[u8] {
        at.checked_sub(self.window_at)
            .and_then(|skip| usize::try_from(skip).ok())
            .and_then(|skip| self.window.get(skip..))
            .unwrap_or_default()
    }

    /// Reads up to `len` bytes at `at`; allocates no more than the file has.
    fn fill(&mut self, at: u64, len: usize) -> io::Result<()> {
        let there = self.file.metadata()?.len().saturating_sub(at);
        let len = usize::try_from(there).unwrap_or(usize::MAX).min(len);
        self.window.clear();
        self.window.shrink_to(WINDOW.max(len));
        self.window.resize(len, 0);
        self.window_at = at;
        let mut filled = 0;
        while filled < len {
            match self
                .file
                .read_at(&mut self.window[filled..], at + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.window.truncate(filled);
        Ok(())
    }
}
