//! Checkpoints: a session goes back to earlier states of its kernel, also after the kernel's death,
//! and is not disturbed by having them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use harness::{Home, IPYKERNEL_6, await_end, is_alive, until};
use serde_json::Value;

/// A home whose sessions keep checkpoints.
fn home() -> Home {
    Home::with(&[("TITHON_CHECKPOINTS", "5")])
}

fn run(home: &Home, code: &str) -> String {
    home.tithon(&["run", "-c", code]).ok()
}

/// What `tithon checkpoints` says.
fn checkpoints(home: &Home) -> Value {
    let told = home.tithon(&["checkpoints", "--json"]).ok();
    serde_json::from_str(&told).unwrap()
}

/// Waits for the checkpoint after an execution; returns its process.
fn taken(home: &Home, exec_id: &str) -> i32 {
    until(&format!("the checkpoint after {exec_id}"), || {
        let told = checkpoints(home);
        let list = told["checkpoints"].as_array().unwrap().clone();
        let found = list.iter().find(|known| known["exec_id"] == exec_id)?;
        i32::try_from(found["pid"].as_i64()?).ok()
    })
}

fn restore(home: &Home, arguments: &[&str]) -> Value {
    let told = home.tithon(&[&["restore"], arguments].concat()).ok();
    serde_json::from_str(&told).unwrap()
}

const CRASH: &str = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)";

#[test]
fn a_kernel_comes_back_after_its_own_crash_again_and_again() {
    let home = home();
    run(&home, "x = [1]; import random; random.seed(7)");
    run(
        &home,
        "x.append(2); g = (n for n in range(9)); next(g); f = open('f', 'w+'); f.write('abc'); f.seek(1)",
    );
    let frozen = taken(&home, "e2");
    let mut drawn = Vec::new();
    for round in 0..3 {
        let died = home.tithon(&["run", "-c", CRASH]);
        assert_eq!(died.code, 4, "{died:?}");
        assert!(died.stderr.contains("SIGSEGV"), "{died:?}");
        let way_back = "`tithon restore` goes on from the state after e2";
        assert!(died.stderr.contains(way_back), "{died:?}");

        let told = restore(&home, &[]);
        assert_eq!(told["to"], "e2", "round {round}: {told}");
        assert_eq!(told["lost"], serde_json::json!([]), "{told}");
        let kernel = home.kernel("default").unwrap();
        assert_eq!(told["kernel_pid"], kernel);
        assert_ne!(kernel, frozen);
        // A checkpoint never changes: each time it is the same generator, seed and place in the file.
        drawn.push(run(
            &home,
            "x.append(3); print(x, next(g), f.tell(), random.random(), len(In))",
        ));
        assert!(drawn[round].starts_with("[1, 2, 3] 1 1 0."), "{drawn:?}");
        assert_eq!(drawn[round], drawn[0]);
        // The counter is that of the checkpoint, and history and numbers go on.
        let status: Value =
            serde_json::from_str(&home.tithon(&["status", "--session", "default"]).ok()).unwrap();
        assert_eq!(status["kernel_lost_state"], false, "{status}");
        restore(&home, &["--to", "e2"]);
    }
    let log = home.tithon(&["log"]).ok();
    assert!(
        log.contains("e8") && log.contains("random.seed(7)"),
        "{log}"
    );
}

#[test]
fn what_was_done_can_be_undone_and_done_again() {
    let home = home();
    for code in ["x = 1", "x = 2", "x = 3"] {
        run(&home, code);
        let exec_id = format!("e{}", &code[4..]);
        taken(&home, &exec_id);
    }
    let mut client = home.attached("default", -1);
    let told = restore(&home, &["--to", "e1"]);
    assert_eq!(told["lost"], serde_json::json!(["e2", "e3"]));
    let restored = client.events_until(|event| event["payload"]["status"] == "restored");
    let event = restored.0.last().unwrap();
    assert_eq!(event["payload"]["to"], "e1", "{event}");
    assert_eq!(event["payload"]["deliberate"], true, "{event}");
    assert_eq!(run(&home, "x"), "1\n");
    let undone: Vec<_> = checkpoints(&home)["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|known| known["undone"] == true)
        .map(|known| known["exec_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(undone, ["e2", "e3"]);
    restore(&home, &["--to", "e3"]);
    assert_eq!(run(&home, "x"), "3\n");

    let none = home.tithon(&["restore", "--to", "e77"]);
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("no checkpoint after e77"), "{none:?}");
    assert_eq!(run(&home, "x"), "3\n");
}

#[test]
fn a_session_goes_on_by_itself_if_that_is_wished() {
    let home = home();
    home.tithon(&["checkpoints", "--auto-restore", "on"]).ok();
    let mut client = home.attached("default", 0);
    client.run("default", "x = 41");
    taken(&home, "e1");
    let crash = client.execute("default", CRASH);
    let after = client.execute("default", "print(x + 1)");
    let told = client.until_done(&after);
    // Which cell was lost, and nothing else.
    assert_eq!(told.done(&crash)["status"], "error");
    assert_eq!(told.done(&after)["status"], "ok", "{told:?}");
    assert_eq!(told.stdout(&after), "42\n");
    // What was told last before the end is there, and a kernel that died while it was off comes back too.
    home.tithon(&["checkpoints", "--auto-restore", "off"]).ok();
    let flood = "for i in range(3000): print(i)\nimport os; os._exit(3)";
    let exec_id = client.execute("default", flood);
    let told = client.until_done(&exec_id);
    assert_eq!(told.stdout(&exec_id).lines().count(), 3000);
    assert_eq!(home.tithon(&["run", "-c", "x"]).code, 4);
    home.tithon(&["checkpoints", "--auto-restore", "on"]).ok();
    assert_eq!(run(&home, "x"), "41\n");
}

#[test]
fn checkpoints_outlive_worker_and_kernel_and_end_with_their_session() {
    let home = home();
    run(&home, "x = 1");
    let first = taken(&home, "e1");
    home.kill(home.worker("default").unwrap());
    assert_eq!(run(&home, "x"), "1\n");
    let second = taken(&home, "e2");
    // Both at once: nobody is there who could spare them.
    let (worker, kernel) = (
        home.worker("default").unwrap(),
        home.kernel("default").unwrap(),
    );
    home.kill(worker);
    home.kill(kernel);
    restore(&home, &["--to", "e1"]);
    assert_eq!(run(&home, "x"), "1\n");
    assert!(is_alive(first) && is_alive(second));
    home.tithon(&["kill", "--session", "default"]).ok();
    await_end(first);
    await_end(second);
    assert_eq!(home.tithon(&["restore"]).code, 2);
}

/// A worker was killed after the cell and before its checkpoint: the next one takes it.
#[test]
fn a_checkpoint_that_is_due_is_not_forgotten() {
    let home = home();
    // A kernel that never comes to rest makes none, and is asked again and again.
    run(
        &home,
        "import asyncio, os\nx = 1\nasync def busy():\n    while not os.path.exists('rest'): await asyncio.sleep(0)\ntask = asyncio.create_task(busy())",
    );
    home.kill(home.worker("default").unwrap());
    assert_eq!(checkpoints(&home)["checkpoints"], serde_json::json!([]));
    std::fs::write(home.work().join("rest"), "").unwrap();
    taken(&home, "e1");
    restore(&home, &["--to", "e1"]);
    assert_eq!(run(&home, "x"), "1\n");
    // None is taken of a kernel that has gone on by half a cell.
    assert_eq!(home.tithon(&["run", "-c", "x = 2; 1/0"]).code, 1);
    run(&home, "x = 3");
    taken(&home, "e4");
    restore(&home, &["--to", "e2"]);
    assert_eq!(run(&home, "x"), "1\n");
}

/// A checkpoint's sockets have the session's name: it is neither moved nor left behind.
#[test]
fn a_session_with_checkpoints_alone_is_in_use_until_it_is_killed() {
    let home = home();
    run(&home, "x = 1");
    let frozen = taken(&home, "e1");
    let (worker, kernel) = (
        home.worker("default").unwrap(),
        home.kernel("default").unwrap(),
    );
    home.kill(worker);
    home.kill(kernel);
    for arguments in [
        &["rename", "default", "other"][..],
        &["rm", "--session", "default", "--yes"],
    ] {
        let refused = home.tithon(arguments);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("in use"), "{refused:?}");
    }
    assert!(is_alive(frozen));
    home.tithon(&["kill", "--session", "default"]).ok();
    await_end(frozen);
    home.tithon(&["rename", "default", "other"]).ok();
    let fresh = ["run", "--session", "other", "-c", "y = 2"];
    home.tithon(&fresh).ok();
    until("a checkpoint under the new name", || {
        let told = home.tithon(&["checkpoints", "--json", "--session", "other"]);
        let told: Value = serde_json::from_str(&told.ok()).unwrap();
        (told["checkpoints"].as_array()?.len() == 1).then_some(())
    });
    home.tithon(&["restore", "--session", "other"]).ok();
}

#[test]
fn a_kernel_is_not_given_up_for_a_checkpoint_that_is_gone() {
    let home = home();
    run(&home, "x = 1");
    let frozen = taken(&home, "e1");
    run(&home, "x = 2");
    home.kill(frozen);
    let told = home.tithon(&["restore", "--to", "e1"]);
    assert_eq!(told.code, 2, "{told:?}");
    // "the … has ended", or by now "there is no …".
    assert!(told.stderr.contains("checkpoint after e1"), "{told:?}");
    assert_eq!(run(&home, "x"), "2\n");
}

#[test]
fn a_restart_gives_them_up() {
    let home = home();
    run(&home, "x = 1");
    let frozen = taken(&home, "e1");
    home.tithon(&["restart"]).ok();
    await_end(frozen);
    assert_eq!(checkpoints(&home)["checkpoints"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_copied_is_named_and_the_session_goes_on() {
    let home = home();
    run(
        &home,
        "import threading; stop = threading.Event(); t = threading.Thread(target=stop.wait, name='my-thread'); t.start()",
    );
    until("the refusal", || {
        let told = checkpoints(&home);
        told["refused"]
            .as_str()?
            .contains("my-thread")
            .then_some(())
    });
    assert_eq!(checkpoints(&home)["checkpoints"], serde_json::json!([]));
    // When that was is said, and it is dropped where none is wished any more.
    let asked = std::time::SystemTime::now();
    let asked = asked.duration_since(std::time::UNIX_EPOCH).unwrap();
    let refused_ts = checkpoints(&home)["refused_ts"].as_f64().unwrap();
    assert!((0.0..600.0).contains(&(asked.as_secs_f64() - refused_ts)));
    let words = home.tithon(&["checkpoints"]).stderr;
    assert!(
        words.contains("no checkpoint") && words.contains("s ago: "),
        "{words}"
    );
    assert!(
        !home
            .tithon(&["checkpoints", "--keep", "0"])
            .stderr
            .contains("my-thread")
    );
    home.tithon(&["checkpoints", "--keep", "10"]).ok();
    assert_eq!(
        run(&home, "stop.set(); t.join(); 'still here'"),
        "'still here'\n"
    );
    taken(&home, "e2");
}

#[test]
fn nobody_waits_for_the_end_of_what_a_checkpoint_holds() {
    let home = home();
    run(
        &home,
        "import subprocess, socket\n\
         p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n\
         a, b = socket.socketpair()\n\
         s = socket.create_server(('127.0.0.1', 0)); port = s.getsockname()[1]",
    );
    taken(&home, "e1");
    // Were the write end open in the copy, `cat` would never see the end of its input.
    let told = run(
        &home,
        "p.stdin.write(b'x'); p.stdin.close(); print(p.wait(), p.stdout.read()); a.close(); print(b.recv(1))\n\
         s.close(); socket.create_server(('127.0.0.1', port)).close()",
    );
    assert_eq!(told, "0 b'x'\nb''\n");
    // And in the restored kernel they are closed rather than shared with the past.
    restore(&home, &["--to", "e1"]);
    assert_eq!(run(&home, "print(b.recv(1), p.stdout.read())"), "b'' b''\n");
}

#[test]
fn tasks_and_children_of_the_session_are_its_own() {
    let home = home();
    run(
        &home,
        "import asyncio, os\nn = 0\nasync def tick():\n    global n\n    while True:\n        n += 1\n        await asyncio.sleep(0.01)\nticking = asyncio.create_task(tick())",
    );
    taken(&home, "e1");
    // A checkpoint is nobody's child that `wait` would return.
    let told = run(
        &home,
        "try: os.wait()\nexcept ChildProcessError as e: print('no child')",
    );
    assert_eq!(told, "no child\n");
    restore(&home, &["--to", "e1"]);
    let told = run(
        &home,
        "before = n; await asyncio.sleep(0.3); print(n > before, ticking.done())",
    );
    assert_eq!(told, "True False\n");
}

#[test]
fn widgets_are_what_they_were() {
    let home = home();
    run(
        &home,
        "from comm import create_comm\n\
         def widget(value): return create_comm(target_name='jupyter.widget', data={'state': {'value': value}})\n\
         first = widget(1)",
    );
    taken(&home, "e1");
    run(
        &home,
        "first.send({'method': 'update', 'state': {'value': 2}, 'buffer_paths': []}); second = widget(3)",
    );
    let values = |home: &Home| {
        let (snapshot, _) = home.client().attach("default", 0);
        let snapshot = snapshot.unwrap();
        let models = snapshot["widgets"]["state"].as_object().unwrap().clone();
        let mut values: Vec<_> = models
            .values()
            .map(|model| model["state"]["value"].as_i64().unwrap())
            .collect();
        values.sort_unstable();
        values
    };
    assert_eq!(values(&home), [2, 3]);
    restore(&home, &["--to", "e1"]);
    assert_eq!(values(&home), [1]);
    // And so to a worker that knows it from the journal alone.
    home.kill(home.worker("default").unwrap());
    assert_eq!(values(&home), [1]);
    run(
        &home,
        "first.send({'method': 'update', 'state': {'value': 5}, 'buffer_paths': []})",
    );
    assert_eq!(values(&home), [5]);
}

#[test]
fn an_older_ipykernel_is_restored_too() {
    let home = home();
    let python = IPYKERNEL_6.interpreter();
    home.tithon(&["run", "--python", python.to_str().unwrap(), "-c", "x = 1"])
        .ok();
    taken(&home, "e1");
    home.tithon(&["run", "-c", CRASH]);
    restore(&home, &[]);
    assert_eq!(run(&home, "x += 1; print(x)"), "2\n");
    taken(&home, "e3");
    restore(&home, &["--to", "e3"]);
    assert_eq!(run(&home, "x"), "2\n");
}

#[test]
fn a_session_that_wants_none_has_none() {
    let home = Home::new();
    run(&home, "x = 1");
    let told = checkpoints(&home);
    assert_eq!(told["keep"], 0);
    assert_eq!(told["checkpoints"], serde_json::json!([]));
    let none = home.tithon(&["restore"]);
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("there is no checkpoint"), "{none:?}");
    // And gets them when asked, without a new kernel.
    home.tithon(&["checkpoints", "--keep", "2"]).ok();
    for _ in 0..3 {
        run(&home, "x += 1");
    }
    until("two of them", || {
        (checkpoints(&home)["checkpoints"].as_array()?.len() == 2).then_some(())
    });
}
