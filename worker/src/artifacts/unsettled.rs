//! Files that no committed row names yet, noted in the session's directory before they are written:
//! whoever takes over after a crash can tell them from files of the project's other sessions.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tithon_ipc::files::write_atomic;

use super::files::outputs;
use crate::project::Missing;

/// The list's name in the session's directory.
const FILE: &str = "outputs.unsettled";

/// Names of files in the project's outputs, oldest first.
#[derive(Debug)]
pub(crate) struct Unsettled {
    path: PathBuf,
    names: Vec<String>,
}

impl Unsettled {
    /// The list that whoever wrote here before left.
    pub(crate) fn load(session_dir: &Path) -> Self {
        let path = session_dir.join(FILE);
        let left = fs::read_to_string(&path).unwrap_or_default();
        Self {
            path,
            names: left.lines().map(str::to_owned).collect(),
        }
    }

    /// Removes the files that no row names, and then the list: a name that is free may become another
    /// session's.
    pub(crate) fn remove_files(&mut self, workdir: &Path, is_named: impl Fn(&str) -> bool) {
        if self.names.is_empty() {
            return;
        }
        if let Ok(outputs) = outputs(workdir, Missing::Fail) {
            for name in self.names.iter().filter(|name| !is_named(name)) {
                outputs.remove(OsStr::new(name)).ok();
            }
        }
        self.names.clear();
        self.store();
    }

    /// A file is about to be written.
    pub(crate) fn add(&mut self, name: &str) {
        self.names.push(name.to_owned());
        let appended = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
            .and_then(|mut list| list.write_all(format!("{name}\n").as_bytes()));
        note(appended);
    }

    /// The newest was not written after all.
    pub(crate) fn forget_newest(&mut self) {
        self.names.pop();
        self.store();
    }

    /// The oldest so many are named by committed rows.
    pub(crate) fn remove(&mut self, count: usize) {
        if count > 0 {
            self.names.drain(..count.min(self.names.len()));
            self.store();
        }
    }

    fn store(&self) {
        note(if self.names.is_empty() {
            fs::remove_file(&self.path).or_else(|err| match err.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(err),
            })
        } else {
            write_atomic(&self.path, (self.names.join("\n") + "\n").as_bytes())
        });
    }
}

fn note(stored: io::Result<()>) {
    if let Err(err) = stored {
        // A crash would leave a file that nothing names: not worth an image.
        tracing::debug!("failed to note which images are being written: {err}");
    }
}
