//! The notebook file: nbformat 4 in, nbformat 4.5 out. Fields nobody here knows are carried along.

use serde_json::{Map, Value, json};
use std::path::Path;

use tithon_ipc::jupyter::without_lone_surrogates;

use crate::{NotebookError, files, percent::Kind};

/// A notebook's content, its texts joined.
#[derive(Debug)]
pub(crate) struct Notebook {
    pub(crate) metadata: Map<String, Value>,
    pub(crate) cells: Vec<NotebookCell>,
}

/// One cell.
#[derive(Debug)]
pub(crate) struct NotebookCell {
    pub(crate) kind: Kind,
    pub(crate) id: Option<String>,
    pub(crate) source: String,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) attachments: Option<Map<String, Value>>,
    /// As the format has them, their texts joined.
    pub(crate) outputs: Vec<Value>,
    pub(crate) execution_count: Option<i64>,
}

impl Notebook {
    /// Reads a notebook of a Python kernel.
    pub(crate) fn read(path: &Path) -> Result<Self, NotebookError> {
        let text = files::read_text(path)?;
        let wrong = |reason: String| NotebookError::NotANotebook {
            path: path.to_owned(),
            reason,
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let value: Value = serde_json::from_str(&without_lone_surrogates(text))
            .map_err(|err| wrong(err.to_string()))?;
        let Value::Object(mut fields) = value else {
            return Err(wrong("it is no JSON object".to_owned()));
        };
        match fields.get("nbformat").and_then(Value::as_i64) {
            Some(4) => {}
            Some(major) => {
                return Err(NotebookError::Version {
                    path: path.to_owned(),
                    major,
                });
            }
            None => return Err(wrong("it has no nbformat".to_owned())),
        }
        let metadata = object(fields.remove("metadata"));
        if let Some(language) = language(&metadata).filter(|language| language != "python") {
            return Err(NotebookError::Language {
                path: path.to_owned(),
                language,
            });
        }
        let Some(Value::Array(cells)) = fields.remove("cells") else {
            return Err(wrong("it has no cells".to_owned()));
        };
        let cells = cells
            .into_iter()
            .enumerate()
            .map(|(at, cell)| {
                NotebookCell::parse(cell)
                    .map_err(|reason| wrong(format!("cell {}: {reason}", at + 1)))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { metadata, cells })
    }

    /// The file's text, laid out as Jupyter does.
    pub(crate) fn to_text(&self) -> String {
        let cells: Vec<Value> = self.cells.iter().map(NotebookCell::to_json).collect();
        let notebook =
            json!({"cells": cells, "metadata": self.metadata, "nbformat": 4, "nbformat_minor": 5});
        indented(&notebook)
    }
}

impl NotebookCell {
    fn parse(cell: Value) -> Result<Self, String> {
        let Value::Object(mut fields) = cell else {
            return Err("it is no JSON object".to_owned());
        };
        let name = fields
            .get("cell_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let kind = Kind::parse(name).ok_or_else(|| format!("its type is \"{name}\""))?;
        let source = fields
            .remove("source")
            .map_or(Some(String::new()), |source| joined(&source));
        let outputs = match fields.remove("outputs") {
            Some(Value::Array(outputs)) if kind == Kind::Code => {
                outputs.into_iter().map(joined_output).collect()
            }
            _ => Vec::new(),
        };
        Ok(Self {
            kind,
            id: fields
                .get("id")
                .and_then(Value::as_str)
                .filter(|id| is_id(id))
                .map(str::to_owned),
            source: source.ok_or("its source is no text")?,
            metadata: object(fields.remove("metadata")),
            attachments: match fields.remove("attachments") {
                Some(Value::Object(attachments)) => Some(attachments),
                _ => None,
            },
            outputs,
            execution_count: fields.get("execution_count").and_then(Value::as_i64),
        })
    }

    fn to_json(&self) -> Value {
        let mut cell = json!({
            "cell_type": self.kind.name(),
            "id": self.id,
            "metadata": self.metadata,
            "source": lines(&self.source),
        });
        if let Some(attachments) = self
            .attachments
            .as_ref()
            .filter(|_| self.kind != Kind::Code)
        {
            cell["attachments"] = Value::Object(attachments.clone());
        }
        if self.kind == Kind::Code {
            cell["execution_count"] = json!(self.execution_count);
            cell["outputs"] = self.outputs.iter().map(split_output).collect();
        }
        cell
    }
}

/// Whether a text may be a cell's id.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// JSON with an indent of 1 and a newline at the end, keys sorted.
pub(crate) fn indented(value: &Value) -> String {
    let mut out = Vec::new();
    let layout = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, layout);
    // A Value always has a JSON form, and it is UTF-8.
    drop(serde::Serialize::serialize(value, &mut serializer));
    out.push(b'\n');
    String::from_utf8(out).unwrap_or_default()
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn language(metadata: &Map<String, Value>) -> Option<String> {
    let named =
        |part: &str, field: &str| Some(metadata.get(part)?.get(field)?.as_str()?.to_lowercase());
    let language = named("language_info", "name").or_else(|| named("kernelspec", "language"))?;
    // Names that Jupyter's own kernels have used.
    Some(if language == "ipython" {
        "python".to_owned()
    } else {
        language
    })
}

/// A text that may be given as a list of lines.
fn joined(text: &Value) -> Option<String> {
    match text {
        Value::String(text) => Some(text.clone()),
        Value::Array(lines) => lines.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn join_in_place(value: &mut Value) {
    if let Some(text) = joined(value).filter(|_| value.is_array()) {
        *value = Value::String(text);
    }
}

fn joined_output(mut output: Value) -> Value {
    if let Some(text) = output.get_mut("text") {
        join_in_place(text);
    }
    if let Some(Value::Object(data)) = output.get_mut("data") {
        data.iter_mut()
            .filter(|(mime, _)| !is_json(mime))
            .for_each(|(_, value)| join_in_place(value));
    }
    output
}

fn split_output(output: &Value) -> Value {
    let mut output = output.clone();
    let split = |value: &mut Value| {
        if let Value::String(text) = value {
            *value = lines(text);
        }
    };
    if output["output_type"] == "stream" {
        output.get_mut("text").map(split);
    }
    if let Some(Value::Object(data)) = output.get_mut("data") {
        let texts = data
            .iter_mut()
            .filter(|(mime, _)| !is_json(mime) && !is_binary(mime));
        texts.for_each(|(_, value)| split(value));
    }
    output
}

fn is_json(mime: &str) -> bool {
    mime == "application/json" || mime.ends_with("+json")
}

fn is_binary(mime: &str) -> bool {
    mime == "application/pdf" || mime.starts_with("image/") && mime != "image/svg+xml"
}

fn lines(text: &str) -> Value {
    text.split_inclusive('\n').collect()
}
