//! Images as files: what clients see of them live, later and after every crash; what is left on the
//! disk; and what no path in a journal or a project can reach.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tithon_worker::{artifacts::read_artifact, journal};

use crate::{
    bytes, crash_worker,
    harness::{Home, until},
    outputs, references, shown, snapshot,
};

const EVERY_KIND: &str = r#"
from base64 import b64encode
from IPython.display import display, Image, SVG
display(Image(data=b"\x89PNG\r\n" + bytes(range(256)), format="png"))
display(SVG(data='<svg xmlns="http://www.w3.org/2000/svg"><text>ü "1"</text></svg>'))
display({"image/jpeg": b64encode(b"jpeg" * 99).decode(), "image/gif": "R0lG\nODlh",
         "image/webp": "UklGRg==", "application/pdf": "JVBERi0=", "text/plain": "four"}, raw=True)
display({"image/png": "no base64 at all!", "text/plain": "kept"}, raw=True)
Image(data=b"result", format="png")
"#;

#[test]
fn images_are_files_wherever_one_looks_from() {
    let mut home = Home::new();
    let mut live = home.attached("default", -1);
    live.run("default", "1");
    let middle = live.execute("default", EVERY_KIND);
    let told = live.until_done(&middle);
    assert_eq!(told.done(&middle)["status"], "ok", "{told:?}");
    let contents: Vec<_> = told
        .outputs(&middle, "display_data")
        .chain(told.outputs(&middle, "execute_result"))
        .collect();
    let named: Vec<_> = contents
        .iter()
        .flat_map(|content| references(content))
        .collect();
    let kinds: Vec<_> = named.iter().map(|(mime, _)| mime.as_str()).collect();
    let expected = [
        "image/png",
        "image/svg+xml",
        "application/pdf",
        "image/gif",
        "image/jpeg",
        "image/webp",
        "image/png",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(contents[3]["data"]["image/png"], "no base64 at all!");
    for (mime, reference) in &named {
        assert_eq!(reference["mime"], mime.as_str());
        assert_eq!(reference["sha256"], reference["artifact_id"]);
        let path = home.work().join(reference["rel_path"].as_str().unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        let sha = &reference["sha256"].as_str().unwrap()[..8];
        assert!(
            name.starts_with(&format!("{middle}_")) && name.contains(sha),
            "{name}"
        );
        let file = fs::read(&path).unwrap();
        assert_eq!(
            bytes(&mut live, &reference["artifact_id"]).as_ref(),
            Some(&file)
        );
    }
    let names: BTreeSet<_> = named
        .iter()
        .map(|(_, reference)| {
            reference["rel_path"]
                .as_str()
                .unwrap()
                .replace(".tithon/outputs/", "")
        })
        .collect();
    assert_eq!(outputs(&home.work()), names);

    // The exact frames come back, images and all, and each row names its artifacts.
    let session = home.session("default");
    rebuilt_exactly(&home);
    let refs: String = home.journal("default").value(
        "SELECT group_concat(artifact_ref, ' ') FROM messages WHERE artifact_ref IS NOT NULL",
    );
    assert_eq!(refs.split([' ', ',']).count(), 7, "{refs}");
    assert!(session.join("journal.db").exists());

    // The same from the middle, from nothing, and after each process was replaced.
    let first = told.0.first().unwrap()["seq"].as_i64().unwrap();
    let resumed = |home: &Home| {
        let mut client = home.attached("default", first + 2);
        client.until_done(&middle).0
    };
    let all = told.0[3..].to_vec();
    assert_eq!(resumed(&home), all);
    let folded = shown(&snapshot(&home, "default"), &middle);
    assert_eq!(folded.as_array().unwrap().len(), 5);
    home.kill_supervisor();
    home.start();
    assert_eq!(shown(&snapshot(&home, "default"), &middle), folded);
    crash_worker(&home, "default");
    assert_eq!(shown(&snapshot(&home, "default"), &middle), folded);
    assert_eq!(resumed(&home), all);
    assert_eq!(outputs(&home.work()), names);
    let status = home.client().ask(
        &json!({"op": "status", "session": "default"}),
        "status_reply",
    );
    assert_eq!(status["storage"]["missing_images"], 0, "{status}");
    assert!(
        status["storage"]["referenced_image_bytes"]
            .as_u64()
            .unwrap()
            > 600,
        "{status}"
    );
    assert!(
        status["storage"]["logical_bytes"].as_u64().unwrap() > 1000,
        "{status}"
    );
}

/// Rebuilds every kernel message of the journal and checks the signatures' input: the frames.
fn rebuilt_exactly(home: &Home) {
    let journal = home.journal("default");
    let mut rows = journal
        .0
        .prepare("SELECT wire, content_json, ts FROM messages WHERE wire IS NOT NULL AND artifact_ref IS NOT NULL")
        .unwrap();
    let rows = rows
        .query_map([], |row| {
            Ok((
                row.get::<_, Vec<u8>>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, f64>(2)?,
            ))
        })
        .unwrap();
    let work = home.work();
    for row in rows {
        let (wire, content, ts) = row.unwrap();
        let file = |id: &str, path: &str| read_artifact(&work, path, id);
        match journal::rebuild(&journal.0, &wire, content.as_bytes(), ts, file).unwrap() {
            journal::Rebuilt::Exact(message) => {
                let text = message.content_text().unwrap();
                assert!(!text.contains("$tithon_artifact"), "{text}");
                serde_json::from_str::<Value>(text).unwrap();
            }
            journal::Rebuilt::Referring(message) => panic!("{message:?}"),
        }
        // Without the files only the references are left, and it says so.
        assert!(matches!(
            journal::rebuild(&journal.0, &wire, content.as_bytes(), ts, |_, _| None).unwrap(),
            journal::Rebuilt::Referring(_)
        ));
    }
}

#[test]
fn a_plot_that_is_updated_leaves_one_file() {
    let home = Home::new();
    let mut live = home.attached("default", -1);
    let code = r#"
from IPython.display import display, Image, clear_output
shown = display(Image(data=b"0", format="png"), display_id=True)
for n in range(1, 200):
    shown.update(Image(data=b"frame %d" % n, format="png"))
"#;
    let exec = live.execute("default", code);
    let told = live.until_done(&exec);
    assert_eq!(told.outputs(&exec, "update_display_data").count(), 199);
    let files = until("one file", || {
        Some(outputs(&home.work())).filter(|files| files.len() == 1)
    });
    let folded = shown(&snapshot(&home, "default"), &exec);
    let reference = &references(&folded[0])[0].1;
    assert!(
        reference["rel_path"]
            .as_str()
            .unwrap()
            .ends_with(files.first().unwrap())
    );
    assert_eq!(
        bytes(&mut live, &reference["artifact_id"]).unwrap(),
        b"frame 199"
    );
    let first = told.outputs(&exec, "display_data").next().unwrap();
    assert_eq!(
        bytes(&mut live, &references(first)[0].1["artifact_id"]),
        None
    );
    assert_eq!(
        home.journal("default")
            .value::<i64>("SELECT count(*) FROM artifacts"),
        1
    );

    // The same image twice is one file; it goes when the last cell that shows it is cleared.
    let again = live.execute("default", "Image(data=b'frame 199', format='png')");
    live.until_done(&again);
    assert_eq!(outputs(&home.work()), files);
    live.ask(
        &json!({"op": "clear_output", "exec_ids": [exec]}),
        "cleared",
    );
    crash_worker(&home, "default");
    let mut later = home.attached("default", -1);
    later.run("default", "print(1)");
    assert_eq!(outputs(&home.work()), files);
    later.ask(
        &json!({"op": "clear_output", "exec_ids": [again]}),
        "cleared",
    );
    until("no file", || outputs(&home.work()).is_empty().then_some(()));
}

/// Whatever a worker was doing when it died, the files are those that the folds show.
#[test]
fn crashes_leave_neither_holes_nor_litter() {
    let home = Home::new();
    let mut live = home.attached("default", -1);
    let gate = home.work().join("gate");
    let code = format!(
        r#"
import os, time
from IPython.display import display, Image
shown = display(Image(data=b"first", format="png"), display_id=True)
n = 0
while not os.path.exists({gate:?}):
    shown.update(Image(data=b"frame %d" % n, format="png"))
    n += 1
    time.sleep(0.002)
display(Image(data=b"last", format="png"))
"#
    );
    let exec = live.execute("default", &code);
    live.until_kind("output");
    // Fewer than make the supervisor give the session up.
    for _ in 0..3 {
        let mut client = home.attached("default", -1);
        client.until_kind("output");
        crash_worker(&home, "default");
    }
    let mut client = home.attached("default", -1);
    fs::write(gate, "").unwrap();
    client.until_done(&exec);
    let folded = shown(&snapshot(&home, "default"), &exec);
    assert_eq!(folded.as_array().unwrap().len(), 2, "{folded}");
    let names: BTreeSet<_> = folded
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            references(item)[0].1["rel_path"]
                .as_str()
                .unwrap()
                .replace(".tithon/outputs/", "")
        })
        .collect();
    until("only what is shown", || {
        (outputs(&home.work()) == names).then_some(())
    });
    for item in folded.as_array().unwrap() {
        assert!(bytes(&mut client, &references(item)[0].1["artifact_id"]).is_some());
    }
}

#[test]
fn nothing_is_lost_where_nothing_can_be_written() {
    let home = Home::new();
    let mut live = home.attached("default", -1);
    live.run("default", "from IPython.display import display, Image");
    // Also true for root, to whom no directory is read-only.
    fs::write(home.work().join(".tithon"), "in the way").unwrap();
    let exec = live.execute("default", "display(Image(data=b'inline', format='png'))");
    let told = live.until_done(&exec);
    let content = told.outputs(&exec, "display_data").next().unwrap();
    let inline = content["data"]["image/png"].as_str().unwrap();
    assert_eq!(BASE64_STANDARD.decode(inline.trim()).unwrap(), b"inline");
    assert_eq!(
        shown(&snapshot(&home, "default"), &exec)[0]["data"]["image/png"],
        inline
    );
    fs::remove_file(home.work().join(".tithon")).unwrap();
    let exec = live.execute("default", "display(Image(data=b'inline', format='png'))");
    live.until_done(&exec);
    assert_eq!(outputs(&home.work()).len(), 1);
}

#[test]
fn no_artifact_leads_out_of_the_project() {
    let home = Home::new();
    let mut live = home.attached("default", -1);
    let exec = live.execute(
        "default",
        "from IPython.display import Image; Image(data=b'inside', format='png')",
    );
    let told = live.until_done(&exec);
    let reference = references(told.outputs(&exec, "execute_result").next().unwrap())[0]
        .1
        .clone();
    let id = &reference["artifact_id"];
    let path = home.work().join(reference["rel_path"].as_str().unwrap());
    assert_eq!(bytes(&mut live, id).unwrap(), b"inside");

    // Same bytes elsewhere, behind a link in the place of the file: not followed.
    let outside = home.root().join("outside.png");
    fs::rename(&path, &outside).unwrap();
    symlink(&outside, &path).unwrap();
    assert_eq!(bytes(&mut live, id), None);
    let status = live.ask(
        &json!({"op": "status", "session": "default"}),
        "status_reply",
    );
    assert_eq!(status["storage"]["missing_images"], 1);
    assert_eq!(status["storage"]["referenced_image_bytes"], Value::Null);
    // Other bytes than those that were named.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "insidE").unwrap();
    assert_eq!(bytes(&mut live, id), None);
    fs::write(&path, "inside").unwrap();
    assert_eq!(bytes(&mut live, id).unwrap(), b"inside");
    for id in ["nope", "", "../../../etc/passwd", "/etc/passwd"] {
        assert_eq!(bytes(&mut live, &json!(id)), None, "{id}");
    }
    assert_eq!(live.run("default", "print(2)"), "2\n");
}
