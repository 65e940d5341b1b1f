//! Clients of four kinds: one that follows by seq however often it is dropped, one that does so as a process of
//! its own, one that submits, one that answers prompts.

use std::{
    cell::{Cell as StdCell, RefCell},
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    rc::Rc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{
    rig::{connect, until},
    rng::Rng,
    workload::Cell,
};

/// What a following client has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) events: BTreeMap<i64, String>,
    pub(crate) last: i64,
    pub(crate) connections: u64,
    pub(crate) wrong: Vec<String>,
}

/// A following client, as the one who drops it knows it.
#[derive(Clone, Default)]
pub(crate) struct Follower {
    pub(crate) seen: Rc<RefCell<Seen>>,
    /// Set to have the connection cut off at the next frame.
    pub(crate) drop: Rc<StdCell<bool>>,
    /// Set to have nothing read for so long.
    pub(crate) pause: Rc<StdCell<Duration>>,
}

impl Follower {
    /// Follows for ever.
    pub(crate) async fn follow(self, root: PathBuf) {
        loop {
            self.one_connection(&root).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn one_connection(&self, root: &std::path::Path) -> Option<()> {
        let mut client = connect(root).await?;
        let last = self.seen.borrow().last;
        client
            .send(&json!({"op": "attach", "last_seen_seq": last}))
            .await
            .ok()?;
        self.seen.borrow_mut().connections += 1;
        loop {
            let pause = self.pause.take();
            tokio::time::sleep(pause).await;
            // A short wait, so that an order to drop is seen while nothing comes.
            let next = tokio::time::timeout(Duration::from_millis(100), client.next()).await;
            if self.drop.take() {
                return None;
            }
            let Ok(text) = next else { continue };
            let text = text.ok()??;
            let frame: Value = serde_json::from_str(&text).ok()?;
            self.seen.borrow_mut().frame(&frame, &text);
        }
    }
}

/// `tithon attach`, started again with the last seq that it printed whenever it has ended.
#[derive(Clone, Default)]
pub(crate) struct ClientProcess {
    pub(crate) seen: Rc<RefCell<Seen>>,
    /// The process that runs now.
    pub(crate) pid: Rc<StdCell<Option<i32>>>,
}

impl ClientProcess {
    /// Follows for ever.
    pub(crate) async fn follow(self, root: PathBuf) {
        loop {
            self.one_process(&root).await;
            self.pid.set(None);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn one_process(&self, root: &Path) -> Option<()> {
        let last = self.seen.borrow().last.to_string();
        let mut process = Command::new(env!("CARGO_BIN_EXE_tithon"))
            .args(["--no-start", "attach", "--since", &last])
            .env("TITHON_HOME", root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        self.pid
            .set(process.id().and_then(|pid| i32::try_from(pid).ok()));
        self.seen.borrow_mut().connections += 1;
        let mut lines = BufReader::new(process.stdout.take()?).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            // A killed process leaves a line unfinished.
            if let Ok(frame) = serde_json::from_str(&line) {
                self.seen.borrow_mut().frame(&frame, &line);
            }
        }
        process.wait().await.ok().map(drop)
    }
}

impl Seen {
    fn frame(&mut self, frame: &Value, text: &str) {
        match frame["op"].as_str() {
            Some("snapshot") if self.last == 0 => {
                self.last = frame["max_seq"].as_i64().unwrap_or_default();
            }
            Some("snapshot") => self
                .wrong
                .push(format!("a snapshot came for cursor {}", self.last)),
            Some("event") => {
                let seq = frame["seq"].as_i64().unwrap_or_default();
                if seq != self.last + 1 {
                    self.wrong.push(format!("seq {seq} after {}", self.last));
                }
                self.last = seq;
                self.events.insert(seq, text.to_owned());
            }
            _ => {}
        }
    }
}

/// Cells sent together and what was heard of them.
#[derive(Clone, Debug)]
pub(crate) struct Submitted {
    pub(crate) cells: Vec<Cell>,
    /// Whether the worker said that it has them.
    pub(crate) acknowledged: bool,
}

/// Submits cells, alone or in batches, whatever happens meanwhile.
pub(crate) async fn submit(
    root: PathBuf,
    mut rng: Rng,
    cells: Vec<Cell>,
    submitted: Rc<RefCell<Vec<Submitted>>>,
) {
    let mut left = cells.as_slice();
    while !left.is_empty() {
        let size = if rng.one_in(3) { 1 + rng.below(4) } else { 1 };
        let (batch, rest) = left.split_at(left.len().min(usize::try_from(size).unwrap()));
        left = rest;
        let codes: Vec<Value> = batch.iter().map(Cell::json).collect();
        let op = json!({"op": "execute_batch", "cells": codes, "allow_stdin": true, "stop_on_error": true});
        let acknowledged = loop {
            match submit_once(&root, &op).await {
                Outcome::Acknowledged => break true,
                Outcome::Unknown => break false,
                Outcome::Refused => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let cells = batch.to_vec();
        submitted.borrow_mut().push(Submitted {
            cells,
            acknowledged,
        });
        tokio::time::sleep(rng.millis(600)).await;
    }
}

enum Outcome {
    Acknowledged,
    /// Nobody was reached, or who was reached said no.
    Refused,
    /// The connection ended between request and answer.
    Unknown,
}

async fn submit_once(root: &std::path::Path, op: &Value) -> Outcome {
    let Some(mut client) = connect(root).await else {
        return Outcome::Refused;
    };
    if client.send(op).await.is_err() {
        return Outcome::Unknown;
    }
    let answer = until(&mut client, Duration::from_secs(30), |frame| {
        frame["op"] == "execute_ack" || frame["op"] == "error"
    });
    match answer.await {
        Some(frame) if frame["op"] == "error" => Outcome::Refused,
        Some(_) => Outcome::Acknowledged,
        None => Outcome::Unknown,
    }
}

/// Answers every prompt, `prompt N` with `answer N`.
pub(crate) async fn answer_prompts(root: PathBuf) {
    loop {
        answer_pending(&root).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn answer_pending(root: &std::path::Path) -> Option<()> {
    let limit = Duration::from_secs(5);
    let mut client = connect(root).await?;
    client.send(&json!({"op": "attach"})).await.ok()?;
    let snapshot = until(&mut client, limit, |frame| frame["op"] == "snapshot").await?;
    let prompt = snapshot["pending_input"]["prompt"].as_str()?;
    let value = prompt.replace("prompt", "answer");
    client
        .send(&json!({"op": "input_reply", "value": value}))
        .await
        .ok()?;
    until(&mut client, limit, |frame| frame["op"] == "input_ack").await?;
    Some(())
}
