//! Reading: what a session goes on from, snapshots, and events for clients that lag.

use std::collections::HashMap;

use rusqlite::{Connection, Row as SqlRow, params};
use tithon_ipc::{
    client::Event,
    ids::{ExecId, Seq},
    json,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{EventFrame, StoredFold};

/// What a session goes on from.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The last seq ever given, deleted rows included.
    pub max_seq: Seq,
    /// The number of the last execution.
    pub last_exec: u64,
    /// How many executions there are.
    pub executions: u64,
    /// Executions that are queued or running, in order.
    pub open: Vec<StoredExecution>,
    /// Rows that no stored fold holds yet, in order.
    pub unfolded: Vec<StoredRow>,
    /// Folds of finished executions that `unfolded` touches.
    pub folds: HashMap<ExecId, StoredFold>,
    /// Which execution shows each display.
    pub displays: HashMap<String, ExecId>,
    /// Values kept by name.
    pub meta: HashMap<String, String>,
    /// Newest first: the kernel's own events, as far as lifecycle rules look back.
    pub kernel_events: Vec<StoredRow>,
    /// The seq of the newest `tithon.started`.
    pub last_started: Option<Seq>,
    /// The running execution's last `tithon.input_request` or `.input_resolved`.
    pub prompt: Option<StoredRow>,
    /// Whether anything of the running execution was journaled after its start.
    pub running_seen: bool,
    /// Comm rows since the newest restart of the kernel, in order.
    pub comms: Vec<StoredRow>,
    /// Bytes of code, content and folds.
    pub logical_bytes: i64,
}

/// An execution as the snapshot shows it; finished ones are spliced from this text.
#[derive(Clone, Debug)]
pub struct StoredExecution {
    /// Its number.
    pub exec: ExecId,
    /// `executions.status`.
    pub status: String,
    /// The code.
    pub code: String,
    /// The `msg_id` it was sent to the kernel under.
    pub kernel_msg_id: Option<String>,
    /// Whether `input()` may ask.
    pub allow_stdin: bool,
    /// The first execution of its batch.
    pub batch: ExecId,
    /// Whether an error skips the rest of the batch.
    pub stop_on_error: bool,
    /// The fold as it was last stored.
    pub fold: StoredFold,
    execution_count: Option<i64>,
    cell_hash: Option<String>,
    submitted_by: Option<String>,
    origin: Option<String>,
    /// When it was sent to the kernel, in unix seconds.
    pub started_at: Option<f64>,
    finished_at: Option<f64>,
    imported: bool,
}

impl StoredExecution {
    /// The snapshot's entry (PROTOCOL §7), with the fold given instead of the stored one if any.
    pub fn entry(&self, live: Option<&StoredFold>) -> String {
        let fold = live.unwrap_or(&self.fold);
        let state = if self.imported {
            None
        } else {
            fold.state.as_deref()
        };
        format!(
            r#"{{"exec_id": "{}", "seq": {}, "code": {}, "status": "{}", "execution_count": {}, "cell_hash": {}, "origin": {}, "outputs": {}, "fold_state": {}, "started_at": {}, "finished_at": {}{}}}"#,
            self.exec,
            self.exec.0,
            json::to_string(&self.code),
            self.status,
            json::to_string(&self.execution_count),
            json::to_string(&self.cell_hash),
            self.origin.as_deref().unwrap_or("null"),
            fold.outputs.as_deref().unwrap_or("[]"),
            state.unwrap_or("null"),
            json::to_string(&self.started_at),
            json::to_string(&self.finished_at),
            self.submitted_by
                .as_ref()
                .map(|who| format!(r#", "submitted_by": {}"#, json::to_string(who)))
                .unwrap_or_default(),
        )
    }

    fn from_row(row: &SqlRow<'_>) -> rusqlite::Result<Self> {
        let uri: Option<String> = row.get("cell_origin_uri")?;
        let range: Option<String> = row.get("cell_range")?;
        let index: Option<i64> = row.get("cell_index")?;
        let origin = (uri.is_some() || range.is_some() || index.is_some()).then(|| {
            format!(
                r#"{{"uri": {}, "range": {}, "index": {}}}"#,
                json::to_string(&uri),
                range.as_deref().unwrap_or("null"),
                json::to_string(&index)
            )
        });
        let exec = ExecId(row.get::<_, i64>("seq")?.unsigned_abs());
        Ok(Self {
            exec,
            status: row.get("status")?,
            code: row.get("code")?,
            kernel_msg_id: row.get("kernel_msg_id")?,
            allow_stdin: row
                .get::<_, Option<bool>>("allow_stdin")?
                .unwrap_or_default(),
            batch: row
                .get::<_, Option<i64>>("batch")?
                .map_or(exec, |batch| ExecId(batch.unsigned_abs())),
            stop_on_error: row
                .get::<_, Option<bool>>("stop_on_error")?
                .unwrap_or_default(),
            fold: StoredFold {
                outputs: row.get("folded_json")?,
                state: row.get("fold_state")?,
            },
            execution_count: row.get("execution_count")?,
            cell_hash: row.get("cell_hash")?,
            submitted_by: row.get("submitted_by")?,
            origin,
            started_at: row.get("started_at")?,
            finished_at: row.get("finished_at")?,
            imported: row.get::<_, Option<bool>>("imported")?.unwrap_or_default(),
        })
    }
}

/// A committed event.
#[derive(Clone, Debug)]
pub struct StoredRow {
    /// Its seq.
    pub seq: Seq,
    /// The execution it is shown under.
    pub exec: Option<ExecId>,
    /// The journaled message type.
    pub msg_type: String,
    /// The journaled content.
    pub content: String,
    /// Unix time in seconds.
    pub ts: f64,
}

impl StoredRow {
    fn from_row(row: &SqlRow<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            exec: row
                .get::<_, Option<String>>(1)?
                .as_deref()
                .and_then(ExecId::parse),
            msg_type: row.get(2)?,
            content: row.get(3)?,
            ts: row.get(4)?,
        })
    }
}

const ROW: &str =
    "SELECT msg_seq, COALESCE(target_exec, exec_id), msg_type, content_json, ts FROM messages";

/// How far back lifecycle rules look: more kernel events than this since the last cell mean nothing.
const KERNEL_EVENTS_MAX: usize = 64;

pub(super) fn load(connection: &Connection) -> rusqlite::Result<Loaded> {
    let meta: HashMap<String, String> = connection
        .prepare("SELECT key, value FROM meta")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let max_seq = connection.query_row(
        "SELECT max(COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0),
                    COALESCE((SELECT max(msg_seq) FROM messages), 0))",
        [],
        |row| row.get(0),
    )?;
    let (last_exec, executions) = connection.query_row(
        "SELECT COALESCE(max(seq), 0), count(*) FROM executions",
        [],
        |row| {
            Ok((
                row.get::<_, i64>(0)?.unsigned_abs(),
                row.get::<_, i64>(1)?.unsigned_abs(),
            ))
        },
    )?;
    let folds_at: Seq = number(&meta, "folds_at");
    let unfolded = rows(
        connection,
        &format!("{ROW} WHERE msg_seq > ?1 ORDER BY msg_seq"),
        folds_at,
    )?;
    let open = executions_where(connection, "status IN ('queued', 'running')")?;
    let mut folds = HashMap::new();
    for exec in unfolded.iter().filter_map(|row| row.exec) {
        if !folds.contains_key(&exec) && !open.iter().any(|known| known.exec == exec) {
            folds.insert(
                exec,
                super::write::stored_fold(connection, exec).unwrap_or_default(),
            );
        }
    }
    let kernel_events = rows(
        connection,
        &format!(
            "{ROW} WHERE msg_type = 'tithon.kernel' AND msg_seq > ?1 ORDER BY msg_seq DESC LIMIT {KERNEL_EVENTS_MAX}"
        ),
        0,
    )?;
    let last_started = connection
        .query_row("SELECT msg_seq FROM messages WHERE msg_type = 'tithon.started' ORDER BY msg_seq DESC LIMIT 1", [], |row| row.get(0))
        .map_or_else(none_if_absent, |seq| Ok(Some(seq)))?;
    let running = open.iter().find(|execution| execution.status == "running");
    let running_seen = match (running, last_started) {
        (Some(running), Some(started)) => connection.query_row(
            "SELECT EXISTS(SELECT 1 FROM messages WHERE msg_seq > ?1 AND exec_id = ?2)",
            params![started, running.exec.to_string()],
            |row| row.get(0),
        )?,
        _ => false,
    };
    let prompt = rows(
        connection,
        &format!(
            "{ROW} WHERE msg_seq > ?1 AND msg_type IN ('tithon.input_request', 'tithon.input_resolved')
             ORDER BY msg_seq DESC LIMIT 1"
        ),
        if running.is_some() { last_started.unwrap_or(0) } else { max_seq },
    )?
    .pop();
    let since = kernel_events
        .iter()
        .find(|row| row.content.contains("\"restarted\"") || row.content.contains("\"replaced\""))
        .map_or(0, |row| row.seq);
    let comms = rows(
        connection,
        &format!(
            "{ROW} WHERE msg_seq > ?1 AND msg_type IN ('comm_open', 'comm_msg', 'comm_close') ORDER BY msg_seq"
        ),
        since,
    )?;
    Ok(Loaded {
        max_seq,
        last_exec,
        executions,
        open,
        unfolded,
        folds,
        displays: displays(connection)?,
        logical_bytes: number(&meta, "logical_bytes"),
        meta,
        kernel_events,
        last_started,
        running_seen,
        prompt,
        comms,
    })
}

fn none_if_absent<T>(err: rusqlite::Error) -> rusqlite::Result<Option<T>> {
    if err == rusqlite::Error::QueryReturnedNoRows {
        Ok(None)
    } else {
        Err(err)
    }
}

fn number(meta: &HashMap<String, String>, key: &str) -> i64 {
    meta.get(key)
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

fn displays(connection: &Connection) -> rusqlite::Result<HashMap<String, ExecId>> {
    connection
        .prepare("SELECT display_id, exec_id FROM displays")?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?
        .filter_map(|row| match row {
            Ok((display, exec)) => ExecId::parse(&exec).map(|exec| Ok((display, exec))),
            Err(err) => Some(Err(err)),
        })
        .collect()
}

fn rows(connection: &Connection, sql: &str, after: Seq) -> rusqlite::Result<Vec<StoredRow>> {
    connection
        .prepare_cached(sql)?
        .query_map([after], StoredRow::from_row)?
        .collect()
}

fn executions_where(
    connection: &Connection,
    condition: &str,
) -> rusqlite::Result<Vec<StoredExecution>> {
    connection
        .prepare_cached(&format!(
            "SELECT * FROM executions WHERE {condition} ORDER BY seq"
        ))?
        .query_map([], StoredExecution::from_row)?
        .collect()
}

pub(super) fn executions(connection: &Connection) -> rusqlite::Result<Vec<StoredExecution>> {
    executions_where(connection, "true")
}

/// Events after one seq and through another, until about `max_bytes` of them are read; at least one.
pub(super) fn events(
    connection: &Connection,
    after: Seq,
    through: Seq,
    max_bytes: usize,
) -> rusqlite::Result<Vec<EventFrame>> {
    let mut statement = connection.prepare_cached(&format!(
        "{ROW} WHERE msg_seq > ?1 AND msg_seq <= ?2 ORDER BY msg_seq"
    ))?;
    let mut found = statement.query(params![after, through])?;
    let mut frames = Vec::new();
    let mut bytes = 0;
    while let Some(row) = found.next()? {
        let seq = row.get(0)?;
        let exec_id = row.get_ref(1)?.as_str_or_null()?;
        let event = Event {
            seq,
            exec_id,
            msg_type: row.get_ref(2)?.as_str()?,
            content: row.get_ref(3)?.as_str()?,
        };
        if let Some(text) = event.to_text() {
            bytes += text.len();
            frames.push(EventFrame {
                seq,
                text: Utf8Bytes::from(text),
            });
        }
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(frames)
}
