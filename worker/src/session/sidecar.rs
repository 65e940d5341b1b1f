//! When the shared sidecar is written, and when one that came with the project is taken up.

use tithon_ipc::ids::{ExecId, sha256_hex};

use super::{Session, store::Effect};
use crate::{
    client::{Answer, ClientId},
    journal::{Change, Loaded, StoredExecution, StoredFold},
    sidecar::{Import, Sidecar, text_of},
    widgets::WidgetMirror,
};

/// The name under which the digest of the last sidecar that was read or written is kept in `meta`.
const DIGEST: &str = "sidecar_sha";
/// The same for the widgets of one that was read.
const WIDGETS: &str = "imported_widgets";
/// The same for whether what is shared lags behind: whoever takes over after a crash must know.
const STALE: &str = "sidecar_stale";

/// How the sidecar stands.
#[derive(Debug)]
pub(super) struct Publication {
    sidecar: Sidecar,
    /// The snapshot that is being read for it.
    pub(super) ticket: Option<u64>,
    writing: bool,
    /// How many commits that will ask for it are on their way.
    announced: u32,
    /// Whether something changed since the text under way was taken.
    stale: bool,
    failed: bool,
    digest: Option<String>,
    /// How long the text on the disk is.
    pub(super) bytes: u64,
    /// Why what came with the project was not taken up.
    pub(super) refused: Option<String>,
}

/// What became of a sidecar that was to be written.
#[derive(Debug)]
pub(super) struct Published(Result<(String, u64), String>);

impl Publication {
    pub(super) fn of(sidecar: Option<Sidecar>, loaded: &Loaded) -> Option<Self> {
        Some(Self {
            sidecar: sidecar?,
            ticket: None,
            writing: false,
            announced: 0,
            stale: false,
            failed: false,
            digest: loaded.meta.get(DIGEST).cloned(),
            bytes: 0,
            refused: None,
        })
    }

    /// Whether the text on the disk says what the session shows.
    fn is_current(&self) -> bool {
        self.ticket.is_none() && !self.writing && !self.stale && !self.failed && self.announced == 0
    }
}

impl Session {
    /// Takes up the sidecar that came with the project, if the session has no history of its own;
    /// says whether it did.
    pub(super) fn import_sidecar(&mut self, loaded: &Loaded) -> bool {
        self.share_widgets(loaded.meta.get(WIDGETS).map(String::as_str));
        if loaded.meta.get(STALE).is_some_and(|stale| stale == "1") {
            self.share();
        }
        let Some(publication) = &mut self.publication else {
            return false;
        };
        let read = match publication.sidecar.read() {
            Ok(Some(text)) => {
                publication.bytes = text.len() as u64;
                let digest = sha256_hex(text.as_bytes());
                if loaded.executions > loaded.imported
                    || publication.digest.as_ref() == Some(&digest)
                {
                    return false;
                }
                Import::read(&text)
                    .map(|import| (import, digest))
                    .map_err(|err| err.to_string())
            }
            Ok(None) => return false,
            Err(err) => Err(format!("read it: {err}")),
        };
        match read {
            Ok((import, digest)) => {
                publication.digest = Some(digest.clone());
                self.take_up(import, digest);
                true
            }
            Err(err) => {
                tracing::warn!("failed to take up the shared outputs: failed to {err}");
                publication.refused = Some(format!("failed to {err}"));
                false
            }
        }
    }

    fn take_up(&mut self, import: Import, digest: String) {
        tracing::info!(
            executions = import.executions.len(),
            "took up shared outputs"
        );
        self.change(Change::DropImported);
        self.last_exec = 0;
        for image in &import.images {
            if let Some(artifact) = self.artifacts.adopt(image) {
                self.change(Change::Artifact(artifact));
            }
        }
        for execution in import.executions {
            self.last_exec += 1;
            let exec = ExecId(self.last_exec);
            self.artifacts.forget(exec);
            if let Ok(fold) = crate::fold::Fold::restore(&execution.outputs, None) {
                self.artifacts.show(exec, fold.artifact_ids());
            }
            self.change(Change::Imported {
                exec,
                uri: self.place.id.as_str().to_owned(),
                execution: Box::new(execution),
            });
        }
        self.executions = self.last_exec;
        self.share_widgets(import.widgets.as_deref());
        for (key, value) in [
            (DIGEST, digest),
            (WIDGETS, import.widgets.unwrap_or_default()),
        ] {
            self.change(Change::Meta { key, value });
        }
    }

    /// Shows the widgets that imported executions show.
    fn share_widgets(&mut self, widgets: Option<&str>) {
        let widgets = widgets.filter(|widgets| !widgets.is_empty());
        let shared = widgets.map(WidgetMirror::restore).transpose();
        match shared {
            Ok(shared) => self.widgets.share(shared.unwrap_or_default()),
            Err(err) => tracing::warn!("failed to take up shared widgets: {err}"),
        }
    }

    /// Why shared outputs were refused, for a client that has come.
    pub(super) fn say_refused(&mut self, client: ClientId) {
        let refused = self
            .publication
            .as_ref()
            .and_then(|publication| publication.refused.as_ref());
        if let Some(reason) = refused.filter(|_| self.noticing.contains(&client)) {
            let message =
                format!("the outputs that came with this project are not shown: {reason}");
            let text = tithon_ipc::client::Frame::Notice { message: &message }.to_text();
            self.answer(client, Answer::Extra(text.into()));
        }
    }

    /// With the pending transaction, what the session shows changes for good: the sidecar is to follow.
    pub(super) fn share(&mut self) {
        if let Some(publication) = &mut self.publication {
            publication.announced += 1;
            self.note_stale("1");
            self.after_commit(Effect::Publish);
        }
    }

    /// A commit that was to be shared is made.
    pub(super) fn shared(&mut self) {
        if let Some(publication) = &mut self.publication {
            publication.announced -= 1;
            self.publish_sidecar();
        }
    }

    fn note_stale(&mut self, stale: &str) {
        self.change(Change::Meta {
            key: STALE,
            value: stale.to_owned(),
        });
    }

    /// Writes the sidecar, or has it written again once that is done.
    fn publish_sidecar(&mut self) {
        let Some(publication) = &mut self.publication else {
            return;
        };
        publication.stale = true;
        if publication.ticket.is_none() && !publication.writing {
            publication.stale = false;
            self.last_ticket += 1;
            publication.ticket = Some(self.last_ticket);
            self.journal.snapshot(self.last_ticket);
        }
    }

    /// The executions for the sidecar are here, in step with what is applied. The rest may take as
    /// long as the history is, so it is not done here.
    pub(super) fn write_sidecar(&mut self, executions: Vec<StoredExecution>) {
        let Some(publication) = &mut self.publication else {
            return;
        };
        publication.ticket = None;
        publication.writing = true;
        let sidecar = publication.sidecar.clone();
        let before = publication.digest.clone();
        let widgets = self.widgets.snapshot_json();
        let executions: Vec<(StoredExecution, Option<StoredFold>)> = executions
            .into_iter()
            .map(|execution| {
                let live = self
                    .folds
                    .get(&execution.exec)
                    .map(super::store::LiveFold::rendered);
                (execution, live)
            })
            .collect();
        let published = self.published_sender.clone();
        tokio::task::spawn_blocking(move || {
            let text = text_of(&executions, &widgets);
            let digest = sha256_hex(text.as_bytes());
            // Nothing new: version control need not hear of it.
            let written = if before.as_ref() == Some(&digest) && sidecar.is(&text) {
                Ok(())
            } else {
                sidecar.write(&text)
            };
            let outcome = written.map(|()| (digest, text.len() as u64));
            // A session that ended meanwhile does not need to know.
            drop(published.send(Published(outcome.map_err(|err| err.to_string()))));
        });
    }

    pub(super) fn sidecar_written(&mut self, Published(outcome): Published) {
        let Some(publication) = &mut self.publication else {
            return;
        };
        publication.writing = false;
        publication.failed = outcome.is_err();
        match outcome {
            Ok((digest, bytes)) => {
                publication.bytes = bytes;
                publication.digest = Some(digest.clone());
                if !publication.stale && publication.announced == 0 {
                    self.note_stale("0");
                }
                self.change(Change::Meta {
                    key: DIGEST,
                    value: digest,
                });
            }
            Err(err) => tracing::warn!("failed to write the shared outputs: {err}"),
        }
        if self
            .publication
            .as_ref()
            .is_some_and(|publication| publication.stale)
        {
            self.publish_sidecar();
        }
    }

    /// Whether the sidecar, if there is one, names nothing that the session no longer shows.
    pub(super) fn sidecar_is_current(&self) -> bool {
        self.publication
            .as_ref()
            .is_none_or(Publication::is_current)
    }
}
