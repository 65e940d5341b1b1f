//! A client of the protocol that checks, with every event, that nothing is skipped or told twice.

use std::{collections::VecDeque, path::Path};

use serde_json::{Value, json};

use super::{
    transcript::{Transcript, seq},
    websocket::{End, Opcode, WebSocket},
};

/// A connection to `daemon.sock`.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: WebSocket,
    /// Events that came while something else was waited for.
    waiting: VecDeque<Value>,
    cursor: i64,
}

impl Client {
    /// Connects.
    pub(crate) fn open(socket: &Path) -> Self {
        Self {
            socket: WebSocket::open(socket).unwrap_or_else(|err| panic!("no connection: {err}")),
            waiting: VecDeque::new(),
            cursor: 0,
        }
    }

    /// Sends an operation.
    pub(crate) fn send(&mut self, op: &Value) {
        self.send_text(&op.to_string());
    }

    /// Sends any text.
    pub(crate) fn send_text(&mut self, text: &str) {
        self.socket.send(Opcode::Text, text.as_bytes()).unwrap();
    }

    /// The next frame of the server, whatever it is.
    pub(crate) fn frame(&mut self) -> Result<Value, End> {
        let frame = self.socket.next()?;
        let frame: Value = serde_json::from_slice(&frame).unwrap();
        if frame["op"] == "event" {
            let seq = seq(&frame);
            assert!(self.cursor < seq, "{seq} after {}", self.cursor);
            self.cursor = seq;
        }
        Ok(frame)
    }

    /// Waits for a frame of that name; events on the way are kept for [`Client::event`].
    pub(crate) fn expect(&mut self, op: &str) -> Value {
        loop {
            match self.frame() {
                Ok(frame) if frame["op"] == op => return frame,
                Ok(frame) if frame["op"] == "event" => self.waiting.push_back(frame),
                Ok(frame) if frame["op"] == "notice" => {}
                other => panic!("{other:?} instead of {op}"),
            }
        }
    }

    /// Sends an operation and waits for its answer.
    pub(crate) fn ask(&mut self, op: &Value, answer: &str) -> Value {
        self.send(op);
        self.expect(answer)
    }

    /// Attaches; returns the snapshot if there is one, and the seq of `sync`.
    pub(crate) fn attach(&mut self, session: &str, since: i64) -> (Option<Value>, i64) {
        self.attach_by(&json!({"op": "attach", "session": session, "last_seen_seq": since}))
    }

    /// Attaches in the words of an operation.
    pub(crate) fn attach_by(&mut self, attach: &Value) -> (Option<Value>, i64) {
        self.cursor = attach["last_seen_seq"].as_i64().unwrap_or(0).max(0);
        self.send(attach);
        let mut snapshot = None;
        loop {
            let frame = self.frame().unwrap_or_else(|end| panic!("attach: {end:?}"));
            match frame["op"].as_str() {
                Some("sync") => {
                    let seq = seq(&frame);
                    self.cursor = self.cursor.max(seq);
                    return (snapshot, seq);
                }
                Some("snapshot") => snapshot = Some(frame),
                Some("event") => self.waiting.push_back(frame),
                Some("notice") => {}
                _ => panic!("attach: {frame}"),
            }
        }
    }

    /// Queues a cell; returns its id.
    pub(crate) fn execute(&mut self, session: &str, code: &str) -> String {
        self.submit(&json!({"op": "execute", "session": session, "code": code}))
    }

    /// Queues what an `execute` with more fields says; returns the cell's id.
    pub(crate) fn submit(&mut self, execute: &Value) -> String {
        let ack = self.ask(execute, "execute_ack");
        let exec_id = ack["exec_id"].as_str();
        exec_id.unwrap_or_else(|| panic!("{ack}")).to_owned()
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Result<Value, End> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let frame = self.frame()?;
            match frame["op"].as_str() {
                Some("event") => return Ok(frame),
                Some("notice") => {}
                _ => panic!("{frame} instead of an event"),
            }
        }
    }

    /// Reads events up to the first for which `is_last` holds.
    pub(crate) fn events_until(&mut self, mut is_last: impl FnMut(&Value) -> bool) -> Transcript {
        let mut told = Transcript::default();
        loop {
            let event = self
                .event()
                .unwrap_or_else(|end| panic!("{end:?} after {:?}", told.0.last()));
            told.0.push(event);
            if told.0.last().is_some_and(&mut is_last) {
                return told;
            }
        }
    }

    /// Reads events until an execution has ended.
    pub(crate) fn until_done(&mut self, exec_id: &str) -> Transcript {
        self.events_until(|event| event["kind"] == "done" && event["exec_id"] == exec_id)
    }

    /// Reads events until one of that kind.
    pub(crate) fn until_kind(&mut self, kind: &str) -> Transcript {
        self.events_until(|event| event["kind"] == kind)
    }

    /// Runs a cell on an attached connection to its end, which must be a good one; returns its
    /// stdout.
    pub(crate) fn run(&mut self, session: &str, code: &str) -> String {
        let exec_id = self.execute(session, code);
        let told = self.until_done(&exec_id);
        assert_eq!(told.done(&exec_id)["status"], "ok", "{told:?}");
        told.stdout(&exec_id)
    }

    /// Reads to the connection's end; returns the last frame and how it ended.
    pub(crate) fn dismissed(&mut self) -> (Value, End) {
        let mut last = Value::Null;
        loop {
            match self.frame() {
                Ok(frame) => last = frame,
                Err(end) => return (last, end),
            }
        }
    }
}
