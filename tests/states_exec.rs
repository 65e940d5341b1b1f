//! `tithon states`: code that is run in states of a session, each of which stays as it is.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use harness::{Home, IPYKERNEL_6, Output, Running, await_end, is_alive, until};
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

const HANGS: &str = "import os, signal, subprocess, time
signal.signal(signal.SIGINT, signal.default_int_handler)
subprocess.Popen(['setsid', 'sleep', '1000'])
print(os.getpid(), flush=True)
time.sleep(1000)";

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
fn a_run_streams_to_everybody_and_outlives_its_client() {
    let home = Home::new();
    run(&home, "x = 1");
    let code = "import os, time
for i in range(3):
    print('part', i, flush=True)
    while not os.path.exists(f'go{i}'): time.sleep(0.01)
os.write(1, b'of C\\n'); x + 1";
    let mut other = home.attached("default", -1);
    let mut first = home.spawn(&["states", "exec", "--as", "late", "-c", code]);
    assert_eq!(first.line(), "part 0\n");
    home.kill(first.pid());
    first.finish();
    std::fs::write(home.work().join("go0"), "").unwrap();
    let running = until("the run", || {
        let told = listed(&home);
        told["running"].get(0).cloned()
    });
    assert_eq!(
        (&running["name"], &running["exec_id"]),
        (&json!("late"), &json!("e2"))
    );
    // The kernel is free meanwhile.
    assert_eq!(run(&home, "x"), "1\n");
    let mut tail = home.spawn(&["tail", "e2"]);
    assert_eq!(tail.line(), "part 0\n");
    assert_eq!(tail.line(), "part 1\n");
    for go in ["go1", "go2"] {
        std::fs::write(home.work().join(go), "").unwrap();
    }
    assert_eq!(tail.finish().stdout, "part 2\nof C\n2\n");
    let seen = other.until_done("e2");
    let kinds = seen.kinds("e2");
    assert_eq!(kinds[..2], ["queued", "started"], "{kinds:?}");
    assert_eq!(names(&home), ["late"]);
    let (snapshot, _) = home.client().attach("default", 0);
    let executions = &snapshot.unwrap()["executions"];
    assert_eq!(executions[1]["status"], "done", "{executions}");
    assert_eq!(
        executions[1]["outputs"].as_array().unwrap().len(),
        2,
        "{executions}"
    );
    assert_eq!(executions[2]["code"], "x");
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
fn nothing_is_kept_of_what_is_interrupted_given_up_or_dies() {
    let home = Home::new();
    run(&home, "x = 1");
    exec(&home, None, "base", "x = 2").ok();
    let started = |name: &str| {
        let mut run = home.spawn(&[
            "states", "exec", "--from", "base", "--as", name, "-c", HANGS,
        ]);
        let copy: i32 = run.line().trim().parse().unwrap();
        (run, copy)
    };
    let (interrupted, copy) = started("one");
    home.signal(interrupted.pid(), Signal::INT);
    let told = interrupted.finish();
    assert_eq!(told.code, 130, "{told:?}");
    assert!(told.stderr.contains("KeyboardInterrupt"), "{told:?}");
    await_end(copy);
    gone(&home);

    let (given_up, copy) = started("two");
    home.tithon(&["states", "rm", "two"]).ok();
    let told = given_up.finish();
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.stderr.contains("given up before it had ended"),
        "{told:?}"
    );
    await_end(copy);
    gone(&home);

    let died = exec(
        &home,
        Some("base"),
        "three",
        "print('bye', flush=True); import os; os._exit(3)",
    );
    assert_eq!((died.code, died.stdout.as_str()), (4, "bye\n"), "{died:?}");
    assert!(died.stderr.contains("exited with code 3"), "{died:?}");
    let threads = "import threading; print('ran')
threading.Thread(target=threading.Event().wait, name='my-thread', daemon=True).start()";
    let refused = exec(&home, Some("base"), "four", threads);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (1, "ran\n"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("threads: my-thread"), "{refused:?}");
    let asked = exec(&home, Some("base"), "five", "input('? ')");
    assert_eq!(asked.code, 1, "{asked:?}");
    assert!(asked.stderr.contains("input"), "{asked:?}");
    gone(&home);
    assert_eq!(names(&home), ["base"]);
    assert_eq!(exec(&home, Some("base"), "six", "x").ok(), "2\n");

    // Before the code has begun an interrupt waits for it.
    let early = "import time; print('begun', flush=True); time.sleep(1000)";
    let told = home.client().ask(
        &json!({"op": "state_exec", "session": "default", "code": early, "from": "base", "name": "early"}),
        "execute_ack",
    );
    let exec_id = told["exec_id"].as_str().unwrap().to_owned();
    let told = home.client().ask(
        &json!({"op": "state_interrupt", "session": "default", "exec_id": exec_id}),
        "interrupted",
    );
    assert_eq!(told["ok"], true);
    let interrupted = ended(&home, &exec_id);
    assert_eq!(interrupted["status"], "error", "{interrupted}");
    assert!(
        interrupted.to_string().contains("KeyboardInterrupt"),
        "{interrupted}"
    );
    // A kernel that has been told to exit is no state.
    let exits = exec(&home, Some("base"), "corpse", "print('ran'); exit()");
    assert_eq!(
        (exits.code, exits.stdout.as_str()),
        (1, "ran\n"),
        "{exits:?}"
    );
    assert!(
        exits.stderr.contains("told the kernel to exit"),
        "{exits:?}"
    );
    let log = home.tithon(&["log", "-n", "1"]).ok();
    assert!(log.contains("in base; nothing was kept"), "{log}");
    // One name may be that of a state and of what is to take its place.
    let (replacing, copy) = started("six");
    home.tithon(&["states", "rm", "six"]).ok();
    assert_eq!(replacing.finish().code, 1);
    await_end(copy);
    assert_eq!(names(&home), ["base"]);
    let by_id = listed(&home)["states"][0]["exec_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = home.tithon(&["states", "show", &by_id]).ok();
    assert!(shown.contains("made 'base'"), "{shown}");
    exec(&home, Some("base"), "six", "x").ok();

    // A restart gives all of it up.
    let (run_of_old, copy) = started("seven");
    let states: Vec<_> = ["base", "six"].map(|name| process(&home, name)).into();
    home.tithon(&["restart"]).ok();
    assert_eq!(run_of_old.finish().code, 1);
    for pid in states {
        await_end(pid);
    }
    await_end(copy);
    assert_eq!(names(&home), [""; 0]);
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

/// Waits for the execution's end, as the journal has it.
fn ended(home: &Home, exec_id: &str) -> Value {
    until(&format!("the end of {exec_id}"), || {
        let told: Value = serde_json::from_str(&home.tithon(&["log", "--json"]).ok()).unwrap();
        let mut all = told.as_array()?.iter();
        let found = all.find(|it| it["exec_id"] == exec_id)?.clone();
        (found["status"] != "running").then_some(found)
    })
}

#[test]
fn a_run_outlives_its_worker_and_says_everything_once() {
    let home = Home::new();
    run(&home, "x = 1");
    let code = "import os, time
for i in range(6000):
    print(i, flush=True)
    if i % 2000 == 1999:
        while not os.path.exists(f'go{i // 2000}'): time.sleep(0.01)
x = 2";
    let mut client = home.spawn(&["states", "exec", "--as", "late", "-c", code]);
    for go in 0..3 {
        for i in 2000 * go..2000 * (go + 1) {
            assert_eq!(client.line(), format!("{i}\n"));
        }
        home.kill(home.worker("default").unwrap());
        std::fs::write(home.work().join(format!("go{go}")), "").unwrap();
        if go == 1 {
            // What it says while nobody is there is read later; the kernel is free meanwhile.
            assert_eq!(run(&home, "x, len(In)"), "(1, 3)\n");
        }
    }
    let told = client.finish();
    assert_eq!((told.code, told.stdout.as_str()), (0, ""), "{told:?}");
    gone(&home);
    let all: String = (0..6000).map(|i| format!("{i}\n")).collect();
    assert_eq!(home.journal("default").stdout("e2"), all);
    assert_eq!(exec(&home, Some("late"), "more", "x += 1; x").ok(), "3\n");
    assert_eq!(names(&home), ["late", "more"]);
}

/// Begins a run that says its process id, and leaves it; its execution's id with it.
fn begun(home: &Home, name: &str, code: &str) -> (String, i32) {
    let mut client = home.spawn(&["states", "exec", "--as", name, "-c", code]);
    let pid = client.line().trim().parse().unwrap();
    home.kill(client.pid());
    client.finish();
    let told = listed(home);
    let mut running = told["running"].as_array().unwrap().iter();
    let found = running.find(|run| run["name"] == name).unwrap();
    (found["exec_id"].as_str().unwrap().to_owned(), pid)
}

#[test]
fn what_becomes_of_a_run_while_there_is_no_worker_is_known_later() {
    let mut home = Home::new();
    run(&home, "x = 1");
    let waits = "import os, time
print(os.getpid(), flush=True)
while not os.path.exists('go'): time.sleep(0.01)
print('over', flush=True); x = 2; open('over', 'w').close()";
    let (over, _) = begun(&home, "over", waits);
    let (hangs, copy) = begun(&home, "hangs", HANGS);
    home.kill(home.worker("default").unwrap());
    home.kill_supervisor();
    std::fs::write(home.work().join("go"), "").unwrap();
    until("the end of the code", || {
        home.work().join("over").exists().then_some(())
    });
    home.kill(copy);
    home.start();
    let spared = home.tithon(&["reap", "--dry-run"]);
    assert!(!spared.stdout.contains(&over), "{spared:?}");
    assert_eq!(ended(&home, &over)["status"], "done");
    let died = ended(&home, &hangs);
    assert_eq!(died["outputs"][1]["ename"], "KernelDied", "{died}");
    gone(&home);
    assert_eq!(names(&home), ["over"]);
    assert_eq!(exec(&home, Some("over"), "more", "x").ok(), "2\n");

    // Whoever makes way for another leaves it alone; who ends the session does not.
    let (later, copy) = begun(&home, "later", HANGS);
    let worker = home.worker("default").unwrap();
    let upgrade = home.command_of_another_file(&["upgrade"]);
    Running::start(upgrade, b"").finish().ok();
    await_end(worker);
    assert!(is_alive(copy));
    assert_eq!(run(&home, "x"), "1\n");
    let running = listed(&home)["running"].clone();
    assert_eq!(running[0]["exec_id"], later.as_str(), "{running}");
    home.tithon(&["kill", "--session", "default"]).ok();
    await_end(copy);
    gone(&home);

    // Of a session that has neither kernel nor worker it is ended with the rest.
    assert_eq!(run(&home, "x = 5; x"), "5\n");
    exec(&home, None, "left", "x = 6").ok();
    let (_, copy) = begun(&home, "last", HANGS);
    let state = process(&home, "left");
    home.kill(home.worker("default").unwrap());
    home.kill(home.kernel("default").unwrap());
    home.tithon(&["shutdown", "--kill-kernels"]).ok();
    await_end(copy);
    await_end(state);
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
