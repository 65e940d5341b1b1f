//! `tithon try`: code on a copy of the kernel, of which nothing is left, whatever ended it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use harness::{Home, IPYKERNEL_6, Running, await_end, is_alive, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tithon_ipc::marks::Marked;

fn run(home: &Home, code: &str) -> String {
    home.tithon(&["run", "-c", code]).ok()
}

fn tried(home: &Home, code: &str) -> String {
    home.tithon(&["try", "-c", code]).ok()
}

/// Every process of the home's sessions.
fn processes(home: &Home) -> Vec<i32> {
    let sessions = home.paths().sessions();
    let mut found: Vec<_> = Marked::all()
        .into_iter()
        .filter(|marked| marked.session.starts_with(&sessions))
        .map(|marked| marked.process.identity().pid)
        .collect();
    found.sort_unstable();
    found
}

/// Files of the session and of `run/`, spool segments apart.
fn files(home: &Home) -> Vec<String> {
    let dirs = [home.session("default"), home.paths().run().to_owned()];
    let mut names: Vec<_> = dirs
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).unwrap().flatten())
        .map(|entry| entry.path().display().to_string())
        .collect();
    names.sort();
    names
}

/// Waits until there is nothing that was not there before.
fn gone(home: &Home, before: &[i32]) {
    until("the copy's end", || {
        let now = processes(home);
        now.iter().all(|pid| before.contains(pid)).then_some(())
    });
    let copies = home.session("default").join("copies");
    until("its files' end", || (!copies.exists()).then_some(()));
}

/// Starts `tithon try` and waits until the code runs; the copy's process id with it.
fn started(home: &Home, code: &str) -> (Running, i32) {
    let code = format!("import os, time, subprocess\nprint(os.getpid(), flush=True)\n{code}");
    let mut trying = home.spawn(&["try", "-c", &code]);
    let pid = trying.line().trim().parse().unwrap();
    (trying, pid)
}

const HANGS: &str = "subprocess.Popen(['setsid', 'sleep', '1000'])\ntime.sleep(1000)";

#[test]
fn nothing_is_left_of_what_was_tried() {
    let home = Home::new();
    run(&home, "x = [1]; import random; random.seed(7)");
    let seqs = || -> (i64, i64) {
        let told = home.tithon(&["status", "--session", "default"]).ok();
        let status: Value = serde_json::from_str(&told).unwrap();
        (
            status["max_seq"].as_i64().unwrap(),
            status["executions"].as_i64().unwrap(),
        )
    };
    let before = (seqs(), processes(&home), files(&home));
    let told = tried(
        &home,
        "x.append('try-me'); print(x, random.random() == 0.32383276483316237, len(In)); import os; os.environ['A'] = 'b'\n\
         from comm import create_comm; create_comm(target_name='jupyter.widget', data={'state': {}})\nx",
    );
    assert_eq!(told, "[1, 'try-me'] True 3\n[1, 'try-me']\n");
    let failed = home.tithon(&["try", "-c", "x.clear(); print('so far'); 1/0"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert_eq!(failed.stdout, "so far\n");
    assert!(failed.stderr.contains("ZeroDivisionError"), "{failed:?}");
    assert_eq!((seqs(), processes(&home), files(&home)), before);
    // Neither in the kernel, nor in IPython's own history.
    let told = run(
        &home,
        "import os; print(x, len(In), 'A' in os.environ, random.random())\n\
         get_ipython().history_manager.writeout_cache()\n\
         [line for _, _, line in get_ipython().history_manager.search('*try-me*')]",
    );
    assert!(told.starts_with("[1] 3 False 0.3238"), "{told}");
    assert!(!told.contains("append"), "{told}");
}

#[test]
fn a_copy_that_dies_or_asks_harms_nobody() {
    let home = Home::new();
    run(&home, "x = 1");
    let (kernel, before) = (home.kernel("default"), processes(&home));
    let died = home.tithon(&["try", "-c", "print('last words'); import os; os._exit(3)"]);
    assert_eq!(died.code, 4, "{died:?}");
    assert_eq!(died.stdout, "last words\n");
    assert!(died.stderr.contains("exited with code 3"), "{died:?}");
    let answered = home.tithon_reading(&["try", "--stdin", "-c", "input('? ') + '!'"], b"yes\n");
    assert_eq!(answered.ok(), "? 'yes!'\n");
    let refused = home.tithon(&["try", "-c", "input()"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let events = home.tithon(&["try", "--json", "-c", "print(1)"]).ok();
    let kinds: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| event.get("kind").unwrap_or(&event["op"]).clone())
        .collect();
    assert!(kinds.contains(&json!("output")), "{events}");
    assert_eq!(kinds.last(), Some(&json!("tried")), "{events}");
    assert_eq!(home.kernel("default"), kernel);
    gone(&home, &before);
    assert_eq!(run(&home, "x"), "1\n");
}

#[test]
fn what_hangs_is_interrupted_and_ends_with_its_client() {
    let home = Home::new();
    run(&home, "x = 1");
    let before = processes(&home);
    let (trying, _) = started(&home, "while True: print('more')");
    home.signal(trying.pid(), Signal::INT);
    let ended = trying.finish();
    assert_eq!(ended.code, 130, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("KeyboardInterrupt"),
        "{}",
        ended.stderr
    );
    gone(&home, &before);

    // What ignores that ends at the second, and its children with it, a session of their own or not.
    let (trying, copy) = started(
        &home,
        &format!("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{HANGS}"),
    );
    until("its end", || {
        home.signal(trying.pid(), Signal::INT);
        (!is_alive(copy)).then_some(())
    });
    assert_eq!(trying.finish().code, 130);
    gone(&home, &before);

    let (trying, copy) = started(&home, HANGS);
    home.signal(trying.pid(), Signal::KILL);
    trying.finish();
    gone(&home, &before);
    await_end(copy);
    assert_eq!(run(&home, "x"), "1\n");
}

/// It ended what was tried without a word.
#[test]
fn an_upgrade_waits_for_what_is_tried() {
    let home = Home::new();
    run(&home, "x = 1");
    let worker = home.worker("default");
    let (trying, copy) = started(
        &home,
        "while not os.path.exists('go'): time.sleep(0.01)\nprint(x)",
    );
    let upgrade = |arguments: &[&str]| {
        let command = home.command_of_another_file(&[&["upgrade"], arguments].concat());
        Running::start(command, b"").finish()
    };
    let left = upgrade(&["--no-wait"]);
    assert_eq!(left.code, 1, "{left:?}");
    assert!(
        left.stdout.contains("left        default is busy"),
        "{left:?}"
    );
    assert!(is_alive(copy));
    std::fs::write(home.work().join("go"), "").unwrap();
    assert!(trying.finish().ok().ends_with("1\n"));
    upgrade(&[]).ok();
    assert_ne!(home.worker("default"), worker);
}

#[test]
fn a_copy_outlives_the_supervisor_and_not_its_worker() {
    let mut home = Home::new();
    run(&home, "x = 1");
    let before = processes(&home);
    let (trying, copy) = started(
        &home,
        "while not os.path.exists('go'): time.sleep(0.01)\nprint(x)",
    );
    home.kill_supervisor();
    std::fs::write(home.work().join("go"), "").unwrap();
    assert_eq!(trying.finish().ok(), "1\n");
    gone(&home, &before);

    home.start();
    let kernel = home.kernel("default");
    let (trying, other) = started(&home, HANGS);
    home.kill(home.worker("default").unwrap());
    let ended = trying.finish();
    assert_eq!(ended.code, 4, "{ended:?}");
    assert_eq!(run(&home, "x"), "1\n");
    assert_eq!(home.kernel("default"), kernel);
    let with_new_worker = [before, home.worker("default").into_iter().collect()].concat();
    gone(&home, &with_new_worker);
    await_end(copy);
    await_end(other);

    let (trying, copy) = started(&home, HANGS);
    home.tithon(&["kill", "--session", "default"]).ok();
    assert_eq!(trying.finish().code, 2);
    await_end(copy);
}

#[test]
fn a_checkpoint_is_tried_while_a_cell_runs_and_the_kernel_after_it() {
    let home = Home::with(&[("TITHON_CHECKPOINTS", "5")]);
    run(&home, "x = 1");
    until("the checkpoint", || {
        let told = home.tithon(&["checkpoints", "--json"]).ok();
        let told: Value = serde_json::from_str(&told).unwrap();
        (!told["checkpoints"].as_array()?.is_empty()).then_some(())
    });
    let cell = home.spawn(&[
        "run",
        "-c",
        "x = 2\nopen('runs', 'w').close()\nimport os, time\nwhile not os.path.exists('go'): time.sleep(0.01)",
    ]);
    until("the cell", || {
        home.work().join("runs").exists().then_some(())
    });
    let waiting = home.spawn(&["try", "-c", "print('after', x)"]);
    for _ in 0..2 {
        let told = home.tithon(&["try", "--from", "e1", "-c", "x += 10; print(x)"]);
        assert_eq!(told.ok(), "11\n");
    }
    std::fs::write(home.work().join("go"), "").unwrap();
    assert_eq!(waiting.finish().ok(), "after 2\n");
    cell.finish().ok();
    let none = home.tithon(&["try", "--from", "e77", "-c", "x"]);
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("no checkpoint after e77"), "{none:?}");
}

#[test]
fn what_cannot_be_copied_is_refused_with_the_reason() {
    let home = Home::new();
    run(
        &home,
        "import threading; stop = threading.Event(); t = threading.Thread(target=stop.wait, name='my-thread'); t.start()",
    );
    let refused = home.tithon(&["try", "-c", "1"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("my-thread"), "{refused:?}");
    run(&home, "stop.set(); t.join()");
    assert_eq!(tried(&home, "'now'"), "'now'\n");
}

#[test]
fn an_older_ipykernel_is_copied_too() {
    let home = Home::new();
    let python = IPYKERNEL_6.interpreter();
    home.tithon(&["run", "--python", python.to_str().unwrap(), "-c", "x = 1"])
        .ok();
    assert_eq!(
        tried(
            &home,
            "x += 1; print(x); await __import__('asyncio').sleep(0)"
        ),
        "2\n"
    );
    assert_eq!(run(&home, "x"), "1\n");
}
