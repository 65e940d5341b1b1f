//! `tithon branch`: a second session with the history and the variables of a first, and a life of its own.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use std::collections::BTreeSet;

use harness::{Home, await_end, is_alive, until};
use serde_json::Value;

fn run(home: &Home, session: &str, code: &str) -> String {
    home.tithon(&["run", "--session", session, "-c", code]).ok()
}

fn branch(home: &Home, arguments: &[&str]) -> Value {
    let told = home.tithon(&[&["branch"], arguments].concat()).ok();
    serde_json::from_str(&told).unwrap()
}

/// Waits for the checkpoint after an execution of `default`.
fn taken(home: &Home, exec_id: &str) {
    until(&format!("the checkpoint after {exec_id}"), || {
        let told = home.tithon(&["checkpoints", "--json"]).ok();
        let told: Value = serde_json::from_str(&told).unwrap();
        let list = told["checkpoints"].as_array()?.clone();
        list.iter()
            .find(|known| known["exec_id"] == exec_id)
            .map(drop)
    });
}

/// What a client is shown of a session: its executions, and the values of its widgets.
fn shown(home: &Home, session: &str) -> (Vec<Value>, Vec<i64>) {
    let (snapshot, _) = home.client().attach(session, 0);
    let snapshot = snapshot.unwrap();
    let models = snapshot["widgets"]["state"].as_object().unwrap();
    let mut values: Vec<_> = models
        .values()
        .map(|model| model["state"]["value"].as_i64().unwrap())
        .collect();
    values.sort_unstable();
    let executions = snapshot["executions"].as_array().unwrap().clone();
    (executions, values)
}

const WIDGET: &str = "from comm import create_comm\n\
    def widget(value): return create_comm(target_name='jupyter.widget', data={'state': {'value': value}})\n\
    first = widget(1); x = [1]";
const DISPLAYS: &str = "from IPython.display import display\n\
    shown = display('before', display_id='d'); x.append(2)";

#[test]
fn a_branch_has_history_and_variables_and_both_go_on() {
    let home = Home::with(&[("TITHON_CHECKPOINTS", "5")]);
    run(&home, "default", WIDGET);
    run(&home, "default", DISPLAYS);
    taken(&home, "e2");
    let then = shown(&home, "default");
    run(
        &home,
        "default",
        "shown.update('after'); widget(3); x.append(3); print('of e3')",
    );
    let now = shown(&home, "default");

    let told = branch(&home, &["live"]);
    assert_eq!(told["executions"], 3, "{told}");
    assert_eq!(told["kernel_pid"], home.kernel("live").unwrap());
    let told = branch(&home, &["old", "--from", "e2"]);
    assert_eq!(told["executions"], 2, "{told}");
    assert_eq!(shown(&home, "live"), now);
    // What a later cell has changed in an earlier one's output is not in it either.
    assert_eq!(shown(&home, "old"), then);
    assert_ne!(now.0[1], then.0[1]);
    // The journals' rows are the same to the seq, but for whose they are.
    let rows = |session: &str, through: i64| {
        let journal = home.journal(session);
        let mut select = journal
            .0
            .prepare("SELECT msg_seq, exec_id, target_exec, msg_type, content_json, ts FROM messages WHERE msg_seq <= ?1")
            .unwrap();
        let rows = select.query_map([through], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, Option<String>>(1)?,
                row.get::<_, Option<String>>(2)?,
                row.get::<_, String>(3)?,
                row.get::<_, String>(4)?,
                row.get::<_, f64>(5)?,
            ))
        });
        rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    for session in ["live", "old"] {
        let journal = home.journal(session);
        let last: i64 = journal.value(
            "SELECT max(msg_seq) FROM messages WHERE msg_type = 'tithon.kernel'
             AND json_extract(content_json, '$.status') = 'branched'",
        );
        let of_branch = rows(session, last - 1);
        assert!(of_branch.len() > 10, "{of_branch:?}");
        assert_eq!(of_branch, rows("default", last - 1), "{session}");
        let name: String = journal.value("SELECT DISTINCT session_id FROM messages");
        assert_eq!(name, session);
    }

    assert_eq!(
        run(&home, "live", "x.append('l'); print(x, len(In))"),
        "[1, 2, 3, 'l'] 5\n"
    );
    assert_eq!(
        run(&home, "old", "x.append('o'); print(x, len(In))"),
        "[1, 2, 'o'] 4\n"
    );
    assert_eq!(run(&home, "default", "print(x, len(In))"), "[1, 2, 3] 5\n");
    let (executions, _) = shown(&home, "old");
    assert_eq!(executions[2]["exec_id"], "e3");
    assert_eq!(executions[2]["execution_count"], 3);
    // Its widgets are its own, and its displays.
    run(
        &home,
        "old",
        "first.send({'method': 'update', 'state': {'value': 5}, 'buffer_paths': []}); shown.update('branched')",
    );
    assert_eq!(shown(&home, "old").1, [5]);
    assert_eq!(shown(&home, "default").1, now.1);
    let text = |session: &str| shown(&home, session).0[1]["outputs"].to_string();
    assert!(text("old").contains("branched"), "{}", text("old"));
    assert!(text("default").contains("after"), "{}", text("default"));
    // And it branches itself, with a line of checkpoints of its own.
    branch(&home, &["third", "--session", "old"]);
    assert_eq!(run(&home, "third", "x"), "[1, 2, 'o']\n");
}

#[test]
fn neither_harms_the_other_whoever_dies() {
    let mut home = Home::new();
    run(
        &home,
        "default",
        "import subprocess, multiprocessing, os, time; x = 1",
    );
    branch(&home, &["b"]);
    // With children that forked and that exec'd, in sessions of their own.
    let children = "subprocess.Popen(['setsid', 'sleep', '1000'])\n\
        p = multiprocessing.get_context('fork').Process(target=time.sleep, args=(1000,)); p.start(); p.pid";
    let child = |session: &str| -> i32 { run(&home, session, children).trim().parse().unwrap() };
    let (of_default, of_branch) = (child("default"), child("b"));
    let kernels = ["default", "b"].map(|session| home.kernel(session).unwrap());
    assert_ne!(kernels[0], kernels[1]);
    for session in ["default", "b"] {
        home.kill(home.worker(session).unwrap());
    }
    home.kill_supervisor();
    home.start();
    for (session, kernel) in ["default", "b"].iter().zip(kernels) {
        assert_eq!(run(&home, session, "x"), "1\n");
        assert_eq!(home.kernel(session), Some(kernel));
    }
    // A restart of one ends what it started, and nothing of the other's.
    home.tithon(&["restart"]).ok();
    await_end(of_default);
    assert!(is_alive(of_branch) && is_alive(kernels[1]));
    assert_eq!(run(&home, "b", "x"), "1\n");
    let crash = home.tithon(&["run", "-c", "import os; os.abort()"]);
    assert_eq!(crash.code, 4, "{crash:?}");
    home.tithon(&["kill", "--session", "default"]).ok();
    home.tithon(&["rm", "--session", "default", "--yes"]).ok();
    assert!(is_alive(of_branch));
    assert_eq!(run(&home, "b", "x"), "1\n");
    assert_eq!(home.tithon(&["reap", "--dry-run"]).ok(), "No orphans.\n");

    home.tithon(&["restart", "--session", "b"]).ok();
    await_end(of_branch);
    assert_eq!(run(&home, "b", "'x' in globals()"), "False\n");
    let log = home.tithon(&["log", "--session", "b"]).ok();
    assert!(log.contains("import subprocess"), "{log}");
    home.tithon(&["kill", "--session", "b"]).ok();
    home.tithon(&["rm", "--session", "b", "--yes"]).ok();
    assert!(!home.session("b").exists());
}

#[test]
fn images_of_a_branch_are_its_own() {
    let home = Home::new();
    let image = "from IPython.display import display, clear_output\nimport base64\n\
        png = base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==')\n\
        display({'image/png': png}, raw=True)";
    run(&home, "default", image);
    branch(&home, &["b"]);
    let reference = |session: &str| {
        let (executions, _) = shown(&home, session);
        executions[0]["outputs"][0]["data"]["image/png"]["$tithon_artifact"].clone()
    };
    let own = reference("b");
    assert_ne!(own["rel_path"], reference("default")["rel_path"]);
    let file = home.work().join(own["rel_path"].as_str().unwrap());
    // The first gives its file up, together with all it has.
    let first = home
        .work()
        .join(reference("default")["rel_path"].as_str().unwrap());
    home.tithon(&["clear", "--all"]).ok();
    until("the first's file's end", || (!first.exists()).then_some(()));
    assert!(file.exists());
    home.kill(home.worker("b").unwrap());
    let mut client = home.attached("b", 0);
    let artifact = client.ask(
        &serde_json::json!({"op": "get_artifact", "artifact_id": own["artifact_id"]}),
        "artifact",
    );
    assert_eq!(artifact["found"], true, "{artifact}");

    // One that fails when its history is written already leaves no file of it, nor does one that is
    // killed before and tried again.
    let outputs = home.work().join(".tithon/outputs");
    let files = || {
        let names = std::fs::read_dir(&outputs).unwrap();
        names
            .map(|it| it.unwrap().file_name())
            .collect::<BTreeSet<_>>()
    };
    run(&home, "default", image);
    let before = files();
    std::fs::create_dir(home.session("c")).unwrap();
    std::fs::write(home.session("c").join("outputs.unsettled"), "c_left.png\n").unwrap();
    std::fs::write(outputs.join("c_left.png"), "").unwrap();
    let fatal =
        "import os, tithon_revive\ntithon_revive.Infrastructure.revive = lambda *_: os._exit(1)";
    run(&home, "default", fatal);
    let failed = home.tithon(&["branch", "c"]);
    assert!(
        failed.stderr.contains("the copy of its kernel died"),
        "{failed:?}"
    );
    assert!(!home.session("c").exists());
    assert_eq!(files(), before);
}

#[test]
fn what_cannot_be_branched_leaves_nothing() {
    let home = Home::new();
    run(&home, "default", "x = 1");
    branch(&home, &["b"]);
    let taken = home.tithon(&["branch", "b"]);
    assert_eq!(taken.code, 2, "{taken:?}");
    assert!(
        taken.stderr.contains("there is a session 'b' already"),
        "{taken:?}"
    );
    assert_eq!(run(&home, "b", "x"), "1\n");
    assert_eq!(home.tithon(&["branch", "c", "--from", "e1"]).code, 2);
    run(
        &home,
        "default",
        "import threading; stop = threading.Event(); t = threading.Thread(target=stop.wait, name='my-thread'); t.start()",
    );
    let refused = home.tithon(&["branch", "c"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("my-thread"), "{refused:?}");
    assert!(!home.session("c").exists());
    assert_eq!(home.tithon(&["branch", "c", "--session", "nobody"]).code, 2);
    // What a worker left that was killed in the middle of it is no hindrance.
    let left = home.session("c");
    std::fs::create_dir_all(left.join("spool")).unwrap();
    std::fs::write(left.join("journal.db"), "half").unwrap();
    run(&home, "default", "stop.set(); t.join()");
    let cell = home.spawn(&[
        "run",
        "-c",
        "open('runs', 'w').close(); import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nx = 2",
    ]);
    until("the cell", || {
        home.work().join("runs").exists().then_some(())
    });
    // Behind the running cell, and before the one that waits.
    let branching = home.spawn(&["branch", "c"]);
    std::fs::write(home.work().join("go"), "").unwrap();
    branching.finish().ok();
    cell.finish().ok();
    assert_eq!(run(&home, "c", "x"), "2\n");
}
