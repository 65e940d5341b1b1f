//! Reading: what a session goes on from, snapshots, and events for clients that lag.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use tithon_ipc::{
    client::Event,
    ids::{ExecId, Seq},
    json,
    jupyter::Message,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    EventFrame, HEARD, LoadedArtifacts, Rebuilt, StoredFold, artifacts, rebuild,
    schema::{COMM, STATELESS},
};

/// What a session goes on from.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The last seq ever given, deleted rows included.
    pub max_seq: Seq,
    /// The number of the last execution.
    pub last_exec: u64,
    /// How many executions there are.
    pub executions: u64,
    /// How many of them are imported from a sidecar.
    pub imported: u64,
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
    /// The newest kernel event that begins or ends a kernel's life (PROTOCOL §16.6).
    pub kernel_turn: Option<StoredRow>,
    /// The seq of the newest `tithon.started`.
    pub last_started: Option<Seq>,
    /// The execution that started last.
    pub last_started_exec: Option<ExecId>,
    /// The requests of other programs and the executions they became, oldest first.
    pub foreign_requests: Vec<(String, ExecId)>,
    /// The running execution's last `tithon.input_request` or `.input_resolved`.
    pub prompt: Option<StoredRow>,
    /// Its last `tithon.input_request`, if an answer was sent that the kernel has not taken.
    pub unanswered: Option<StoredRow>,
    /// Whether anything of the running execution was journaled after its start.
    pub running_seen: bool,
    /// Whether the running execution's `idle` is journaled.
    pub running_idle: bool,
    /// The seq of the event that began the current kernel's life, 0 for the first.
    pub comms_after: Seq,
    /// Comm rows since then, in order.
    pub comms: Vec<StoredRow>,
    /// Comm messages of clients that the kernel is not known to have taken up, in order, unsigned.
    pub unheard: Vec<(Seq, Message)>,
    /// When the session began: the time of its first row.
    pub began: Option<f64>,
    /// The artifacts, and what shows them.
    pub artifacts: LoadedArtifacts,
    /// Bytes of code, content and folds.
    pub logical_bytes: i64,
}

impl Loaded {
    /// The highest seq that retention has deleted, 0 for none.
    pub fn history_floor(&self) -> Seq {
        number(&self.meta, "history_floor")
    }
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
    /// Where it is run in a state rather than the kernel: `{"name", "from"}`.
    pub state: Option<String>,
}

/// The columns of [`StoredExecution::from_row`], by place: SQLite finds one by its name by comparing
/// all of them, which was half of what a snapshot cost.
const EXECUTION: &str =
    "SELECT seq, status, code, kernel_msg_id, allow_stdin, batch, stop_on_error,
    submitted_by, cell_origin_uri, cell_range, cell_index, execution_count, cell_hash, started_at,
    finished_at, imported, folded_json, fold_state, state FROM executions";

impl StoredExecution {
    /// Whether another program asked the kernel for it: requests of ours are named so.
    pub fn is_foreign(&self) -> bool {
        self.kernel_msg_id
            .as_deref()
            .is_some_and(|msg_id| !msg_id.starts_with("tithon-"))
    }

    /// Whether it is the kernel that runs it, and for us.
    fn is_the_kernels(&self) -> bool {
        self.state.is_none() && !self.is_foreign()
    }

    /// The snapshot's entry (PROTOCOL §7), with the fold given instead of the stored one if any.
    pub fn entry(&self, live: Option<&StoredFold>) -> String {
        let fold = live.unwrap_or(&self.fold);
        let state = if self.imported {
            None
        } else {
            fold.state.as_deref()
        };
        format!(
            r#"{{"exec_id": "{}", "seq": {}, "code": {}, "status": "{}", "execution_count": {}, "cell_hash": {}, "origin": {}, "outputs": {}, "fold_state": {}, "started_at": {}, "finished_at": {}{}{}}}"#,
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
            self.state
                .as_ref()
                .map(|state| format!(r#", "state": {state}"#))
                .unwrap_or_default(),
        )
    }

    fn from_row(row: &SqlRow<'_>) -> rusqlite::Result<Self> {
        let uri: Option<String> = row.get(8)?;
        let range: Option<String> = row.get(9)?;
        let index: Option<i64> = row.get(10)?;
        let origin = (uri.is_some() || range.is_some() || index.is_some()).then(|| {
            format!(
                r#"{{"uri": {}, "range": {}, "index": {}}}"#,
                json::to_string(&uri),
                range.as_deref().unwrap_or("null"),
                json::to_string(&index)
            )
        });
        let exec = ExecId(row.get::<_, i64>(0)?.unsigned_abs());
        Ok(Self {
            exec,
            status: row.get(1)?,
            code: row.get(2)?,
            kernel_msg_id: row.get(3)?,
            allow_stdin: row.get::<_, Option<bool>>(4)?.unwrap_or_default(),
            batch: row
                .get::<_, Option<i64>>(5)?
                .map_or(exec, |batch| ExecId(batch.unsigned_abs())),
            stop_on_error: row.get::<_, Option<bool>>(6)?.unwrap_or_default(),
            submitted_by: row.get(7)?,
            origin,
            execution_count: row.get(11)?,
            cell_hash: row.get(12)?,
            started_at: row.get(13)?,
            finished_at: row.get(14)?,
            imported: row.get::<_, Option<bool>>(15)?.unwrap_or_default(),
            fold: StoredFold {
                outputs: row.get(16)?,
                state: row.get(17)?,
            },
            state: row.get(18)?,
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

pub(super) fn load(connection: &Connection) -> rusqlite::Result<Loaded> {
    // Within one transaction: else each of the questions below locks the database for itself.
    let reading = connection.unchecked_transaction()?;
    let loaded = load_from(&reading)?;
    reading.finish()?;
    Ok(loaded)
}

fn load_from(connection: &Connection) -> rusqlite::Result<Loaded> {
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
    let imported = connection.query_row(
        "SELECT count(*) FROM executions WHERE imported = 1",
        [],
        |row| row.get::<_, i64>(0),
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
    let kernel_turn = rows(
        connection,
        &format!(
            "{ROW} WHERE msg_type = 'tithon.kernel' AND msg_seq > ?1 AND json_extract(content_json, '$.status')
             IN ('restarting', 'restarted', 'killed', 'shutdown', 'gc', 'replaced', 'restored') ORDER BY msg_seq DESC LIMIT 1"
        ),
        0,
    )?
    .pop();
    let last_started = rows(
        connection,
        &format!(
            "{ROW} WHERE msg_seq > ?1 AND msg_type = 'tithon.started' AND NOT EXISTS (SELECT 1 FROM executions
                WHERE executions.exec_id = messages.exec_id AND state IS NOT NULL) ORDER BY msg_seq DESC LIMIT 1"
        ),
        0,
    )?
    .pop();
    let running = open
        .iter()
        .find(|execution| execution.status == "running" && execution.is_the_kernels());
    let running_since = running
        .map(|running| started_at(connection, running.exec))
        .transpose()?;
    let running_seen = match (running, running_since) {
        (Some(running), Some(started)) => connection.query_row(
            "SELECT EXISTS(SELECT 1 FROM messages WHERE msg_seq > ?1 AND exec_id = ?2)",
            params![started, running.exec.to_string()],
            |row| row.get(0),
        )?,
        _ => false,
    };
    let running_idle = match (running, running_since) {
        (Some(running), Some(started)) => connection.query_row(
            "SELECT EXISTS(SELECT 1 FROM messages WHERE msg_seq > ?1 AND exec_id = ?2
                AND msg_type = 'status' AND content_json LIKE '%\"idle\"%')",
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
        running_since.unwrap_or(max_seq),
    )?
    .pop();
    let unanswered = match &prompt {
        Some(resolved)
            if resolved.msg_type == "tithon.input_resolved"
                && meta.get(super::PROMPT_OPEN).cloned()
                    == resolved.exec.map(|exec| exec.to_string()) =>
        {
            rows(
                connection,
                &format!(
                    "{ROW} WHERE msg_seq > ?1 AND msg_type IN ('tithon.input_request', 'tithon.input_resolved')
                     AND msg_type = 'tithon.input_request' ORDER BY msg_seq DESC LIMIT 1"
                ),
                running_since.unwrap_or(max_seq),
            )?
            .pop()
        }
        _ => None,
    };
    let comms_after = kernel_turn.as_ref().map_or(0, |row| row.seq);
    let comms = rows(
        connection,
        &format!("{ROW} WHERE msg_seq > ?1 AND {COMM} AND NOT {STATELESS} ORDER BY msg_seq"),
        comms_after,
    )?;
    let heard = number(&meta, HEARD);
    let began = connection
        .query_row(
            "SELECT ts FROM messages ORDER BY msg_seq LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?
        .flatten();
    Ok(Loaded {
        max_seq,
        last_exec,
        executions,
        imported: imported.unsigned_abs(),
        open,
        unfolded,
        folds,
        displays: displays(connection)?,
        artifacts: artifacts::load(connection)?,
        logical_bytes: number(&meta, "logical_bytes"),
        meta,
        kernel_turn,
        last_started: last_started.as_ref().map(|row| row.seq),
        last_started_exec: last_started.and_then(|row| row.exec),
        foreign_requests: foreign_requests(connection)?,
        running_seen,
        running_idle,
        prompt,
        comms_after,
        unanswered,
        comms,
        unheard: unheard(connection, comms_after.max(heard))?,
        began,
    })
}

/// What clients said to comms after a seq.
fn unheard(connection: &Connection, after: Seq) -> rusqlite::Result<Vec<(Seq, Message)>> {
    let mut select = connection.prepare(&format!(
        "SELECT msg_seq, wire, content_json, ts FROM messages
         WHERE msg_seq > ?1 AND {COMM} AND exec_id IS NULL
            AND wire IS NOT NULL AND instr(content_json, '\"tithon_from\": \"client\"') ORDER BY msg_seq"
    ))?;
    let mut rows = select.query([after])?;
    let mut unheard = Vec::new();
    while let Some(row) = rows.next()? {
        let (wire, content) = (row.get_ref(1)?.as_blob()?, row.get_ref(2)?.as_bytes()?);
        let (Rebuilt::Exact(message) | Rebuilt::Referring(message)) =
            rebuild(connection, wire, content, row.get(3)?, |_, _| None)?;
        unheard.push((row.get(0)?, message));
    }
    Ok(unheard)
}

/// The seq of an execution's `tithon.started`; 0 if that is gone.
fn started_at(connection: &Connection, exec: ExecId) -> rusqlite::Result<Seq> {
    connection
        .query_row(
            "SELECT msg_seq FROM messages WHERE msg_type = 'tithon.started' AND exec_id = ?1
             ORDER BY msg_seq DESC LIMIT 1",
            [exec.to_string()],
            |row| row.get(0),
        )
        .optional()
        .map(Option::unwrap_or_default)
}

/// The newest requests of other programs, oldest first.
fn foreign_requests(connection: &Connection) -> rusqlite::Result<Vec<(String, ExecId)>> {
    let mut found: Vec<_> = connection
        .prepare(
            "SELECT kernel_msg_id, seq FROM executions
             WHERE substr(kernel_msg_id, 1, 7) <> 'tithon-' ORDER BY seq DESC LIMIT 1024",
        )?
        .query_map([], |row| {
            Ok((row.get(0)?, ExecId(row.get::<_, i64>(1)?.unsigned_abs())))
        })?
        .collect::<rusqlite::Result<_>>()?;
    found.reverse();
    Ok(found)
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
        .prepare_cached(&format!("{EXECUTION} WHERE {condition} ORDER BY seq"))?
        .query_map([], StoredExecution::from_row)?
        .collect()
}

pub(super) fn executions(connection: &Connection) -> rusqlite::Result<Vec<StoredExecution>> {
    executions_where(connection, "true")
}

/// Events, built as live ones are (I6), after one seq and through another, until about `max_bytes` of them are read; at least one.
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
