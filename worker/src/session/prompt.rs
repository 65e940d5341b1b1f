//! What a cell's `input()` shows, and what its answer refers to.

use bytes::Bytes;
use serde::Deserialize;

use crate::journal::StoredRow;

/// A cell's `input()`.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    /// The text shown.
    pub(super) prompt: String,
    /// Whether the answer is not to be echoed.
    pub(super) password: bool,
    /// The request's header: the answer's parent.
    pub(super) header: Bytes,
}

impl Prompt {
    /// The prompt that a journaled request shows.
    pub(super) fn of(row: &StoredRow) -> Option<Self> {
        #[derive(Deserialize)]
        struct Shown {
            prompt: String,
            password: bool,
        }
        let shown: Shown = serde_json::from_str(&row.content).ok()?;
        // The kernel takes the first answer that comes, whatever it names as its parent.
        Some(Self {
            prompt: shown.prompt,
            password: shown.password,
            header: Bytes::from_static(b"{}"),
        })
    }
}
