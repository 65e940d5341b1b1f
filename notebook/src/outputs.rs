//! Executions as a sidecar or a session's snapshot has them, and which of them a cell shows.

use std::{collections::HashSet, io, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value};
use tithon_ipc::{ids::sha256_hex, jupyter::without_lone_surrogates};

use crate::{NotebookError, files, files::Project};

/// The folder of sidecars below `.tithon` (PROTOCOL §14).
pub(crate) const FOLDER: &str = "cells";

/// Everything that was executed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Outputs {
    pub(crate) executions: Vec<Execution>,
    pub(crate) widgets: Option<Widgets>,
}

/// The models that outputs refer to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Widgets {
    pub(crate) state: Map<String, Value>,
}

/// One execution.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Execution {
    seq: i64,
    cell_hash: Option<String>,
    status: String,
    origin: Option<Origin>,
    pub(crate) execution_count: Option<i64>,
    pub(crate) outputs: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Origin {
    index: Option<u64>,
}

impl Outputs {
    /// Reads a snapshot.
    pub(crate) fn of_snapshot(text: &str) -> Result<Self, NotebookError> {
        serde_json::from_str(&without_lone_surrogates(text)).map_err(|err| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the session's snapshot: {err}"),
            )
            .into()
        })
    }

    /// Reads a file's sidecar; nothing where there is none.
    pub(crate) fn of_sidecar(project: &Project, relative: &Path) -> Result<Self, NotebookError> {
        let path = project.ours(FOLDER, relative, ".json")?;
        let text = match files::read_text(&path) {
            Err(NotebookError::Io(err)) if err.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            text => text?,
        };
        serde_json::from_str(&without_lone_surrogates(&text)).map_err(|err| {
            let reason = format!(
                "{} is not a sidecar: {err}\nhint: move it away to export without outputs",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, reason).into()
        })
    }

    /// The newest execution of a cell, and whether it ran this very code.
    pub(crate) fn of_cell(&self, index: usize, bodies: &[&str]) -> Option<(&Execution, bool)> {
        let hashes: HashSet<String> = bodies.iter().flat_map(|body| hashes(body)).collect();
        let same = |run: &Execution| {
            run.cell_hash
                .as_ref()
                .is_some_and(|hash| hashes.contains(hash))
        };
        let here = |run: &Execution| {
            run.origin
                .as_ref()
                .is_some_and(|origin| origin.index == Some(index as u64))
        };
        let newest = |wanted: &dyn Fn(&Execution) -> bool| {
            self.executions
                .iter()
                .filter(|run| {
                    matches!(
                        run.status.as_str(),
                        "done" | "error" | "orphaned" | "running"
                    )
                })
                .filter(|run| wanted(run))
                .max_by_key(|run| run.seq)
        };
        newest(&|run| same(run) && here(run))
            .or_else(|| newest(&same))
            .map(|run| (run, true))
            .or_else(|| newest(&here).map(|run| (run, false)))
    }
}

/// Clients send a cell with or without the empty lines around it.
fn hashes(body: &str) -> [String; 4] {
    let body = body.to_owned();
    let shorter = body.strip_suffix('\n').unwrap_or(&body);
    let shorter = shorter.strip_suffix('\r').unwrap_or(shorter);
    [body.as_str(), shorter, body.trim_end(), body.trim()].map(|code| sha256_hex(code.as_bytes()))
}
