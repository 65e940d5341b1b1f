//! `.tithon/notebooks/<file>.json`: what a notebook has and a Python file has not — metadata, ids,
//! attachments — and what each cell's source was, as long as its body is unchanged.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tithon_ipc::ids::sha256_hex;

use crate::{NotebookError, files, files::Project, percent::Kind};
use std::{io, path::Path};

/// The folder below `.tithon`.
pub(crate) const FOLDER: &str = "notebooks";
const VERSION: i64 = 1;

/// The whole record.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    version: i64,
    #[serde(default)]
    pub(crate) metadata: Map<String, Value>,
    #[serde(default)]
    pub(crate) cells: Vec<RecordedCell>,
}

/// One cell's share.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordedCell {
    pub(crate) kind: String,
    pub(crate) body_sha: String,
    pub(crate) source: String,
    #[serde(default)]
    pub(crate) metadata: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attachments: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
}

impl Record {
    pub(crate) fn new(metadata: Map<String, Value>, cells: Vec<RecordedCell>) -> Self {
        Self {
            version: VERSION,
            metadata,
            cells,
        }
    }

    /// The record of a file; an empty one where there is none, or none that can be read.
    pub(crate) fn of(project: &Project, relative: &Path) -> Result<Self, NotebookError> {
        let path = project.ours(FOLDER, relative, ".json")?;
        let text = match files::read_text(&path) {
            Err(NotebookError::Io(err)) if err.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            text => text?,
        };
        let record: Self = serde_json::from_str(&text).unwrap_or_default();
        Ok(if record.version == VERSION {
            record
        } else {
            Self::default()
        })
    }

    /// For each of the cells the one it was: the same body, near its place if there are several;
    /// else whatever was at its place and is no other's.
    pub(crate) fn matched(&self, cells: &[(Kind, &str)]) -> Vec<Option<Match<'_>>> {
        let mut free: Vec<bool> = vec![true; self.cells.len()];
        let mut found: Vec<Option<Match<'_>>> = cells.iter().map(|_| None).collect();
        for (at, (kind, body)) in cells.iter().enumerate() {
            let sha = sha256_hex(body.as_bytes());
            let same = |(_, cell): &(usize, &RecordedCell)| {
                cell.body_sha == sha && cell.kind == kind.name()
            };
            let candidates = self
                .cells
                .iter()
                .enumerate()
                .filter(same)
                .filter(|(other, _)| free[*other]);
            if let Some((other, cell)) = candidates.min_by_key(|(other, _)| other.abs_diff(at)) {
                free[other] = false;
                found[at] = Some(Match {
                    cell,
                    unchanged: true,
                });
            }
        }
        for (at, (kind, _)) in cells.iter().enumerate() {
            if let Some(cell) = self.cells.get(at).filter(|cell| cell.kind == kind.name())
                && found[at].is_none()
                && std::mem::take(&mut free[at])
            {
                found[at] = Some(Match {
                    cell,
                    unchanged: false,
                });
            }
        }
        found
    }
}

/// A cell's past.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Match<'a> {
    pub(crate) cell: &'a RecordedCell,
    /// Whether its body is what it was.
    pub(crate) unchanged: bool,
}
