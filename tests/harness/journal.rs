//! A session's journal as any program reads it: with SQL, while the worker writes.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// A journal, read only.
#[derive(Debug)]
pub(crate) struct Journal(pub(crate) Connection);

impl Journal {
    /// Opens the journal in a session's directory.
    pub(crate) fn open(session: &Path) -> Self {
        let path = session.join("journal.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self(Connection::open_with_flags(&path, flags).unwrap())
    }

    /// What an execution printed to stdout.
    pub(crate) fn stdout(&self, exec_id: &str) -> String {
        let mut select = self
            .0
            .prepare(
                "SELECT content_json FROM messages
                 WHERE coalesce(target_exec, exec_id) = ?1 AND msg_type = 'stream' ORDER BY msg_seq",
            )
            .unwrap();
        let contents = select
            .query_map([exec_id], |row| row.get::<_, String>(0))
            .unwrap();
        contents
            .map(|content| serde_json::from_str::<Value>(&content.unwrap()).unwrap())
            .filter(|content| content["name"] == "stdout")
            .map(|content| content["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// One value.
    pub(crate) fn value<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.0.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}
