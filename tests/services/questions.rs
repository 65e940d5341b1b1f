//! Questions to the kernel: answered while a cell runs, in any order, given up in time.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    harness::{Client, Home, signal, until},
    python::IPYKERNEL_6,
};

fn answered(home: &Home, client: &mut Client) {
    let (mut watcher, _) = home.attached();
    client.run("class Whale:\n    'A large one.'\nwhale = Whale()");
    let cell = client.submit("print('busy now'); input()");
    client.event("input_request", &cell);

    // Asked all at once, while the cell runs.
    for op in [
        json!({"op": "complete", "req_id": "c", "code": "wha", "cursor_pos": 3}),
        json!({"op": "inspect", "req_id": "i", "code": "whale", "cursor_pos": 5, "detail_level": 0}),
        json!({"op": "is_complete", "req_id": "n", "code": "for x in y:"}),
        json!({"op": "history", "req_id": "h", "n": 5}),
        json!({"op": "kernel_info", "req_id": "k"}),
    ] {
        client.send(&op);
    }
    let mut content = |reply: &str, req_id: &str| -> Value {
        let is_it = |frame: &Value| frame["op"] == reply && frame["req_id"] == req_id;
        let frame = client.find(reply, is_it);
        assert_eq!(frame["status"], "ok", "{frame}");
        frame["content"].clone()
    };
    let matches = content("complete_reply", "c")["matches"].clone();
    assert!(
        matches.as_array().unwrap().contains(&json!("whale")),
        "{matches}"
    );
    let found = content("inspect_reply", "i");
    let text = found["data"]["text/plain"].as_str().unwrap();
    assert!(text.contains("A large one."), "{text}");
    assert_eq!(content("is_complete_reply", "n")["status"], "incomplete");
    let history = content("history_reply", "h")["history"].to_string();
    assert!(history.contains("whale = Whale()"), "{history}");
    assert_eq!(
        content("kernel_info_reply", "k")["implementation"],
        "ipython"
    );

    // The cell was not disturbed, its kernel is still busy, and nobody else heard a word.
    let (_, snapshot) = home.attached();
    assert_eq!(snapshot["kernel"]["status"], "busy");
    client.send(&json!({"op": "input_reply", "value": ""}));
    assert_eq!(client.done(&cell)["status"], "ok");
    watcher.done(&cell);
    for frame in &watcher.seen {
        let op = frame["op"].as_str().unwrap();
        assert!(!op.ends_with("_reply"), "{frame}");
        assert!(op != "event" || frame["exec_id"] != Value::Null, "{frame}");
    }
}

#[test]
fn a_busy_kernel_answers() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    answered(&home, &mut client);
    // Also one that was taken over.
    home.replace_worker();
    let (mut client, _) = home.attached();
    answered(&home, &mut client);
}

#[test]
fn a_busy_older_kernel_answers() {
    let home = Home::among(IPYKERNEL_6, &[]);
    let (mut client, _) = home.attached();
    answered(&home, &mut client);
}

#[test]
fn what_nobody_answers_ends_in_time_and_a_late_answer_harms_nobody() {
    let home = Home::with(&[("TITHON_QUESTION_TIMEOUT", "0.3")]);
    let (mut client, _) = home.attached();
    client.run("apple = 1");
    signal(home.kernel_pid(), Signal::STOP);
    // More than one client may have open: the rest is refused at once, and an operation still gets through.
    for req_id in 0..20 {
        client.send(&json!({"op": "complete", "req_id": req_id, "code": "app"}));
    }
    let status = client.ask(
        &json!({"op": "status", "session": "default"}),
        "status_reply",
    );
    assert_eq!(status["session"], "default");
    let replies: Vec<Value> = (0..20)
        .map(|req_id| {
            let is_it =
                |frame: &Value| frame["op"] == "complete_reply" && frame["req_id"] == req_id;
            client.find("a reply", is_it)
        })
        .collect();
    signal(home.kernel_pid(), Signal::CONT);
    let ended = |status: &str| replies.iter().filter(|r| r["status"] == status).count();
    assert_eq!(
        (ended("timeout"), ended("unavailable")),
        (16, 4),
        "{replies:?}"
    );
    assert!(
        replies[0]["message"]
            .as_str()
            .unwrap()
            .contains("0.3 seconds")
    );
    // It answers the overdue ones first, which nobody wants any more.
    until("the kernel answers again", || {
        let op = json!({"op": "is_complete", "req_id": "now", "code": "x"});
        let answer = client.ask(&op, "is_complete_reply");
        (answer["status"] == "ok").then_some(())
    });
}

#[test]
fn questions_of_a_client_that_left_and_of_a_kernel_that_died_are_over() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    client.run("1");
    signal(home.kernel_pid(), Signal::STOP);
    let (mut leaving, _) = home.attached();
    leaving.send(&json!({"op": "complete", "req_id": 1, "code": "i"}));
    leaving.ask(
        &json!({"op": "status", "session": "default"}),
        "status_reply",
    );
    drop(leaving);
    client.send(&json!({"op": "complete", "req_id": 2, "code": "i"}));
    client.ask(
        &json!({"op": "status", "session": "default"}),
        "status_reply",
    );
    signal(home.kernel_pid(), Signal::KILL);
    let reply = client.wait("the reply", |frame| frame["op"] == "complete_reply");
    assert_eq!(
        (&reply["req_id"], &reply["status"]),
        (&json!(2), &json!("unavailable"))
    );
    client.wait("death", |frame| frame["payload"]["status"] == "dead");
    let reply = client.ask(
        &json!({"op": "inspect", "req_id": 3, "code": "i"}),
        "inspect_reply",
    );
    assert_eq!(reply["status"], "unavailable");
}
