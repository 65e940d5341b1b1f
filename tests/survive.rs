//! What outlives what: supervisors, workers and kernels killed at any time, and clients that notice
//! as little as can be.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use harness::{Client, Home, Transcript, until};
use serde_json::{Value, json};

/// Prints lines until it is told to stop, then two more, so that every test decides how long a
/// stream is by what it does meanwhile, not by a clock.
fn stream_until(gate: &std::path::Path) -> String {
    format!(
        "import os, time\nn = 0\nwhile not os.path.exists({gate:?}):\n  print(n, flush=True); n += 1\n  time.sleep(0.001)\n\
         print('end', n)"
    )
}

/// Checks that a stream is complete and in order, and ended well.
fn assert_whole(text: &str) {
    let mut lines: Vec<&str> = text.lines().collect();
    let end = lines.pop().unwrap_or_default();
    assert_eq!(end, format!("end {}", lines.len()));
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(*line, n.to_string());
    }
}

/// Reads on until `count` more outputs came.
fn outputs(client: &mut Client, count: usize) -> Vec<Value> {
    let mut left = count;
    let told = client.events_until(|event| {
        left -= usize::from(event["kind"] == "output");
        left == 0
    });
    told.0
}

/// Attaches anew after the last event seen, as an editor does whose connection broke.
fn resume(home: &Home, told: &[Value]) -> Client {
    let mut client = home.client();
    let since = told
        .last()
        .map_or(-1, |event| event["seq"].as_i64().unwrap());
    let (snapshot, _) = client.attach("s", since);
    assert_eq!(snapshot, None);
    client
}

#[test]
fn a_client_goes_on_receiving_while_supervisors_die_and_start() {
    let mut home = Home::new();
    let gate = home.work().join("gate");
    let mut client = home.attached("s", -1);
    let (worker, exec_id) = (home.worker("s"), client.execute("s", &stream_until(&gate)));
    let mut told = outputs(&mut client, 3);
    for _ in 0..3 {
        home.kill_supervisor();
        told.extend(outputs(&mut client, 3));
        home.start();
        told.extend(outputs(&mut client, 3));
    }
    // Who comes now is handed to the same worker.
    let mut late = home.client();
    let (snapshot, _) = late.attach("s", 0);
    assert_eq!(snapshot.unwrap()["executions"][0]["status"], "running");
    std::fs::write(gate, "").unwrap();
    told.extend(client.until_done(&exec_id).0);
    let told = Transcript(told);
    assert_whole(&told.stdout(&exec_id));
    assert_eq!(told.done(&exec_id)["execution_count"], 1);
    assert_eq!(home.worker("s"), worker);
    late.until_done(&exec_id);
}

#[test]
fn a_replaced_worker_goes_on_where_its_predecessor_was_killed() {
    let home = Home::new();
    let gate = home.work().join("gate");
    let mut client = home.attached("s", -1);
    client.run("s", "first = True");
    let kernel = home.kernel("s");
    let exec_id = client.execute("s", &stream_until(&gate));
    let queued = client.execute("s", "print('queued before', first)");
    let mut told = outputs(&mut client, 3);
    for _ in 0..3 {
        home.kill(home.worker("s").unwrap());
        while let Ok(event) = client.event() {
            told.push(event);
        }
        client = resume(&home, &told);
        told.extend(outputs(&mut client, 3));
    }
    std::fs::write(gate, "").unwrap();
    told.extend(client.until_done(&queued).0);
    let told = Transcript(told);
    assert_whole(&told.stdout(&exec_id));
    assert_eq!(home.journal("s").stdout(&exec_id), told.stdout(&exec_id));
    let done = told.done(&exec_id);
    assert_eq!(
        (&done["status"], &done["execution_count"]),
        (&json!("ok"), &json!(2))
    );
    assert_eq!(told.stdout(&queued), "queued before True\n");
    assert_eq!(home.kernel("s"), kernel);
}

#[test]
fn a_kernel_outlives_supervisor_and_worker_at_once() {
    let mut home = Home::new();
    let gate = home.work().join("gate");
    let mut client = home.attached("s", -1);
    let exec_id = client.execute("s", &stream_until(&gate));
    let mut told = outputs(&mut client, 3);
    let (worker, kernel) = (home.worker("s").unwrap(), home.kernel("s"));
    home.kill_supervisor();
    home.kill(worker);
    while let Ok(event) = client.event() {
        told.push(event);
    }
    // The cell ends while nobody is there.
    std::fs::write(gate, "").unwrap();
    home.start();
    let mut client = resume(&home, &told);
    told.extend(client.until_done(&exec_id).0);
    let told = Transcript(told);
    assert_whole(&told.stdout(&exec_id));
    let done = told.done(&exec_id);
    assert_eq!(
        (&done["status"], &done["execution_count"]),
        (&json!("ok"), &json!(1))
    );
    assert_eq!(home.kernel("s"), kernel);
    assert_eq!(client.run("s", "print(n > 0)"), "True\n");
}

#[test]
fn the_commands_of_the_readme_survive_kills() {
    let mut home = Home::empty();
    home.tithon(&["run", "-c", "x = 41"]).ok();
    let kernel = home.kernel("default");
    home.kill_supervisor();
    home.kill(home.worker("default").unwrap());
    let again = home.tithon(&["run", "-c", "x += 1; print(x)"]);
    assert_eq!(again.ok(), "42\n");
    assert_eq!(home.kernel("default"), kernel);
    let attached = home.tithon(&["attach", "--since", "0", "--once"]).ok();
    let snapshot: Value = serde_json::from_str(attached.lines().next().unwrap()).unwrap();
    assert_eq!(snapshot["executions"][1]["outputs"][0]["text"], "42\n");
}

#[test]
fn the_death_of_a_kernel_is_told_and_can_be_mended() {
    let home = Home::new();
    let mut client = home.attached("s", -1);
    let exec_id = client.execute(
        "s",
        "import os, time; print('last words', flush=True); time.sleep(600)",
    );
    let queued = client.execute("s", "print('after')");
    client.until_kind("output");
    let kernel = home.kernel("s").unwrap();
    home.kill(kernel);
    let told = client.until_done(&exec_id);
    let error = told.outputs(&exec_id, "error").next().unwrap();
    assert_eq!(error["ename"], "KernelDied");
    assert_eq!(error["tithon_scope"], "cell");
    let done = told.done(&exec_id);
    assert_eq!(
        (&done["status"], &done["execution_count"]),
        (&json!("error"), &Value::Null)
    );
    let rest = client.until_done(&queued);
    assert_eq!(rest.done(&queued)["status"], "error");

    let restart = json!({"op": "restart_kernel", "session": "s"});
    client.ask(&restart, "kernel_restarted");
    assert_eq!(client.run("s", "print('mended')"), "mended\n");

    let lost = home.tithon(&["run", "--session", "s", "-c", "import os; os._exit(3)"]);
    assert_eq!(lost.code, 4, "{lost:?}");
    assert!(lost.stderr.contains("KernelDied"), "{lost:?}");
    // Done literally it mends this session, and not another one's living kernel.
    assert!(
        lost.stderr.contains("(tithon restart --session 's', or"),
        "{lost:?}"
    );
    client.ask(&restart, "kernel_restarted");
    let other = home.tithon(&["run", "--session", "s", "--python", "other", "-c", "1"]);
    assert_eq!(other.code, 0, "{other:?}");
    assert!(other.stderr.contains("runs already"), "{other:?}");
}

#[test]
fn twenty_sessions_are_found_again_with_their_kernels() {
    let mut home = Home::new();
    let names: Vec<String> = (0..20).map(|n| format!("file:///lab/{n:02}.py")).collect();
    let mut clients: Vec<Client> = names
        .iter()
        .map(|name| {
            let mut client = home.client();
            client.send(&json!({"op": "attach", "session": name, "last_seen_seq": -1}));
            client
        })
        .collect();
    for (client, name) in clients.iter_mut().zip(&names) {
        client.expect("sync");
        client.run(name, &format!("name = {name:?}"));
    }
    let kernels: Vec<_> = names.iter().map(|name| home.kernel(name)).collect();
    home.kill_supervisor();
    // Some workers die while nobody watches.
    for name in &names[..5] {
        home.kill(home.worker(name).unwrap());
    }
    home.start();
    let sessions = until("twenty sessions with their kernels", || {
        let status = home.client().ask(&json!({"op": "status"}), "status_reply");
        let sessions = status["sessions"].as_array().unwrap().clone();
        let ready = sessions
            .iter()
            .filter(|entry| entry["kernel_status"] == "idle");
        (ready.count() == 20).then_some(sessions)
    });
    for ((session, name), kernel) in sessions.iter().zip(&names).zip(kernels) {
        assert_eq!(session["session"], *name);
        assert_eq!(session["kernel_pid"], kernel.unwrap());
    }
    for (client, name) in clients.iter_mut().zip(&names).skip(5) {
        assert_eq!(client.run(name, "print(name)"), format!("{name}\n"));
    }
    for name in &names[..5] {
        let mut client = home.attached(name, -1);
        assert_eq!(client.run(name, "print(name)"), format!("{name}\n"));
    }
}

#[test]
fn racing_starts_end_with_one_supervisor_one_worker_one_kernel() {
    let home = Home::empty();
    let runs: Vec<_> = (0..10)
        .map(|n| home.spawn(&["run", "-c", &format!("print({n}); import os; os.getpid()")]))
        .collect();
    let told: Vec<String> = runs.into_iter().map(|run| run.finish().ok()).collect();
    let kernel = home.kernel("default").unwrap();
    for (n, told) in told.iter().enumerate() {
        assert_eq!(*told, format!("{n}\n{kernel}\n"));
    }
    let status: Value = serde_json::from_str(&home.tithon(&["status"]).ok()).unwrap();
    assert_eq!(status["sessions"].as_array().unwrap().len(), 1);
    let log = std::fs::read_to_string(home.root().join("daemon.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

/// A unix socket's path holds 108 bytes; nobody's home has to.
#[test]
fn a_home_too_long_for_a_socket_works_end_to_end() {
    let home = Home::empty();
    let long = home.work().join("x".repeat(100)).join("y".repeat(100));
    let mut home = home.at(long);
    assert_eq!(home.tithon(&["run", "-c", "x = 6; print(x)"]).ok(), "6\n");
    assert!(home.root().join("daemon.sock").exists());
    let kernel = home.kernel("default");
    home.kill_supervisor();
    home.kill(home.worker("default").unwrap());
    assert_eq!(home.tithon(&["run", "-c", "print(x * 7)"]).ok(), "42\n");
    assert_eq!(home.kernel("default"), kernel);
    assert!(home.tithon(&["ps"]).ok().contains("default"));
}
