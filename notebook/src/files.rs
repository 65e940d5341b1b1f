//! Reading with bounds, writing without overwriting, and never through a link of somebody else's.

use std::{
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use fs_err as fs;

use crate::NotebookError;

/// Largest notebook or source that is read, in MiB; more would not fit comfortably in memory.
const FILE_MAX_MIB: u64 = 512;

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, NotebookError> {
    let mut content = Vec::new();
    fs::File::open(path)?
        .take((FILE_MAX_MIB << 20) + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > FILE_MAX_MIB << 20 {
        return Err(NotebookError::TooLarge {
            path: path.to_owned(),
            limit: FILE_MAX_MIB,
        });
    }
    Ok(content)
}

/// Reads a text file.
pub(crate) fn read_text(path: &Path) -> Result<String, NotebookError> {
    String::from_utf8(read(path)?).map_err(|_| NotebookError::NotText(path.to_owned()))
}

/// A project: its folder without links, and what is inside it.
#[derive(Debug)]
pub(crate) struct Project {
    root: PathBuf,
}

impl Project {
    pub(crate) fn new(workdir: &Path) -> Result<Self, NotebookError> {
        Ok(Self {
            root: fs::canonicalize(workdir)?,
        })
    }

    /// Where a file lies in the project; the file need not exist, its folder must.
    pub(crate) fn relative(&self, file: &Path) -> Result<PathBuf, NotebookError> {
        let absolute = absolute(file)?;
        absolute
            .strip_prefix(&self.root)
            .ok()
            .filter(|relative| {
                relative
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)))
            })
            .map(Path::to_owned)
            .ok_or_else(|| NotebookError::Outside {
                path: absolute.clone(),
                workdir: self.root.clone(),
            })
    }

    /// The path of `.tithon/<folder>/<relative><suffix>`, once none of its folders is a link.
    pub(crate) fn ours(
        &self,
        folder: &str,
        relative: &Path,
        suffix: &str,
    ) -> Result<PathBuf, NotebookError> {
        let mut path = Path::new(".tithon")
            .join(folder)
            .join(relative)
            .into_os_string();
        path.push(suffix);
        let path = PathBuf::from(path);
        let mut walked = self.root.clone();
        for part in path.components() {
            walked.push(part);
            match fs::symlink_metadata(&walked) {
                Ok(found) if found.is_symlink() => return Err(NotebookError::Link(walked)),
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::NotFound => break,
                Err(err) => return Err(err.into()),
            }
        }
        Ok(self.root.join(path))
    }
}

/// A path whose folder has no links and no `..` in it any more.
pub(crate) fn absolute(file: &Path) -> Result<PathBuf, NotebookError> {
    let name = file.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} names no file", file.display()),
        )
    })?;
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    Ok(fs::canonicalize(folder.unwrap_or(Path::new(".")))?.join(name))
}

/// Refuses a file that exists, whatever it is.
pub(crate) fn require_absent(path: &Path) -> Result<(), NotebookError> {
    match fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err.into()),
        Ok(_) => Err(NotebookError::Exists(path.to_owned())),
    }
}

/// Files that are written together: those that exist are refused, and all go again unless kept.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    written: Vec<PathBuf>,
    kept: bool,
}

impl Batch {
    /// Writes a new file, whole before it has its name.
    pub(crate) fn write(&mut self, path: &Path, content: &[u8]) -> Result<(), NotebookError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".tithon-")
            // As any file the user makes: the umask takes its part.
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => self.written.push(path.to_owned()),
            Err(err) if err.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(NotebookError::Exists(path.to_owned()));
            }
            Err(err) => return Err(err.error.into()),
        }
        Ok(())
    }

    /// Writes a file that is named by its content: one that exists must have it.
    pub(crate) fn write_named_by_content(
        &mut self,
        path: &Path,
        content: &[u8],
    ) -> Result<(), NotebookError> {
        match self.write(path, content) {
            Err(NotebookError::Exists(_)) if read(path)? == content => Ok(()),
            written => written,
        }
    }

    /// Everything is there: it stays.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.kept {
            for path in &self.written {
                // The failure that led here is the one to tell.
                drop(fs::remove_file(path));
            }
        }
    }
}
