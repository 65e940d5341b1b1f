//! The files themselves: synced before they are named, read only where they can be.

use std::{collections::BTreeSet, ffi::OsStr, io, path::Path, sync::Arc, thread};

use tithon_ipc::ids::sha256_hex;

use super::unsettled::Unsettled;
use crate::project::{Missing, NAME, ProjectDir};

/// The directory below `.tithon/`.
pub(super) const OUTPUTS: &str = "outputs";
/// Larger than any image that fits in a message.
const IMAGE_MAX: u64 = 1 << 30;
/// How many files are synced at once. A sync waits for the file system's own commit, which those that
/// wait at the same time share.
const SYNCS_AT_ONCE: usize = 8;

/// A file that a transaction names and that must be on the disk before it.
#[derive(Clone, Debug)]
pub struct NewFile {
    pub(super) workdir: Arc<Path>,
    pub(super) name: String,
}

impl NewFile {
    /// Puts files on the disk, and then their names.
    pub(crate) fn sync(files: &[Self]) {
        let share = files.len().div_ceil(SYNCS_AT_ONCE).max(1);
        thread::scope(|scope| {
            let mut shares = files.chunks(share);
            let own = shares.next();
            for files in shares {
                let others = thread::Builder::new().name("sync".to_owned());
                let sync = || files.iter().for_each(Self::sync_content);
                if others.spawn_scoped(scope, sync).is_err() {
                    // A user at the limit of processes: later, and not at once.
                    sync();
                }
            }
            own.into_iter().flatten().for_each(Self::sync_content);
        });
        for workdir in files
            .iter()
            .map(|file| &file.workdir)
            .collect::<BTreeSet<_>>()
        {
            if let Err(err) = outputs(workdir, Missing::Fail).and_then(|dir| dir.sync_names()) {
                tracing::warn!("failed to sync the images' directory: {err}");
            }
        }
    }

    fn sync_content(&self) {
        let synced =
            outputs(&self.workdir, Missing::Fail).and_then(|dir| dir.sync(OsStr::new(&self.name)));
        if let Err(err) = synced {
            tracing::warn!("failed to sync {}: {err}", self.name);
        }
    }
}

/// Where an artifact's bytes are, for whoever reads them elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(super) workdir: Arc<Path>,
    pub(super) name: String,
    pub(super) artifact_id: String,
    pub(crate) mime: String,
}

impl Located {
    /// Reads the bytes; `None` where the file is gone or holds others.
    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        read(&self.workdir, &self.name, &self.artifact_id)
    }
}

/// Gives another session, known by a short name, a file of its own with an artifact's image; returns its
/// `rel_path`, or `None` where the file is gone or cannot be written. It is noted in `unsettled` before.
pub(crate) fn copy_for(
    session: &str,
    workdir: &Path,
    rel_path: &str,
    artifact_id: &str,
    unsettled: &mut Unsettled,
) -> Option<String> {
    let name = name_in_outputs(rel_path)?;
    let bytes = read(workdir, name, artifact_id)?;
    let own = format!("{session}_{name}");
    unsettled.add(&own);
    let written = outputs(workdir, Missing::Fail).and_then(|dir| {
        let temporary = format!(".{own}.{}.tmp", std::process::id());
        dir.write(OsStr::new(&own), OsStr::new(&temporary), &bytes)?;
        dir.sync(OsStr::new(&own))
    });
    match written {
        Ok(()) => Some(format!("{NAME}/{OUTPUTS}/{own}")),
        Err(err) => {
            tracing::warn!("failed to copy the image {name}: {err}");
            None
        }
    }
}

/// The image of an artifact from a project's outputs; `None` where its file is gone or holds others.
pub fn read_artifact(workdir: &Path, rel_path: &str, artifact_id: &str) -> Option<Vec<u8>> {
    read(workdir, name_in_outputs(rel_path)?, artifact_id)
}

fn read(workdir: &Path, name: &str, artifact_id: &str) -> Option<Vec<u8>> {
    outputs(workdir, Missing::Fail)
        .and_then(|dir| dir.read(OsStr::new(name), IMAGE_MAX))
        .ok()
        .filter(|bytes| sha256_hex(bytes) == artifact_id)
}

/// The file's name in a `rel_path`; `None` for one that is not directly in the outputs directory.
pub(crate) fn name_in_outputs(rel_path: &str) -> Option<&str> {
    let name = rel_path
        .strip_prefix(NAME)?
        .strip_prefix('/')?
        .strip_prefix(OUTPUTS)?
        .strip_prefix('/')?;
    let plain = !name.is_empty() && name != "." && name != "..";
    (plain && !name.contains(['/', '\0'])).then_some(name)
}

/// The project's outputs directory.
pub(super) fn outputs(workdir: &Path, missing: Missing) -> io::Result<ProjectDir> {
    ProjectDir::open(workdir, [OsStr::new(OUTPUTS)], missing)
}
