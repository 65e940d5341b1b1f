//! A project's `.tithon/` directory, which travels with the project and may come from anybody.
//!
//! It is reached by descriptors, one component at a time, and no symlink in it is followed: nothing
//! that a file in there says, or is, leads outside. The project's own directory is the user's word
//! and is taken as it is.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, statat, unlinkat,
};
use tithon_ipc::files::is_unfinished;

/// The directory's name.
pub(crate) const NAME: &str = ".tithon";

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);
/// For what must not be a symlink, nor block as a FIFO would.
const REGULAR: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// A directory below a project's `.tithon/`.
#[derive(Debug)]
pub(crate) struct ProjectDir(OwnedFd);

/// Whether missing directories are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// They are an error.
    Fail,
    /// They are made, as readable as the project's other directories.
    Make,
}

impl ProjectDir {
    /// Opens `<workdir>/.tithon/<below>`.
    ///
    /// # Errors
    /// When a component is no plain name, is a symlink or no directory, or cannot be opened or made.
    pub(crate) fn open<'a>(
        workdir: &Path,
        below: impl IntoIterator<Item = &'a OsStr>,
        missing: Missing,
    ) -> io::Result<Self> {
        let mut dir = openat(CWD, workdir, DIRECTORY, Mode::empty())?;
        for name in std::iter::once(OsStr::new(NAME)).chain(below) {
            let name = plain(name)?;
            let flags = DIRECTORY | OFlags::NOFOLLOW;
            dir = match openat(&dir, name, flags, Mode::empty()) {
                Err(rustix::io::Errno::NOENT) if missing == Missing::Make => {
                    match mkdirat(&dir, name, Mode::from_raw_mode(0o777)) {
                        // Somebody else was faster: theirs is as good.
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(err) => return Err(err.into()),
                    }
                    openat(&dir, name, flags, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(Self(dir))
    }

    /// Reads a regular file of at most `max` bytes.
    ///
    /// # Errors
    /// Those of opening and reading; `InvalidData` for anything but a regular file, or a longer one.
    pub(crate) fn read(&self, name: &OsStr, max: u64) -> io::Result<Vec<u8>> {
        let file = openat(&self.0, plain(name)?, REGULAR, Mode::empty())?;
        let stat = fstat(&file)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(invalid("it is no regular file"));
        }
        let mut content =
            Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(64 << 20));
        File::from(file).take(max + 1).read_to_end(&mut content)?;
        if content.len() as u64 > max {
            return Err(invalid(&format!("it is larger than {max} bytes")));
        }
        Ok(content)
    }

    /// Writes a file under a temporary name and renames it: a reader sees all of it or none.
    ///
    /// # Errors
    /// Those of creating, writing and renaming; the temporary file is removed.
    pub(crate) fn write(&self, name: &OsStr, temporary: &OsStr, content: &[u8]) -> io::Result<()> {
        let (name, temporary) = (plain(name)?, plain(temporary)?);
        // Whatever is there was left by a crash, or laid there to be written through.
        unlinkat(&self.0, temporary, AtFlags::empty()).ok();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | REGULAR;
        let file = openat(&self.0, temporary, flags, Mode::from_raw_mode(0o666))?;
        let written = File::from(file)
            .write_all(content)
            .and_then(|()| Ok(renameat(&self.0, temporary, &self.0, name)?));
        if written.is_err() {
            unlinkat(&self.0, temporary, AtFlags::empty()).ok();
        }
        written
    }

    /// The length of a regular file; `None` where there is none.
    pub(crate) fn len_of(&self, name: &OsStr) -> Option<u64> {
        let stat = statat(&self.0, plain(name).ok()?, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        FileType::from_raw_mode(stat.st_mode)
            .is_file()
            .then(|| u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Whether the name is taken, by whatever it is.
    pub(crate) fn holds(&self, name: &OsStr) -> bool {
        plain(name).is_ok_and(|name| statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// Removes a file; one that is not there counts as removed.
    ///
    /// # Errors
    /// Those of unlinking.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.0, plain(name)?, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    /// Removes what writers left that were killed before they renamed it, on whatever host that was.
    pub(crate) fn sweep_unfinished(&self) {
        let Ok(entries) = Dir::read_from(&self.0) else {
            return;
        };
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let is_left = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
                let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
                let modified = UNIX_EPOCH + Duration::from_secs(seconds);
                FileType::from_raw_mode(stat.st_mode).is_file() && is_unfinished(name, modified)
            });
            if is_left {
                self.remove(name).ok();
            }
        }
    }

    /// Puts a file on the disk; one that is gone needs none.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn sync(&self, name: &OsStr) -> io::Result<()> {
        match openat(&self.0, plain(name)?, REGULAR, Mode::empty()) {
            Ok(file) => File::from(file).sync_all(),
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    /// Puts the names of the directory's files on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.0.as_fd())?)
    }
}

/// A single component that stays where it is.
fn plain(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_encoded_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(invalid(&format!("{name:?} is no file name")));
    }
    Ok(name)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn outputs(workdir: &Path, missing: Missing) -> io::Result<ProjectDir> {
        ProjectDir::open(workdir, [OsStr::new("outputs")], missing)
    }

    #[test]
    fn files_are_written_whole_and_found_again() {
        let project = tempfile::tempdir().unwrap();
        assert!(outputs(project.path(), Missing::Fail).is_err());
        let dir = outputs(project.path(), Missing::Make).unwrap();
        let name = OsStr::new("a.png");
        dir.write(name, OsStr::new("a.tmp"), b"one").unwrap();
        dir.write(name, OsStr::new("a.tmp"), b"three").unwrap();
        dir.sync(name).unwrap();
        dir.sync_names().unwrap();
        assert_eq!(dir.read(name, 5).unwrap(), b"three");
        assert!(dir.read(name, 4).is_err());
        assert_eq!(dir.len_of(name), Some(5));
        let files = fs::read_dir(project.path().join(".tithon/outputs")).unwrap();
        assert_eq!(files.count(), 1, "no temporary file is left");
        dir.remove(name).unwrap();
        dir.remove(name).unwrap();
        assert!(!dir.holds(name));
    }

    #[test]
    fn what_a_killed_writer_left_goes_when_nobody_writes_it_any_more() {
        let project = tempfile::tempdir().unwrap();
        let dir = outputs(project.path(), Missing::Make).unwrap();
        let below = project.path().join(".tithon/outputs");
        let hours_ago = std::time::SystemTime::now() - Duration::from_secs(7200);
        let make = |name: &str| fs::File::create(below.join(name)).unwrap();
        let left = make(".e1_0_0123abcd.png.4711.tmp");
        left.set_modified(hours_ago).unwrap();
        make("e1_0_0123abcd.png").set_modified(hours_ago).unwrap();
        make(".e2_0_0123abcd.png.4711.tmp");
        symlink("/there/is/none", below.join("a.1.tmp")).unwrap();

        dir.sweep_unfinished();

        let mut names: Vec<_> = fs::read_dir(below)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        let kept = [
            ".e2_0_0123abcd.png.4711.tmp",
            "a.1.tmp",
            "e1_0_0123abcd.png",
        ];
        assert_eq!(names, kept);
    }

    #[test]
    fn nothing_leads_outside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let project = tempfile::tempdir().unwrap();
        let dir = outputs(project.path(), Missing::Make).unwrap();
        let below = project.path().join(".tithon/outputs");
        symlink(outside.path().join("secret"), below.join("link")).unwrap();
        assert!(dir.read(OsStr::new("link"), 100).is_err());
        assert_eq!(dir.len_of(OsStr::new("link")), None);
        for name in ["../cells", "..", ".", "", "/etc/passwd", "a/b"] {
            assert!(dir.read(OsStr::new(name), 100).is_err(), "{name:?}");
            assert!(dir.remove(OsStr::new(name)).is_err(), "{name:?}");
        }
        // A temporary name that is a symlink is replaced, not written through.
        symlink(outside.path().join("secret"), below.join("t")).unwrap();
        dir.write(OsStr::new("new"), OsStr::new("t"), b"x").unwrap();
        let secret = fs::read_to_string(outside.path().join("secret")).unwrap();
        assert_eq!(secret, "secret");

        let linked = tempfile::tempdir().unwrap();
        symlink(outside.path(), linked.path().join(".tithon")).unwrap();
        assert!(outputs(linked.path(), Missing::Make).is_err());
        assert!(ProjectDir::open(project.path(), [OsStr::new("..")], Missing::Make).is_err());
    }
}
