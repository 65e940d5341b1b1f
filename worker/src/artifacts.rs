//! Images that left their messages (PROTOCOL §13): files in the project's `.tithon/outputs/`, which
//! of them the session knows, and which its folds still show.
//!
//! A file is written before the message that names it is journaled and removed once no fold shows it.
//! Each file belongs to one session, though sessions share the directory. Only plain names in that
//! directory are ever opened, whatever a journal or a sidecar says.

mod encoding;
mod files;
mod image;
mod unsettled;

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    io,
    path::Path,
    sync::Arc,
};

pub use encoding::Encoding;
pub(crate) use files::{Located, copy_for, name_in_outputs};
pub use files::{NewFile, read_artifact};
use files::{OUTPUTS, outputs};
pub(crate) use image::{Found, find, kind_of};
use serde_json::json;
use tithon_ipc::ids::{ExecId, Seq, sha256_hex};
pub(crate) use unsettled::Unsettled;

use crate::{
    project::{Missing, NAME, ProjectDir},
    sidecar::ImportedImage,
};

/// A row of the table `artifacts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredArtifact {
    /// SHA-256 of the bytes, in hex.
    pub artifact_id: String,
    /// The MIME type.
    pub mime: String,
    /// Below the session's working directory.
    pub rel_path: String,
    /// How many bytes.
    pub bytes_len: u64,
    /// The execution that had to drop it from its fold for want of room, and would show it otherwise.
    pub elided_from: Option<ExecId>,
}

/// An image that is in its file.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) artifact_id: String,
    /// The object that takes the image's place, as JSON text.
    pub(crate) reference: String,
    /// What is to be journaled, if the session did not know the image.
    pub(crate) new: Option<StoredArtifact>,
    /// What is to be synced, if the file is new.
    pub(crate) file: Option<NewFile>,
}

#[derive(Debug)]
struct Artifact {
    mime: String,
    name: String,
    bytes_len: u64,
    /// How many executions show it.
    shown_by: usize,
    /// The last message that named it since the session was loaded.
    named_at: Seq,
    elided_from: Option<ExecId>,
    missing: bool,
}

/// The session's artifacts.
#[derive(Debug)]
pub(crate) struct Artifacts {
    workdir: Arc<Path>,
    known: HashMap<String, Artifact>,
    shown: HashMap<ExecId, BTreeSet<String>>,
    /// Ids that may be shown by nobody.
    unshown: BTreeSet<String>,
    unsettled: Unsettled,
    next: u64,
    bytes: u64,
    missing: usize,
}

impl Artifacts {
    /// The artifacts a journal knows. Nothing counts as shown yet. `dir` is the session's.
    pub(crate) fn load(workdir: &Path, dir: &Path, stored: Vec<StoredArtifact>) -> Self {
        if let Ok(outputs) = outputs(workdir, Missing::Fail) {
            outputs.sweep_unfinished();
        }
        let mut unsettled = Unsettled::load(dir);
        // Written for rows that a crash kept from the journal. What of them is read again is written again.
        unsettled.remove_files(workdir, |name| {
            let mut names = stored.iter().map(|row| name_in_outputs(&row.rel_path));
            names.any(|known| known == Some(name))
        });
        let mut artifacts = Self {
            workdir: Arc::from(workdir),
            unsettled,
            known: HashMap::new(),
            shown: HashMap::new(),
            unshown: BTreeSet::new(),
            next: 0,
            bytes: 0,
            missing: 0,
        };
        if stored.is_empty() {
            return artifacts;
        }
        let dir = outputs(workdir, Missing::Fail).ok();
        for row in stored {
            artifacts.unshown.insert(row.artifact_id.clone());
            artifacts.register(row, dir.as_ref());
        }
        artifacts
    }

    /// Takes up an image that a sidecar refers to; says what is to be journaled if its file is there.
    pub(crate) fn adopt(&mut self, image: &ImportedImage) -> Option<StoredArtifact> {
        let dir = outputs(&self.workdir, Missing::Fail).ok()?;
        let name = name_in_outputs(&image.rel_path)?;
        let row = StoredArtifact {
            artifact_id: image.artifact_id.clone(),
            mime: image.mime.clone(),
            rel_path: image.rel_path.clone(),
            bytes_len: dir.len_of(OsStr::new(name))?,
            elided_from: None,
        };
        if self.known.contains_key(&row.artifact_id) {
            return None;
        }
        self.register(row.clone(), Some(&dir));
        Some(row)
    }

    fn register(&mut self, row: StoredArtifact, dir: Option<&ProjectDir>) {
        let Some(name) = name_in_outputs(&row.rel_path) else {
            tracing::warn!("an artifact's path is not in {NAME}/{OUTPUTS}: ignored");
            return;
        };
        let missing = dir.is_none_or(|dir| dir.len_of(OsStr::new(name)) != Some(row.bytes_len));
        let artifact = Artifact {
            mime: row.mime,
            name: name.to_owned(),
            bytes_len: row.bytes_len,
            shown_by: 0,
            named_at: 0,
            elided_from: row.elided_from,
            missing,
        };
        self.bytes += artifact.bytes_len;
        self.missing += usize::from(missing);
        self.known.insert(row.artifact_id, artifact);
    }

    /// Puts an image in a file, unless it is in one already. `exec` goes into the file's name.
    ///
    /// # Errors
    /// When the project's directory cannot be written: then the image is to stay where it is.
    pub(crate) fn keep(&mut self, exec: ExecId, image: &Found) -> io::Result<Kept> {
        let artifact_id = sha256_hex(&image.bytes);
        let dir = outputs(&self.workdir, Missing::Make)?;
        let bytes_len = image.bytes.len() as u64;
        let known = self.known.get(&artifact_id).map(|known| known.name.clone());
        let in_place = known
            .as_ref()
            .is_some_and(|name| dir.len_of(OsStr::new(name)) == Some(bytes_len));
        let name = match &known {
            Some(name) => name.clone(),
            None => self.free_name(&dir, exec, &artifact_id, image.kind.extension),
        };
        if !in_place {
            self.unsettled.add(&name);
            // Two workers of one project may write the same image at once.
            let temporary = format!(".{name}.{}.tmp", std::process::id());
            if let Err(err) = dir.write(OsStr::new(&name), OsStr::new(&temporary), &image.bytes) {
                self.unsettled.forget_newest();
                return Err(err);
            }
        }
        let rel_path = format!("{NAME}/{OUTPUTS}/{name}");
        self.note_missing(&artifact_id, false);
        let new = known.is_none().then(|| StoredArtifact {
            artifact_id: artifact_id.clone(),
            mime: image.kind.mime.to_owned(),
            rel_path: rel_path.clone(),
            bytes_len,
            elided_from: None,
        });
        if let Some(row) = new.clone() {
            self.register(row, Some(&dir));
        }
        let reference = json!({"$tithon_artifact": {
            "artifact_id": artifact_id, "mime": image.kind.mime, "rel_path": rel_path, "sha256": artifact_id,
        }});
        Ok(Kept {
            reference: tithon_ipc::json::to_string(&reference),
            new,
            file: (!in_place).then(|| NewFile {
                workdir: Arc::clone(&self.workdir),
                name,
            }),
            artifact_id,
        })
    }

    /// The oldest so many files that were written are named by committed rows now.
    pub(crate) fn settle(&mut self, files: usize) {
        self.unsettled.remove(files);
    }

    /// `<exec_id>_<n>_<sha[:8]>.<ext>`, taken by no other session of the project.
    fn free_name(&mut self, dir: &ProjectDir, exec: ExecId, id: &str, extension: &str) -> String {
        loop {
            let name = format!("{exec}_{}_{}.{extension}", self.next, &id[..8]);
            self.next += 1;
            if !dir.holds(OsStr::new(&name)) {
                return name;
            }
        }
    }

    /// A message that is about to be journaled as `seq` names an artifact.
    pub(crate) fn named(&mut self, artifact_id: &str, seq: Seq) {
        if let Some(artifact) = self.known.get_mut(artifact_id) {
            artifact.named_at = seq;
            // It may never come to be shown: its display may be unknown, or emptied at once.
            self.unshown.insert(artifact_id.to_owned());
        }
    }

    /// An execution is gone, with all it showed.
    pub(crate) fn forget(&mut self, exec: ExecId) {
        self.show(exec, std::iter::empty());
    }

    /// Whether an execution shows any.
    pub(crate) fn are_shown_by(&self, exec: ExecId) -> bool {
        self.shown.contains_key(&exec)
    }

    /// What an execution shows from now on.
    pub(crate) fn show<'a>(&mut self, exec: ExecId, ids: impl Iterator<Item = &'a str>) {
        let now: BTreeSet<String> = ids
            .filter(|id| self.known.contains_key(*id))
            .map(str::to_owned)
            .collect();
        let before = self.shown.remove(&exec).unwrap_or_default();
        for id in now.difference(&before) {
            if let Some(artifact) = self.known.get_mut(id) {
                artifact.shown_by += 1;
            }
        }
        for id in before.difference(&now) {
            if let Some(artifact) = self.known.get_mut(id) {
                artifact.shown_by = artifact.shown_by.saturating_sub(1);
                self.unshown.insert(id.clone());
            }
        }
        if !now.is_empty() {
            self.shown.insert(exec, now);
        }
    }

    /// An execution's fold had no room for these any more; says which of them are now kept for that.
    pub(crate) fn elide(&mut self, exec: ExecId, ids: Vec<String>) -> Vec<String> {
        let mut pinned = Vec::new();
        for id in ids {
            if let Some(artifact) = self.known.get_mut(&id)
                && artifact.elided_from.is_none()
            {
                artifact.elided_from = Some(exec);
                pinned.push(id);
            }
        }
        pinned
    }

    /// An execution no longer leaves anything out; says which artifacts were kept for that.
    pub(crate) fn release(&mut self, exec: ExecId) -> Vec<String> {
        let mut released = Vec::new();
        for (id, artifact) in &mut self.known {
            if artifact.elided_from == Some(exec) {
                artifact.elided_from = None;
                self.unshown.insert(id.clone());
                released.push(id.clone());
            }
        }
        released
    }

    /// The executions that kept artifacts for messages through this seq, which are history now.
    pub(crate) fn elided_through(&self, floor: Seq) -> BTreeSet<ExecId> {
        self.known
            .values()
            .filter(|artifact| artifact.named_at <= floor)
            .filter_map(|artifact| artifact.elided_from)
            .collect()
    }

    /// Artifacts that nobody shows, as of what is applied through this seq.
    pub(crate) fn unneeded(&mut self, applied: Seq) -> Vec<String> {
        let known = &self.known;
        self.unshown.retain(|id| {
            known
                .get(id)
                .is_some_and(|artifact| artifact.shown_by == 0 && artifact.elided_from.is_none())
        });
        self.unshown
            .iter()
            .filter(|id| {
                known
                    .get(*id)
                    .is_some_and(|artifact| artifact.named_at <= applied)
            })
            .cloned()
            .collect()
    }

    /// Whether anything may have become unneeded.
    pub(crate) fn may_have_unneeded(&self) -> bool {
        !self.unshown.is_empty()
    }

    /// Removes an artifact's file and forgets it, if nobody shows it; says whether it did.
    pub(crate) fn remove(&mut self, artifact_id: &str, applied: Seq) -> bool {
        let unneeded = |artifact: &&Artifact| {
            artifact.shown_by == 0 && artifact.elided_from.is_none() && artifact.named_at <= applied
        };
        let Some(artifact) = self.known.get(artifact_id).filter(unneeded) else {
            return false;
        };
        if let Ok(dir) = outputs(&self.workdir, Missing::Fail)
            && let Err(err) = dir.remove(OsStr::new(&artifact.name))
        {
            // It stays known: the next load tries again.
            tracing::warn!("failed to remove an image that nothing shows: {err}");
            self.unshown.remove(artifact_id);
            return false;
        }
        self.note_missing(artifact_id, false);
        if let Some(artifact) = self.known.remove(artifact_id) {
            self.bytes -= artifact.bytes_len;
        }
        self.unshown.remove(artifact_id);
        true
    }

    /// Where an artifact is.
    pub(crate) fn locate(&mut self, artifact_id: &str) -> Option<Located> {
        let artifact = self.known.get(artifact_id)?;
        let located = Located {
            workdir: Arc::clone(&self.workdir),
            name: artifact.name.clone(),
            artifact_id: artifact_id.to_owned(),
            mime: artifact.mime.clone(),
        };
        let found = outputs(&self.workdir, Missing::Fail)
            .is_ok_and(|dir| dir.len_of(OsStr::new(&artifact.name)) == Some(artifact.bytes_len));
        self.note_missing(artifact_id, !found);
        Some(located)
    }

    fn note_missing(&mut self, artifact_id: &str, missing: bool) {
        if let Some(artifact) = self.known.get_mut(artifact_id)
            && artifact.missing != missing
        {
            artifact.missing = missing;
            self.missing = if missing {
                self.missing + 1
            } else {
                self.missing - 1
            };
        }
    }

    /// How many bytes the artifacts have, and how many of them had lost their file when it was last looked for.
    pub(crate) fn totals(&self) -> (u64, usize) {
        (self.bytes, self.missing)
    }
}
