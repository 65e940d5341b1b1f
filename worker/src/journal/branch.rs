//! A second journal with the history of a first, up to a seq: where a session branches off.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde_json::{Value, json};
use tithon_ipc::ids::Seq;

use super::{
    CHECKPOINTS, CREATED, GREETED, HEARD, JournalError, NUMBERING, PROMPT_OPEN, REPLY, RUNS,
    migrate::refold, now, retention::FLOOR, schema, write,
};
use crate::artifacts::StoredArtifact;

/// What is only true of the session itself, or of its kernel's connections.
const OF_THE_FIRST: [&str; 10] = [
    "spool_position",
    GREETED,
    PROMPT_OPEN,
    REPLY,
    NUMBERING,
    RUNS,
    "boot_id",
    "closed_by_user",
    "sidecar_sha",
    "sidecar_stale",
];

/// Where a history is cut, and whose it is then.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The last row that belongs to it; of executions, those that had ended by then.
    pub through: Seq,
    /// The session that it is for.
    pub session_id: String,
    /// The `tithon.kernel` event that follows it.
    pub event: Value,
}

/// Writes the second journal. `image` gives an image that it still shows a file of its own, and returns
/// that file's `rel_path`. Returns how many executions there are. May take as long as copying the file.
///
/// # Errors
/// When the first cannot be read, or the second not be written.
pub fn branch(
    from: &Path,
    to: &Path,
    cut: &Cut,
    image: &mut dyn FnMut(&StoredArtifact) -> Option<String>,
) -> Result<u64, JournalError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(to)
        .map_err(|source| JournalError::of_io(to, source))?;
    copy(from, to).map_err(|source| JournalError::of_sqlite(from, source))?;
    let mut second = schema::open(to, &cut.session_id)?;
    write_second(&mut second, cut, image).map_err(|source| JournalError::of_sqlite(to, source))
}

/// What is committed at this moment, whoever writes meanwhile.
fn copy(from: &Path, to: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let first = Connection::open_with_flags(from, flags)?;
    first.busy_timeout(std::time::Duration::from_secs(10))?;
    first
        .execute("VACUUM INTO ?1", [to.to_string_lossy()])
        .map(drop)
}

fn write_second(
    second: &mut Connection,
    cut: &Cut,
    image: &mut dyn FnMut(&StoredArtifact) -> Option<String>,
) -> rusqlite::Result<u64> {
    let open = second.transaction()?;
    remove_what_came_later(&open, cut.through)?;
    give_images(&open, image)?;
    for key in OF_THE_FIRST {
        open.execute("DELETE FROM meta WHERE key = ?1", [key])?;
    }
    forget_checkpoints(&open)?;
    write::meta(&open, CREATED, &now().to_string())?;
    open.execute(
        "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'messages'",
        [cut.through],
    )?;
    open.execute(
        "INSERT INTO messages(msg_type, content_json, ts) VALUES ('tithon.kernel', ?1, ?2)",
        params![cut.event.to_string(), now()],
    )?;
    // The kernel has taken up what clients said to its comms, as far as it was sent.
    write::meta(&open, HEARD, &open.last_insert_rowid().to_string())?;
    refold::count_bytes(&open)?;
    let executions: i64 =
        open.query_row("SELECT count(*) FROM executions", [], |row| row.get(0))?;
    open.commit()?;
    Ok(executions.unsigned_abs())
}

fn number(open: &Connection, key: &str) -> rusqlite::Result<Seq> {
    let text: Option<String> = open
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn remove_what_came_later(open: &Connection, through: Seq) -> rusqlite::Result<()> {
    let changed: Vec<String> = open
        .prepare(&format!(
            "SELECT DISTINCT COALESCE(target_exec, exec_id) FROM messages
             WHERE msg_seq > ?1 AND msg_type IN ({}) AND COALESCE(target_exec, exec_id) IS NOT NULL",
            refold::FOLDED
        ))?
        .query_map([through], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    open.execute("DELETE FROM messages WHERE msg_seq > ?1", [through])?;
    open.execute(
        "DELETE FROM executions WHERE imported IS NOT 1 AND exec_id NOT IN
            (SELECT exec_id FROM messages WHERE msg_type = 'tithon.done' AND exec_id IS NOT NULL)",
        [],
    )?;
    open.execute(
        "DELETE FROM messages WHERE COALESCE(target_exec, exec_id) IS NOT NULL
            AND COALESCE(target_exec, exec_id) NOT IN (SELECT exec_id FROM executions)",
        [],
    )?;
    open.execute(
        "DELETE FROM traffic WHERE ts > (SELECT max(ts) FROM messages)",
        [],
    )?;
    let folds_at = number(open, "folds_at")?.min(through);
    write::meta(open, "folds_at", &folds_at.to_string())?;
    // What retention has deleted cannot be folded again: there a fold may show what came later.
    if number(open, FLOOR)? == 0 {
        for exec_id in &changed {
            refold::execution(open, exec_id, folds_at)?;
        }
        refold::owners(open)?;
    }
    open.execute(
        "DELETE FROM displays WHERE exec_id NOT IN (SELECT exec_id FROM executions)",
        [],
    )
    .map(drop)
}

/// A file belongs to one session, which removes it when nothing of its own shows it any more.
fn give_images(
    open: &Connection,
    image: &mut dyn FnMut(&StoredArtifact) -> Option<String>,
) -> rusqlite::Result<()> {
    for artifact in super::artifacts::load(open)?.known {
        let named = |table: &str, column: &str| -> rusqlite::Result<bool> {
            open.query_row(
                &format!("SELECT EXISTS(SELECT 1 FROM {table} WHERE instr({column}, ?1))"),
                [&artifact.artifact_id],
                |row| row.get(0),
            )
        };
        let wanted = named("executions", "folded_json")? || named("messages", "content_json")?;
        let own = if wanted { image(&artifact) } else { None };
        let Some(rel_path) = own else {
            open.execute(
                "DELETE FROM artifacts WHERE artifact_id = ?1",
                [&artifact.artifact_id],
            )?;
            continue;
        };
        for (table, column) in [("executions", "folded_json"), ("messages", "content_json")] {
            open.execute(
                &format!(
                    "UPDATE {table} SET {column} = replace({column}, ?1, ?2) WHERE instr({column}, ?3)"
                ),
                params![artifact.rel_path, rel_path, artifact.artifact_id],
            )?;
        }
        open.execute(
            "UPDATE artifacts SET rel_path = ?2 WHERE artifact_id = ?1",
            params![artifact.artifact_id, rel_path],
        )?;
    }
    Ok(())
}

/// They are of the first session's kernel; what is wished of them goes on.
fn forget_checkpoints(open: &Connection) -> rusqlite::Result<()> {
    let kept: Option<String> = open
        .query_row(
            "SELECT value FROM meta WHERE key = ?1",
            [CHECKPOINTS],
            |row| row.get(0),
        )
        .optional()?;
    let Some(mut kept) = kept.and_then(|text| serde_json::from_str::<Value>(&text).ok()) else {
        return Ok(());
    };
    for list in ["list", "line"] {
        kept[list] = json!([]);
    }
    write::meta(open, CHECKPOINTS, &kept.to_string())
}
