//! Prompts: shown to everybody, answered by anybody, and gone when they are gone.

use serde_json::{Value, json};

use crate::harness::Home;

fn ask_and_wait(home: &Home, code: &str) -> (crate::harness::Client, String, Value) {
    let (mut client, _) = home.attached();
    let cell = client.submit(code);
    let request = client.event("input_request", &cell)["payload"].clone();
    (client, cell, request)
}

#[test]
fn a_later_client_sees_the_prompt_and_may_answer_it() {
    let home = Home::new();
    let (mut asker, cell, request) = ask_and_wait(
        &home,
        "import getpass; print('got', getpass.getpass('Secret: '))",
    );
    let prompt = json!({"exec_id": cell, "prompt": "Secret: ", "password": true});
    assert_eq!(request, prompt);
    let (mut later, snapshot) = home.attached();
    assert_eq!(snapshot["pending_input"], prompt);
    let ack = later.ask(&json!({"op": "input_reply", "value": "wörd"}), "input_ack");
    assert_eq!(ack["ok"], true);
    asker.event("input_resolved", &cell);
    assert_eq!(asker.done(&cell)["status"], "ok");
    assert_eq!(asker.printed(&cell, "\n"), "got wörd\n");
    // The answer to a prompt that is gone is none.
    let ack = asker.ask(&json!({"op": "input_reply", "value": "x"}), "input_ack");
    assert_eq!(ack["ok"], false);
    let (_, snapshot) = home.attached();
    assert_eq!(snapshot["pending_input"], Value::Null);
}

#[test]
fn an_interrupt_dismisses_the_prompt_before_the_cell_ends() {
    let home = Home::new();
    let (mut client, cell, _) = ask_and_wait(&home, "input('? ')");
    client.send(&json!({"op": "interrupt"}));
    assert_eq!(client.done(&cell)["status"], "error");
    let kinds: Vec<_> = client
        .seen
        .iter()
        .filter(|frame| frame["exec_id"] == cell.as_str())
        .filter_map(|frame| frame["kind"].as_str())
        .collect();
    let at = |kind: &str| kinds.iter().position(|seen| *seen == kind).unwrap();
    assert!(at("input_resolved") < at("done"), "{kinds:?}");
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == "input_resolved")
            .count(),
        1
    );
    let (_, snapshot) = home.attached();
    assert_eq!(snapshot["pending_input"], Value::Null);
    // The next cell's prompt is its own.
    let (mut client, cell, _) = ask_and_wait(&home, "print(input('again '))");
    client.send(&json!({"op": "input_reply", "value": "yes"}));
    client.printed(&cell, "yes\n");
}

#[test]
fn a_prompt_outlives_its_worker_and_its_supervisor() {
    let mut home = Home::new();
    let (_, cell, request) = ask_and_wait(
        &home,
        "name = input('Who? '); print('hello', name)\nprint(input('And? '))",
    );
    home.replace_worker();
    let (mut client, snapshot) = home.attached();
    assert_eq!(snapshot["pending_input"], request);
    client.send(&json!({"op": "input_reply", "value": "there"}));
    client.printed(&cell, "hello there\n");
    client.wait("the second prompt", |frame| {
        frame["kind"] == "input_request" && frame["payload"]["prompt"] == "And? "
    });
    home.kill_supervisor();
    home.start(&[]);
    let (mut client, snapshot) = home.attached();
    assert_eq!(snapshot["pending_input"]["prompt"], "And? ");
    client.send(&json!({"op": "input_reply", "value": "fine"}));
    let done = client.done(&cell);
    assert_eq!(
        (&done["status"], &done["execution_count"]),
        (&json!("ok"), &json!(1))
    );
}

#[test]
fn a_prompt_that_was_answered_before_its_worker_died_is_not_shown_again() {
    let home = Home::new();
    let (mut client, cell, _) = ask_and_wait(
        &home,
        "input('? '); print('taken')\nimport time\nwhile True: time.sleep(0.1)",
    );
    client.ask(&json!({"op": "input_reply", "value": "x"}), "input_ack");
    client.event("input_resolved", &cell);
    client.printed(&cell, "taken\n");
    home.replace_worker();
    let (mut client, snapshot) = home.attached();
    assert_eq!(snapshot["pending_input"], Value::Null);
    client.send(&json!({"op": "interrupt"}));
    assert_eq!(client.done(&cell)["status"], "error");
}

#[test]
fn a_cell_that_may_not_ask_is_told_so() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    let ack = client.ask(&json!({"op": "execute", "code": "input()"}), "execute_ack");
    let cell = ack["exec_id"].as_str().unwrap();
    assert_eq!(client.done(cell)["status"], "error");
    assert!(
        client
            .seen
            .iter()
            .any(|f| f["payload"]["content"]["ename"] == "StdinNotImplementedError")
    );
}
