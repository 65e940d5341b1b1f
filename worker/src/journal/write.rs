//! Writing one transaction.

use rusqlite::{Connection, params};
use tithon_ipc::ids::ExecId;

use super::{
    StoredFold,
    record::{Change, NewExecution, Row, Status, Traffic, Transaction},
    wire::{self, Interned},
};

/// What every writer needs beside the connection.
#[derive(Default)]
pub(super) struct Writer {
    interned: Interned,
    /// UTF-8 bytes of what users would call their data (PROTOCOL §8, `logical_bytes`).
    logical_bytes: i64,
}

impl Writer {
    pub(super) fn new(logical_bytes: i64) -> Self {
        Self {
            interned: Interned::default(),
            logical_bytes,
        }
    }

    /// Writes everything or nothing.
    pub(super) fn write(
        &mut self,
        connection: &mut Connection,
        transaction: &Transaction,
    ) -> rusqlite::Result<()> {
        let before = self.logical_bytes;
        let written = self.attempt(connection, transaction);
        if written.is_err() {
            self.logical_bytes = before;
            self.interned.clear();
        }
        written
    }

    fn attempt(
        &mut self,
        connection: &mut Connection,
        transaction: &Transaction,
    ) -> rusqlite::Result<()> {
        let open = connection.transaction()?;
        for row in &transaction.rows {
            self.row(&open, row)?;
        }
        for traffic in &transaction.traffic {
            self.traffic(&open, traffic)?;
        }
        for change in &transaction.changes {
            self.change(&open, change)?;
        }
        meta(&open, "logical_bytes", &self.logical_bytes.to_string())?;
        open.commit()
    }

    fn row(&mut self, open: &Connection, row: &Row) -> rusqlite::Result<()> {
        let content = row.content.as_str();
        let wire = row
            .message
            .as_deref()
            .map(|message| {
                wire::encode(
                    open,
                    &mut self.interned,
                    message,
                    content.as_bytes(),
                    row.ts,
                )
            })
            .transpose()?;
        self.count(content.len());
        open.prepare_cached(
            "INSERT INTO messages(msg_seq, exec_id, msg_type, content_json, target_exec, ts, wire)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            row.seq,
            name(row.exec),
            row.msg_type,
            content,
            name(row.target),
            row.ts,
            wire
        ])
        .map(drop)
    }

    fn traffic(&mut self, open: &Connection, traffic: &Traffic) -> rusqlite::Result<()> {
        let content = traffic.message.content.as_ref();
        let wire = wire::encode(
            open,
            &mut self.interned,
            &traffic.message,
            content,
            traffic.ts,
        )?;
        open.prepare_cached(
            "INSERT INTO traffic(channel, content, ts, wire) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![traffic.channel.name(), content, traffic.ts, wire])
        .map(drop)
    }

    fn change(&mut self, open: &Connection, change: &Change) -> rusqlite::Result<()> {
        match change {
            Change::Submitted(new) => self.submitted(open, new),
            Change::Started { exec, kernel_msg_id, ts } => open
                .prepare_cached(
                    "UPDATE executions SET status = 'running', kernel_msg_id = ?2, started_at = ?3 WHERE exec_id = ?1",
                )?
                .execute(params![exec.to_string(), kernel_msg_id, ts])
                .map(drop),
            Change::Finished { exec, status, execution_count, ts } => open
                .prepare_cached(
                    "UPDATE executions SET status = ?2, execution_count = ?3, finished_at = ?4 WHERE exec_id = ?1",
                )?
                .execute(params![exec.to_string(), status.name(), execution_count, ts])
                .map(drop),
            Change::Fold { exec, outputs, state } => {
                self.count(outputs.len());
                open.prepare_cached("UPDATE executions SET folded_json = ?2, fold_state = ?3 WHERE exec_id = ?1")?
                    .execute(params![exec.to_string(), outputs, state])
                    .map(drop)
            }
            Change::FoldsAt(seq) => meta(open, "folds_at", &seq.to_string()),
            Change::Display { display_id, exec } => open
                .prepare_cached("INSERT OR REPLACE INTO displays(display_id, exec_id) VALUES (?1, ?2)")?
                .execute(params![display_id, exec.to_string()])
                .map(drop),
            Change::Meta { key, value } => meta(open, key, value),
        }
    }

    fn submitted(&mut self, open: &Connection, new: &NewExecution) -> rusqlite::Result<()> {
        self.count(new.code.len());
        open.prepare_cached(
            "INSERT INTO executions(exec_id, seq, code, cell_hash, cell_origin_uri, cell_range, cell_index,
                submitted_by, status, allow_stdin, batch, stop_on_error, session_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,
                (SELECT value FROM meta WHERE key = 'session_id'))",
        )?
        .execute(params![
            new.exec.to_string(),
            number(new.exec),
            new.code,
            new.cell_hash,
            new.origin_uri,
            new.origin_range,
            new.origin_index,
            new.submitted_by,
            Status::Queued.name(),
            new.allow_stdin,
            number(new.batch),
            new.stop_on_error,
        ])
        .map(drop)
    }

    fn count(&mut self, bytes: usize) {
        self.logical_bytes = self.logical_bytes.saturating_add_unsigned(bytes as u64);
    }
}

/// A finished execution's fold, for rows that touch it late.
pub(super) fn stored_fold(connection: &Connection, exec: ExecId) -> rusqlite::Result<StoredFold> {
    connection
        .prepare_cached("SELECT folded_json, fold_state FROM executions WHERE exec_id = ?1")?
        .query_row([exec.to_string()], |row| {
            Ok(StoredFold {
                outputs: row.get(0)?,
                state: row.get(1)?,
            })
        })
}

pub(super) fn meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO meta(key, value) VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2")?
        .execute((key, value))
        .map(drop)
}

fn name(exec: Option<ExecId>) -> Option<String> {
    exec.map(|exec| exec.to_string())
}

fn number(exec: ExecId) -> i64 {
    i64::try_from(exec.0).unwrap_or(i64::MAX)
}
