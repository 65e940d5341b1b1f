//! Files that are ours to replace and remove: their last line is a mark with a hash of the rest.
//!
//! A file without the mark is somebody else's, one whose hash differs was edited by its user, and a
//! symbolic link is neither: none of them is ever written or removed.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use tithon_ipc::{files::write_atomic, ids::sha256_hex};

const MARK: &str = "tithon install sha256:";

/// How a file's language writes a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comment {
    /// `# …`
    Hash,
    /// `<!-- … -->`
    Xml,
}

/// A file as it is to be.
#[derive(Clone, Debug)]
pub(crate) struct OwnedFile {
    /// Where.
    pub(crate) path: PathBuf,
    /// All of it, the mark included.
    pub(crate) content: String,
}

/// What is at a file's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Absent,
    /// Exactly the file as it is to be.
    Current,
    /// A file that we wrote: another version, or for another home.
    Ours,
    /// A file that we wrote and somebody edited.
    Edited,
    /// Something that we did not write.
    Foreign,
}

impl OwnedFile {
    /// The file with this text, which ends in a newline, and its mark.
    pub(crate) fn new(path: PathBuf, text: &str, comment: Comment) -> Self {
        let hash = sha256_hex(text.as_bytes());
        let mark = match comment {
            Comment::Hash => format!("# {MARK}{hash}\n"),
            Comment::Xml => format!("<!-- {MARK}{hash} -->\n"),
        };
        Self {
            path,
            content: format!("{text}{mark}"),
        }
    }

    /// What is there now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn found(&self) -> io::Result<Found> {
        Ok(match read(&self.path)? {
            Some(content) if content == self.content => Found::Current,
            Some(content) => owner(&content),
            None if self.path.symlink_metadata().is_ok() => Found::Foreign,
            None => Found::Absent,
        })
    }

    /// Writes the file. [`OwnedFile::found`] must have said that it may be.
    ///
    /// # Errors
    /// Those of making its directory and of writing.
    pub(crate) fn write(&self) -> io::Result<()> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        // By renaming: a service manager takes an empty unit for a masked one.
        write_atomic(&self.path, self.content.as_bytes())
    }
}

/// The text, or `None` when there is no regular file at the path itself.
fn read(path: &Path) -> io::Result<Option<String>> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Ok(None),
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err),
    }
    Ok(Some(String::from_utf8_lossy(&fs::read(path)?).into_owned()))
}

fn owner(content: &str) -> Found {
    let marked = content
        .strip_suffix('\n')
        .and_then(|content| content.rfind('\n'))
        .map(|newline| content.split_at(newline + 1))
        .and_then(|(text, last)| Some((text, last.split_once(MARK)?.1.split_whitespace().next()?)));
    match marked {
        Some((text, hash)) if hash == sha256_hex(text.as_bytes()) => Found::Ours,
        Some(_) => Found::Edited,
        // An editor may have put lines behind the mark.
        None if content.contains(MARK) => Found::Edited,
        None => Found::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, text: &str, comment: Comment) -> OwnedFile {
        OwnedFile::new(dir.join("unit"), text, comment)
    }

    #[test]
    fn a_file_is_ours_only_as_we_wrote_it() {
        for comment in [Comment::Hash, Comment::Xml] {
            let dir = tempfile::tempdir().unwrap();
            let newer = file(dir.path(), "[Unit]\nnewer\n", comment);
            assert_eq!(newer.found().unwrap(), Found::Absent);
            let older = file(dir.path(), "[Unit]\n", comment);
            older.write().unwrap();
            assert_eq!(older.found().unwrap(), Found::Current);
            assert_eq!(newer.found().unwrap(), Found::Ours);
            for (edited, found) in [
                (
                    older.content.replace("[Unit]", "[Unit]\n# mine"),
                    Found::Edited,
                ),
                (format!("{}# mine\n", older.content), Found::Edited),
                ("[Unit]\n".to_owned(), Found::Foreign),
                (String::new(), Found::Foreign),
            ] {
                fs::write(&newer.path, &edited).unwrap();
                assert_eq!(newer.found().unwrap(), found, "{edited}");
            }
        }
    }

    #[test]
    fn links_and_directories_are_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let unit = file(dir.path(), "[Unit]\n", Comment::Hash);
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, &unit.content).unwrap();
        for target in [
            elsewhere.as_path(),
            Path::new("/dev/null"),
            Path::new("/nowhere"),
        ] {
            std::os::unix::fs::symlink(target, &unit.path).unwrap();
            assert_eq!(
                unit.found().unwrap(),
                Found::Foreign,
                "{}",
                target.display()
            );
            fs::remove_file(&unit.path).unwrap();
        }
        fs::create_dir(&unit.path).unwrap();
        assert_eq!(unit.found().unwrap(), Found::Foreign);
    }
}
