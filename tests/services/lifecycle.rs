//! What a client is told of the kernel's life: generations, lost state, deaths, ends; across
//! restarts, crashes and reboots, always what the journal says.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Client, Home, kill, shown, until};

/// What a fresh client hears of the kernel: lost_state, reattached, generation.
fn kernel(home: &Home) -> (bool, bool, i64) {
    let (_, snapshot) = home.attached();
    let kernel = &snapshot["kernel"];
    (
        kernel["lost_state"].as_bool().unwrap(),
        kernel["reattached"].as_bool().unwrap(),
        kernel["generation"].as_i64().unwrap(),
    )
}

fn kernel_event(client: &mut Client, status: &str) -> Value {
    let is_it = |frame: &Value| frame["kind"] == "kernel" && frame["payload"]["status"] == status;
    client.find(status, is_it)
}

/// Every kernel event of the session's whole history.
fn history(home: &Home) -> Vec<Value> {
    let mut client = home.client();
    client.attach(1);
    let events = client.seen.iter().filter(|frame| frame["kind"] == "kernel");
    events.map(|frame| frame["payload"].clone()).collect()
}

/// Ends worker and kernel at once, as a power loss does, and lets the record of the kernel be of another boot.
fn reboot(home: &mut Home) {
    home.kill_supervisor();
    let (worker, pid) = (home.worker_pid(), home.kernel_pid());
    kill(worker);
    kill(pid);
    let record = home.session().join("kernel.process.json");
    let mut identity: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    identity["boot_id"] = json!("00000000-0000-0000-0000-000000000000");
    fs::write(&record, identity.to_string()).unwrap();
    until("both are gone", || {
        let alive = |pid: i32| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        (!alive(worker) && !alive(pid)).then_some(())
    });
    home.start(&[]);
}

#[test]
fn a_first_kernel_is_generation_nought_and_stays_it_over_replacements() {
    let mut home = Home::new();
    assert_eq!(kernel(&home), (false, false, 0));
    let (mut client, _) = home.attached();
    client.run("x = 1");
    home.replace_worker();
    assert_eq!(kernel(&home), (false, true, 0));
    home.kill_supervisor();
    home.start(&[]);
    assert_eq!(kernel(&home), (false, true, 0));
    assert_eq!(history(&home), [] as [Value; 0]);
}

#[test]
fn a_restart_begins_a_generation_and_ends_what_ran() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    let old = home_pid_of(&mut client);
    let running = client.submit("input()");
    client.event("input_request", &running);
    let queued = client.submit("2");
    let reply = client.ask(&json!({"op": "restart_kernel"}), "kernel_restarted");
    let new = reply["kernel_pid"].as_i64().unwrap();
    assert_ne!(old, new);
    for exec in [&running, &queued] {
        assert_eq!(client.done(exec)["status"], "orphaned");
    }
    let restarting = kernel_event(&mut client, "restarting");
    let restarted = kernel_event(&mut client, "restarted");
    assert_eq!(
        restarting["payload"],
        json!({"status": "restarting", "pid": old, "deliberate": true})
    );
    assert_eq!(
        restarted["payload"],
        json!({"status": "restarted", "pid": new, "deliberate": true})
    );
    let generation = restarted["seq"].as_i64().unwrap();
    let (_, snapshot) = home.attached();
    assert_eq!(snapshot["pending_input"], Value::Null);
    assert_eq!(shown(&snapshot, &queued)["started_at"], Value::Null);
    assert_eq!(kernel(&home), (false, false, generation));
    // Many interrupts later, and with another worker, it is the same generation still.
    for _ in 0..70 {
        client.ask(&json!({"op": "interrupt"}), "interrupted");
    }
    home.replace_worker();
    assert_eq!(kernel(&home), (false, true, generation));
}

fn home_pid_of(client: &mut Client) -> i64 {
    let status = client.ask(
        &json!({"op": "status", "session": "default"}),
        "status_reply",
    );
    status["kernel_pid"].as_i64().unwrap()
}

#[test]
fn restarts_at_the_same_time_all_get_a_fresh_kernel() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    client.run("stale = 1");
    let mut others: Vec<Client> = (0..3).map(|_| home.client()).collect();
    for other in &mut others {
        other.send(&json!({"op": "restart_kernel"}));
    }
    for other in &mut others {
        let reply = other.wait("the reply", |frame| frame["op"] != "sync");
        assert_eq!(reply["op"], "kernel_restarted", "{reply}");
    }
    // A restart while the first kernel starts is met by that kernel.
    assert_eq!(client.run("stale").1["status"], "error");
    assert_eq!(client.run("print(1)").1["status"], "ok");
    let statuses: Vec<_> = history(&home)
        .iter()
        .map(|event| event["status"].clone())
        .collect();
    let pairs = statuses
        .chunks(2)
        .all(|pair| pair == [json!("restarting"), json!("restarted")]);
    assert!(pairs && !statuses.is_empty(), "{statuses:?}");
}

#[test]
fn a_restart_while_the_kernel_starts_is_answered() {
    let home = Home::new();
    let mut client = home.client();
    client.send(&json!({"op": "restart_kernel"}));
    assert_eq!(client.wait("the reply", |_| true)["op"], "kernel_restarted");
    assert_eq!(client.submit("print(1)"), "e1");
}

#[test]
fn a_worker_that_dies_over_a_restart_leaves_it_to_the_next() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    client.run("stale = 1");
    let old = home_pid_of(&mut client);
    client.send(&json!({"op": "restart_kernel"}));
    kernel_event(&mut client, "restarting");
    kill(home.worker_pid());
    let (mut client, snapshot) = until("a new worker serves", || {
        let mut client = home.client();
        client.try_attach().map(|snapshot| (client, snapshot))
    });
    assert_eq!(snapshot["kernel"]["lost_state"], false);
    assert_ne!(home_pid_of(&mut client), old);
    assert_eq!(client.run("stale").1["status"], "error");
    let statuses: Vec<_> = history(&home)
        .iter()
        .map(|event| event["status"].clone())
        .collect();
    assert_eq!(statuses, ["restarting", "restarted"]);
}

#[test]
fn a_death_while_idle_is_noticed_and_a_restart_mends_it() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    client.run("x = 1");
    let pid = home.kernel_pid();
    kill(pid);
    let dead = kernel_event(&mut client, "dead");
    assert_eq!(
        dead["payload"],
        json!({"status": "dead", "pid": pid, "deliberate": false})
    );
    let (_, snapshot) = home.attached();
    assert_eq!(snapshot["kernel"]["status"], "dead");
    // Nothing is respawned, and what is submitted says so.
    let (cell, done) = client.run("x");
    assert_eq!(
        (&done["status"], &done["execution_count"]),
        (&json!("error"), &Value::Null)
    );
    assert_eq!(
        client.event("started", &cell)["payload"]["kernel_msg_id"],
        Value::Null
    );
    client.ask(&json!({"op": "restart_kernel"}), "kernel_restarted");
    assert_eq!(client.run("print(1)").1["status"], "ok");
    let (_, snapshot) = home.attached();
    assert_eq!(snapshot["kernel"]["lost_state"], false);
}

#[test]
fn a_reboot_after_work_loses_state_until_a_restart() {
    let mut home = Home::new();
    let (mut client, _) = home.attached();
    client.run("x = 1; print('before')");
    reboot(&mut home);
    let (_, snapshot) = home.attached();
    let replaced = history(&home).pop().unwrap();
    assert_eq!(
        replaced,
        json!({"status": "replaced", "pid": home.kernel_pid(), "deliberate": false})
    );
    assert_eq!(snapshot["kernel"]["lost_state"], true);
    assert_eq!(shown(&snapshot, "e1")["outputs"][0]["text"], "before\n");
    let generation = snapshot["kernel"]["generation"].as_i64().unwrap();
    assert_eq!(generation, snapshot["max_seq"].as_i64().unwrap());
    // The warning outlives workers and supervisors, not a restart.
    home.replace_worker();
    assert_eq!(kernel(&home), (true, true, generation));
    let mut again = home.attached().0;
    again.ask(&json!({"op": "restart_kernel"}), "kernel_restarted");
    let (lost, _, now) = kernel(&home);
    assert!(!lost && now > generation);
}

#[test]
fn a_reboot_during_a_cell_orphans_it() {
    let mut home = Home::new();
    let (mut client, _) = home.attached();
    let running = client.submit("print('up', flush=True); input()");
    client.event("input_request", &running);
    let queued = client.submit("1");
    reboot(&mut home);
    let (_, snapshot) = home.attached();
    assert_eq!(shown(&snapshot, &running)["status"], "orphaned");
    assert_eq!(shown(&snapshot, &queued)["status"], "orphaned");
    assert_eq!(snapshot["pending_input"], Value::Null);
    assert_eq!(snapshot["kernel"]["lost_state"], true);
}

#[test]
fn a_deliberate_end_is_no_loss_and_is_remembered_as_one() {
    let mut home = Home::new();
    let (mut client, _) = home.attached();
    client.run("import ipywidgets; ipywidgets.IntSlider()");
    let killed = home.client().ask(
        &json!({"op": "kill_kernel", "target": "default"}),
        "kernel_killed",
    );
    assert_eq!(
        killed,
        json!({"op": "kernel_killed", "ok": true, "session": "default"})
    );
    let event = kernel_event(&mut client, "killed");
    assert_eq!(
        event["payload"],
        json!({"status": "killed", "deliberate": true})
    );
    // The old connection is dead and says so; a new one finds a fresh kernel, and no warning.
    assert_eq!(
        client.ask(&json!({"op": "execute", "code": "1"}), "execute_ack")["op"],
        "error"
    );
    let (_, snapshot) = home.attached();
    assert_eq!(snapshot["closed_by_user"], true);
    assert_eq!(snapshot["kernel"]["lost_state"], false);
    assert_eq!(snapshot["kernel"]["generation"], event["seq"]);
    // A kernel's widgets end with it, also for the next worker.
    assert_eq!(snapshot["widgets"]["state"], json!({}));
    home.replace_worker();
    assert_eq!(home.attached().1["widgets"]["state"], json!({}));
    home.attached().0.run("x = 1");
    assert_eq!(home.attached().1["closed_by_user"], false);
    // A shutdown with all kernels is deliberate too, but no closing.
    home.client().ask(
        &json!({"op": "shutdown", "kill_kernels": true}),
        "shutting_down",
    );
    home.supervisor.take().unwrap().wait().unwrap();
    home.start(&[]);
    let (_, snapshot) = home.attached();
    assert_eq!(
        (
            &snapshot["closed_by_user"],
            &snapshot["kernel"]["lost_state"]
        ),
        (&json!(false), &json!(false))
    );
    assert_eq!(
        history(&home).pop().unwrap(),
        json!({"status": "shutdown", "deliberate": true})
    );
}
