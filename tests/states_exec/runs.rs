//! A run: who hears of it, what ends it and what does not.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{exec, gone, listed, names, process, run};
use crate::harness::{Home, Running, await_end, is_alive, until};

const HANGS: &str = "import os, signal, subprocess, time
signal.signal(signal.SIGINT, signal.default_int_handler)
subprocess.Popen(['setsid', 'sleep', '1000'])
print(os.getpid(), flush=True)
time.sleep(1000)";

/// Waits for the execution's end, as the journal has it.
fn ended(home: &Home, exec_id: &str) -> Value {
    until(&format!("the end of {exec_id}"), || {
        let told: Value = serde_json::from_str(&home.tithon(&["log", "--json"]).ok()).unwrap();
        let mut all = told.as_array()?.iter();
        let found = all.find(|it| it["exec_id"] == exec_id)?.clone();
        (found["status"] != "running").then_some(found)
    })
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
