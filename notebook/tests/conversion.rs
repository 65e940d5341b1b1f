//! Files converted there and back: what a user has must come back byte for byte, and what cannot be
//! converted must leave no trace.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use tithon_notebook::{Conversion, NotebookError, export, import, split};

const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

struct Project(TempDir);

impl Project {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    fn between(&self, source: &str, destination: &str) -> Conversion {
        Conversion {
            source: self.path(source),
            destination: self.path(destination),
            workdir: self.0.path().to_owned(),
        }
    }

    fn import(&self, source: &str, destination: &str) -> Result<usize, NotebookError> {
        import(&self.between(source, destination)).map(|converted| converted.cells)
    }

    fn export(&self, source: &str, destination: &str) -> Result<usize, NotebookError> {
        export(&self.between(source, destination), None).map(|converted| converted.cells)
    }

    /// Every file there is, hidden ones too.
    fn files(&self) -> Vec<PathBuf> {
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
fn notebook(cells: &[Value]) -> String {
    let metadata = json!({"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "custom": [1, {"z": 1.5}]});
    json!({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).to_string()
}

fn code(id: &str, source: &str, count: Option<i64>, outputs: Value) -> Value {
    json!({"cell_type": "code", "id": id, "metadata": {}, "source": source, "execution_count": count, "outputs": outputs})
}

fn sources(notebook: &Value) -> Vec<String> {
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

/// Files that editors, people and other programs leave.
const NASTY: [(&str, &str); 22] = [
    ("empty", ""),
    ("no_final_newline", "# %%\n1"),
    ("only_markers", "# %%\n# %%\n# %% [markdown]\n# %%"),
    (
        "crlf",
        "# %%\r\nprint(1)\r\n# %% [markdown]\r\n# a\r\n#\r\n# b\r\n",
    ),
    ("mixed_ends", "# %%\r\n1\n# %%\n2\r\n3\r"),
    ("bom", "\u{feff}# %%\n1\n# %%\n2\n"),
    ("bom_and_prelude", "\u{feff}import os\n# %%\n1\n"),
    (
        "prelude",
        "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n\nimport os\n\n# %%\n1\n",
    ),
    (
        "titles",
        "#%%\n1\n# %% a title\n2\n#  %% [markdown] with a title\n# m\n# %%\t[raw]\n# r\n",
    ),
    ("blank_lines", "\n\n# %%\n\n\n1\n\n\n# %%\n2\n\n"),
    (
        "markers_in_strings",
        "# %%\nx = '''\n# %%\n'''\ny = (\n# %%\n1)\nf'''{x!r:>{10}}\n# %% [markdown]\n'''\n# %%\nz = \"\\\n# %%\n\"\n",
    ),
    (
        "nested_quotes",
        "# %%\nf\"{x[\"a\"]}\" + f'{f\"{'x'}\"}'\n# %%\n'it\\'s' \"\\\"\" '''\"\"\"''' r'\\'\n# %%\n1\n",
    ),
    (
        "magics",
        "# %%\n%matplotlib inline\n!echo it's (\n# %%\n%%bash\necho ''' {\n# %%\nfiles = !ls 'x\nprint?\n",
    ),
    (
        "unicode",
        "# %%\nétat = '🦀'\n# %% [markdown]\n# Ünï → ∑ 漢字 \u{202e}\n",
    ),
    (
        "tabs_and_form_feeds",
        "# %%\nif 1:\n\tx\n\u{c}\n# %%\t\n\u{c}# %%\n",
    ),
    (
        "odd_comments",
        "# %% [markdown]\n#bare\n#  two\n# \n#\nplain\n\t# tab\n\n",
    ),
    (
        "markdown_as_string",
        "# %% [markdown]\n\"\"\"\nhello # %%\n\"\"\"\n# %%\n1\n",
    ),
    (
        "broken_python",
        "# %%\ns = 'never\n# %%\n)]}\n# %%\nif 1:\n    a\n  b\n",
    ),
    (
        "separators",
        "# %%\nx = 'a\u{2028}b\u{85}c\u{b}d\u{1c}'\n# %% [markdown]\n# a\u{2028}b\u{85}\n",
    ),
    ("control_characters", "# %%\nx = '\u{1}\u{7f}\u{0}'\n"),
    (
        "continued",
        "# %%\nx = 1 + \\\n    2\n# %%\n!ls \\\n  -l\n# %%\n3\n",
    ),
    (
        "trailing_whitespace",
        "# %%   \n1   \n# %% [markdown]   \n# a   \n",
    ),
];

#[test]
fn any_python_file_comes_back_byte_for_byte() {
    let project = Project::new();
    for (name, text) in NASTY {
        let file = |step: &str, extension: &str| format!("{name}-{step}.{extension}");
        project.write(&file("0", "py"), text);
        project
            .export(&file("0", "py"), &file("0", "ipynb"))
            .unwrap();
        project
            .import(&file("0", "ipynb"), &file("1", "py"))
            .unwrap();
        assert_eq!(project.read(&file("1", "py")), text, "{name}");
        // Once more, now that there is a record of what the notebook had.
        project
            .export(&file("1", "py"), &file("1", "ipynb"))
            .unwrap();
        assert_eq!(
            project.json(&file("1", "ipynb")),
            project.json(&file("0", "ipynb")),
            "{name}"
        );
    }
}

#[test]
fn a_notebook_comes_back_with_all_it_had() {
    let project = Project::new();
    let outputs = json!([
        {"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]},
        {"output_type": "execute_result", "execution_count": 3, "metadata": {"m": 1}, "data": {"text/plain": ["'x'"], "image/png": PNG}},
        {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": ["<svg>\n", "</svg>"], "application/json": {"a": ["x\n", "y"]}, "text/html": ["<b>\n"]}},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\u{1b}[31mE", "v"]},
    ]);
    let cells = [
        json!({"cell_type": "markdown", "id": "m-1", "metadata": {"deep": {"er": [null]}}, "source": ["# Title\n", "\n", "text\n"], "attachments": {"x.png": {"image/png": PNG}}}),
        code("c-1", "print(1)\n", Some(3), outputs),
        code("c_2", "%matplotlib inline", None, json!([])),
        json!({"cell_type": "raw", "id": "r", "metadata": {"format": "text/x"}, "source": ["raw"]}),
        code("empty", "", None, json!([])),
        json!({"cell_type": "markdown", "id": "nothing", "metadata": {}, "source": []}),
    ];
    let mut value: Value = serde_json::from_str(&notebook(&cells)).unwrap();
    value["metadata"]["widgets"] = json!({"application/vnd.jupyter.widget-state+json": {"state": {"w": {"model_name": "X"}}, "version_major": 2, "version_minor": 0}});
    project.write("a.ipynb", &value.to_string());
    assert_eq!(project.import("a.ipynb", "sub.py").unwrap(), 6);
    assert!(
        project
            .read("sub.py")
            .starts_with("# %% [markdown]\n# # Title\n# \n# text\n# \n# %%\nprint(1)\n# %%\n%mat")
    );
    project.export("sub.py", "b.ipynb").unwrap();
    let mut back = project.json("b.ipynb");
    // Texts may be given as lists or not: compared as Jupyter reads them.
    for cell in value["cells"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .chain(back["cells"].as_array_mut().unwrap())
    {
        let source = match &cell["source"] {
            Value::Array(lines) => lines.iter().map(|line| line.as_str().unwrap()).collect(),
            text => text.as_str().unwrap().to_owned(),
        };
        cell["source"] = source.into();
    }
    assert_eq!(back, value);
    // The image is a file, once, named by its content.
    assert!(!project.read(".tithon/cells/sub.py.json").contains(PNG));
    let images: Vec<_> = project
        .files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "png" || e == "svg"))
        .collect();
    assert_eq!(images.len(), 3, "{images:?}");
}

#[test]
fn an_edited_file_keeps_what_still_belongs_to_it() {
    let project = Project::new();
    let printed = |text: &str| json!([{"output_type": "stream", "name": "stdout", "text": text}]);
    let cells = [
        code("one", "1", Some(1), printed("1")),
        code("two", "2", Some(2), printed("2")),
        code("three", "3", Some(3), printed("3")),
    ];
    project.write("a.ipynb", &notebook(&cells));
    project.import("a.ipynb", "a.py").unwrap();
    // A new cell first, the second edited, the third moved before it.
    project.write("a.py", "# %%\nnew\n# %%\n1\n# %%\n3\n# %%\n2 + 2\n");
    project.export("a.py", "b.ipynb").unwrap();
    let cells = project.json("b.ipynb")["cells"].clone();
    let ids: Vec<_> = (0..4)
        .map(|at| cells[at]["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((ids[1].as_str(), ids[2].as_str()), ("one", "three"));
    assert_eq!(
        ids.iter().collect::<std::collections::HashSet<_>>().len(),
        4,
        "{ids:?}"
    );
    assert_eq!(cells[1]["outputs"][0]["text"][0], "1");
    assert_eq!(cells[1]["metadata"], json!({}));
    assert_eq!(cells[2]["outputs"][0]["text"][0], "3");
    // Where another cell stood, its output is shown and said to be another's.
    assert_eq!(cells[0]["metadata"]["tithon"]["stale_outputs"], true);
}

#[test]
fn a_live_session_is_believed_before_the_sidecar() {
    let project = Project::new();
    project.write("a.py", "# %%\nprint(1)\n# %%\n2\n");
    let entry = |seq: i64, code: &str, index: i64, text: &str, status: &str| {
        let hash = tithon_ipc::ids::sha256_hex(code.as_bytes());
        json!({"exec_id": format!("e{seq}"), "seq": seq, "code": code, "cell_hash": hash, "status": status, "execution_count": seq,
            "origin": {"index": index}, "outputs": [{"output_type": "stream", "name": "stdout", "text": text}]})
    };
    let snapshot = json!({"op": "snapshot", "executions": [
        entry(1, "print(1)", 0, "old", "done"),
        entry(2, "print(1)", 0, "new \u{fffd}", "error"),
        entry(3, "print(1)", 5, "elsewhere", "done"),
        entry(4, "print(1)", 0, "waits", "queued"),
        entry(5, "two", 1, "stale", "done"),
    ], "widgets": {"state": {}}});
    let converted = export(
        &project.between("a.py", "a.ipynb"),
        Some(&snapshot.to_string()),
    )
    .unwrap();
    assert_eq!(converted.cells, 2);
    let notebook = project.json("a.ipynb");
    assert_eq!(
        notebook["cells"][0]["outputs"][0]["text"][0],
        "new \u{fffd}"
    );
    assert_eq!(notebook["cells"][0]["execution_count"], 2);
    assert_eq!(notebook["cells"][0]["metadata"], json!({}));
    assert_eq!(
        notebook["cells"][1]["metadata"]["tithon"]["stale_outputs"],
        true
    );
    assert_eq!(notebook["cells"][1]["outputs"][0]["text"][0], "stale");
}

#[test]
fn images_are_read_from_the_projects_own_folder_only() {
    let project = Project::new();
    project.write("a.py", "# %%\n1\n");
    project.write("secret.png", "secret");
    project.write(".tithon/outputs/good.png", "good");
    std::os::unix::fs::symlink(
        project.path("secret.png"),
        project.path(".tithon/outputs/link.png"),
    )
    .unwrap();
    let image = |path: &str, content: &str| {
        let sha = tithon_ipc::ids::sha256_hex(content.as_bytes());
        let data = json!({"text/plain": path, "image/png": {"$tithon_artifact": {"artifact_id": sha, "sha256": sha, "mime": "image/png", "rel_path": path}}});
        json!({"output_type": "display_data", "data": data, "metadata": {}})
    };
    let absolute = project.path("secret.png");
    let outputs = [
        image(".tithon/outputs/good.png", "good"),
        image("secret.png", "secret"),
        image(".tithon/outputs/../../secret.png", "secret"),
        image(".tithon/outputs/link.png", "secret"),
        image(absolute.to_str().unwrap(), "secret"),
        image(".tithon/outputs/good.png", "changed since"),
        image(".tithon/outputs/gone.png", "gone"),
    ];
    let hash = tithon_ipc::ids::sha256_hex(b"1");
    let sidecar = json!({"version": 1, "widgets": null, "executions": [{"cell_hash": hash, "seq": 1, "status": "done", "outputs": outputs}]});
    project.write(".tithon/cells/a.py.json", &sidecar.to_string());
    let converted = export(&project.between("a.py", "a.ipynb"), None).unwrap();
    assert_eq!(converted.missing_images, 6);
    let shown = project.json("a.ipynb")["cells"][0]["outputs"].clone();
    assert_eq!(shown[0]["data"]["image/png"], "Z29vZA==");
    for output in &shown.as_array().unwrap()[1..] {
        assert!(output["data"].get("image/png").is_none(), "{output}");
        assert!(output["data"].get("text/plain").is_some());
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_is_left_behind() {
    let project = Project::new();
    let image =
        json!([{"output_type": "display_data", "metadata": {}, "data": {"image/png": PNG}}]);
    project.write(
        "a.ipynb",
        &notebook(&[
            code("a", "1", Some(1), image.clone()),
            code("b", "2\n# %%\n3", None, json!([])),
        ]),
    );
    project.write("b.ipynb", &notebook(&[code("a", "1", Some(1), image)]));
    project.write("there.py", "mine");
    project.write("x.py", "# %%\n");
    project.write("unclosed.py", "# %%\nx = (\n# %%\n");
    project.write(".tithon/notebooks/recorded.py.json", "{}");
    let before = project.files();
    let refused = |result: Result<usize, NotebookError>, words: &str| {
        let err = result.unwrap_err();
        assert!(err.to_string().contains(words), "{err}");
        assert_eq!(project.files(), before, "{err}");
    };
    refused(project.import("a.ipynb", "new.py"), "cell 2 ");
    refused(project.import("b.ipynb", "there.py"), "exists already");
    refused(
        project.import("b.ipynb", "recorded.py"),
        "recorded.py.json exists already",
    );
    refused(project.import("b.ipynb", "new.txt"), "does not end in .py");
    refused(project.import("missing.ipynb", "new.py"), "missing.ipynb");
    refused(project.export("x.py", "a.ipynb"), "exists already");
    refused(
        project.export("unclosed.py", "new.ipynb"),
        "( in line 2 is never closed",
    );
    refused(project.export("missing.py", "new.ipynb"), "missing.py");
    let outside = tempfile::tempdir().unwrap();
    let mut conversion = project.between("b.ipynb", "new.py");
    conversion.destination = outside.path().join("new.py");
    refused(
        import(&conversion).map(|converted| converted.cells),
        "is not inside the project",
    );
    assert_eq!(project.read("there.py"), "mine");
    fs::create_dir(project.path("linked")).unwrap();
    fs::remove_dir_all(project.path(".tithon")).unwrap();
    std::os::unix::fs::symlink(outside.path(), project.path(".tithon")).unwrap();
    let err = project.import("b.ipynb", "new.py").unwrap_err();
    assert!(matches!(err, NotebookError::Link(_)), "{err}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(!project.path("new.py").exists());
}

#[test]
fn what_is_no_python_notebook_is_refused_in_words() {
    let project = Project::new();
    for (content, words) in [
        ("", "is not a notebook"),
        ("[]", "no JSON object"),
        ("{}", "no nbformat"),
        (r#"{"nbformat": 3, "worksheets": []}"#, "format 3"),
        (r#"{"nbformat": 4}"#, "no cells"),
        (
            r#"{"nbformat": 4, "cells": [7]}"#,
            "cell 1: it is no JSON object",
        ),
        (
            r#"{"nbformat": 4, "cells": [{"cell_type": "heading"}]}"#,
            "\"heading\"",
        ),
        (
            r#"{"nbformat": 4, "cells": [{"cell_type": "code", "source": 7}]}"#,
            "no text",
        ),
        (
            r#"{"nbformat": 4, "cells": [], "metadata": {"kernelspec": {"language": "R"}}}"#,
            "in r, not Python",
        ),
    ] {
        fs::write(project.path("a.ipynb"), content).unwrap();
        let err = project.import("a.ipynb", "a.py").unwrap_err();
        assert!(err.to_string().contains(words), "{content}: {err}");
    }
    fs::write(
        project.path("a.ipynb"),
        b"{\"nbformat\": 4, \"x\": \"\xff\"}",
    )
    .unwrap();
    assert!(matches!(
        project.import("a.ipynb", "a.py"),
        Err(NotebookError::NotText(_))
    ));
    assert_eq!(project.files(), [project.path("a.ipynb")]);
}

#[test]
fn older_notebooks_and_odd_ids_get_ids_that_are_allowed() {
    let project = Project::new();
    let cell = |id: Value| json!({"cell_type": "code", "id": id, "metadata": {}, "source": "1", "outputs": [], "execution_count": null});
    let cells = [
        cell(json!("same")),
        cell(json!("same")),
        cell(json!("not allowed!")),
        cell(json!(7)),
        cell(Value::Null),
    ];
    project.write("a.ipynb", &notebook(&cells));
    project.import("a.ipynb", "a.py").unwrap();
    project.export("a.py", "b.ipynb").unwrap();
    let cells = project.json("b.ipynb")["cells"].clone();
    let ids: std::collections::HashSet<_> = (0..5)
        .map(|at| cells[at]["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 5, "{ids:?}");
    assert!(ids.contains("same"));
    assert_eq!(sources(&project.json("b.ipynb")), ["1"; 5]);
}

/// Texts whose lines are difficult.
fn python() -> impl Strategy<Value = String> {
    let lines = prop::sample::select(vec![
        "# %%",
        "#%% t",
        "# %% [markdown]",
        "# %% [raw]",
        "# text",
        "#",
        "x = 1",
        "s = '''",
        "'''",
        "(",
        ")",
        "f'{x}'",
        "%%bash",
        "!ls 'x",
        "x \\",
        "",
        "  ",
        "é🦀",
        "\u{feff}",
        "# %%\r",
        "\r",
        "'",
        "\u{c}",
    ]);
    let ends = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", ""]);
    prop::collection::vec((lines, ends), 0..16).prop_map(|lines| {
        lines
            .into_iter()
            .flat_map(|(line, end)| [line, end])
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn there_and_back_is_the_identity(text in python()) {
        prop_assume!(split(&text).is_ok());
        let project = Project::new();
        project.write("a.py", &text);
        project.export("a.py", "a.ipynb").unwrap();
        project.import("a.ipynb", "b.py").unwrap();
        prop_assert_eq!(project.read("b.py"), text);
    }

    #[test]
    fn a_notebook_of_any_texts_is_converted_or_refused(sources in prop::collection::vec((0_usize..3, python()), 0..5)) {
        let kinds = ["code", "markdown", "raw"];
        let cells: Vec<_> = sources.iter().map(|(kind, source)| json!({"cell_type": kinds[*kind], "metadata": {}, "source": source})).collect();
        let project = Project::new();
        project.write("a.ipynb", &notebook(&cells));
        if project.import("a.ipynb", "a.py").is_ok() {
            project.export("a.py", "b.ipynb").unwrap();
            let back = project.json("b.ipynb");
            let shown: Vec<String> = self::sources(&back);
            let meant: Vec<String> = sources.iter().map(|(_, source)| source.clone()).collect();
            prop_assert_eq!(shown, meant);
            fs::remove_file(project.path("a.ipynb")).unwrap();
            project.import("b.ipynb", "c.py").unwrap();
            prop_assert_eq!(project.read("c.py"), project.read("a.py"));
        } else {
            prop_assert_eq!(project.files(), [project.path("a.ipynb")]);
        }
    }

    #[test]
    fn any_file_is_read_without_a_panic(content in any::<String>()) {
        let project = Project::new();
        project.write("a.ipynb", &content);
        project.write("a.py", &content);
        project.write(".tithon/cells/a.py.json", &content);
        project.write(".tithon/notebooks/a.py.json", &content);
        drop(project.export("a.py", "b.ipynb"));
        drop(project.import("a.ipynb", "c.py"));
    }
}
