//! A Python file becomes a notebook.

use std::{collections::HashSet, path::Path};

use serde_json::{Map, Value, json};
use tithon_ipc::ids::sha256_hex;

use crate::{
    Conversion, Converted, NotebookError, cells,
    files::{self, Batch, Project},
    images,
    notebook::{Notebook, NotebookCell, is_id},
    outputs::Outputs,
    percent::{self, Cell, Kind},
    record::Record,
};

/// The key of widget models in a notebook's metadata.
pub(crate) const WIDGETS: &str = "application/vnd.jupyter.widget-state+json";

/// Writes the notebook of a Python file. `live` is the snapshot of the session that runs it, if one
/// does; else its sidecar tells what was printed.
///
/// # Errors
/// Any [`NotebookError`]; nothing is written then.
pub fn export(conversion: &Conversion, live: Option<&str>) -> Result<Converted, NotebookError> {
    let Conversion {
        source,
        destination,
        workdir,
    } = conversion;
    require_extension(source, ".py")?;
    require_extension(destination, ".ipynb")?;
    let destination = files::absolute(destination)?;
    files::require_absent(&destination)?;
    let project = Project::new(workdir)?;
    let relative = project.relative(source)?;
    let text = files::read_text(source)?;
    let cells = percent::split(&text).map_err(|reason| NotebookError::Cells {
        path: source.clone(),
        reason,
    })?;
    let record = Record::of(&project, &relative)?;
    let outputs = match live {
        Some(snapshot) => Outputs::of_snapshot(snapshot)?,
        None => Outputs::of_sidecar(&project, &relative)?,
    };
    let mut exporter = Exporter {
        project: &project,
        outputs: &outputs,
        ids: HashSet::new(),
        missing_images: 0,
    };
    let notebook = exporter.notebook(&cells, &record);
    let mut batch = Batch::default();
    batch.write(&destination, notebook.to_text().as_bytes())?;
    batch.keep();
    Ok(Converted {
        cells: cells.len(),
        destination,
        missing_images: exporter.missing_images,
    })
}

/// Refuses a path that is named as something else.
pub(crate) fn require_extension(path: &Path, expected: &'static str) -> Result<(), NotebookError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.len() > expected.len() && name.ends_with(expected) {
        return Ok(());
    }
    Err(NotebookError::Extension {
        path: path.to_owned(),
        expected,
    })
}

struct Exporter<'a> {
    project: &'a Project,
    outputs: &'a Outputs,
    ids: HashSet<String>,
    missing_images: usize,
}

impl Exporter<'_> {
    fn notebook(&mut self, cells: &[Cell<'_>], record: &Record) -> Notebook {
        let bodies: Vec<_> = cells.iter().map(|cell| (cell.kind, cell.body)).collect();
        let past = record.matched(&bodies);
        // Taken ids first: a new one must not be given to an old cell's neighbour.
        let known: Vec<Option<String>> = past
            .iter()
            .map(|past| {
                let id = past.as_ref()?.cell.id.clone()?;
                (is_id(&id) && self.ids.insert(id.clone())).then_some(id)
            })
            .collect();
        let mut exported = Vec::with_capacity(cells.len());
        for (at, ((cell, past), id)) in cells.iter().zip(past).zip(known).enumerate() {
            let recorded = past
                .filter(|past| past.unchanged)
                .map(|past| past.cell.source.as_str());
            let (source, mut ours) = cells::shown(cell, recorded);
            let mut attachments = past.and_then(|past| past.cell.attachments.clone());
            for bundle in attachments
                .iter_mut()
                .flat_map(Map::values_mut)
                .filter_map(Value::as_object_mut)
            {
                self.missing_images += images::embed(bundle, self.project);
            }
            let (execution_count, outputs) = self.ran(at, cell, &source, &mut ours);
            let mut metadata = past
                .map(|past| past.cell.metadata.clone())
                .unwrap_or_default();
            if !ours.is_empty() {
                metadata.insert(cells::OURS.to_owned(), Value::Object(ours));
            }
            exported.push(NotebookCell {
                kind: cell.kind,
                id: Some(id.unwrap_or_else(|| self.new_id(at, cell))),
                source,
                metadata,
                attachments,
                outputs,
                execution_count,
            });
        }
        Notebook {
            metadata: self.metadata(record),
            cells: exported,
        }
    }

    fn metadata(&self, record: &Record) -> Map<String, Value> {
        let mut metadata = record.metadata.clone();
        if metadata.is_empty() {
            let kernel =
                json!({"display_name": "Python 3", "language": "python", "name": "python3"});
            metadata.insert("kernelspec".to_owned(), kernel);
            metadata.insert("language_info".to_owned(), json!({"name": "python"}));
        }
        if let Some(widgets) = self
            .outputs
            .widgets
            .as_ref()
            .filter(|widgets| !widgets.state.is_empty())
        {
            let state = json!({"state": widgets.state, "version_major": 2, "version_minor": 0});
            metadata.insert("widgets".to_owned(), json!({WIDGETS: state}));
        }
        metadata
    }

    /// What a cell printed when it last ran; marked where its code was another then.
    fn ran(
        &mut self,
        at: usize,
        cell: &Cell<'_>,
        source: &str,
        ours: &mut Map<String, Value>,
    ) -> (Option<i64>, Vec<Value>) {
        if cell.kind != Kind::Code {
            return (None, Vec::new());
        }
        let Some((execution, same)) = self.outputs.of_cell(at, &[cell.body, source]) else {
            return (None, Vec::new());
        };
        if !same {
            ours.insert("stale_outputs".to_owned(), json!(true));
        }
        let outputs = execution
            .outputs
            .iter()
            .filter_map(|output| self.output(output))
            .collect();
        (execution.execution_count, outputs)
    }

    /// An output as the notebook format has it; `None` for a kind it does not know.
    fn output(&mut self, output: &Value) -> Option<Value> {
        let kind = output.get("output_type")?.as_str()?;
        let text = |field: &str| {
            output
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let object = |field: &str| {
            output
                .get(field)
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default()
        };
        let mut bundle = || {
            let mut data = object("data");
            self.missing_images += images::embed(&mut data, self.project);
            data
        };
        Some(match kind {
            "stream" => json!({"output_type": kind, "name": text("name"), "text": text("text")}),
            "display_data" => {
                json!({"output_type": kind, "data": bundle(), "metadata": object("metadata")})
            }
            "execute_result" => {
                let count = output.get("execution_count").and_then(Value::as_i64);
                json!({"output_type": kind, "data": bundle(), "metadata": object("metadata"), "execution_count": count})
            }
            "error" => {
                let lines = output.get("traceback").and_then(Value::as_array);
                let traceback: Vec<&str> = lines
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                json!({"output_type": kind, "ename": text("ename"), "evalue": text("evalue"), "traceback": traceback})
            }
            _ => return None,
        })
    }

    /// An id that the same file gets again.
    fn new_id(&mut self, at: usize, cell: &Cell<'_>) -> String {
        let mut seed = format!("{at} {} {}", cell.kind.name(), cell.body);
        loop {
            let id = sha256_hex(seed.as_bytes())[..8].to_owned();
            if self.ids.insert(id.clone()) {
                return id;
            }
            seed.push(' ');
        }
    }
}
