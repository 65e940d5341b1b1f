//! Writing one transaction.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use rusqlite::{Connection, OptionalExtension, params};
use tithon_ipc::ids::ExecId;

use super::{
    StoredFold,
    record::{Change, NewExecution, Row, Status, Traffic, Transaction},
    wire::{self, Interned},
};
use crate::{artifacts::StoredArtifact, sidecar::ImportedExecution};

/// What every writer needs beside the connection.
pub(super) struct Writer {
    interned: Interned,
    /// UTF-8 bytes of what users would call their data (PROTOCOL §8, `logical_bytes`).
    logical_bytes: i64,
    /// The same as of the last commit, for whoever asks.
    committed_bytes: Arc<AtomicI64>,
}

impl Writer {
    pub(super) fn new(logical_bytes: Arc<AtomicI64>) -> Self {
        Self {
            interned: Interned::default(),
            logical_bytes: logical_bytes.load(Ordering::Relaxed),
            committed_bytes: logical_bytes,
        }
    }

    /// Forgets which frames are stored: those that nothing names are about to go.
    pub(super) fn forget_frames(&mut self) {
        self.interned.clear();
    }

    /// Content bytes were deleted.
    pub(super) fn freed(&mut self, bytes: i64) {
        self.logical_bytes -= bytes;
        self.committed_bytes
            .store(self.logical_bytes, Ordering::Relaxed);
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
        self.committed_bytes
            .store(self.logical_bytes, Ordering::Relaxed);
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
                    &row.images,
                    row.ts,
                )
            })
            .transpose()?;
        self.count(content.len());
        open.prepare_cached(
            "INSERT INTO messages(msg_seq, exec_id, msg_type, content_json, artifact_ref, target_exec, ts, wire)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            row.seq,
            name(row.exec),
            row.msg_type,
            content,
            row.artifact_ref(),
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
            &[],
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
            Change::State { exec, state } => open
                .prepare_cached("UPDATE executions SET state = ?2 WHERE exec_id = ?1")?
                .execute(params![exec.to_string(), state])
                .map(drop),
            Change::Fold { exec, outputs, state } => {
                self.logical_bytes -= stored_outputs_len(open, *exec)?;
                self.count(outputs.len());
                open.prepare_cached("UPDATE executions SET folded_json = ?2, fold_state = ?3 WHERE exec_id = ?1")?
                    .execute(params![exec.to_string(), outputs, state])
                    .map(drop)
            }
            Change::Artifact(artifact) => open
                .prepare_cached(
                    "INSERT OR REPLACE INTO artifacts(artifact_id, sha256, mime, rel_path, bytes_len) VALUES (?1, ?1, ?2, ?3, ?4)",
                )?
                .execute(params![artifact.artifact_id, artifact.mime, artifact.rel_path, bytes_len(artifact)])
                .map(drop),
            Change::ForgetArtifact(id) => open
                .prepare_cached("DELETE FROM artifacts WHERE artifact_id = ?1")?
                .execute([id])
                .map(drop),
            Change::ElideArtifact { id, exec } => open
                .prepare_cached("UPDATE artifacts SET elided_from = ?2 WHERE artifact_id = ?1")?
                .execute(params![id, name(*exec)])
                .map(drop),
            Change::DropImported => open.execute("DELETE FROM executions WHERE imported = 1", []).map(drop),
            Change::Imported { exec, uri, execution } => self.imported(open, *exec, uri, execution),
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
                submitted_by, status, allow_stdin, batch, stop_on_error, state, session_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,
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
            new.state,
        ])
        .map(drop)
    }

    fn imported(
        &mut self,
        open: &Connection,
        exec: ExecId,
        uri: &str,
        execution: &ImportedExecution,
    ) -> rusqlite::Result<()> {
        self.count(execution.code.len() + execution.outputs.len());
        open.prepare_cached(
            "INSERT INTO executions(exec_id, seq, code, cell_hash, cell_origin_uri, cell_range, cell_index, status,
                execution_count, started_at, finished_at, folded_json, imported, session_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 1,
                (SELECT value FROM meta WHERE key = 'session_id'))",
        )?
        .execute(params![
            exec.to_string(),
            number(exec),
            execution.code,
            execution.cell_hash,
            uri,
            execution.origin_range,
            execution.origin_index,
            execution.status,
            execution.execution_count,
            execution.started_at,
            execution.finished_at,
            execution.outputs,
        ])
        .map(drop)
    }

    fn count(&mut self, bytes: usize) {
        self.logical_bytes = self.logical_bytes.saturating_add_unsigned(bytes as u64);
    }
}

/// UTF-8 bytes of an execution's stored outputs.
fn stored_outputs_len(connection: &Connection, exec: ExecId) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "SELECT COALESCE(octet_length(folded_json), 0) FROM executions WHERE exec_id = ?1",
        )?
        .query_row([exec.to_string()], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
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

fn bytes_len(artifact: &StoredArtifact) -> i64 {
    i64::try_from(artifact.bytes_len).unwrap_or(i64::MAX)
}

fn number(exec: ExecId) -> i64 {
    i64::try_from(exec.0).unwrap_or(i64::MAX)
}
