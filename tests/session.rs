//! A session as its clients know it: state, order, isolation, prompts, interrupts, clearing,
//! restarts, and that a snapshot says what the events said.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use harness::{Home, until};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn state_persists_from_one_command_to_the_next() {
    let home = Home::empty();
    assert_eq!(home.tithon(&["run", "-c", "x = 41"]).ok(), "");
    let again = home.tithon(&["run", "-c", "x += 1; print(x)"]);
    assert_eq!(again.ok(), "42\n");
}

#[test]
fn sessions_do_not_see_each_other() {
    let home = Home::new();
    let (mut a, mut b) = (home.attached("a", -1), home.attached("b", -1));
    assert_eq!(a.run("a", "secret = 1; print('a')"), "a\n");
    assert_eq!(b.run("b", "print('secret' in globals())"), "False\n");
    // Nothing of one came to the other: its next event is its own next cell's.
    let exec_id = a.execute("a", "secret");
    assert_eq!(exec_id, "e2");
    let told = a.until_done(&exec_id);
    assert!(told.0.iter().all(|event| event["exec_id"] == "e2"));
    assert_ne!(home.kernel("a"), home.kernel("b"));
    assert_ne!(home.worker("a"), home.worker("b"));
}

#[test]
fn ten_cells_of_three_clients_run_in_the_order_in_which_they_were_acknowledged() {
    let home = Home::new();
    let mut watcher = home.attached("s", -1);
    watcher.run("s", "import time; order = []");
    let gate = home.work().join("gate");
    let first = watcher.execute(
        "s",
        &format!("import os\nwhile not os.path.exists({gate:?}): time.sleep(0.005)"),
    );
    let mut clients = [home.client(), home.client(), home.client()];
    let mut queued = Vec::new();
    for n in 0..10 {
        let client = &mut clients[n % 3];
        queued.push(client.execute("s", &format!("order.append({n})")));
    }
    let status = clients[0].ask(&json!({"op": "status", "session": "s"}), "status_reply");
    assert_eq!(status["queue_len"], 10, "{status}");
    std::fs::write(gate, "").unwrap();
    let told = watcher.until_done(queued.last().unwrap());
    let ended: Vec<_> = told
        .0
        .iter()
        .filter(|event| event["kind"] == "done")
        .filter_map(|event| event["exec_id"].as_str())
        .collect();
    assert_eq!(ended[0], first);
    assert_eq!(ended[1..], queued);
    let counts: Vec<_> = queued
        .iter()
        .map(|id| told.done(id)["execution_count"].as_i64().unwrap())
        .collect();
    assert!(counts.is_sorted_by(|a, b| a + 1 == *b), "{counts:?}");
    let order = watcher.run("s", "print(order)");
    assert_eq!(order, "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n");
}

#[test]
fn a_prompt_is_answered_by_whoever_is_there() {
    let home = Home::new();
    let mut asker = home.attached("s", -1);
    let code = "import getpass; print(input('name? ') + getpass.getpass('word? '))";
    let exec_id =
        asker.submit(&json!({"op": "execute", "session": "s", "code": code, "allow_stdin": true}));
    let told = asker.until_kind("input_request");
    let request = told.payloads(&exec_id, "input_request").next().unwrap();
    let prompt = json!({"exec_id": exec_id, "prompt": "name? ", "password": false});
    assert_eq!(request, &prompt);

    // Another client, later, that has only the snapshot.
    let mut other = home.client();
    let (snapshot, _) = other.attach("s", 0);
    assert_eq!(snapshot.unwrap()["pending_input"], prompt);
    let reply = json!({"op": "input_reply", "session": "s", "value": "ada"});
    assert_eq!(other.ask(&reply, "input_ack")["ok"], true);

    let told = asker.events_until(|event| event["kind"] == "input_request");
    assert!(told.kinds(&exec_id).contains(&"input_resolved"));
    assert_eq!(told.0.last().unwrap()["payload"]["password"], true);
    let reply = json!({"op": "input_reply", "value": "-secret"});
    assert_eq!(asker.ask(&reply, "input_ack")["ok"], true);
    let told = asker.until_done(&exec_id);
    assert!(told.stdout(&exec_id).ends_with("ada-secret\n"), "{told:?}");
    assert_eq!(told.done(&exec_id)["status"], "ok");
    assert_eq!(asker.ask(&reply, "input_ack")["ok"], false, "nobody asks");

    // Without `allow_stdin` it fails at once instead of waiting for ever.
    let exec_id = asker.execute("s", "input()");
    let told = asker.until_done(&exec_id);
    let error = told.outputs(&exec_id, "error").next().unwrap();
    assert_eq!(error["ename"], "StdinNotImplementedError");
}

#[test]
fn an_interrupt_ends_the_running_cell_only() {
    let home = Home::new();
    let mut client = home.attached("s", -1);
    let running = client.execute("s", "import time\nprint('on')\ntime.sleep(600)");
    client.until_kind("output");
    let mut other = home.client();
    let nobody = json!({"op": "interrupt", "session": "no such session"});
    assert_eq!(other.ask(&nobody, "interrupted")["ok"], false);
    let interrupt = json!({"op": "interrupt", "session": "s"});
    assert_eq!(other.ask(&interrupt, "interrupted")["ok"], true);
    let told = client.until_done(&running);
    assert_eq!(told.done(&running)["status"], "error");
    let error = told.outputs(&running, "error").next().unwrap();
    assert_eq!(error["ename"], "KeyboardInterrupt");
    assert_eq!(told.kernel(), ["interrupted"]);
    assert_eq!(client.run("s", "print('still here')"), "still here\n");
}

#[test]
fn a_batch_stops_at_an_error_if_it_is_to() {
    let home = Home::new();
    let mut client = home.attached("s", -1);
    let mut statuses = |stop: Option<bool>| {
        let cells = json!([{"code": "1"}, {"code": "1/0"}, {"code": "print('after')"}]);
        let mut batch = json!({"op": "execute_batch", "session": "s", "cells": cells});
        if let Some(stop) = stop {
            batch["stop_on_error"] = json!(stop);
        }
        let ack = client.ask(&batch, "execute_ack");
        let ids: Vec<String> = serde_json::from_value(ack["exec_ids"].clone()).unwrap();
        let told = client.until_done(ids.last().unwrap());
        let skipped = told.kinds(&ids[2]);
        let ends: Vec<Value> = ids
            .iter()
            .map(|id| told.done(id)["status"].clone())
            .collect();
        (ends, skipped.contains(&"started"))
    };
    let stopped = (vec![json!("ok"), json!("error"), json!("skipped")], false);
    assert_eq!(statuses(None), stopped);
    assert_eq!(statuses(Some(true)), stopped);
    let through = (vec![json!("ok"), json!("error"), json!("ok")], true);
    assert_eq!(statuses(Some(false)), through);
    let nothing = json!({"op": "execute_batch", "session": "s", "cells": []});
    let ack = client.ask(&nothing, "execute_ack");
    assert_eq!(ack["exec_ids"], json!([]));
}

/// The outputs that a snapshot has for an execution.
fn outputs(home: &Home, exec_id: &str) -> Value {
    let snapshot = home.client().attach("s", 0).0.unwrap();
    let executions = snapshot["executions"].as_array().unwrap();
    let found = executions.iter().find(|entry| entry["exec_id"] == exec_id);
    found.unwrap()["outputs"].clone()
}

#[test]
fn outputs_are_cleared_by_clients_and_by_code() {
    let home = Home::new();
    let mut client = home.attached("s", -1);
    let code = "from IPython.display import clear_output\n\
                print('gone'); clear_output(); print('kept'); clear_output(wait=True)";
    let by_code = client.execute("s", code);
    client.until_done(&by_code);
    let kept = json!([{"output_type": "stream", "name": "stdout", "text": "kept\n"}]);
    assert_eq!(outputs(&home, &by_code), kept, "wait waits for more");
    let other = client.execute("s", "print('other')");
    client.until_done(&other);

    let clear = json!({"op": "clear_output", "exec_ids": [by_code, "e77"]});
    assert_eq!(client.ask(&clear, "cleared")["count"], 1);
    let told = client.until_kind("output");
    let content = told.outputs(&by_code, "clear_output").next().unwrap();
    assert_eq!(content, &json!({"wait": false, "tithon_scope": "cell"}));
    assert_eq!(outputs(&home, &by_code), json!([]));
    assert_ne!(outputs(&home, &other), json!([]));
    let all = json!({"op": "clear_output", "all": true});
    assert_eq!(client.ask(&all, "cleared")["count"], 2);
    assert_eq!(outputs(&home, &other), json!([]));
}

#[test]
fn a_display_is_updated_in_the_cell_that_shows_it() {
    let home = Home::new();
    let mut client = home.attached("s", -1);
    let shown = client.execute("s", "shown = display('old', display_id=True)");
    client.until_done(&shown);
    let update = client.execute("s", "shown.update('new')");
    let told = client.until_done(&update);
    let content = told.outputs(&shown, "update_display_data").next().unwrap();
    assert_eq!(content["data"]["text/plain"], "'new'");
    assert_eq!(outputs(&home, &shown)[0]["data"]["text/plain"], "'new'");
    assert_eq!(outputs(&home, &update), json!([]));
}

/// An independent, naive fold: what a client that saw every event would show.
fn folded(events: &[Value], exec_id: &str) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    for event in events {
        if event["exec_id"] != exec_id || event["kind"] != "output" {
            continue;
        }
        let (msg_type, content) = (&event["payload"]["msg_type"], &event["payload"]["content"]);
        let of = |fields: &[&str]| {
            let mut item = json!({"output_type": msg_type});
            for field in fields {
                item[*field] = content[*field].clone();
            }
            item
        };
        match msg_type.as_str().unwrap() {
            "stream" => {
                let text = content["text"].as_str().unwrap();
                match items.last_mut() {
                    Some(last) if last["name"] == content["name"] => {
                        last["text"] = json!(format!("{}{text}", last["text"].as_str().unwrap()));
                    }
                    _ => items.push(of(&["name", "text"])),
                }
            }
            "error" => items.push(of(&["ename", "evalue", "traceback"])),
            "execute_result" => items.push(of(&["data", "metadata", "execution_count"])),
            "display_data" => items.push(of(&["data", "metadata"])),
            other => panic!("this model does not know {other}"),
        }
    }
    items
}

#[test]
fn a_snapshot_a_replay_and_live_events_say_the_same() {
    let home = Home::new();
    let mut live = home.client();
    live.attach("s", 0);
    let cells = [
        "import sys\nfor i in range(500):\n  print(i)\n  if i % 7 == 0: print('!', file=sys.stderr)",
        "display({'text/plain': 'd'}, raw=True); print('ü🦀', end=''); 6 * 7",
        "print('before'); 1/0",
    ];
    let mut told = Vec::new();
    for code in cells {
        let exec_id = live.execute("s", code);
        told.extend(live.until_done(&exec_id).0);
    }
    let last = told.last().unwrap()["seq"].as_i64().unwrap();
    let mut resumed = home.client();
    assert_eq!(resumed.attach("s", 1), (None, last));
    let replay = resumed.events_until(|event| event["seq"] == last);
    let (snapshot, _) = home.client().attach("s", 0);
    let snapshot = snapshot.unwrap();

    // The kernel's start may have told something before the first of ours.
    let ours = |events: &[Value]| -> Vec<Value> {
        let ours = events.iter().filter(|event| !event["exec_id"].is_null());
        ours.filter(|event| event["seq"] != 1).cloned().collect()
    };
    assert_eq!(ours(&replay.0), ours(&told));
    assert_eq!(snapshot["max_seq"], last);
    for execution in snapshot["executions"].as_array().unwrap() {
        let exec_id = execution["exec_id"].as_str().unwrap();
        assert_eq!(execution["outputs"], json!(folded(&told, exec_id)));
    }
}

/// It was answered that the session was killed, which is what those are told who were there before.
#[test]
fn who_comes_while_a_worker_leaves_is_sent_on_to_the_next() {
    let home = Home::new();
    home.tithon(&["run", "-c", "x = 1"]).ok();
    let kernel = home.kernel("default").unwrap();
    // Stopped, it takes a second to be ended.
    home.signal(kernel, Signal::STOP);
    let kill = home.spawn(&["kill", "--session", "default"]);
    let status = format!("/proc/{kernel}/status");
    until("the kernel to be told to end", || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let pending = status.lines().find_map(|it| it.strip_prefix("ShdPnd:"));
        let pending = u64::from_str_radix(pending.unwrap_or("ffffffff").trim(), 16).unwrap();
        (pending & 1 << 14 != 0).then_some(())
    });
    let restart = home.spawn(&["restart"]);
    let mut client = home.client();
    client.send(&json!({"op": "restart_kernel", "session": "default"}));
    match client.frame() {
        Err(end) => assert_eq!(end.code(), 1001),
        // On a machine so slow that the next worker was there already.
        Ok(answer) => assert_eq!(answer["op"], "kernel_restarted", "{answer}"),
    }
    kill.finish().ok();
    restart.finish().ok();
    assert_eq!(
        home.tithon(&["run", "-c", "print('x' in globals())"]).ok(),
        "False\n"
    );
}

#[test]
fn a_restarted_kernel_has_forgotten_and_the_history_has_not() {
    let home = Home::new();
    let mut client = home.attached("s", -1);
    client.run("s", "x = 1");
    let before = home.kernel("s").unwrap();
    let running = client.execute("s", "import time; time.sleep(600)");
    let queued = client.execute("s", "print('never')");
    let told = client.events_until(|event| event["kind"] == "started");
    assert_eq!(told.0.last().unwrap()["exec_id"], running);
    let restart = json!({"op": "restart_kernel", "session": "s"});
    let reply = client.ask(&restart, "kernel_restarted");
    let kernel = home.kernel("s").unwrap();
    assert_eq!(reply["kernel_pid"], kernel);
    assert_ne!(kernel, before);
    let told = client.events_until(|event| event["payload"]["status"] == "restarted");
    assert_eq!(told.kernel(), ["restarting", "restarted"]);
    for exec_id in [&running, &queued] {
        assert_eq!(told.done(exec_id)["status"], "orphaned");
    }
    assert_eq!(client.run("s", "print('x' in globals())"), "False\n");
    let (snapshot, _) = home.client().attach("s", 0);
    let snapshot = snapshot.unwrap();
    assert_eq!(snapshot["executions"].as_array().unwrap().len(), 4);
    assert_eq!(snapshot["kernel"]["lost_state"], false);
    harness::await_end(before);
}

#[test]
fn a_kernel_that_is_ready_is_idle_before_its_first_cell() {
    let home = Home::new();
    let status = |client: &mut harness::Client| {
        let asked = json!({"op": "status", "session": "s"});
        client.ask(&asked, "status_reply")["kernel_status"].take()
    };
    let mut client = home.client();
    let (snapshot, _) = client.attach("s", 0);
    assert_eq!(snapshot.unwrap()["kernel"]["status"], "idle");
    for _ in 0..2 {
        client.ask(&json!({"op": "restart_kernel"}), "kernel_restarted");
        assert_eq!(status(&mut client), "idle");
        // By now the kernel's own word for its start has been read.
        client.ask(&json!({"op": "kernel_info"}), "kernel_info_reply");
        assert_eq!(status(&mut client), "idle");
    }
}

#[test]
fn a_killed_kernel_leaves_its_history_and_the_next_cell_starts_another() {
    let home = Home::new();
    let mut client = home.attached("s", -1);
    client.run("s", "print('before')");
    let kernel = home.kernel("s").unwrap();
    let kill = json!({"op": "kill_kernel", "target": "s"});
    let mut killer = home.client();
    let killed = json!({"op": "kernel_killed", "ok": true, "session": "s"});
    assert_eq!(killer.ask(&kill, "kernel_killed"), killed);
    assert_eq!(client.until_kind("kernel").kernel(), ["killed"]);
    until("the kernel's end", || {
        (!harness::is_alive(kernel)).then_some(())
    });
    assert_eq!(killer.ask(&kill, "kernel_killed")["ok"], false);
    // Who is still connected is told so, and let go when it wants a fresh kernel.
    let refused = client.ask(&json!({"op": "execute", "code": "1"}), "error");
    client.send(&json!({"op": "restart_kernel"}));
    let (error, end) = client.dismissed();
    assert_eq!(error, refused);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("session was killed")
    );
    assert_eq!(end.code(), 1000);
    let mut next = home.client();
    let (snapshot, seq) = next.attach("s", 0);
    let snapshot = snapshot.unwrap();
    assert_eq!(snapshot["closed_by_user"], true);
    assert_eq!(snapshot["executions"].as_array().unwrap().len(), 1);
    assert_eq!(next.run("s", "print('after')"), "after\n");
    assert!(seq > 0);
    assert_eq!(
        home.client().attach("s", 0).0.unwrap()["closed_by_user"],
        false
    );
}

#[test]
fn a_shutdown_leaves_kernels_running_unless_they_are_to_end() {
    let mut home = Home::new();
    let mut client = home.attached("s", -1);
    client.run("s", "x = 1");
    let kernel = home.kernel("s").unwrap();
    let reply = home.tithon(&["shutdown"]).ok();
    assert_eq!(reply, "{\n  \"op\": \"shutting_down\"\n}\n");
    until("the supervisor's end", || {
        home.supervisor().is_none().then_some(())
    });
    assert_eq!(home.kernel("s"), Some(kernel));
    home.start();
    let mut client = home.attached("s", -1);
    assert_eq!(client.run("s", "print(x)"), "1\n");
    assert_eq!(home.kernel("s"), Some(kernel));

    home.tithon(&["shutdown", "--kill-kernels"]).ok();
    assert_eq!(client.until_kind("kernel").kernel(), ["shutdown"]);
    until("the end of everything", || {
        let left = [home.supervisor(), home.worker("s"), home.kernel("s")];
        left.iter().all(Option::is_none).then_some(())
    });
}
