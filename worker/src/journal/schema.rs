//! The database's layout (PROTOCOL §15): its column names are an interface that tools read.
//!
//! Beside the Python program's columns: `messages.wire` (what rebuilds the exact frames, see
//! `wire.rs`), `executions.fold_state`, `.batch`, `.stop_on_error` and `.state` (of one that was run in
//! a state rather than the kernel: which, and what came of it), `artifacts.elided_from` (an execution whose
//! fold had no room for it), and the tables `frames`
//! (texts that repeat), `traffic` (messages that are no events) and `displays`.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{JournalError, migrate};
use crate::platform::FULL_FSYNC;

/// `PRAGMA user_version`; 0 is the Python program's layout, which lacks our columns.
const LAYOUT: i64 = 1;

/// Page cache in KiB: a journal is appended to and read in order, so more only costs memory.
const CACHE_KIB: i64 = 256;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS executions(
    exec_id TEXT PRIMARY KEY, session_id TEXT, seq INTEGER, code TEXT,
    cell_origin_uri TEXT, cell_range TEXT, cell_hash TEXT, cell_index INTEGER,
    submitted_by TEXT, status TEXT, execution_count INTEGER, kernel_msg_id TEXT,
    allow_stdin INTEGER DEFAULT 0, started_at REAL, finished_at REAL,
    folded_json TEXT, imported INTEGER DEFAULT 0,
    fold_state TEXT, batch INTEGER, stop_on_error INTEGER DEFAULT 0, state TEXT);
CREATE TABLE IF NOT EXISTS artifacts(
    artifact_id TEXT PRIMARY KEY, sha256 TEXT, mime TEXT, rel_path TEXT, bytes_len INTEGER,
    elided_from TEXT);
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS frames(frame_id INTEGER PRIMARY KEY, frame BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS traffic(
    traffic_id INTEGER PRIMARY KEY, channel TEXT, content BLOB, ts REAL, wire BLOB);
CREATE TABLE IF NOT EXISTS displays(display_id TEXT PRIMARY KEY, exec_id TEXT) WITHOUT ROWID;
";

/// What a worker goes on from is found without reading the history: each load's question has its rows.
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS executions_in_order ON executions(seq);
CREATE INDEX IF NOT EXISTS executions_open ON executions(seq) WHERE status IN ('queued', 'running');
CREATE INDEX IF NOT EXISTS executions_imported ON executions(seq) WHERE imported = 1;
CREATE INDEX IF NOT EXISTS executions_foreign ON executions(seq) WHERE substr(kernel_msg_id, 1, 7) <> 'tithon-';
CREATE INDEX IF NOT EXISTS messages_kernel ON messages(msg_seq) WHERE msg_type = 'tithon.kernel';
CREATE INDEX IF NOT EXISTS messages_started ON messages(msg_seq) WHERE msg_type = 'tithon.started';
CREATE INDEX IF NOT EXISTS messages_status ON messages(msg_seq) WHERE msg_type = 'status';
CREATE INDEX IF NOT EXISTS messages_prompts ON messages(msg_seq)
    WHERE msg_type IN ('tithon.input_request', 'tithon.input_resolved');
";

/// Columns that a database of the Python program may lack.
const ADDED: &[(&str, &str)] = &[
    ("executions", "cell_index INTEGER"),
    ("executions", "kernel_msg_id TEXT"),
    ("executions", "allow_stdin INTEGER DEFAULT 0"),
    ("executions", "imported INTEGER DEFAULT 0"),
    ("executions", "fold_state TEXT"),
    ("executions", "batch INTEGER"),
    ("executions", "stop_on_error INTEGER DEFAULT 0"),
    ("executions", "state TEXT"),
    ("artifacts", "elided_from TEXT"),
    ("messages", "target_exec TEXT"),
    ("messages", "wire BLOB"),
];

pub(super) fn open(path: &Path, session_id: &str) -> Result<Connection, JournalError> {
    // Made 0600 before SQLite sees it; its -wal and -shm take the same mode.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|source| JournalError::of_io(path, source))?;
    let failed = |source| JournalError::of_sqlite(path, source);
    let (mut connection, found) = connect(path).map_err(failed)?;
    if found > LAYOUT {
        return Err(JournalError::Newer {
            path: path.display().to_string(),
            found,
            known: LAYOUT,
        });
    }
    if found < LAYOUT {
        if migrate::is_older(&connection).map_err(failed)? {
            migrate::run(&mut connection, path, session_id)?;
        } else {
            create(&mut connection, session_id).map_err(failed)?;
        }
    } else {
        add_later_columns(&connection)
            .and_then(|()| rename(&mut connection, session_id))
            .map_err(failed)?;
        if let Err(err) = replace_index(&mut connection) {
            tracing::warn!("failed to replace an index of the journal: {err}");
        }
    }
    Ok(connection)
}

/// A connection as a journal needs it, and the layout it found.
fn connect(path: &Path) -> rusqlite::Result<(Connection, i64)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Tools read while we write; they must not make a commit fail.
    connection.busy_timeout(Duration::from_secs(10))?;
    // What retention deletes goes back to the file system. Only heeded before the first table; later it
    // would be a write, and two syncs, at every start of a worker.
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if pages == 0 {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    if FULL_FSYNC {
        connection.pragma_update(None, "fullfsync", true)?;
    }
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
    connection.set_prepared_statement_cache_capacity(32);
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((connection, found))
}

fn create(connection: &mut Connection, session_id: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    // One database holds one session, so its name is computed rather than stored with every message.
    transaction.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS messages(
            msg_seq INTEGER PRIMARY KEY AUTOINCREMENT, {},
            exec_id TEXT, msg_type TEXT, content_json TEXT, artifact_ref TEXT,
            target_exec TEXT, ts REAL, wire BLOB);",
        session_column(session_id)
    ))?;
    add_tables_and_columns(&transaction)?;
    add_indexes(&transaction)?;
    stamp(&transaction, session_id)?;
    transaction.commit()
}

/// A session that was renamed while it was stopped: its journal says whose it is in three places.
fn rename(connection: &mut Connection, session_id: &str) -> rusqlite::Result<()> {
    let stamped: Option<String> = connection
        .query_row(
            "SELECT value FROM meta WHERE key = 'session_id'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if stamped.as_deref() == Some(session_id) {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    replace_session_column(&transaction, session_id)?;
    transaction.execute("UPDATE executions SET session_id = ?1", [session_id])?;
    stamp(&transaction, session_id)?;
    transaction.commit()
}

/// Has `messages` name another session, or name it as we do.
pub(super) fn replace_session_column(
    connection: &Connection,
    session_id: &str,
) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "ALTER TABLE messages DROP COLUMN session_id;
         ALTER TABLE messages ADD COLUMN {}",
        session_column(session_id)
    ))
}

/// The definition of `messages.session_id`.
fn session_column(session_id: &str) -> String {
    format!(
        "session_id TEXT GENERATED ALWAYS AS ('{}') VIRTUAL",
        session_id.replace('\'', "''")
    )
}

/// Makes every table but `messages`, and adds the columns that an older journal lacks.
pub(super) fn add_tables_and_columns(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    for (table, column) in ADDED {
        add_column(connection, table, column)?;
    }
    Ok(())
}

/// Adds what the layout did not have from its beginning, and nobody misses who does not know it.
fn add_later_columns(connection: &Connection) -> rusqlite::Result<()> {
    add_column(connection, "executions", "state TEXT")
}

pub(super) fn add_indexes(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(INDEXES)?;
    connection.execute_batch(&format!(
        "DROP INDEX IF EXISTS messages_comms;
         CREATE INDEX IF NOT EXISTS messages_comm ON messages(msg_seq) WHERE {COMM}"
    ))
}

/// Replaces an index of earlier journals that made every row of any kind dearer (see [`COMM`]). What it was for
/// is only slower without it.
fn replace_index(connection: &mut Connection) -> rusqlite::Result<()> {
    let earlier: bool = connection.query_row(
        "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE name = 'messages_comms')",
        [],
        |row| row.get(0),
    )?;
    if earlier {
        let transaction = connection.transaction()?;
        add_indexes(&transaction)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Says whose journal it is and that its layout is ours: the last step of making it so.
pub(super) fn stamp(connection: &Connection, session_id: &str) -> rusqlite::Result<()> {
    super::write::meta(connection, "session_id", session_id)?;
    connection.pragma_update(None, "user_version", LAYOUT)
}

fn add_column(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<()> {
    let name = column.split(' ').next().unwrap_or(column);
    let known: bool = connection.query_row(
        "SELECT count(*) FROM pragma_table_xinfo(?1) WHERE name = ?2",
        (table, name),
        |row| row.get(0),
    )?;
    if known {
        return Ok(());
    }
    connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column}"))
}

/// Of a row of `messages`: that it is a comm message. Not with `IN`: where that has more than two values, SQLite
/// builds a table of them for every row that is written.
pub(super) const COMM: &str =
    "(msg_type = 'comm_open' OR msg_type = 'comm_msg' OR msg_type = 'comm_close')";

/// Of a row of `messages`: that it is a comm message which changes no widget's state, such as a button's click.
pub(super) const STATELESS: &str = "(msg_type = 'comm_msg' AND exec_id IS NULL AND json_valid(content_json)
    AND COALESCE(json_extract(content_json, '$.data.method'), '') NOT IN ('update', 'echo_update'))";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_comm_messages_is_found_and_replaces_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        open(&path, "default")
            .unwrap()
            .execute_batch(
                "DROP INDEX messages_comm;
                 CREATE INDEX messages_comms ON messages(msg_seq)
                     WHERE msg_type IN ('comm_open', 'comm_msg', 'comm_close');",
            )
            .unwrap();
        let connection = open(&path, "default").unwrap();
        let indexes: Vec<String> = connection
            .prepare("SELECT name FROM sqlite_schema WHERE name LIKE 'messages_comm%'")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(indexes, ["messages_comm"]);
        let plan: String = connection
            .query_row(
                &format!("EXPLAIN QUERY PLAN SELECT * FROM messages WHERE msg_seq > 1 AND {COMM} AND NOT {STATELESS}"),
                [],
                |row| row.get("detail"),
            )
            .unwrap();
        assert!(plan.contains("INDEX messages_comm"), "{plan}");
    }
}
