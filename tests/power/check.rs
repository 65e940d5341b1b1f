//! What must hold of a disk on which the power failed.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    record::{self, Held, Record},
    rig::{Home, ask, snapshot},
};

/// Output is on the disk within a second; the rest is for machines that have more to do.
const MAY_BE_LOST: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) wrong: Vec<String>,
    /// Acknowledged cells that were looked for.
    pub(crate) cells: u64,
    /// Rows that were compared.
    pub(crate) rows: u64,
}

impl Outcome {
    fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }
}

/// Looks at the image below `image` of the moment before operation `moment`; `fully` starts kernels too.
pub(crate) async fn check(record: &Record, moment: usize, image: &Path, fully: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut promised: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for acknowledged in &record.acknowledged {
        if acknowledged.at < moment {
            promised
                .entry(&acknowledged.session)
                .or_default()
                .push(&acknowledged.exec);
        }
    }
    for (session, cells) in &promised {
        let held = &record.held[*session];
        outcome.cells += cells.len() as u64;
        if let Err(err) = outcome.journal(record, moment, session, held, cells, image) {
            outcome
                .wrong
                .push(format!("the journal of {session}: {err}"));
        }
    }
    if outcome.wrong.is_empty() {
        outcome.opened(record, &promised, image, fully).await;
    }
    outcome
}

impl Outcome {
    /// The journal as SQLite finds it, before anything of ours has touched it.
    fn journal(
        &mut self,
        record: &Record,
        moment: usize,
        session: &str,
        held: &Held,
        cells: &[&str],
        image: &Path,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let dir = image.join("d/h").join(&held.dir);
        let meta: Value = serde_json::from_slice(&fs::read(dir.join("meta.json"))?)?;
        self.require(meta["session_id"] == session, || {
            format!("meta.json: {meta}")
        });
        let copy = image.join(format!("copy-{session}"));
        fs::create_dir(&copy)?;
        for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
            fs::copy(dir.join(name), copy.join(name)).ok();
        }
        let journal = record::open(&copy.join("journal.db"))?;
        let sound: String = journal.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        self.require(sound == "ok", || format!("{session}: {sound}"));
        let executions = record::executions(&journal)?;
        for cell in cells {
            let known = held.executions.get(*cell).map(|(code, _)| code);
            let found = executions.get(*cell).map(|(code, _)| code);
            self.require(found == known, || {
                format!("{session} {cell}, acknowledged: {found:?} instead of {known:?}")
            });
        }
        let rows = record::rows(&journal)?;
        for (seq, row) in &rows {
            self.rows += 1;
            let known = held.rows.get(seq);
            self.require(known == Some(row), || {
                format!("{session} {seq}: {row:?} instead of {known:?}")
            });
        }
        self.recent_loss_only(record, moment, session, held, &rows, &executions);
        fs::remove_dir_all(copy)?;
        Ok(())
    }

    fn recent_loss_only(
        &mut self,
        record: &Record,
        moment: usize,
        session: &str,
        held: &Held,
        rows: &BTreeMap<i64, record::Row>,
        executions: &BTreeMap<String, (String, String)>,
    ) {
        let now = moment
            .checked_sub(1)
            .map_or(0, |last| record.entries[last].ns);
        let limit = u64::try_from(MAY_BE_LOST.as_nanos()).unwrap();
        let old = record
            .published
            .iter()
            .filter(|published| published.session == session && published.ns + limit < now);
        for published in old {
            self.require(rows.contains_key(&published.seq), || {
                format!("{session}: event {} is gone", published.seq)
            });
            if let Some(done) = &published.done {
                let status = |of: &BTreeMap<String, (String, String)>| {
                    of.get(done).map(|(_, status)| status.clone())
                };
                let (found, known) = (status(executions), status(&held.executions));
                self.require(found == known, || {
                    format!("{session} {done}: {found:?} instead of {known:?}")
                });
            }
        }
    }

    /// The home as a supervisor and workers of a later boot find it.
    async fn opened(
        &mut self,
        record: &Record,
        promised: &BTreeMap<&str, Vec<&str>>,
        image: &Path,
        fully: bool,
    ) {
        let mut home = Home::new(image, false);
        for (session, cells) in promised {
            let snapshot = settled(&home, session).await;
            let executions = snapshot["executions"].as_array().unwrap();
            for cell in cells {
                let shown = executions
                    .iter()
                    .find(|execution| execution["exec_id"] == *cell);
                let known = &record.held[*session].executions[*cell].0;
                self.require(
                    shown.is_some_and(|shown| shown["code"] == known.as_str()),
                    || format!("{session} {cell} is shown as {shown:?}"),
                );
            }
            self.require(!executions.iter().any(is_open), || {
                format!("{session} has cells that wait for a kernel that is gone")
            });
            let newest = record.held[*session].rows.keys().last().copied();
            self.require(snapshot["max_seq"].as_i64() > newest, || {
                format!("{session}: seqs go on at {}", snapshot["max_seq"])
            });
        }
        if fully || promised.is_empty() {
            self.used(&home).await;
        }
        if !self.wrong.is_empty() {
            home.keep();
        }
    }

    /// It can be worked with as ever.
    async fn used(&mut self, home: &Home) {
        let code = "print('after the outage')";
        let op = json!({"op": "execute", "code": code});
        let ack = ask(home.root(), &op, "execute_ack").await;
        let deadline = std::time::Instant::now() + crate::rig::DEADLINE;
        loop {
            let snapshot = snapshot(home.root()).await;
            let execution = snapshot["executions"]
                .as_array()
                .unwrap()
                .iter()
                .find(|execution| execution["exec_id"] == ack["exec_id"])
                .cloned()
                .unwrap_or_default();
            if execution["status"] == "done" {
                let text = &execution["outputs"][0]["text"];
                self.require(text == "after the outage\n", || {
                    format!("a new cell says {execution}")
                });
                return;
            }
            if std::time::Instant::now() > deadline {
                self.wrong.push(format!("a new cell stays {execution}"));
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The session as it is shown once what the kernel left is taken in.
async fn settled(home: &Home, session: &str) -> Value {
    let observe = json!({"op": "attach", "session": session, "start_kernel": false});
    let deadline = std::time::Instant::now() + crate::rig::DEADLINE;
    loop {
        let snapshot = ask(home.root(), &observe, "snapshot").await;
        let executions = snapshot["executions"].as_array().unwrap();
        if !executions.iter().any(is_open) || std::time::Instant::now() > deadline {
            return snapshot;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_open(execution: &Value) -> bool {
    matches!(execution["status"].as_str(), Some("queued" | "running"))
}
