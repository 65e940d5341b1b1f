//! Journals that the Python program 0.2.5 wrote, opened by us: the frozen samples in
//! `tests/python-home`, made by driving it, beside what it showed of them itself.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;
use tithon_ipc::ids::ExecId;

use super::super::{JournalError, Loaded, read, schema};

const SESSION: &str = include_str!("../../../../tests/python-home/session.sql");
const RUNNING: &str = include_str!("../../../../tests/python-home/running.sql");
const RETAINED: &str = include_str!("../../../../tests/python-home/retained.sql");
const SNAPSHOTS: &str = include_str!("../../../../tests/python-home/snapshots.json");

/// A journal as the program leaves it when it is killed: most of it in the write-ahead log.
struct Left {
    _dir: TempDir,
    path: PathBuf,
    _writer: Connection,
}

fn left(sql: &str) -> Left {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let writer = Connection::open(&path).unwrap();
    writer.pragma_update(None, "journal_mode", "WAL").unwrap();
    writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    writer.execute_batch(sql).unwrap();
    Left {
        _dir: dir,
        path,
        _writer: writer,
    }
}

impl Left {
    fn open(&self) -> Result<Connection, JournalError> {
        schema::open(&self.path, "default")
    }

    fn copy(&self) -> PathBuf {
        self.path.with_file_name("journal.db.python")
    }
}

fn loaded(connection: &Connection) -> Loaded {
    read::load(connection).unwrap()
}

/// Entries of a snapshot, as a client parses them.
fn entries(connection: &Connection) -> Vec<Value> {
    let executions = read::executions(connection).unwrap();
    executions
        .iter()
        .map(|execution| serde_json::from_str(&execution.entry(None)).unwrap())
        .collect()
}

fn rows(connection: &Connection) -> Vec<(i64, Option<String>, String, String)> {
    connection
        .prepare("SELECT msg_seq, COALESCE(target_exec, exec_id), msg_type, content_json FROM messages ORDER BY msg_seq")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn every_execution_is_shown_as_that_program_showed_it() {
    let shown: Value = serde_json::from_str(SNAPSHOTS).unwrap();
    for (name, sql) in [("session.sql", SESSION), ("running.sql", RUNNING)] {
        let left = left(sql);
        let connection = left.open().unwrap();
        let expected = shown[name]["executions"].as_array().unwrap();
        for (ours, theirs) in entries(&connection).iter().zip(expected) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(entries(&connection).len(), expected.len());
        let loaded = loaded(&connection);
        assert_eq!(loaded.max_seq, shown[name]["max_seq"], "{name}");
        assert_eq!(loaded.last_exec, expected.len() as u64, "{name}");
        assert!(loaded.unfolded.is_empty(), "no fold lags");
        assert!(loaded.logical_bytes > 500);
    }
}

#[test]
fn events_stay_as_they_were_and_new_ones_follow() {
    let left = left(SESSION);
    let before = rows(&Connection::open(&left.path).unwrap());
    let connection = left.open().unwrap();
    assert_eq!(rows(&connection), before);
    let (seq, session): (i64, String) = connection
        .query_row(
            "INSERT INTO messages(exec_id, msg_type, content_json, ts) VALUES ('e1', 'stream', '{}', 1.0)
             RETURNING msg_seq, session_id",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(
        (seq, session.as_str()),
        (before.len() as i64 + 1, "default")
    );
}

#[test]
fn displays_and_requests_under_way_are_known() {
    let connection = left(SESSION).open().unwrap();
    let loaded = loaded(&connection);
    assert_eq!(loaded.displays["shared"], ExecId(5));
    let newest = loaded.foreign_requests.last().unwrap();
    assert_eq!((newest.1, newest.0.ends_with("_3")), (ExecId(16), true));
    let running = self::loaded(&left(RUNNING).open().unwrap());
    let open: Vec<_> = running
        .open
        .iter()
        .map(|open| open.status.as_str())
        .collect();
    assert_eq!(open, ["running", "queued"]);
    assert!(
        running.open[0].is_foreign(),
        "the Python program asked for it"
    );
}

#[test]
fn what_retention_deleted_is_shown_from_its_seed() {
    let connection = left(RETAINED).open().unwrap();
    let entries = entries(&connection);
    assert_eq!(entries[0]["outputs"][0]["text"], "a\n");
    assert_eq!(entries[0]["outputs"][1]["display_id"], "d1");
    assert_eq!(
        entries[1]["fold_state"]["stream_cursors"][0], 1,
        "the seed's state"
    );
    assert_eq!(entries[2]["outputs"][0]["text"], "c\n", "after the seed");
    let loaded = loaded(&connection);
    assert_eq!(loaded.history_floor(), 11);
    assert_eq!(loaded.displays["d1"], ExecId(1));
    assert!(!loaded.meta.contains_key("output_seed"));
}

#[test]
fn a_private_copy_of_the_whole_journal_stays() {
    let left = left(SESSION);
    let before = rows(&Connection::open(&left.path).unwrap());
    drop(left.open().unwrap());
    let copy = Connection::open(left.copy()).unwrap();
    assert_eq!(rows(&copy), before);
    for file in [left.copy(), left.path.clone()] {
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    // Only once: a later start finds a journal of ours.
    let written = fs::metadata(left.copy()).unwrap().modified().unwrap();
    drop(left.open().unwrap());
    assert_eq!(
        fs::metadata(left.copy()).unwrap().modified().unwrap(),
        written
    );
}

#[test]
fn an_attempt_that_was_cut_short_is_made_again() {
    let left = left(SESSION);
    fs::write(
        left.path.with_file_name("journal.db.python.tmp"),
        "half of it",
    )
    .unwrap();
    fs::write(left.copy(), "an earlier one").unwrap();
    let connection = left.open().unwrap();
    assert_eq!(entries(&connection).len(), 16);
    assert!(rows(&Connection::open(left.copy()).unwrap()).len() > 100);
    assert!(!left.path.with_file_name("journal.db.python.tmp").exists());
}

#[test]
fn a_transaction_that_fails_leaves_the_old_journal() {
    let left = left(SESSION);
    let outside = Connection::open(&left.path).unwrap();
    // Stands in for any failure on the way: a view of the user's own needs a column that goes.
    outside
        .execute_batch("CREATE VIEW mine AS SELECT session_id FROM messages")
        .unwrap();
    let before = rows(&outside);
    assert!(matches!(left.open(), Err(JournalError::Sqlite { .. })));
    assert_eq!(rows(&outside), before);
    let layout: i64 = outside
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(layout, 0);
}

#[test]
fn a_damaged_journal_is_kept_and_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    for damaged in [
        damaged_page(&path),
        b"this is no database, and long enough to be taken for one: ".repeat(20),
    ] {
        fs::write(&path, &damaged).unwrap();
        let refusal = schema::open(&path, "default").unwrap_err();
        assert!(matches!(refusal, JournalError::Damaged { .. }), "{refusal}");
        assert!(refusal.to_string().contains("hint: "), "{refusal}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
        assert!(!path.with_file_name("journal.db.python").exists());
    }
}

/// A journal with one page overwritten.
fn damaged_page(path: &std::path::Path) -> Vec<u8> {
    let whole = Connection::open(path).unwrap();
    whole.pragma_update(None, "journal_mode", "WAL").unwrap();
    whole.execute_batch(SESSION).unwrap();
    whole.close().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let (start, end) = (5 * 4096, 6 * 4096);
    bytes[start..end].fill(0x5a);
    bytes
}
