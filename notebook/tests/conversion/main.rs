//! Files converted there and back: what a user has must come back byte for byte, and what cannot be
//! converted must leave no trace.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod project;
mod texts;

use std::fs;

use serde_json::{Value, json};
use tithon_notebook::{NotebookError, export, import};

use project::{Project, code, notebook, sources};

const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

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
