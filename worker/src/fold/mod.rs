//! The fold of one execution: what it shows now, computed from its messages by the rules of PROTOCOL.md §9 and §11.
//!
//! A pure function of the messages: no clock, no files, no sockets. Whatever a kernel sends, a fold stays within the
//! bounds of `limits.rs`: head and tail stay, and a notice says what lies between. Values that only pass through are
//! kept as the kernel wrote them. A restored fold goes on exactly as the one it was stored from.

mod areas;
mod content;
mod item;
mod items;
pub(crate) mod json;
mod limits;
mod line;
mod notice;
mod snapshot;
mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde_json::value::RawValue;

use areas::{Area, Areas};
use content::{Claim, ClearOutput, Comm, Display, ErrorContent, Stream, is_cell_scoped};
use item::{Body, Bundle, stream_name};
use items::Items;
use limits::Limits;

/// Why a message or a stored fold could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("read the content of a {msg_type} message")]
    Content {
        msg_type: String,
        source: serde_json::Error,
    },
    #[error("read the stored outputs of an execution")]
    StoredOutputs(#[source] serde_json::Error),
    #[error("read the stored fold state of an execution")]
    StoredState(#[source] serde_json::Error),
    #[error("restore an output of unknown type `{0}`")]
    StoredOutputType(String),
}

/// One execution's display state.
#[derive(Debug)]
pub struct Fold {
    limits: &'static Limits,
    items: Items,
    areas: Areas,
}

impl Default for Fold {
    fn default() -> Self {
        Self::new()
    }
}

impl Fold {
    pub fn new() -> Self {
        Self::within(&Limits::DEFAULT)
    }

    fn within(limits: &'static Limits) -> Self {
        Self {
            limits,
            items: Items::new(limits),
            areas: Areas::new(limits),
        }
    }

    /// Takes up a stored fold: `outputs` as [`Self::outputs_json`] wrote it, `state` as [`Self::state_json`] did.
    ///
    /// Without a state (also `null`: an imported execution) all items belong to the cell and cursors stand where the
    /// text ends. A state that does not fit the outputs is used as far as it does. Unknown keys are dropped.
    pub fn restore(outputs: &str, state: Option<&str>) -> Result<Self, FoldError> {
        snapshot::restore(&Limits::DEFAULT, outputs, state)
    }

    /// Applies one journaled message: its Jupyter message type and the JSON text of its content.
    ///
    /// Types that show nothing are ignored. Whether the widget mirror accepted a comm is the caller's business: one it
    /// refused must not come here. An error leaves the fold as it was.
    pub fn apply(&mut self, msg_type: &str, content: &str) -> Result<(), FoldError> {
        let result = match self.apply_content(msg_type, content) {
            // Strings are read leniently one by one; a lone surrogate in a key takes the whole content with it.
            Err(error) => match json::repair(content) {
                Cow::Owned(repaired) => self.apply_content(msg_type, &repaired),
                Cow::Borrowed(_) => Err(error),
            },
            applied => applied,
        };
        result.map_err(|source| FoldError::Content {
            msg_type: msg_type.to_owned(),
            source,
        })
    }

    /// The output items, as in a snapshot and in `executions.folded_json`.
    pub fn outputs_json(&self) -> String {
        snapshot::outputs_json(&self.items)
    }

    /// The `fold_state` that belongs to the outputs.
    pub fn state_json(&self) -> String {
        snapshot::state_json(&self.items, &self.areas)
    }

    /// Whether an error is shown.
    pub fn has_error(&self) -> bool {
        self.items
            .iter()
            .any(|item| matches!(item.body, Body::Error { .. }))
    }

    /// Whether nothing is shown.
    pub fn is_empty(&self) -> bool {
        self.items.iter().next().is_none()
    }

    /// The display ids shown, in order, repeated if shown repeatedly.
    pub fn display_ids(&self) -> impl Iterator<Item = &str> {
        self.items.iter().filter_map(|item| match &item.body {
            Body::Display { display_id, .. } => display_id.as_deref(),
            _ => None,
        })
    }

    /// The ids of the artifacts shown, in order, repeated if shown repeatedly.
    pub fn artifact_ids(&self) -> impl Iterator<Item = &str> {
        self.items
            .iter()
            .filter_map(|item| item.body.bundle())
            .flat_map(Bundle::artifact_ids)
    }

    /// Takes the ids of the artifacts shown by outputs that had to go since the last call. They are no longer among
    /// [`Self::artifact_ids`], yet nothing in the program took them away.
    pub fn take_elided_artifacts(&mut self) -> Vec<Box<str>> {
        std::mem::take(&mut self.items.elided_artifacts)
    }

    /// Whether outputs had to go for want of room.
    pub fn elides_outputs(&self) -> bool {
        self.items
            .iter()
            .any(|item| matches!(item.body, Body::Elided { .. }))
    }

    /// The rules by message type. Each parses all of the content before it changes anything.
    fn apply_content(&mut self, msg_type: &str, content: &str) -> Result<(), serde_json::Error> {
        match msg_type {
            "stream" => {
                let stream: Stream<'_> = json::object(content)?;
                let area = self.discharged_area(stream.tithon_scope);
                let name = stream_name(self.limits, stream.name.as_ref());
                self.items.write(&area, name, &stream.text.0);
            }
            "display_data" => {
                let display: Display<'_> = json::object(content)?;
                let area = self.discharged_area(display.tithon_scope);
                let bundle = Bundle::new(self.limits, display.data, display.metadata);
                self.items.push(
                    area,
                    Body::display(self.limits, bundle, display.display_id().as_deref()),
                );
            }
            "execute_result" => {
                let display: Display<'_> = json::object(content)?;
                let area = self.discharged_area(display.tithon_scope);
                let bundle = Bundle::new(self.limits, display.data, display.metadata);
                self.items.push(
                    area,
                    Body::result(self.limits, bundle, display.execution_count),
                );
            }
            "error" => {
                let error: ErrorContent<'_> = json::object(content)?;
                let area = self.discharged_area(error.tithon_scope);
                self.items.push(
                    area,
                    Body::error(self.limits, error.ename, error.evalue, error.traceback),
                );
            }
            "update_display_data" => {
                let display: Display<'_> = json::object(content)?;
                if let Some(display_id) = display.display_id() {
                    self.items.update_display(
                        &display_id,
                        Bundle::new(self.limits, display.data, display.metadata),
                    );
                }
            }
            "clear_output" => {
                let clear: ClearOutput<'_> = json::object(content)?;
                self.clear_output(&clear);
            }
            "comm_msg" => {
                let comm: Comm<'_> = json::object(content)?;
                match comm.claim() {
                    Some(Claim::Take) => self.areas.claim(&comm.comm_id.0),
                    Some(Claim::Release) => self.areas.release(&comm.comm_id.0),
                    None => {}
                }
            }
            "comm_close" => {
                let comm: Comm<'_> = json::object(content)?;
                self.areas.close(&comm.comm_id.0);
            }
            _ => {}
        }
        Ok(())
    }

    /// The area an output goes to, emptied if that was pending.
    fn discharged_area(&mut self, tithon_scope: Option<&RawValue>) -> Area {
        let area = self.area(tithon_scope);
        if self.areas.disarm(&area) {
            self.items.clear(&area);
        }
        area
    }

    fn clear_output(&mut self, clear: &ClearOutput<'_>) {
        let area = self.area(clear.tithon_scope);
        if clear.waits() && self.areas.arm(&area) {
            return;
        }
        // An immediate clear of the cell takes the areas' pending clears with it and leaves the cell's own armed.
        self.items.clear(&area);
        if area == Area::Cell {
            self.areas.disarm_outputs();
        }
    }

    fn area(&self, tithon_scope: Option<&RawValue>) -> Area {
        if is_cell_scoped(tithon_scope) {
            Area::Cell
        } else {
            self.areas.current()
        }
    }
}
