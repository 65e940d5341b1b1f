//! `tithon states`: code that is run in states of a session, each of which stays as it is.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod runs;

use harness::{Home, IPYKERNEL_6, Output, await_end, is_alive, until};
use rustix::process::Signal;
use serde_json::{Value, json};

fn run(home: &Home, code: &str) -> String {
    home.tithon(&["run", "-c", code]).ok()
}

/// Runs code in a state, or in the kernel as it is.
fn exec(home: &Home, from: Option<&str>, name: &str, code: &str) -> Output {
    let from = from.map_or_else(Vec::new, |from| vec!["--from", from]);
    home.tithon(&[&["states", "exec", "--as", name, "-c", code][..], &from].concat())
}

fn listed(home: &Home) -> Value {
    serde_json::from_str(&home.tithon(&["states", "ls", "--json"]).ok()).unwrap()
}

fn names(home: &Home) -> Vec<String> {
    let told = listed(home);
    let states = told["states"].as_array().unwrap().iter();
    states
        .map(|state| state["name"].as_str().unwrap().to_owned())
        .collect()
}

fn process(home: &Home, name: &str) -> i32 {
    let told = listed(home);
    let mut states = told["states"].as_array().unwrap().iter();
    let found = states.find(|state| state["name"] == name).unwrap();
    i32::try_from(found["pid"].as_i64().unwrap()).unwrap()
}

/// Waits until nothing is left of what was run: only what was there before, and frozen states.
fn gone(home: &Home) {
    let copies = home.session("default").join("copies");
    until("the end of the copies", || (!copies.exists()).then_some(()));
}

#[test]
fn states_are_made_of_states_and_never_change() {
    let home = Home::new();
    run(&home, "x = [1]; import random; random.seed(7)");
    let kernel = home.kernel("default");
    assert_eq!(
        exec(&home, None, "base", "x.append(2); print(x)").ok(),
        "[1, 2]\n"
    );
    for (name, more) in [("a", 3), ("b", 4), ("a", 5)] {
        let code = format!("x.append({more}); print(random.random()); x");
        let told = exec(&home, Some("base"), name, &code).ok();
        assert_eq!(told, format!("0.32383276483316237\n[1, 2, {more}]\n"));
    }
    let failed = exec(&home, Some("base"), "b", "x.clear(); print('so far'); 1/0");
    assert_eq!((failed.code, failed.stdout.as_str()), (1, "so far\n"));
    assert!(failed.stderr.contains("ZeroDivisionError"), "{failed:?}");
    assert_eq!(
        exec(&home, Some("a"), "c", "len(In), x").ok(),
        "(5, [1, 2, 5])\n"
    );
    // Without a name it goes by the execution's id.
    let told = home.tithon(&["states", "exec", "--from", "b", "-c", "x"]);
    assert!(told.stderr.contains("kept as 'e8'"), "{told:?}");
    assert_eq!(names(&home), ["base", "b", "a", "c", "e8"]);
    // Weighed already or not: what is kept does not run.
    let table = home.tithon(&["states", "ls"]).ok();
    assert!(!table.contains("running"), "{table}");
    gone(&home);

    // The kernel knows nothing of it, and the history has all of it.
    assert_eq!(home.kernel("default"), kernel);
    assert_eq!(
        run(&home, "print(x, len(In), random.random())"),
        "[1] 3 0.32383276483316237\n"
    );
    let told: Value = serde_json::from_str(&home.tithon(&["log", "--json"]).ok()).unwrap();
    assert_eq!(
        told[2]["state"],
        json!({"name": "a", "from": "base", "kept": true}),
        "{told}"
    );
    assert_eq!(
        told[1]["state"],
        json!({"name": "base", "from": null, "kept": true}),
        "{told}"
    );
    assert_eq!(told[8].get("state"), None, "{told}");
    assert_eq!(told[5]["status"], "error");
    let log = home.tithon(&["log", "--exec", "e5"]).ok();
    assert!(
        log.contains("made 'a' of base") && log.contains("[1, 2, 5]"),
        "{log}"
    );
    let plan = home.tithon(&["replay", "--dry-run"]).ok();
    assert!(plan.contains("e9") && !plan.contains("e5"), "{plan}");

    let pid = process(&home, "b");
    home.tithon(&["states", "rm", "b", "e8"]).ok();
    await_end(pid);
    assert_eq!(names(&home), ["base", "a", "c"]);
    let refused = home.tithon(&["states", "rm", "base", "b"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("no state 'b'"), "{refused:?}");
    assert_eq!(names(&home), ["base", "a", "c"]);
    for refused in [
        exec(&home, Some("b"), "d", "1"),
        exec(&home, None, "e12", "1"),
        exec(&home, None, "", "1"),
    ] {
        assert_eq!(refused.code, 2, "{refused:?}");
    }
}

#[test]
fn what_cells_show_stays_as_it_is() {
    let home = Home::new();
    run(
        &home,
        "from IPython.display import display; shown = display('before', display_id='d')",
    );
    let cell = home.spawn(&[
        "run",
        "-c",
        "open('runs', 'w').close()\nimport os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nx = 1",
    ]);
    until("the cell", || {
        home.work().join("runs").exists().then_some(())
    });
    // Of the kernel as it is a copy is made when it has come to rest.
    let code = "shown.update('after'); display('own', display_id='o').update('changed'); x";
    let waiting = home.spawn(&["states", "exec", "--as", "later", "-c", code]);
    std::fs::write(home.work().join("go"), "").unwrap();
    cell.finish().ok();
    waiting.finish().ok();
    let (snapshot, _) = home.client().attach("default", 0);
    let snapshot = snapshot.unwrap();
    let texts = |at: usize| -> Vec<String> {
        let outputs = snapshot["executions"][at]["outputs"].as_array().unwrap();
        let text = |output: &Value| output["data"]["text/plain"].as_str().unwrap().to_owned();
        outputs.iter().map(text).collect()
    };
    assert_eq!(texts(0), ["'before'"]);
    assert_eq!(texts(2), ["'after'", "'changed'", "1"]);
    // A name that another run has shown by is this one's own from its first word on.
    let twice = "display('first', display_id='o').update('second')";
    exec(&home, None, "twice", twice).ok();
    run(&home, "shown.update('by the kernel')");
    let (snapshot, _) = home.client().attach("default", 0);
    let snapshot = snapshot.unwrap();
    let text = |exec: usize| &snapshot["executions"][exec]["outputs"][0]["data"]["text/plain"];
    assert_eq!(text(0), "'by the kernel'");
    assert_eq!(text(3), "'second'");
    let outputs = |exec: usize| snapshot["executions"][exec]["outputs"].as_array().unwrap();
    assert_eq!(outputs(3).len(), 1, "{:?}", outputs(3));
}

#[test]
fn a_session_goes_on_with_a_state() {
    let home = Home::with(&[("TITHON_CHECKPOINTS", "5")]);
    run(&home, "x = [1]");
    exec(&home, None, "tuned", "x.append('tuned')").ok();
    run(&home, "x.append(3)");
    let told = home.tithon(&["try", "--from", "tuned", "-c", "x"]);
    assert_eq!(told.ok(), "[1, 'tuned']\n");
    home.tithon(&["branch", "other", "--from", "tuned"]).ok();
    let told = home.tithon(&["run", "--session", "other", "-c", "x.append('other'); x"]);
    assert_eq!(told.ok(), "[1, 'tuned', 'other']\n");

    let told: Value =
        serde_json::from_str(&home.tithon(&["restore", "--to", "tuned"]).ok()).unwrap();
    assert_eq!(
        (&told["to"], &told["state"], &told["lost"]),
        (&json!("e2"), &json!("tuned"), &json!(["e3"])),
        "{told}"
    );
    assert_eq!(
        run(&home, "x.append('again'); x"),
        "[1, 'tuned', 'again']\n"
    );
    // What was asked of the copy is asked of the restored kernel: it has the session's own connections.
    assert_eq!(
        run(&home, "import os; os.system('echo of a child'); len(In)"),
        "of a child\n5\n"
    );

    // The worker's death does not end it, and the kernel's leads back to it.
    home.kill(home.worker("default").unwrap());
    assert_eq!(names(&home), ["tuned"]);
    until("the kernel's checkpoint", || {
        let told = home.tithon(&["checkpoints", "--json"]).ok();
        let told: Value = serde_json::from_str(&told).unwrap();
        let known = told["checkpoints"].as_array()?.clone();
        known
            .iter()
            .find(|known| known["exec_id"] == "e5")
            .map(drop)
    });
    home.tithon(&["checkpoints", "--keep", "0"]).ok();
    home.kill(home.kernel("default").unwrap());
    let told = until("the offer", || {
        let told = home.tithon(&["restore"]);
        (told.code == 0).then_some(told.stdout)
    });
    assert_eq!(
        serde_json::from_str::<Value>(&told).unwrap()["lost"],
        json!(["e4", "e5"])
    );
    assert_eq!(run(&home, "x"), "[1, 'tuned']\n");

    // What does not answer is no reason to give a kernel up.
    let kernel = home.kernel("default");
    let state = process(&home, "tuned");
    home.signal(state, Signal::STOP);
    let refused = home.tithon(&["restore", "--to", "tuned"]);
    home.signal(state, Signal::CONT);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("'tuned' does not answer"),
        "{refused:?}"
    );
    assert_eq!(home.kernel("default"), kernel);

    // Widgets of a state are told once it is the kernel's.
    let widget = "from comm import create_comm
w = create_comm(target_name='jupyter.widget', data={'state': {'value': 7}})";
    exec(&home, Some("tuned"), "widget", widget).ok();
    home.kill(home.worker("default").unwrap());
    home.tithon(&["restore", "--to", "widget"]).ok();
    let (snapshot, _) = home.client().attach("default", 0);
    let widgets = &snapshot.unwrap()["widgets"]["state"];
    let models = widgets.as_object().unwrap();
    assert_eq!(models.len(), 1, "{widgets}");
    assert_eq!(
        models.values().next().unwrap()["state"]["value"],
        7,
        "{widgets}"
    );

    home.tithon(&["kill", "--session", "default"]).ok();
    await_end(state);
    assert!(is_alive(home.kernel("other").unwrap()));
}

#[test]
fn what_a_state_shows_leaves_it_as_it_is() {
    let home = Home::new();
    run(&home, "x = [1]");
    let code = "class Evil:
    def __repr__(self):
        x.append('seen'); print('printed'); return f'evil {len(x)}'
class Slow:
    def __repr__(self):
        while True: pass
class Broken:
    def __repr__(self): raise ValueError
evil, slow, broken, long, _hidden = Evil(), Slow(), Broken(), list(range(10**6)), 1
class Odd:
    def __repr__(self): return '\\ud800'
odd, huge = Odd(), 10**5000";
    exec(&home, None, "odd", code).ok();
    for _ in 0..2 {
        let told: Value =
            serde_json::from_str(&home.tithon(&["states", "show", "odd", "--json"]).ok()).unwrap();
        let shown = |name: &str| told["variables"][name]["repr"].as_str().unwrap().to_owned();
        assert_eq!(shown("x"), "[1]");
        assert_eq!(shown("evil"), "evil 2");
        assert_eq!(shown("slow"), "<its repr takes too long>");
        assert_eq!(shown("broken"), "<its repr failed: ValueError>");
        assert!(shown("long").len() < 200, "{told}");
        assert_eq!(shown("odd"), "?");
        assert_eq!(shown("huge"), "<an integer of 16610 bits>");
        assert_eq!(told["variables"].get("_hidden"), None);
        assert_eq!(told["variables"].get("In"), None);
        assert_eq!(told["state"]["exec_id"], "e2");
    }
    let told = home.tithon(&["states", "show", "odd"]).ok();
    assert!(
        told.contains("made 'odd'") && told.contains("Broken"),
        "{told}"
    );
    assert_eq!(exec(&home, Some("odd"), "same", "x").ok(), "[1]\n");
    let unknown = home.tithon(&["states", "show", "nosuch"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("no state 'nosuch'"), "{unknown:?}");

    // What cannot be told is ended all the same.
    let stubborn = "import signal, time
class Stubborn:
    def __repr__(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); time.sleep(1000)
stubborn, behind = Stubborn(), 1";
    exec(&home, Some("same"), "stubborn", stubborn).ok();
    let told = home.tithon(&["states", "show", "stubborn", "--json"]).ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["variables"]["x"]["repr"], "[1]", "{told}");
    assert_eq!(told["left_out"], 2, "{told}");
    assert_eq!(exec(&home, Some("stubborn"), "on", "x").ok(), "[1]\n");
}

#[test]
fn an_older_ipykernel_has_states_too() {
    let home = Home::new();
    let python = IPYKERNEL_6.interpreter();
    home.tithon(&["run", "--python", python.to_str().unwrap(), "-c", "x = [1]"])
        .ok();
    exec(&home, None, "base", "x.append(2)").ok();
    let told = exec(&home, Some("base"), "more", "x.append(3); x");
    assert_eq!(told.ok(), "[1, 2, 3]\n");
    home.tithon(&["restore", "--to", "more"]).ok();
    assert_eq!(run(&home, "x, len(In)"), "([1, 2, 3], 5)\n");
}
