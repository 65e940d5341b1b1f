//! Follows a spool from segment to segment.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::batch::Batch;
use super::format::{RecordHeader, SEGMENT_HEADER, Writer, kind};
use super::segment::{self, Opened, Segment};
use super::watch::Watch;
use super::{Record, SpoolError, SpoolPosition, StreamName};

/// Reads one spool. Its descriptor is readable when there may be more, for `poll` or tokio's `AsyncFd`.
///
/// The order that misses nothing: [`read`](Self::read) until it returns no record, then wait for the descriptor.
pub struct SpoolReader {
    pub(super) dir: PathBuf,
    pub(super) position: SpoolPosition,
    pub(super) segment: Option<Segment>,
    /// The segment that was current when everything before it was last deleted.
    released: Option<u64>,
    /// Whether there may be segments behind the current one that were not seen yet: listing the directory
    /// after every record would cost more than reading it.
    may_follow: bool,
    watch: Watch,
}

impl std::fmt::Debug for SpoolReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpoolReader")
            .field("dir", &self.dir)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl SpoolReader {
    /// Opens a spool, which may be empty; a directory that does not exist is created.
    ///
    /// # Errors
    /// Where the directory is not one, or inotify has no more instances.
    pub fn open(dir: &Path, from: SpoolPosition) -> Result<Self, SpoolError> {
        let at = SpoolError::at;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(at(dir))?;
        let watch = Watch::new(dir).map_err(at(dir))?;
        Ok(Self {
            dir: dir.to_owned(),
            position: from,
            segment: None,
            released: None,
            may_follow: true,
            watch,
        })
    }

    /// Returns the complete records that are there, up to about `max_bytes` of spool; never waits.
    ///
    /// # Errors
    /// [`SpoolError::Layout`] and [`SpoolError::Misplaced`] will not go away by themselves.
    pub fn read(&mut self, max_bytes: usize) -> Result<Vec<Record>, SpoolError> {
        self.may_follow |= self.watch.drain().map_err(SpoolError::at(&self.dir))?;
        let mut batch = Batch::new(max_bytes);
        while !batch.is_full() {
            if !self.take_record(&mut batch)? && !self.enter_next(&mut batch)? {
                break;
            }
        }
        let records = batch.into_records();
        self.watch
            .looked(!records.is_empty())
            .map_err(SpoolError::at(&self.dir))?;
        Ok(records)
    }

    /// Where reading goes on after the last record returned.
    #[must_use]
    pub fn position(&self) -> SpoolPosition {
        self.position.clone()
    }

    /// Deletes the segments wholly below a position that was committed. The newest one always stays:
    /// it tells a later kernel where to go on.
    ///
    /// # Errors
    /// Where a segment cannot be unlinked.
    pub fn release(&mut self, committed: &SpoolPosition) -> Result<(), SpoolError> {
        let current = self.segment.as_ref().map(|segment| segment.header.base);
        if current.is_some() && current == self.released {
            return Ok(());
        }
        let bases = segment::bases(&self.dir)?;
        let keep = bases
            .partition_point(|&base| base <= committed.offset)
            .saturating_sub(1);
        for &base in &bases[..keep] {
            let path = segment::path(&self.dir, base);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(SpoolError::Io {
                        path,
                        source: error,
                    });
                }
                _ => {}
            }
        }
        if current.is_some_and(|base| base <= committed.offset) {
            self.released = current;
        }
        Ok(())
    }

    /// Gives back the memory of the window that is read through; the next [`read`](Self::read) takes it again.
    pub fn rest(&mut self) {
        if let Some(segment) = &mut self.segment {
            segment.forget_window();
        }
    }

    /// Takes the record at the position; false if there is none yet.
    fn take_record(&mut self, batch: &mut Batch) -> Result<bool, SpoolError> {
        let Some(segment) = &mut self.segment else {
            return Ok(false);
        };
        let offset = self.position.offset;
        let Some(header) = segment.record_at(offset)? else {
            return Ok(false);
        };
        let taken = match header.kind {
            kind::PARENT => {
                segment.intern(offset, header);
                Ok(())
            }
            kind::RAW => {
                let parent = segment
                    .parents
                    .get(&header.aux)
                    .cloned()
                    .unwrap_or_default();
                let body = segment.body(offset, header);
                batch.raw(header, body, offset, &parent, &mut self.position.fds)
            }
            _ => batch.message(header, segment.body(offset, header)),
        };
        let next = offset + header.record_len() as u64;
        if taken.is_err() {
            batch.push(Record::Hole {
                from: offset,
                to: next,
                writes: Some(1),
            });
        }
        batch.spend(header.record_len());
        self.position.offset = next;
        self.position.writes += u64::from(counts(header));
        Ok(true)
    }

    /// Goes on in a later segment if there is one, which proves that the current one gets nothing more.
    fn enter_next(&mut self, batch: &mut Batch) -> Result<bool, SpoolError> {
        if self.segment.is_some() && !self.may_follow {
            return Ok(false);
        }
        let bases = segment::bases(&self.dir)?;
        let offset = self.position.offset;
        let next = match &self.segment {
            Some(current) => {
                let Some(&next) = bases.iter().find(|&&base| base > current.header.base) else {
                    self.may_follow = false;
                    return Ok(false);
                };
                // What was written between the last look and the listing.
                if self.take_record(batch)? {
                    return Ok(true);
                }
                next
            }
            // The one the position is in, or the first behind it.
            None => {
                let at = bases.partition_point(|&base| base <= offset);
                match at.checked_sub(1).or(Some(at)).and_then(|at| bases.get(at)) {
                    Some(&base) => base,
                    None => return Ok(false),
                }
            }
        };
        match Segment::open(&self.dir, next)? {
            Opened::Gone => Ok(true), // dropped as the oldest: look again
            Opened::Segment(segment) => self.enter(segment, batch).map(|()| true),
            Opened::Unreadable => {
                let Some(&after) = bases.iter().find(|&&base| base > next) else {
                    return Ok(false);
                };
                self.segment = None;
                self.skip_to(after.max(offset), None, batch);
                // A position inside an unreadable segment would lead back to it.
                Ok(after > offset)
            }
        }
    }

    fn enter(&mut self, mut segment: Segment, batch: &mut Batch) -> Result<(), SpoolError> {
        let header = segment.header;
        let begin = header.base + SEGMENT_HEADER as u64;
        let same_writer = self.position.incarnation == Some(header.incarnation);
        if header.base >= self.position.offset {
            // A worker that closes a dead kernel's spool cannot know what was torn.
            let lost = (same_writer && header.writer == Writer::Kernel)
                .then(|| header.writes.saturating_sub(self.position.writes));
            self.skip_to(header.base, lost, batch);
            if !same_writer {
                self.forget_fds(batch);
            }
            self.position.offset = begin;
            self.position.incarnation = Some(header.incarnation);
            self.position.writes = header.writes;
        } else {
            if self.segment.is_some() || !same_writer {
                return Err(SpoolError::Misplaced {
                    path: segment.path,
                    offset: self.position.offset,
                });
            }
            recall_parents(&mut segment, begin, self.position.offset)?;
        }
        self.segment = Some(segment);
        Ok(())
    }

    /// Reports what lies between the position and `to`.
    fn skip_to(&mut self, to: u64, writes: Option<u64>, batch: &mut Batch) {
        if to > self.position.offset {
            batch.push(Record::Hole {
                from: self.position.offset,
                to,
                writes,
            });
            self.position.offset = to;
        }
    }

    /// A new kernel has new fd files; characters its predecessor began stay unfinished.
    fn forget_fds(&mut self, batch: &mut Batch) {
        let names = [StreamName::Stdout, StreamName::Stderr];
        for ((progress, name), offset) in self
            .position
            .fds
            .iter_mut()
            .zip(names)
            .zip(self.position.offset..)
        {
            if !std::mem::take(progress).tail.is_empty() {
                batch.replacement(name, offset);
            }
        }
    }
}

impl AsFd for SpoolReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

impl AsRawFd for SpoolReader {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Reads again which parents a segment names before the position.
fn recall_parents(segment: &mut Segment, begin: u64, position: u64) -> Result<(), SpoolError> {
    let mut offset = begin;
    while offset < position {
        // A segment that is shorter than the position is one that power loss has cut.
        let Some(header) = segment.record_at(offset)? else {
            return Ok(());
        };
        if header.kind == kind::PARENT {
            segment.intern(offset, header);
        }
        offset += header.record_len() as u64;
    }
    if offset == position {
        Ok(())
    } else {
        Err(SpoolError::Misplaced {
            path: segment.path.clone(),
            offset: position,
        })
    }
}

/// Whether a record is one of the `writes` that segment headers count.
fn counts(header: RecordHeader) -> bool {
    !matches!(header.kind, kind::SEAL | kind::PARENT)
}
