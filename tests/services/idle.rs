//! The idle timeout: ends what nobody uses, and nothing else.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, Home, until};

/// Soon, but later than anything here takes to be set up.
const SOON: &str = "2";
const POLL: (&str, &str) = ("TITHON_GC_POLL", "0.1");

fn status(home: &Home) -> Option<Value> {
    let reply = home.client().ask(&json!({"op": "status"}), "status_reply");
    reply["sessions"].as_array().unwrap().first().cloned()
}

fn is_collected(home: &Home) {
    until("the session is collected", || {
        status(home).is_none().then_some(())
    });
    let (_, snapshot) = home.attached();
    assert_eq!(
        (
            &snapshot["closed_by_user"],
            &snapshot["kernel"]["lost_state"]
        ),
        (&json!(false), &json!(true))
    );
}

/// Holds for longer than the timeout.
fn is_spared(home: &Home) {
    let since = Instant::now();
    until("the timeout is over", || {
        assert!(status(home).is_some(), "collected");
        (since.elapsed() > Duration::from_secs(4)).then_some(())
    });
}

fn used(home: &Home) -> Client {
    let (mut client, _) = home.attached();
    client.run("x = 1");
    client
}

#[test]
fn a_kernel_is_collected_once_nobody_is_there() {
    let home = Home::with(&[("TITHON_KERNEL_IDLE_TIMEOUT", SOON), POLL]);
    let client = used(&home);
    is_spared(&home);
    drop(client);
    is_collected(&home);
    let mut client = home.client();
    client.attach(1);
    let gc = client
        .seen
        .iter()
        .find(|frame| frame["payload"]["status"] == "gc")
        .unwrap();
    assert!(gc["payload"]["idle_seconds"].as_i64().unwrap() >= 2, "{gc}");
}

#[test]
fn what_is_busy_or_prompting_is_spared_also_after_its_worker_was_replaced() {
    let home = Home::with(&[("TITHON_KERNEL_IDLE_TIMEOUT", SOON), POLL]);
    let mut client = used(&home);
    let cell = client.submit("input()");
    client.event("input_request", &cell);
    drop(client);
    is_spared(&home);
    home.replace_worker();
    is_spared(&home);
    let mut client = home.client();
    client.ask(&json!({"op": "input_reply", "value": ""}), "input_ack");
    drop(client);
    is_collected(&home);
}

#[test]
fn a_later_supervisors_wish_holds_for_the_kernels_it_finds() {
    let mut home = Home::with(&[POLL]);
    drop(used(&home));
    home.kill_supervisor();
    home.start(&["--idle-timeout", SOON]);
    is_collected(&home);
    // And the other way round: kernels that were to be collected live on.
    drop(used(&home));
    home.kill_supervisor();
    home.start(&[]);
    is_spared(&home);
}
