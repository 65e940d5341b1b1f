//! The journal of the Python program becomes one of ours, once, on first touch.
//!
//! A copy is made first, with what its write-ahead log holds, and stays beside the journal. Then
//! everything changes in one transaction: who dies on the way leaves the old journal as it was.
//! Seqs, execution numbers and events stay; nothing is dropped but what can be computed again.

pub(super) mod refold;

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Transaction};

use super::{JournalError, schema, write};

/// Appended to the journal's name for the copy of it as it was.
const COPY_SUFFIX: &str = ".python";
/// The name in `meta` of where a journal came from.
pub(super) const ORIGIN: &str = "migrated_from";

/// Whether a database without our layout number is a journal of the Python program.
pub(super) fn is_older(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('executions', 'messages')",
        [],
        |row| Ok(row.get::<_, i64>(0)? == 2),
    )
}

/// Copies the journal and brings it to our layout.
///
/// # Errors
/// When it is damaged, when there is no room for the copy, or when SQLite refuses; the journal is
/// then as it was.
pub(super) fn run(
    connection: &mut Connection,
    path: &Path,
    session_id: &str,
) -> Result<(), JournalError> {
    let failed = |source| JournalError::of_sqlite(path, source);
    require_whole(connection, path)?;
    require_room(connection, path)?;
    let copy = copy(connection, path)?;
    let transaction = connection.transaction().map_err(failed)?;
    transform(&transaction, session_id)
        .and_then(|()| transaction.commit())
        // The log held the journal once over; its readers need no more of it than usual.
        .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
        .map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(|source| JournalError::of_io(path, source))?;
    tracing::info!(copy = %copy.display(), "took over the history of the Python program");
    Ok(())
}

fn require_whole(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(what) => Err(JournalError::damaged(path, what)),
        Err(source) => Err(JournalError::of_sqlite(path, source)),
    }
}

/// Room for the copy, for the log of a transaction that touches every page, and for what is added.
fn require_room(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    const TIMES: u64 = 3;
    let size = connection
        .query_row(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            [],
            |row| row.get::<_, i64>(0),
        )
        .map_err(|source| JournalError::of_sqlite(path, source))?;
    let needed = size.unsigned_abs().saturating_mul(TIMES);
    let free = rustix::fs::statvfs(path)
        .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
        .map_err(|err| JournalError::of_io(path, err.into()))?;
    if free < needed {
        return Err(JournalError::NoRoom {
            path: path.display().to_string(),
            needed: needed.div_ceil(1 << 20),
            free: free >> 20,
        });
    }
    Ok(())
}

fn copy(connection: &Connection, path: &Path) -> Result<PathBuf, JournalError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(COPY_SUFFIX);
    let copy = path.with_file_name(&name);
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let failed = |source| JournalError::of_io(&copy, source);
    match fs::remove_file(&temporary) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    // Made 0600 before it holds anything: SQLite fills an empty file, but makes others readable.
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    let copied = connection
        .execute("VACUUM INTO ?1", [temporary.to_string_lossy()])
        .map_err(|source| JournalError::of_sqlite(path, source))
        .and_then(|_| {
            // On the disk before the journal changes, or a power loss could take both.
            file.sync_all()
                .and_then(|()| fs::rename(&temporary, &copy))
                .and_then(|()| fs::File::open(path.parent().unwrap_or(path))?.sync_all())
                .map_err(failed)
        });
    if copied.is_err() {
        drop(fs::remove_file(&temporary));
    }
    copied.map(|()| copy)
}

fn transform(open: &Transaction<'_>, session_id: &str) -> rusqlite::Result<()> {
    schema::add_tables_and_columns(open)?;
    // Ours serve other questions, and a row costs its entry in each of them.
    let indexes: Vec<String> = open
        .prepare("SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'messages' AND sql IS NOT NULL")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for index in indexes {
        open.execute_batch(&format!("DROP INDEX \"{}\"", index.replace('"', "\"\"")))?;
    }
    // A column that must be filled would refuse our rows.
    schema::replace_session_column(open, session_id)?;
    schema::add_indexes(open)?;
    refold::run(open)?;
    write::meta(open, ORIGIN, "python")?;
    schema::stamp(open, session_id)
}

#[cfg(test)]
mod tests;
