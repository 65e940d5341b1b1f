use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
};

use super::*;
use crate::{follow::Mode, frames::Received, render::output::Printer};

#[derive(Clone, Default)]
struct Screen(Rc<RefCell<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A cell of code `pass` that was sent when the journal ended at `cursor`, and what it shows.
fn sent(cursor: Seq) -> (Cell, Screen) {
    let screen = Screen::default();
    let (out, err) = (Box::new(screen.clone()), Box::new(screen.clone()));
    let submission = Submission {
        code: "pass".to_owned(),
        submitted_by: "a test".to_owned(),
        origin: None,
        stdin: Stdin::Refused,
        until: Until::Ended,
        state: None,
    };
    let view = View::new(Mode::Text, Printer::new(out, err, false));
    let mut cell = Cell::new(submission, "s", view);
    cell.synced(cursor);
    cell.stage = Stage::Sent { times: 1 };
    (cell, screen)
}

fn feed(cell: &mut Cell, frames: &[Value]) -> Option<Exit> {
    for frame in frames {
        let text = frame.to_string();
        let exit = match Received::parse(&text).unwrap() {
            Received::Event(event) => cell.event(&event, &text).unwrap(),
            Received::Snapshot => cell.snapshot(&text).unwrap(),
            Received::ExecuteAck(exec_id) => cell.accepted(exec_id).unwrap(),
            other => panic!("{other:?}"),
        };
        if exit.is_some() {
            cell.view.flush().unwrap();
            return exit;
        }
    }
    cell.view.flush().unwrap();
    None
}

fn event(seq: Seq, exec_id: &str, kind: &str, payload: Value) -> Value {
    json!({"op": "event", "seq": seq, "exec_id": exec_id, "kind": kind, "payload": payload})
}

fn printed(seq: Seq, exec_id: &str, text: &str) -> Value {
    let content = json!({"name": "stdout", "text": text});
    event(
        seq,
        exec_id,
        "output",
        json!({"msg_type": "stream", "content": content}),
    )
}

fn done(seq: Seq, exec_id: &str) -> Value {
    event(
        seq,
        exec_id,
        "done",
        json!({"status": "ok", "execution_count": 1}),
    )
}

fn queued(seq: Seq, exec_id: &str, token: &str) -> Value {
    event(
        seq,
        exec_id,
        "queued",
        json!({"code": "pass", "origin": {TOKEN: token}}),
    )
}

fn shown(screen: &Screen) -> String {
    String::from_utf8(screen.0.borrow().clone()).unwrap()
}

#[test]
fn only_our_own_events_count() {
    let (mut cell, screen) = sent(10);
    let frames = [
        printed(11, "e1", "another's"),
        json!({"op": "execute_ack", "exec_id": "e2"}),
        printed(12, "e2", "ours"),
        done(13, "e1"),
        done(14, "e2"),
    ];
    assert_eq!(feed(&mut cell, &frames), Some(Exit::Success));
    assert_eq!(shown(&screen), "ours");
}

#[test]
fn what_is_replayed_after_a_reconnect_is_not_shown_again() {
    let (mut cell, screen) = sent(10);
    let frames = [
        json!({"op": "execute_ack", "exec_id": "e2"}),
        printed(11, "e2", "a"),
        printed(12, "e2", "b"),
        printed(11, "e2", "a"),
        printed(12, "e2", "b"),
        printed(13, "e2", "c"),
    ];
    assert_eq!(feed(&mut cell, &frames), None);
    assert_eq!((shown(&screen).as_str(), cell.cursor), ("abc", Some(13)));
}

#[test]
fn a_cell_whose_acknowledgement_was_lost_is_found_by_its_token() {
    let (mut cell, screen) = sent(10);
    let token = cell.token.clone();
    let frames = [
        queued(11, "e2", "another run of the same code"),
        queued(12, "e3", &token),
        printed(13, "e2", "another's"),
        printed(14, "e3", "ours"),
        done(15, "e3"),
    ];
    assert_eq!(feed(&mut cell, &frames), Some(Exit::Success));
    assert_eq!(shown(&screen), "ours");
}

fn snapshot(executions: &Value) -> Value {
    json!({"op": "snapshot", "max_seq": 20, "executions": executions})
}

#[test]
fn a_sessions_first_cell_is_found_in_its_snapshot() {
    let (mut cell, screen) = sent(0);
    let outputs = json!([{"output_type": "stream", "name": "stdout", "text": "so far"}]);
    let running = json!([
        {"exec_id": "e1", "code": "another", "status": "done", "outputs": []},
        {"exec_id": "e2", "code": "pass", "status": "running", "outputs": outputs},
    ]);
    assert_eq!(feed(&mut cell, &[snapshot(&running)]), None);
    assert_eq!((cell.exec_id(), cell.is_started()), (Some("e2"), true));
    let frames = [
        printed(20, "e2", "far"),
        printed(21, "e2", " and on"),
        done(22, "e2"),
    ];
    assert_eq!(feed(&mut cell, &frames), Some(Exit::Success));
    assert_eq!(shown(&screen), "so far and on");

    let (mut cell, _) = sent(0);
    let error = json!([{"output_type": "error", "ename": "E", "traceback": []}]);
    let ended = json!([{"exec_id": "e1", "code": "pass", "status": "error", "outputs": error}]);
    assert_eq!(feed(&mut cell, &[snapshot(&ended)]), Some(Exit::Failure));
}

#[test]
fn a_cell_is_not_guessed_among_several() {
    let (mut cell, _) = sent(0);
    let twice = json!([{"exec_id": "e1", "code": "pass"}, {"exec_id": "e2", "code": "pass"}]);
    let text = snapshot(&twice).to_string();
    assert!(matches!(
        cell.snapshot(&text),
        Err(CliError::Unknown { .. })
    ));
    let (mut cell, _) = sent(0);
    assert_eq!(feed(&mut cell, &[snapshot(&json!([]))]), None);
    assert_eq!(cell.exec_id(), None, "was never accepted");
}

#[test]
fn a_killed_kernel_ends_the_wait() {
    let (mut cell, _) = sent(3);
    feed(
        &mut cell,
        &[
            json!({"op": "event", "seq": 4, "exec_id": null, "kind": "kernel",
        "payload": {"status": "interrupted"}}),
        ],
    );
    assert!(cell.kernel_gone.is_none());
    feed(
        &mut cell,
        &[
            json!({"op": "event", "seq": 5, "exec_id": null, "kind": "kernel",
        "payload": {"status": "killed", "deliberate": true}}),
        ],
    );
    assert!(cell.kernel_gone.is_some());
}
