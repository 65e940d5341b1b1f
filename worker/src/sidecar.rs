//! The shared sidecar (PROTOCOL §14): what a file's cells last showed, as text beside the project's
//! code, so that whoever gets the project sees the outputs without running anything.
//!
//! It is written by us and by other people's programs, and read as what a stranger sent.

mod export;
mod import;

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path, PathBuf},
};

pub(crate) use export::text_of;
pub use import::{Import, ImportError, ImportedExecution, ImportedImage};
use tithon_ipc::{ids::SessionId, naming::percent_decoded};

use crate::project::{Missing, ProjectDir};

/// The directory below `.tithon/`.
const CELLS: &str = "cells";
/// Larger than the outputs of any notebook that opens elsewhere.
const SIDECAR_MAX: u64 = 64 << 20;

/// Where a session's sidecar is: `<workdir>/.tithon/cells/<relpath>.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sidecar {
    workdir: PathBuf,
    /// The directories below `.tithon/`.
    below: Vec<OsString>,
    name: OsString,
}

impl Sidecar {
    /// The sidecar of a session; only one that is named by a file inside its working directory has one.
    pub(crate) fn of(id: &SessionId, workdir: &Path) -> Option<Self> {
        let path = PathBuf::from(percent_decoded(id.as_str().strip_prefix("file://")?));
        if !path.is_absolute() {
            return None;
        }
        let file = path.canonicalize().or_else(|_| {
            // An editor may run cells of a file that was not saved yet.
            let parent = path.parent().unwrap_or(&path).canonicalize()?;
            path.file_name()
                .map(|name| parent.join(name))
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        });
        let workdir = workdir.canonicalize().ok()?;
        let relative = file.ok()?.strip_prefix(&workdir).ok()?.to_owned();
        let mut below = vec![OsString::from(CELLS)];
        for part in relative.components() {
            match part {
                Component::Normal(name) => below.push(name.to_owned()),
                _ => return None,
            }
        }
        // `cells` alone is no file's.
        let mut name = below.pop().filter(|_| !below.is_empty())?;
        name.push(".json");
        Some(Self {
            workdir,
            below,
            name,
        })
    }

    /// Its text; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read, is no regular file, too large, not UTF-8, or behind a symlink.
    pub(crate) fn read(&self) -> io::Result<Option<String>> {
        match self
            .dir(Missing::Fail)
            .and_then(|dir| dir.read(&self.name, SIDECAR_MAX))
        {
            Ok(content) => String::from_utf8(content)
                .map(Some)
                .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Whether this is its text.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.read()
            .is_ok_and(|found| found.as_deref() == Some(text))
    }

    /// Replaces it.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write(&self, text: &str) -> io::Result<()> {
        let mut temporary = self.name.clone();
        temporary.push(".tmp");
        self.dir(Missing::Make)?
            .write(&self.name, &temporary, text.as_bytes())
    }

    fn dir(&self, missing: Missing) -> io::Result<ProjectDir> {
        let below = self.below.iter().map(OsString::as_os_str);
        ProjectDir::open(&self.workdir, below.collect::<Vec<&OsStr>>(), missing)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_files_inside_the_project_have_one() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let project = root.join("p q");
        fs::create_dir_all(project.join("sub")).unwrap();
        fs::write(root.join("outside.py"), "").unwrap();
        std::os::unix::fs::symlink(root.join("outside.py"), project.join("link.py")).unwrap();
        let of = |name: &str| {
            let id = SessionId::parse(&format!("file://{}/{name}", project.display())).unwrap();
            Sidecar::of(&id, &project)
        };
        let sidecar = of("sub/a%20b.py").unwrap();
        assert_eq!(sidecar.below, ["cells", "sub"]);
        assert_eq!(sidecar.name, "a b.py.json");
        sidecar.write("{}").unwrap();
        let path = project.join(".tithon/cells/sub/a b.py.json");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        assert_eq!(sidecar.read().unwrap().as_deref(), Some("{}"));
        for name in [
            "../outside.py",
            "link.py",
            "sub/../../outside.py",
            "",
            "no/such/dir.py",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
        for id in ["default", "file://relative.py", "file:///", "untitled:a.py"] {
            assert_eq!(
                Sidecar::of(&SessionId::parse(id).unwrap(), &project),
                None,
                "{id}"
            );
        }

        fs::remove_file(&path).unwrap();
        assert_eq!(sidecar.read().unwrap(), None);
        std::os::unix::fs::symlink(root.join("outside.py"), &path).unwrap();
        assert!(sidecar.read().is_err());
        sidecar.write("{}").unwrap();
        assert_eq!(fs::read_to_string(root.join("outside.py")).unwrap(), "");
    }
}
