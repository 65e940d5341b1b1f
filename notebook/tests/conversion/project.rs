//! A project to convert files in, and notebooks as Jupyter writes them.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tithon_notebook::{Conversion, NotebookError, export, import};

/// A project in a directory of its own.
pub(crate) struct Project(TempDir);

impl Project {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    pub(crate) fn between(&self, source: &str, destination: &str) -> Conversion {
        Conversion {
            source: self.path(source),
            destination: self.path(destination),
            workdir: self.0.path().to_owned(),
        }
    }

    pub(crate) fn import(&self, source: &str, destination: &str) -> Result<usize, NotebookError> {
        import(&self.between(source, destination)).map(|converted| converted.cells)
    }

    pub(crate) fn export(&self, source: &str, destination: &str) -> Result<usize, NotebookError> {
        export(&self.between(source, destination), None).map(|converted| converted.cells)
    }

    /// Every file there is, hidden ones too.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.0.path().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                } else {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

/// A notebook as Jupyter writes one.
pub(crate) fn notebook(cells: &[Value]) -> String {
    let metadata = json!({"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "custom": [1, {"z": 1.5}]});
    json!({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).to_string()
}

pub(crate) fn code(id: &str, source: &str, count: Option<i64>, outputs: Value) -> Value {
    json!({"cell_type": "code", "id": id, "metadata": {}, "source": source, "execution_count": count, "outputs": outputs})
}

pub(crate) fn sources(notebook: &Value) -> Vec<String> {
    let cells = notebook["cells"].as_array().unwrap();
    let lines = |cell: &Value| {
        cell["source"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap().to_owned())
            .collect()
    };
    cells.iter().map(lines).collect()
}
