//! Power losses: what they may take back, and why no client is misled by it.
//!
//! Output is published when it is committed and is on the disk within a second of that, so a power loss may
//! take back seqs that a client has seen. Numbers are not given twice: where the journal was in use when the
//! machine went down, they go on far behind all that were, and a cursor from before gets a snapshot.

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};
use tithon_ipc::ids::Seq;

use super::{Loaded, write};

/// The name in `meta` of the boot in which the journal is in use; empty once it was closed in order.
const IN_USE_SINCE_BOOT: &str = "boot_id";
/// The name in `meta` of the last seq that may have been seen before the last power loss.
pub(crate) const RESUMED_AT: &str = "resumed_at";

/// More seqs than can be given in the second or so before they are on the disk.
const STEP: Seq = 1_000_000;

/// What a full disk did not let be noted: it goes before anything that is committed.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    boot: String,
    resumed_at: Option<Seq>,
}

impl Owed {
    /// Goes on as if it were noted.
    pub(super) fn apply(&self, loaded: &mut Loaded) {
        if let Some(seq) = self.resumed_at {
            loaded.max_seq = seq;
            loaded.meta.insert(RESUMED_AT.to_owned(), seq.to_string());
        }
    }

    /// Notes it.
    pub(super) fn settle(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        note(connection, &self.boot, self.resumed_at)
    }
}

/// Notes, durably, that the journal is in use; takes account of an end that was none. What a full disk
/// refuses is owed: better a session than none, and nothing is published that cannot be committed.
pub(super) fn begin(connection: &mut Connection, boot: &str) -> rusqlite::Result<Option<Owed>> {
    let before: Option<String> = connection
        .query_row(
            "SELECT value FROM meta WHERE key = ?1",
            [IN_USE_SINCE_BOOT],
            |row| row.get(0),
        )
        .optional()?;
    let resumed_at = match before.as_deref() {
        Some(before) if before == boot => return Ok(None),
        None | Some("") => None,
        Some(_) => {
            let last: Seq = connection.query_row(
                "SELECT max(COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0),
                            COALESCE((SELECT max(msg_seq) FROM messages), 0))",
                [],
                |row| row.get(0),
            )?;
            let next = last + STEP;
            tracing::info!(
                "the machine went down while the journal was in use: seqs go on at {next}"
            );
            Some(next)
        }
    };
    let owed = Owed {
        boot: boot.to_owned(),
        resumed_at,
    };
    match owed.settle(connection) {
        Ok(()) => Ok(None),
        Err(err) if err.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            tracing::warn!("failed to note that the journal is in use: {err}");
            Ok(Some(owed))
        }
        Err(err) => Err(err),
    }
}

/// Notes that everything is on the disk: nothing can be taken back until the journal is opened again.
pub(super) fn end(connection: &mut Connection) -> rusqlite::Result<()> {
    note(connection, "", None)
}

fn note(connection: &mut Connection, boot: &str, resumed_at: Option<Seq>) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let noted = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .and_then(|open| {
            write::meta(&open, IN_USE_SINCE_BOOT, boot)?;
            if let Some(seq) = resumed_at {
                write::meta(&open, RESUMED_AT, &seq.to_string())?;
                open.execute("DELETE FROM sqlite_sequence WHERE name = 'messages'", [])?;
                open.execute(
                    "INSERT INTO sqlite_sequence(name, seq) VALUES ('messages', ?1)",
                    [seq],
                )?;
            }
            open.commit()
        });
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    noted
}

#[cfg(test)]
mod tests {
    use crate::journal::schema;

    use super::*;

    fn last_seq(connection: &Connection) -> Seq {
        crate::journal::read::load(connection).unwrap().max_seq
    }

    #[test]
    fn seqs_that_may_have_been_seen_are_not_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let mut connection = schema::open(&path, "default").unwrap();
        begin(&mut connection, "one").unwrap();
        assert_eq!(last_seq(&connection), 0, "a new journal");
        connection
            .execute_batch("INSERT INTO messages(msg_type, content_json, ts) VALUES ('stream', '{}', 0), ('stream', '{}', 0)")
            .unwrap();

        begin(&mut connection, "one").unwrap();
        assert_eq!(last_seq(&connection), 2, "a worker died, nothing else");
        begin(&mut connection, "two").unwrap();
        assert_eq!(last_seq(&connection), 2 + STEP, "the machine went down");
        end(&mut connection).unwrap();
        begin(&mut connection, "three").unwrap();
        assert_eq!(last_seq(&connection), 2 + STEP, "it was shut down in order");
        connection
            .execute_batch(
                "INSERT INTO messages(msg_type, content_json, ts) VALUES ('stream', '{}', 0)",
            )
            .unwrap();
        assert_eq!(last_seq(&connection), 3 + STEP);
    }
}
