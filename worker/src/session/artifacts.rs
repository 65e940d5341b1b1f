//! Images on their way from messages to files, to clients, and out of the way.

use serde_json::Value;
use tithon_ipc::{client::Frame, ids::ExecId};
use tokio::time::{Duration, Instant};

use super::{Session, store::Effect};
use crate::{
    artifacts::{self, Encoding, Found},
    client::{Answer, ClientId},
    fold::Fold,
    journal::{Change, Content, LoadedArtifacts, TakenImage},
};

/// How long an image that nothing shows any more stays: a plot that is updated thirty times a second
/// shall not cost thirty syncs.
const RECLAIM_DELAY: Duration = Duration::from_secs(1);

impl Session {
    /// Notes what the folds show, as the journal has them, and looks for what none does.
    pub(super) fn restore_artifacts(&mut self, loaded: LoadedArtifacts) {
        for (exec, outputs) in loaded.shown {
            if self.folds.contains_key(&exec) {
                continue;
            }
            match Fold::restore(&outputs, None) {
                Ok(fold) => self.artifacts.show(exec, fold.artifact_ids()),
                Err(err) => tracing::warn!("failed to {err} ({exec})"),
            }
        }
        for exec in self.folds.keys().copied().collect::<Vec<_>>() {
            self.shown_by(exec);
        }
        self.reclaim_soon();
    }

    /// Moves the images of a message's content to files; what cannot be moved stays.
    pub(super) fn take_images(
        &mut self,
        exec: ExecId,
        content: Content,
    ) -> (Content, Vec<TakenImage>) {
        let found = artifacts::find(content.as_str());
        if found.is_empty() {
            return (content, Vec::new());
        }
        let mut text = String::new();
        let mut taken = Vec::new();
        let mut copied = 0;
        for image in &found {
            let Some((artifact_id, reference)) = self.keep_image(exec, image) else {
                continue;
            };
            let original = image.place.clone();
            text.push_str(&content.as_str()[copied..original.start]);
            let start = text.len();
            text.push_str(&reference);
            copied = original.end;
            taken.push(TakenImage {
                artifact_id,
                encoding: Encoding::of(&content.as_str()[original], &image.bytes),
                reference: start..text.len(),
            });
        }
        text.push_str(&content.as_str()[copied..]);
        (text.into(), taken)
    }

    fn keep_image(&mut self, exec: ExecId, image: &Found) -> Option<(String, String)> {
        match self.artifacts.keep(exec, image) {
            Ok(kept) => {
                self.outputs_refused = false;
                self.pending.files.extend(kept.file);
                if let Some(new) = kept.new {
                    self.change(Change::Artifact(new));
                }
                self.artifacts.named(&kept.artifact_id, self.last_seq + 1);
                Some((kept.artifact_id, kept.reference))
            }
            Err(err) => {
                // Once, until it works again: a plot in a loop would say it a thousand times.
                if !std::mem::replace(&mut self.outputs_refused, true) {
                    tracing::warn!("failed to put an image in a file: {err}");
                    self.notice(&format!(
                        "an image stays in its message and in the journal, because {} cannot be written: {err}",
                        self.place.workdir.join(".tithon/outputs").display()
                    ));
                }
                None
            }
        }
    }

    /// Takes note of what a fold shows now.
    pub(super) fn shown_by(&mut self, exec: ExecId) {
        let Some(live) = self.folds.get_mut(&exec) else {
            return;
        };
        let Some(fold) = live.take_changed_images() else {
            return;
        };
        let elided = fold.take_elided_artifacts();
        let elides = fold.elides_outputs();
        self.artifacts.show(exec, fold.artifact_ids());
        live.shows_images(self.artifacts.are_shown_by(exec));
        if elides {
            let ids = elided.into_iter().map(String::from).collect();
            for id in self.artifacts.elide(exec, ids) {
                let exec = Some(exec);
                self.change(Change::ElideArtifact { id, exec });
            }
        } else {
            self.release_elided(exec);
        }
        self.reclaim_soon();
    }

    /// Lets go of what an execution had no room for: it was cleared, or is history by policy.
    pub(super) fn release_elided(&mut self, exec: ExecId) {
        for id in self.artifacts.release(exec) {
            self.change(Change::ElideArtifact { id, exec: None });
        }
    }

    fn reclaim_soon(&mut self) {
        if self.artifacts.may_have_unneeded() {
            self.reclaim_due
                .get_or_insert_with(|| Instant::now() + RECLAIM_DELAY);
        }
    }

    /// Removes the files that nothing shows, once what took their place is on the disk: until then a
    /// power loss could bring back a fold that shows them.
    pub(super) fn reclaim(&mut self) {
        self.reclaim_due = None;
        if !self.sidecar_is_current() {
            // Whoever reads the sidecar would miss what it still names.
            return self.reclaim_soon();
        }
        let ids = self.artifacts.unneeded(self.applied);
        if ids.is_empty() {
            return self.reclaim_soon();
        }
        self.durably();
        self.after_commit(Effect::Reclaim(ids));
    }

    pub(super) fn reclaim_now(&mut self, ids: Vec<String>) {
        for id in ids {
            if self.artifacts.remove(&id, self.applied) {
                self.change(Change::ForgetArtifact(id));
            }
        }
        self.reclaim_soon();
    }

    /// Sends an artifact's bytes. Reading and encoding megabytes is not the session's time to spend.
    pub(super) fn send_artifact(&mut self, client: ClientId, id: String, req_id: Option<Value>) {
        let Some(located) = self.artifacts.locate(&id) else {
            let text = artifact_frame(&id, None, req_id.as_ref());
            return self.answer(client, Answer::Frame(text.into()));
        };
        let Some(link) = self.clients.get(&client) else {
            return;
        };
        let answers = link.answers.clone();
        tokio::task::spawn_local(async move {
            let framed = tokio::task::spawn_blocking(move || {
                let image = located.read().map(|bytes| (located.mime.as_str(), bytes));
                artifact_frame(&id, image, req_id.as_ref())
            });
            if let Ok(text) = framed.await {
                // A client that left needs no answer.
                answers.send(Answer::Frame(text.into())).await.ok();
            }
        });
    }
}

fn artifact_frame(id: &str, image: Option<(&str, Vec<u8>)>, req_id: Option<&Value>) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let data_b64 = image
        .as_ref()
        .map(|(_, bytes)| BASE64_STANDARD.encode(bytes));
    Frame::Artifact {
        artifact_id: id,
        mime: image.as_ref().map(|(mime, _)| *mime),
        data_b64: data_b64.as_deref(),
        found: image.is_some(),
        req_id,
    }
    .to_text()
}
