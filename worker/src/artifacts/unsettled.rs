//! Files that no committed row names yet, noted in the session's directory before they are written:
//! whoever takes over after a crash can tell them from files of the project's other sessions.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tithon_ipc::files::write_atomic;

/// The list's name in the session's directory.
const FILE: &str = "outputs.unsettled";

/// Names of files in the project's outputs, oldest first.
#[derive(Debug)]
pub(crate) struct Unsettled {
    path: PathBuf,
    names: Vec<String>,
}

impl Unsettled {
    /// An empty list, and the names that the worker before left.
    pub(crate) fn load(session_dir: &Path) -> (Self, Vec<String>) {
        let path = session_dir.join(FILE);
        let left = fs::read_to_string(&path).unwrap_or_default();
        let list = Self {
            path,
            names: Vec::new(),
        };
        (list, left.lines().map(str::to_owned).collect())
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
