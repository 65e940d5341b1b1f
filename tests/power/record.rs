//! The record: sessions in use, with everything their processes write, sync and say written down.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    log::{self, Entry, Operation},
    rig::{self, Home, ask, connect, signal},
    rng::Rng,
};

/// Two from the beginning, of which one has nothing to do from the middle on, when the third comes: what it
/// said must be on the disk although nothing follows.
const SESSIONS: [&str; 3] = ["default", "second", "late"];
/// Long enough for output to be older than what may be lost.
const LENGTH: Duration = Duration::from_secs(9);

const CELLS: [&str; 5] = [
    "for n in range(3000): print('line', n)",
    "import time\nfor n in range(40): print('slow', n, flush=True); time.sleep(.01)",
    "print('short')",
    "import sys\nfor n in range(300): sys.stderr.write(f'\\r{n}'); sys.stderr.flush()",
    "raise ValueError('as planned')",
];

/// A cell that a client was told is safe.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    pub(crate) session: String,
    pub(crate) exec: String,
    /// The operation with which it was told.
    pub(crate) at: usize,
}

/// An event that a client was sent.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) session: String,
    pub(crate) seq: i64,
    /// The cell that the event says is done.
    pub(crate) done: Option<String>,
    pub(crate) ns: u64,
}

/// A row of a journal as it was in the end: execution, type, content.
pub(crate) type Row = (Option<String>, String, String);

/// What a session's journal held in the end.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its directory below the home.
    pub(crate) dir: PathBuf,
    pub(crate) rows: BTreeMap<i64, Row>,
    /// Code and status of each execution.
    pub(crate) executions: BTreeMap<String, (String, String)>,
}

#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) entries: Vec<Entry>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) published: Vec<Published>,
    pub(crate) held: HashMap<String, Held>,
}

/// Uses a home below `scratch` and leaves it there with the log.
pub(crate) async fn make(scratch: &Path, mut rng: Rng) {
    fs::create_dir_all(scratch.join("d")).unwrap();
    let recorder = compile(scratch);
    let boot = scratch.join("boot_id");
    fs::write(&boot, "00000000-0000-4000-8000-000000000000\n").unwrap();
    let environment = [
        ("LD_PRELOAD", recorder.as_path()),
        ("TITHON_POWER_ROOT", &scratch.join("d")),
        ("TITHON_POWER_LOG", &scratch.join("log")),
        ("TITHON_POWER_BOOT", &boot),
    ];
    let mut home = Home::with_environment(scratch, &environment);
    home.keep();
    let root = home.root().to_owned();
    let began = Instant::now();
    for session in &SESSIONS[..2] {
        tokio::task::spawn_local(follow(root.clone(), session));
    }
    let mut killed = false;
    let mut submitted = 0;
    while began.elapsed() < LENGTH || submitted < 12 {
        let late = began.elapsed() > LENGTH / 2;
        if late && !killed {
            tokio::task::spawn_local(follow(root.clone(), SESSIONS[2]));
            // Whoever takes over must not rely on what its predecessor left unsynced.
            if let Some(worker) = home.worker_pid() {
                signal(worker, Signal::KILL);
            }
            killed = true;
        }
        let among = if late {
            ["default", "late"]
        } else {
            ["default", "second"]
        };
        let session = *rng.pick(&among);
        submitted += 1;
        let code = format!("# {submitted}\n{}", rng.pick(&CELLS));
        let op = json!({"op": "execute", "session": session, "code": code});
        ask(&root, &op, "execute_ack").await;
        tokio::time::sleep(rng.millis(500)).await;
    }
    for session in SESSIONS {
        rest(&root, session).await;
    }
}

fn compile(scratch: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/power/recorder.c");
    let recorder = scratch.join("recorder.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-o"])
        .args([&recorder, &source])
        .args(["-ldl", "-lpthread"])
        .status();
    assert!(
        compiled.is_ok_and(|status| status.success()),
        "cc failed on {}",
        source.display()
    );
    recorder
}

/// Reads a session's events for ever, so that there is something published that could be lost.
async fn follow(root: PathBuf, session: &'static str) {
    let mut last = 0;
    loop {
        if let Some(mut client) = connect(&root).await {
            let op = json!({"op": "attach", "session": session, "last_seen_seq": last});
            if client.send(&op).await.is_ok() {
                while let Ok(Some(text)) = client.next().await {
                    let frame: Value = serde_json::from_str(&text).unwrap_or_default();
                    last = frame["seq"].as_i64().unwrap_or(last);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a session has nothing left to do.
async fn rest(root: &Path, session: &str) {
    let deadline = Instant::now() + rig::DEADLINE;
    loop {
        let attach = json!({"op": "attach", "session": session});
        let snapshot = ask(root, &attach, "snapshot").await;
        let open =
            |execution: &Value| matches!(execution["status"].as_str(), Some("queued" | "running"));
        if !snapshot["executions"].as_array().unwrap().iter().any(open) {
            return;
        }
        assert!(Instant::now() < deadline, "{session} does not come to rest");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Record {
    /// Reads what [`make`] left.
    pub(crate) fn read(scratch: &Path) -> Self {
        let entries = log::parse(&fs::read(scratch.join("log")).unwrap());
        let home = scratch.join("d/h");
        let held: HashMap<String, Held> = SESSIONS
            .iter()
            .filter_map(|session| Some(((*session).to_owned(), held(&home, session)?)))
            .collect();
        let mut record = Self {
            acknowledged: Vec::new(),
            published: Vec::new(),
            held,
            entries: Vec::new(),
        };
        let mut workers: HashMap<u32, String> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            match &entry.operation {
                Operation::Rename { to, .. } if to.ends_with("worker.json") => {
                    let dir = to.parent().and_then(|dir| dir.strip_prefix(&home).ok());
                    let session = record
                        .held
                        .iter()
                        .find(|(_, held)| Some(held.dir.as_path()) == dir);
                    if let Some((session, _)) = session {
                        workers.insert(entry.pid, session.clone());
                    }
                }
                Operation::Send { bytes } => {
                    if let Some(session) = workers.get(&entry.pid).cloned() {
                        record.said(bytes, &session, at, entry.ns);
                    }
                }
                _ => {}
            }
        }
        record.entries = entries;
        assert!(
            !record.acknowledged.is_empty() && !record.published.is_empty(),
            "the record is empty"
        );
        record
    }

    /// Takes note of the frames in what a worker sent.
    fn said(&mut self, bytes: &[u8], session: &str, at: usize, ns: u64) {
        let begin = b"{\"op\": ";
        let starts = bytes
            .windows(begin.len())
            .enumerate()
            .filter(|(_, window)| window == begin);
        for (start, _) in starts {
            let mut frames = serde_json::Deserializer::from_slice(&bytes[start..]).into_iter();
            let Some(Ok(frame)) = frames.next() else {
                continue; // cut by the end of the buffer, or part of a text
            };
            self.frame(&frame, session, at, ns);
        }
    }

    fn frame(&mut self, frame: &Value, session: &str, at: usize, ns: u64) {
        match frame["op"].as_str() {
            Some("execute_ack") => {
                let exec = frame["exec_id"].as_str().unwrap().to_owned();
                let session = session.to_owned();
                self.acknowledged.push(Acknowledged { session, exec, at });
            }
            Some("event") => self.published.push(Published {
                session: session.to_owned(),
                seq: frame["seq"].as_i64().unwrap(),
                done: (frame["kind"] == "done")
                    .then(|| frame["exec_id"].as_str().unwrap_or_default().to_owned()),
                ns,
            }),
            _ => {}
        }
    }
}

/// The session's journal in the end, and where it is.
fn held(home: &Path, session: &str) -> Option<Held> {
    let dir = fs::read_dir(home.join("sessions"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|dir| {
            let meta = fs::read(dir.join("meta.json")).unwrap_or_default();
            let meta: Value = serde_json::from_slice(&meta).unwrap_or_default();
            meta["session_id"] == session
        })?;
    let journal = open(&dir.join("journal.db")).unwrap();
    Some(Held {
        rows: rows(&journal).unwrap(),
        executions: executions(&journal).unwrap(),
        dir: dir.strip_prefix(home).unwrap().to_owned(),
    })
}

pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

pub(crate) fn rows(journal: &Connection) -> rusqlite::Result<BTreeMap<i64, Row>> {
    journal
        .prepare("SELECT msg_seq, exec_id, msg_type, content_json FROM messages")?
        .query_map([], |row| {
            Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)))
        })?
        .collect()
}

pub(crate) fn executions(
    journal: &Connection,
) -> rusqlite::Result<BTreeMap<String, (String, String)>> {
    journal
        .prepare("SELECT exec_id, code, status FROM executions")?
        .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
        .collect()
}
