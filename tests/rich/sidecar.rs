//! Outputs beside the code: written for everybody who gets the project, read from anybody.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    bytes, crash_worker,
    harness::{Client, Home, until},
    references, shown, snapshot,
};

/// A file of the project and its session.
fn cell_file(home: &Home) -> (String, PathBuf) {
    let work = home.work().canonicalize().unwrap();
    fs::create_dir_all(work.join("sub")).unwrap();
    fs::write(work.join("sub/a b.py"), "# %%\n").unwrap();
    let uri = format!("file://{}/sub/a%20b.py", work.display());
    (uri, work.join(".tithon/cells/sub/a b.py.json"))
}

/// A client attached as an editor attaches, with the project's directory.
fn editor(home: &Home, uri: &str, since: i64) -> (Client, Option<Value>) {
    let mut client = home.client();
    client.send(
        &json!({"op": "attach", "session": uri, "workdir": home.work(), "last_seen_seq": since}),
    );
    let mut snapshot = None;
    loop {
        let frame = client.frame().unwrap();
        match frame["op"].as_str() {
            Some("snapshot") => snapshot = Some(frame),
            Some("sync") => return (client, snapshot),
            _ => {}
        }
    }
}

fn written(path: &Path, what: &str) -> Value {
    until(what, || {
        let text = fs::read_to_string(path).ok()?;
        text.contains(what)
            .then(|| serde_json::from_str(&text).unwrap())
    })
}

#[test]
fn outputs_travel_with_the_project() {
    let home = Home::new();
    let (uri, path) = cell_file(&home);
    let (mut client, _) = editor(&home, &uri, -1);
    let batch = json!({"op": "execute_batch", "session": uri, "cells": [
        {"code": "print('ü'); 1/0 if 0 else None", "origin": {"uri": uri, "index": 0, "range": {"start": 0, "end": 1}}},
        {"code": "from IPython.display import Image; Image(data=b'shared', format='png')"},
        {"code": "raise ValueError('no')"},
        {"code": "'never'"},
    ]});
    client.ask(&batch, "execute_ack");
    client.until_done("e4");
    let shared = written(&path, "ValueError");
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("{\n \"executions\": [\n  {\n   \"cell_hash\":")
            && text.ends_with("\n}\n"),
        "{text}"
    );
    assert!(
        text.contains("ü") && !text.contains(&uri) && !text.contains("fold_state"),
        "{text}"
    );
    let executions = shared["executions"].as_array().unwrap();
    assert_eq!(executions.len(), 3, "what was skipped is not shared");
    assert_eq!(
        executions[0]["origin"],
        json!({"index": 0, "range": {"start": 0, "end": 1}})
    );
    let status = client.ask(&json!({"op": "status", "session": uri}), "status_reply");
    assert_eq!(status["storage"]["shared_output_bytes"], text.len());

    // Another home that gets the project shows it, and runs nothing for it.
    let other = Home::new();
    copy(&home.work().join(".tithon"), &other.work().join(".tithon"));
    let (its_uri, its_path) = cell_file(&other);
    let (mut reader, snapshot) = editor(&other, &its_uri, 0);
    let snapshot = snapshot.unwrap();
    assert_eq!(snapshot["max_seq"], 0);
    for (n, (local, shared)) in snapshot["executions"]
        .as_array()
        .unwrap()
        .iter()
        .zip(executions)
        .enumerate()
    {
        assert_eq!(local["exec_id"], format!("e{}", n + 1));
        assert_eq!(local["outputs"], shared["outputs"]);
        assert_eq!(local["fold_state"], Value::Null);
    }
    assert_eq!(snapshot["executions"][0]["origin"]["uri"], its_uri.as_str());
    let image = references(&snapshot["executions"][1]["outputs"][0])[0]
        .1
        .clone();
    assert_eq!(
        bytes(&mut reader, &image["artifact_id"]).unwrap(),
        b"shared"
    );
    let imported: i64 = other
        .journal(&its_uri)
        .value("SELECT count(*) FROM executions WHERE imported = 1");
    assert_eq!(imported, 3);

    // What came stays when cells are run, and after a crash; what is shared then is both.
    assert_eq!(reader.execute(&its_uri, "print('mine')"), "e4");
    reader.until_done("e4");
    let both = written(&its_path, "mine");
    assert_eq!(both["executions"].as_array().unwrap().len(), 4);
    crash_worker(&other, &its_uri);
    let (mut reader, snapshot) = editor(&other, &its_uri, 0);
    assert_eq!(snapshot.unwrap()["executions"].as_array().unwrap().len(), 4);
    assert_eq!(
        bytes(&mut reader, &image["artifact_id"]).unwrap(),
        b"shared"
    );

    // Cleared for all is cleared in the file, and then the image goes.
    reader.ask(&json!({"op": "clear_output", "all": true}), "cleared");
    until("nothing shared", || {
        (!fs::read_to_string(&its_path)
            .unwrap()
            .contains("tithon_artifact"))
        .then_some(())
    });
    let file = other.work().join(image["rel_path"].as_str().unwrap());
    until("the image gone", || (!file.exists()).then_some(()));
}

#[test]
fn our_own_words_are_not_news() {
    let home = Home::new();
    let (uri, path) = cell_file(&home);
    let (mut client, _) = editor(&home, &uri, -1);
    client.run(&uri, "print('once')");
    written(&path, "once");
    let before = fs::read(&path).unwrap();
    crash_worker(&home, &uri);
    let (_, snapshot) = editor(&home, &uri, 0);
    assert_eq!(snapshot.unwrap()["executions"].as_array().unwrap().len(), 1);
    assert_eq!(
        home.journal(&uri)
            .value::<i64>("SELECT count(*) FROM executions"),
        1
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    // Sessions that are no files of the project have none.
    let mut other = home.attached("default", -1);
    other.run("default", "print(1)");
    assert_eq!(
        fs::read_dir(home.work().join(".tithon/cells"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn hostile_sidecars_are_refused_and_the_session_works() {
    let good = json!({"artifact_id": "0".repeat(64), "sha256": "0".repeat(64), "mime": "image/png",
        "rel_path": ".tithon/outputs/a.png"});
    let naming = |rel_path: &str| {
        let mut reference = good.clone();
        reference["rel_path"] = json!(rel_path);
        json!({"version": 1, "widgets": {}, "executions": [{"seq": 1, "code": "", "status": "done", "outputs": [
            {"output_type": "display_data", "metadata": {}, "data": {"image/png": {"$tithon_artifact": reference}}}]}]})
        .to_string()
    };
    for text in [
        naming("/etc/passwd"),
        naming(".tithon/outputs/../../secret"),
        "{".repeat(100_000),
        "not json".to_owned(),
        "[]".to_owned(),
    ] {
        let home = Home::new();
        let (uri, path) = cell_file(&home);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
        let (mut client, snapshot) = editor(&home, &uri, 0);
        assert_eq!(snapshot.unwrap()["executions"], json!([]), "{text:.60}");
        let status = client.ask(&json!({"op": "status", "session": uri}), "status_reply");
        assert!(status["sidecar_refused"].is_string(), "{status}");
        // A client that can show it is told.
        let mut person = home.client();
        person.send(&json!({"op": "attach", "session": uri, "workdir": home.work(), "launch": {}}));
        let notice = loop {
            let frame = person.frame().unwrap();
            if frame["op"] == "notice" {
                break frame["message"].to_string();
            }
        };
        assert!(notice.contains("are not shown"), "{notice}");
        assert_eq!(client.run(&uri, "print(6 * 7)"), "42\n");
        let done = written(&path, "42");
        assert_eq!(done["executions"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_snapshot_and_the_sidecar_say_the_same() {
    let home = Home::new();
    let (uri, path) = cell_file(&home);
    let (mut client, _) = editor(&home, &uri, -1);
    let exec = client.execute(
        &uri,
        "import sys\nfor n in range(50): print(f'\\r{n}', end='')\nprint('!', file=sys.stderr)",
    );
    client.until_done(&exec);
    let shared = written(&path, "49");
    assert_eq!(
        shared["executions"][0]["outputs"],
        shown(&snapshot(&home, &uri), &exec)
    );
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
