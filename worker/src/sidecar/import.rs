//! Reading a sidecar that may have come from anybody.
//!
//! Everything is checked before anything is believed: types, sizes, depth, and that no reference
//! names a file outside the project's outputs. One entry that is wrong refuses the file.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    artifacts::{kind_of, name_in_outputs},
    fold::{Fold, FoldError},
};

/// Nested deeper than any output is; parsers of clients recurse.
const DEPTH_MAX: usize = 100;
/// More cells than any file has.
const EXECUTIONS_MAX: usize = 100_000;

/// Why a sidecar was refused.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not the JSON it should be.
    #[error("read it: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by something newer, or by something else.
    #[error("read version {0} of it: only version 1 is known")]
    Version(i64),
    /// Nested too deeply.
    #[error("read it: it is nested more than {DEPTH_MAX} levels deep")]
    Depth,
    /// Too many entries.
    #[error("read it: it has more than {EXECUTIONS_MAX} executions")]
    Executions,
    /// Outputs that no fold wrote.
    #[error("read the outputs of its cells: {0}")]
    Outputs(#[from] FoldError),
    /// A reference that is malformed or leads elsewhere.
    #[error("accept its reference to {0:?}: it names no image in .tithon/outputs")]
    Reference(String),
}

/// What a sidecar says.
#[derive(Debug, Default)]
pub struct Import {
    /// Executions to show, in order.
    pub executions: Vec<ImportedExecution>,
    /// Images that they show.
    pub images: Vec<ImportedImage>,
    /// The widgets' state as JSON text.
    pub widgets: Option<String>,
}

/// An execution of somebody else.
#[derive(Debug)]
pub struct ImportedExecution {
    /// The code.
    pub code: String,
    /// SHA-256 of the code.
    pub cell_hash: Option<String>,
    /// `done`, `error` or `orphaned`.
    pub status: String,
    /// The kernel's count.
    pub execution_count: Option<i64>,
    /// Unix time in seconds.
    pub started_at: Option<f64>,
    /// Unix time in seconds.
    pub finished_at: Option<f64>,
    /// The lines, as JSON text.
    pub origin_range: Option<String>,
    /// The cell's number in the document.
    pub origin_index: Option<i64>,
    /// What it shows, as a fold writes it.
    pub outputs: String,
}

/// An image that an output refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedImage {
    /// SHA-256 of its bytes, as the file says.
    pub artifact_id: String,
    /// Its MIME type.
    pub mime: String,
    /// Directly in `.tithon/outputs`.
    pub rel_path: String,
}

#[derive(Deserialize)]
struct File<'a> {
    version: i64,
    #[serde(borrow)]
    executions: Vec<Entry<'a>>,
    #[serde(borrow, default)]
    widgets: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    seq: f64,
    code: String,
    status: String,
    #[serde(borrow)]
    outputs: &'a RawValue,
    #[serde(default)]
    cell_hash: Option<String>,
    #[serde(default)]
    execution_count: Option<i64>,
    #[serde(default)]
    started_at: Option<f64>,
    #[serde(default)]
    finished_at: Option<f64>,
    #[serde(default)]
    origin: Option<Origin>,
}

#[derive(Default, Deserialize)]
struct Origin {
    #[serde(default)]
    range: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    index: Option<i64>,
}

impl Import {
    /// Reads a sidecar's text.
    ///
    /// # Errors
    /// When anything in it is not as PROTOCOL §14 has it, or leads outside the project's outputs.
    pub fn read(text: &str) -> Result<Self, ImportError> {
        if !is_shallow(text) {
            return Err(ImportError::Depth);
        }
        let mut file: File<'_> = serde_json::from_str(text)?;
        if file.version != 1 {
            return Err(ImportError::Version(file.version));
        }
        if file.executions.len() > EXECUTIONS_MAX {
            return Err(ImportError::Executions);
        }
        file.executions.sort_by(|a, b| a.seq.total_cmp(&b.seq));
        let mut import = Self {
            widgets: file.widgets.map(|widgets| widgets.get().to_owned()),
            ..Self::default()
        };
        for entry in file.executions {
            // Somebody's unfinished cells are nobody else's.
            if matches!(&*entry.status, "done" | "error" | "orphaned") {
                import.take(entry)?;
            }
        }
        Ok(import)
    }

    fn take(&mut self, entry: Entry<'_>) -> Result<(), ImportError> {
        references(entry.outputs.get(), &mut self.images)?;
        let origin = entry.origin.unwrap_or_default();
        self.executions.push(ImportedExecution {
            outputs: Fold::restore(entry.outputs.get(), None)?.outputs_json(),
            code: entry.code,
            cell_hash: entry.cell_hash,
            status: entry.status,
            execution_count: entry.execution_count,
            started_at: entry.started_at,
            finished_at: entry.finished_at,
            origin_range: origin
                .range
                .map(|range| tithon_ipc::json::to_string(&range)),
            origin_index: origin.index,
        });
        Ok(())
    }
}

/// Collects the references of a list of outputs.
fn references(outputs: &str, images: &mut Vec<ImportedImage>) -> Result<(), ImportError> {
    #[derive(Deserialize)]
    struct Output<'a> {
        #[serde(borrow, default)]
        data: Option<std::collections::BTreeMap<String, &'a RawValue>>,
    }
    #[derive(Deserialize)]
    struct Value<'a> {
        #[serde(borrow, rename = "$tithon_artifact")]
        artifact: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Reference {
        artifact_id: String,
        mime: String,
        rel_path: String,
        sha256: String,
    }
    if !outputs.contains("$tithon_artifact") {
        return Ok(());
    }
    for output in serde_json::from_str::<Vec<Output<'_>>>(outputs)? {
        for value in output
            .data
            .into_iter()
            .flatten()
            .map(|(_, value)| value.get())
        {
            let Ok(Value { artifact }) = serde_json::from_str(value) else {
                continue;
            };
            let reference: Reference = serde_json::from_str(artifact.get())?;
            let is_sha = |text: &str| {
                text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            };
            let honest = is_sha(&reference.artifact_id)
                && reference.sha256 == reference.artifact_id
                && kind_of(&reference.mime).is_some()
                && name_in_outputs(&reference.rel_path).is_some();
            if !honest {
                return Err(ImportError::Reference(reference.rel_path));
            }
            images.push(ImportedImage {
                artifact_id: reference.artifact_id,
                mime: reference.mime,
                rel_path: reference.rel_path,
            });
        }
    }
    Ok(())
}

/// Whether no value is nested too deeply, found without recursion.
fn is_shallow(json: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHA: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn entry(outputs: &str) -> String {
        format!(r#"{{"seq": 2, "code": "x", "status": "done", "outputs": {outputs}}}"#)
    }

    fn file(entries: &str) -> String {
        format!(r#"{{"version": 1, "executions": [{entries}], "widgets": {{"state": {{}}}}}}"#)
    }

    fn referring(id: &str, mime: &str, rel_path: &str) -> String {
        let reference = serde_json::json!({"artifact_id": id, "mime": mime, "rel_path": rel_path, "sha256": id});
        let outputs = serde_json::json!([{"output_type": "display_data", "metadata": {},
            "data": {"image/png": {"$tithon_artifact": reference}}}]);
        file(&entry(&outputs.to_string()))
    }

    #[test]
    fn what_was_shared_is_taken_in_order() {
        let first = entry("[]")
            .replace("\"seq\": 2", "\"seq\": 1.0")
            .replace("\"x\"", "\"first\"");
        let running = entry("[]").replace("done", "running");
        let last =
            entry(r#"[{"output_type": "stream", "name": "stdout", "text": "hi", "other": 1}]"#)
                .replace(
                    "\"code\"",
                    r#""origin": {"index": 3, "range": {"start": 1, "end": 2}}, "code""#,
                );
        let import = Import::read(&file(&[last, running, first].join(","))).unwrap();
        assert_eq!(import.executions.len(), 2);
        assert_eq!(import.executions[0].code, "first");
        let last = &import.executions[1];
        assert_eq!(last.origin_index, Some(3));
        assert_eq!(
            last.outputs,
            r#"[{"output_type": "stream", "name": "stdout", "text": "hi"}]"#
        );
        assert_eq!(import.widgets.as_deref(), Some(r#"{"state": {}}"#));
    }

    #[test]
    fn references_stay_in_the_outputs() {
        let good = referring(SHA, "image/png", ".tithon/outputs/e1_0_9f86d081.png");
        assert_eq!(Import::read(&good).unwrap().images.len(), 1);
        for (id, mime, rel_path) in [
            (SHA, "image/png", "/etc/passwd"),
            (SHA, "image/png", "../../etc/passwd"),
            (SHA, "image/png", ".tithon/outputs/../../secret"),
            (SHA, "image/png", ".tithon/outputs/.."),
            (SHA, "image/png", ".tithon/outputs/"),
            (SHA, "image/png", ".tithon/outputs/a/b.png"),
            (SHA, "image/png", ".tithon/cells/a.py.json"),
            (SHA, "image/png", ".tithon//outputs/a.png"),
            (SHA, "text/html", ".tithon/outputs/a.html"),
            ("../x", "image/png", ".tithon/outputs/a.png"),
        ] {
            let hostile = referring(id, mime, rel_path);
            assert!(
                matches!(Import::read(&hostile), Err(ImportError::Reference(_))),
                "{rel_path}"
            );
        }
    }

    #[test]
    fn what_is_broken_is_refused() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for broken in [
            String::new(),
            "[]".to_owned(),
            file("1"),
            file("{}"),
            file(&entry("{}")),
            file(&entry("[1]")),
            file(&entry(r#"[{"output_type": "script"}]"#)),
            file(&entry("[]")).replace("\"version\": 1", "\"version\": 2"),
            file(&entry("[]")).replace("\"x\"", "7"),
            file(&entry(&format!(
                r#"[{{"output_type": "display_data", "data": {{"a/b": {deep}}}}}]"#
            ))),
            file(&entry(
                r#"[{"output_type": "display_data", "data": {"image/png": {"$tithon_artifact": 1}}}]"#,
            )),
        ] {
            assert!(Import::read(&broken).is_err(), "{broken}");
        }
    }

    proptest! {
        /// Whatever is changed in a sidecar, it is read or refused, and never names anything outside.
        #[test]
        fn damage_never_leads_outside(at in 0_usize..400, with in "[\\x00-\\x7f]{0,4}|\\.\\./|/etc/") {
            let mut text = referring(SHA, "image/png", ".tithon/outputs/e1_0_9f86d081.png");
            let at = at.min(text.len());
            let end = (at + with.len()).min(text.len());
            text.replace_range(at..end, &with);
            if let Ok(import) = Import::read(&text) {
                for image in import.images {
                    let path = std::path::Path::new(&image.rel_path);
                    prop_assert_eq!(path.parent(), Some(std::path::Path::new(".tithon/outputs")));
                }
            }
        }
    }
}
