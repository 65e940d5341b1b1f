//! A notebook becomes a Python file, with its outputs in the file's sidecar.

use serde_json::{Map, Value, json};
use tithon_ipc::ids::sha256_hex;

use crate::{
    Conversion, Converted, NotebookError,
    cells::{self, Place},
    export::{WIDGETS, require_extension},
    files::{self, Batch, Project},
    images,
    notebook::{Notebook, NotebookCell, indented},
    outputs,
    percent::Kind,
    record::{self, Record, RecordedCell},
};

/// A cell's text in the file.
type Placed = (Kind, String, String);

/// Writes the Python file of a notebook, and beside it what a Python file cannot hold.
///
/// # Errors
/// Any [`NotebookError`]; nothing is written then.
pub fn import(conversion: &Conversion) -> Result<Converted, NotebookError> {
    let Conversion {
        source,
        destination,
        workdir,
    } = conversion;
    require_extension(source, ".ipynb")?;
    require_extension(destination, ".py")?;
    let project = Project::new(workdir)?;
    let relative = project.relative(destination)?;
    let destination = files::absolute(destination)?;
    let sidecar = project.ours(outputs::FOLDER, &relative, ".json")?;
    let record = project.ours(record::FOLDER, &relative, ".json")?;
    for path in [&destination, &sidecar, &record] {
        files::require_absent(path)?;
    }
    let mut notebook = Notebook::read(source)?;
    let placed = placed(&notebook.cells);
    let text = cells::join(&placed)?;
    let widgets = notebook
        .metadata
        .remove("widgets")
        .and_then(|mut widgets| widgets.get_mut(WIDGETS).map(Value::take));

    let mut batch = Batch::default();
    let executions = executions(&mut notebook.cells, &placed, &project, &mut batch)?;
    let recorded = recorded(&notebook.cells, &placed, &project, &mut batch)?;
    if !executions.is_empty() || widgets.is_some() {
        let executed = json!({"executions": executions, "version": 1, "widgets": widgets});
        batch.write(&sidecar, indented(&executed).as_bytes())?;
    }
    let kept = serde_json::to_value(Record::new(notebook.metadata, recorded)).unwrap_or_default();
    batch.write(&record, indented(&kept).as_bytes())?;
    // Last: whoever sees the file finds all that belongs to it.
    batch.write(&destination, text.as_bytes())?;
    batch.keep();
    Ok(Converted {
        cells: placed.len(),
        destination,
        missing_images: 0,
    })
}

fn placed(cells: &[NotebookCell]) -> Vec<Placed> {
    let last = cells.len().saturating_sub(1);
    let place = |at: usize| Place {
        first: at == 0,
        last: at == last,
    };
    cells
        .iter()
        .enumerate()
        .map(|(at, cell)| {
            let (marker, body) = cells::text(
                cell.kind,
                &cell.source,
                cell.metadata.get(cells::OURS),
                place(at),
            );
            (cell.kind, marker, body)
        })
        .collect()
}

/// The sidecar's entries: code cells that were run.
fn executions(
    cells: &mut [NotebookCell],
    placed: &[Placed],
    project: &Project,
    batch: &mut Batch,
) -> Result<Vec<Value>, NotebookError> {
    let mut executions = Vec::new();
    let mut line = 0;
    for (index, (cell, (_, marker, body))) in cells.iter_mut().zip(placed).enumerate() {
        let start = line + marker.matches('\n').count();
        line = start + body.matches('\n').count();
        if cell.outputs.is_empty() && cell.execution_count.is_none() {
            continue;
        }
        for output in &mut cell.outputs {
            if let Some(data) = output.get_mut("data").and_then(Value::as_object_mut) {
                images::extract(data, "notebook", project, batch)?;
            }
        }
        let failed = cell
            .outputs
            .iter()
            .any(|output| output["output_type"] == "error");
        let seq = executions.len() + 1;
        executions.push(json!({
            "cell_hash": sha256_hex(body.as_bytes()),
            "code": body,
            "exec_id": format!("e{seq}"),
            "execution_count": cell.execution_count,
            "finished_at": null,
            "origin": {"index": index, "range": {"start": start, "end": line.saturating_sub(1).max(start)}},
            "outputs": cell.outputs,
            "seq": seq,
            "started_at": null,
            "status": if failed { "error" } else { "done" },
        }));
    }
    Ok(executions)
}

fn recorded(
    cells: &[NotebookCell],
    placed: &[Placed],
    project: &Project,
    batch: &mut Batch,
) -> Result<Vec<RecordedCell>, NotebookError> {
    let mut recorded = Vec::with_capacity(cells.len());
    for (cell, (_, _, body)) in cells.iter().zip(placed) {
        let mut attachments = cell.attachments.clone();
        for bundle in attachments
            .iter_mut()
            .flat_map(Map::values_mut)
            .filter_map(Value::as_object_mut)
        {
            images::extract(bundle, "notebook_asset", project, batch)?;
        }
        let mut metadata = cell.metadata.clone();
        // Told by the file itself from now on.
        metadata.remove(cells::OURS);
        recorded.push(RecordedCell {
            kind: cell.kind.name().to_owned(),
            body_sha: sha256_hex(body.as_bytes()),
            source: cell.source.clone(),
            metadata,
            attachments,
            id: cell.id.clone(),
        });
    }
    Ok(recorded)
}
