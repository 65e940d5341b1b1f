//! What a dead kernel left outside its spool: bytes in its fd files that it did not live to take over.
//!
//! They are appended as a last segment, so that they have offsets like everything else and the torn end
//! of the segment before is settled.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::format::{
    FLAG_FD, FLAG_STDERR, Incarnation, SEGMENT_HEADER, SegmentHeader, Writer, kind, write_record,
};
use super::segment::{self, Opened, Segment, open_file};
use super::{SpoolError, SpoolReader};

const CHUNK: usize = 64 * 1024;
const FD_FILES: [(&str, u8); 2] = [("fd1.log", 0), ("fd2.log", FLAG_STDERR)];

impl SpoolReader {
    /// Completes the spool of a kernel that is known to be dead, before another one is started in the same
    /// directory. What C code and children wrote last goes to `parent`, the `msg_id` of the execution that
    /// ran. May be repeated. Afterwards read on: everything the kernel left is there.
    ///
    /// # Errors
    /// [`SpoolError::Unread`] unless [`SpoolReader::read`] has returned no record before.
    pub fn finish(&mut self, parent: &str) -> Result<(), SpoolError> {
        let Some((newest, end)) = self.newest_segment()? else {
            return Ok(());
        };
        let finished = match Segment::open(&self.dir, newest)? {
            Opened::Segment(segment) => segment.header.writer == Writer::Worker,
            Opened::Gone | Opened::Unreadable => false,
        };
        if !finished {
            let before = self.position();
            if !self.read(1)?.is_empty() {
                self.position = before;
                self.segment = None;
                return Err(SpoolError::Unread {
                    dir: self.dir.clone(),
                });
            }
            self.append_remains(end, parent)?;
        }
        for (name, _) in FD_FILES {
            remove(&self.dir.join(name))?;
        }
        Ok(())
    }

    /// Base and end of the newest segment, which gets its name here if its writer died before it could.
    fn newest_segment(&self) -> Result<Option<(u64, u64)>, SpoolError> {
        let Some(&base) = segment::bases(&self.dir)?.last() else {
            return Ok(None);
        };
        let size = |path: &Path| Ok(fs::metadata(path).map_err(SpoolError::at(path))?.len());
        let end = base + size(&segment::path(&self.dir, base))?;
        let following = segment::path(&self.dir, end);
        let unnamed = following.with_extension("seg.new");
        if fs::symlink_metadata(&unnamed).is_ok_and(|file| file.len() >= SEGMENT_HEADER as u64) {
            fs::rename(&unnamed, &following).map_err(SpoolError::at(&unnamed))?;
            return Ok(Some((end, end + size(&following)?)));
        }
        Ok(Some((base, end)))
    }

    fn append_remains(&self, base: u64, parent: &str) -> Result<(), SpoolError> {
        let time_ns = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let header = SegmentHeader {
            incarnation: self
                .position
                .incarnation
                .unwrap_or(Incarnation::new([0; 16])),
            base,
            time_ns,
            writes: self.position.writes,
            pid: std::process::id(),
            writer: Writer::Worker,
        };
        let path = segment::path(&self.dir, base);
        let temporary = path.with_extension("seg.worker");
        remove(&temporary)?;
        let at = |source| SpoolError::Io {
            path: temporary.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(at)?;
        let mut bytes = header.to_bytes().to_vec();
        write_record(&mut bytes, kind::PARENT, 0, 0, time_ns, parent.as_bytes());
        for ((name, stream), progress) in FD_FILES.into_iter().zip(&self.position.fds) {
            let log = match open_file(&self.dir.join(name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                log => log.map_err(SpoolError::at(&self.dir.join(name)))?,
            };
            let mut end = progress.end;
            let mut body = vec![0; 8 + CHUNK];
            loop {
                let read = log
                    .read_at(&mut body[8..], end)
                    .map_err(SpoolError::at(&self.dir.join(name)))?;
                if read == 0 {
                    break;
                }
                end += read as u64;
                body[..8].copy_from_slice(&end.to_le_bytes());
                write_record(
                    &mut bytes,
                    kind::RAW,
                    FLAG_FD | stream,
                    0,
                    time_ns,
                    &body[..8 + read],
                );
                file.write_all(&bytes).map_err(at)?;
                bytes.clear();
            }
        }
        file.write_all(&bytes).map_err(at)?;
        fs::rename(&temporary, &path).map_err(at)
    }
}

fn remove(path: &Path) -> Result<(), SpoolError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(SpoolError::at(path)(error)),
        _ => Ok(()),
    }
}
