//! Batches: in order, stopped by an error, and carried on over anybody's death but the kernel's.

use serde_json::{Value, json};

use crate::harness::{Client, Home, shown};

fn batch(client: &mut Client, cells: &[&str], stop_on_error: bool) -> Vec<String> {
    let cells: Vec<_> = cells.iter().map(|code| json!({"code": code})).collect();
    let op = json!({"op": "execute_batch", "cells": cells, "stop_on_error": stop_on_error, "allow_stdin": true});
    let ack = client.ask(&op, "execute_ack");
    let ids = ack["exec_ids"].as_array().unwrap().iter();
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

fn statuses(snapshot: &Value, ids: &[String]) -> Vec<String> {
    ids.iter()
        .map(|id| shown(snapshot, id)["status"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_error_skips_the_rest_of_its_batch_only() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    assert_eq!(batch(&mut client, &[], true), [] as [String; 0]);
    let stopped = batch(&mut client, &["input()", "1/0", "a = 1", "a = 2"], true);
    client.event("input_request", &stopped[0]);
    let going_on = batch(&mut client, &["1/0", "print('went on')"], false);
    let (_, snapshot) = home.attached();
    assert_eq!(snapshot["queue_len"], 1);
    client.send(&json!({"op": "input_reply", "value": ""}));
    client.done(&going_on[1]);
    let ends: Vec<_> = client
        .seen
        .iter()
        .filter(|frame| frame["kind"] == "done")
        .map(|f| {
            (
                f["exec_id"].as_str().unwrap(),
                f["payload"]["status"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = ["ok", "error", "skipped", "skipped", "error", "ok"];
    let ids = stopped.iter().chain(&going_on).map(String::as_str);
    assert_eq!(ends, ids.zip(expected).collect::<Vec<_>>());
    let (_, snapshot) = home.attached();
    let skipped = shown(&snapshot, &stopped[2]);
    assert_eq!(skipped["status"], "skipped");
    assert_eq!(
        (&skipped["started_at"], &skipped["outputs"]),
        (&Value::Null, &json!([]))
    );
}

#[test]
fn a_batch_outlives_its_client_the_supervisor_and_the_worker() {
    let mut home = Home::new();
    let (mut client, _) = home.attached();
    let ids = batch(
        &mut client,
        &[
            "runs = 0; input()",
            "runs += 1; print('second', runs); input()",
            "runs += 1; print('third', runs)",
            "1/0",
            "runs = 99",
        ],
        true,
    );
    client.event("input_request", &ids[0]);
    drop(client);

    home.kill_supervisor();
    home.start(&[]);
    home.replace_worker();
    let (mut client, snapshot) = home.attached();
    assert_eq!(
        statuses(&snapshot, &ids),
        ["running", "queued", "queued", "queued", "queued"]
    );
    client.send(&json!({"op": "input_reply", "value": ""}));
    client.wait("the second prompt", |f| {
        f["kind"] == "input_request" && f["exec_id"] == ids[1].as_str()
    });
    home.replace_worker();
    let (mut client, _) = home.attached();
    client.send(&json!({"op": "input_reply", "value": ""}));
    assert_eq!(client.done(&ids[4])["status"], "skipped");

    let (mut client, snapshot) = home.attached();
    assert_eq!(
        statuses(&snapshot, &ids),
        ["done", "done", "done", "error", "skipped"]
    );
    let counts: Vec<_> = ids[..4]
        .iter()
        .map(|id| &shown(&snapshot, id)["execution_count"])
        .collect();
    assert_eq!(counts, [&json!(1), &json!(2), &json!(3), &json!(4)]);
    let (asked, _) = client.run("print('ran', runs)");
    assert_eq!(client.printed(&asked, "\n"), "ran 2\n");
}

#[test]
fn the_rest_of_a_batch_ends_with_its_kernel() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    let ids = batch(&mut client, &["import os; os._exit(3)", "1"], true);
    assert_eq!(client.done(&ids[0])["status"], "error");
    assert_eq!(client.done(&ids[1])["status"], "skipped");
    assert!(client.seen.iter().any(|f| {
        f["payload"]["content"]["ename"] == "KernelDied"
            && f["payload"]["content"]["evalue"]
                .as_str()
                .unwrap()
                .contains("code 3")
    }));
}
