//! What the Python program recomputed at every start is computed once and stored: folds with their
//! state, the owners of displays, and how much there is.

use std::collections::HashMap;

use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::value::RawValue;
use tithon_ipc::jupyter::without_lone_surrogates;

use crate::{fold::Fold, journal::write};

/// Folds as of a seq, below which retention may have deleted output (PROTOCOL §15).
#[derive(Default, Deserialize)]
struct Seed {
    seq: i64,
    #[serde(default)]
    folds: HashMap<String, SeedFold>,
    #[serde(default)]
    display_registry: HashMap<String, String>,
}

#[derive(Deserialize)]
struct SeedFold {
    outputs: Box<RawValue>,
    #[serde(default)]
    state: Option<Box<RawValue>>,
}

/// The types that a fold looks at.
pub(in crate::journal) const FOLDED: &str = "'stream', 'display_data', 'update_display_data', 'execute_result', 'error', 'clear_output', 'comm_msg', 'comm_close'";

/// Computes and stores everything, as of the journal's last row.
pub(super) fn run(open: &Connection) -> rusqlite::Result<()> {
    let seed = seed(open)?;
    empty_folds(open)?;
    folds(open, &seed)?;
    displays(open, &seed)?;
    let last: i64 = open.query_row(
        "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0)",
        [],
        |row| row.get(0),
    )?;
    write::meta(open, "folds_at", &last.to_string())?;
    open.execute("DELETE FROM meta WHERE key = 'output_seed'", [])?;
    count_bytes(open)
}

/// Counts what there is, and notes it.
pub(in crate::journal) fn count_bytes(open: &Connection) -> rusqlite::Result<()> {
    let bytes: i64 = open.query_row(
        "SELECT (SELECT COALESCE(sum(octet_length(content_json)), 0) FROM messages)
              + (SELECT COALESCE(sum(octet_length(code) + COALESCE(octet_length(folded_json), 0)), 0) FROM executions)
              + (SELECT COALESCE(sum(octet_length(value)), 0) FROM meta)",
        [],
        |row| row.get(0),
    )?;
    write::meta(open, "logical_bytes", &bytes.to_string())
}

fn seed(open: &Connection) -> rusqlite::Result<Seed> {
    let stored: Option<String> = open.query_row(
        "SELECT max(value) FROM meta WHERE key = 'output_seed'",
        [],
        |row| row.get(0),
    )?;
    let Some(stored) = stored else {
        return Ok(Seed::default());
    };
    // Without it the rows are all there is; the copy keeps what could not be read.
    Ok(serde_json::from_str(&stored).unwrap_or_else(|err| {
        tracing::warn!("the folds that retention left cannot be read: {err}");
        Seed::default()
    }))
}

/// What a sidecar brought stays as it came: no messages of ours tell more about it.
fn empty_folds(open: &Connection) -> rusqlite::Result<()> {
    let fold = Fold::default();
    open.execute(
        "UPDATE executions SET folded_json = ?1, fold_state = ?2 WHERE imported IS NOT 1",
        params![fold.outputs_json(), fold.state_json()],
    )
    .map(drop)
}

/// One execution after the other, so that only one fold is in memory.
fn folds(open: &Connection, seed: &Seed) -> rusqlite::Result<()> {
    for (exec_id, fold) in &seed.folds {
        let state = fold.state.as_deref().map(RawValue::get);
        match Fold::restore(fold.outputs.get(), state) {
            Ok(fold) => store(open, exec_id, &fold)?,
            Err(err) => {
                tracing::warn!("failed to {err}: the rest of {exec_id} is all that is shown")
            }
        }
    }
    let mut order = open.prepare(&format!(
        "SELECT COALESCE(target_exec, exec_id) AS shown, msg_seq FROM messages
         WHERE shown IS NOT NULL AND msg_seq > ?1 AND msg_type IN ({FOLDED}) ORDER BY shown, msg_seq"
    ))?;
    let mut content =
        open.prepare("SELECT msg_type, content_json FROM messages WHERE msg_seq = ?1")?;
    let mut current: Option<(String, Fold)> = None;
    let mut rows = order.query([seed.seq])?;
    while let Some(row) = rows.next()? {
        let (shown, seq): (String, i64) = (row.get(0)?, row.get(1)?);
        if current
            .as_ref()
            .is_none_or(|(exec_id, _)| *exec_id != shown)
        {
            if let Some((exec_id, fold)) = current.take() {
                store(open, &exec_id, &fold)?;
            }
            let fold = stored(open, &shown)?;
            current = Some((shown, fold));
        }
        if let Some((exec_id, fold)) = &mut current {
            content.query_row([seq], |row| {
                let applied = fold.apply(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
                if let Err(err) = applied {
                    tracing::warn!(seq, exec_id, "failed to {err}");
                }
                Ok(())
            })?;
        }
    }
    if let Some((exec_id, fold)) = current {
        store(open, &exec_id, &fold)?;
    }
    Ok(())
}

/// Computes one execution's fold from its rows through a seq, all of which must be there, and stores it.
pub(in crate::journal) fn execution(
    open: &Connection,
    exec_id: &str,
    through: i64,
) -> rusqlite::Result<()> {
    let mut fold = Fold::default();
    let mut shown = open.prepare(&format!(
        "SELECT msg_type, content_json FROM messages
         WHERE COALESCE(target_exec, exec_id) = ?1 AND msg_seq <= ?2 AND msg_type IN ({FOLDED}) ORDER BY msg_seq"
    ))?;
    let mut rows = shown.query(params![exec_id, through])?;
    while let Some(row) = rows.next()? {
        let applied = fold.apply(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        if let Err(err) = applied {
            tracing::warn!(exec_id, "failed to {err}");
        }
    }
    store(open, exec_id, &fold)
}

/// Computes again which execution owns each display, all rows being there.
pub(in crate::journal) fn owners(open: &Connection) -> rusqlite::Result<()> {
    open.execute("DELETE FROM displays", [])?;
    displays(open, &Seed::default())
}

fn stored(open: &Connection, exec_id: &str) -> rusqlite::Result<Fold> {
    let mut statement =
        open.prepare_cached("SELECT folded_json, fold_state FROM executions WHERE exec_id = ?1")?;
    let mut rows = statement.query([exec_id])?;
    let Some(row) = rows.next()? else {
        return Ok(Fold::default());
    };
    let (outputs, state) = (
        row.get::<_, Option<String>>(0)?,
        row.get::<_, Option<String>>(1)?,
    );
    Ok(Fold::restore(outputs.as_deref().unwrap_or("[]"), state.as_deref()).unwrap_or_default())
}

fn store(open: &Connection, exec_id: &str, fold: &Fold) -> rusqlite::Result<()> {
    open.prepare_cached(
        "UPDATE executions SET folded_json = ?2, fold_state = ?3 WHERE exec_id = ?1",
    )?
    .execute(params![exec_id, fold.outputs_json(), fold.state_json()])
    .map(drop)
}

/// The execution that showed a display last owns it.
fn displays(open: &Connection, seed: &Seed) -> rusqlite::Result<()> {
    let mut insert =
        open.prepare("INSERT OR REPLACE INTO displays(display_id, exec_id) VALUES (?1, ?2)")?;
    for owner in &seed.display_registry {
        insert.execute(owner)?;
    }
    let mut shown = open.prepare(
        "SELECT exec_id, content_json FROM messages
         WHERE msg_type = 'display_data' AND exec_id IS NOT NULL AND msg_seq > ?1 ORDER BY msg_seq",
    )?;
    let mut rows = shown.query([seed.seq])?;
    while let Some(row) = rows.next()? {
        if let Some(display_id) = display_id(row.get_ref(1)?.as_str()?) {
            insert.execute((display_id, row.get_ref(0)?.as_str()?))?;
        }
    }
    Ok(())
}

fn display_id(content: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        transient: Option<Transient>,
    }
    #[derive(Deserialize)]
    struct Transient {
        display_id: Option<String>,
    }
    serde_json::from_str::<Content>(&without_lone_surrogates(content))
        .ok()?
        .transient?
        .display_id
}
