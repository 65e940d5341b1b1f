//! Making room by policy (PROTOCOL §15): raw output that the stored folds hold is deleted, and with
//! it what was kept of its messages beside it.
//!
//! A pass is many small steps, each a transaction of its own, so that what a kernel prints meanwhile
//! waits for milliseconds. Executions, lifecycle rows, folds, and whatever no stored fold holds yet
//! are never touched.

use std::collections::HashSet;

use rusqlite::{Connection, params};
use serde_json::json;
use tithon_ipc::ids::{ExecId, Seq};

use super::{schema::STATELESS, wire, write::meta};

/// Rows looked at in one step.
const ROWS: u32 = 1000;
/// Pages given back to the file system in one step.
const PAGES: u32 = 256;

/// The name under which the highest deleted seq is kept in `meta`.
pub(crate) const FLOOR: &str = "history_floor";
/// The name under which the last cleanup is kept in `meta`.
pub(crate) const CLEANUP: &str = "history_cleanup";

/// What a pass may delete.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Rows from before this unix time go.
    pub before: Option<f64>,
    /// So many bytes too many are stored; the oldest rows go until they are not.
    pub excess_bytes: i64,
    /// Rows after this one stay: somebody is still to read them.
    pub through: Seq,
    /// The rows of these executions stay: they are not finished.
    pub open: HashSet<ExecId>,
    /// The highest seq that was deleted before.
    pub floor: Seq,
    /// How many rows were deleted before.
    pub deleted_before: u64,
}

/// How far a pass has come.
#[derive(Clone, Debug)]
pub struct Retained {
    /// The highest seq ever deleted.
    pub floor: Seq,
    /// How many rows it has deleted.
    pub deleted: u64,
    /// When it began, in unix seconds.
    pub at: f64,
    /// Whether that was all.
    pub finished: bool,
}

/// A pass under way.
pub(super) struct Pass {
    policy: Retention,
    stage: Stage,
    at: f64,
    deleted: u64,
    /// The newest row deleted: older traffic goes too.
    newest_ts: Option<f64>,
    /// Comm rows after this one are still needed to rebuild the widgets.
    widgets_after: Seq,
    /// Frames that messages or traffic name, of those that were there when looking began.
    used: HashSet<i64>,
    frames_through: i64,
}

/// What is looked through next, and after which row.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Rows(Seq),
    Traffic,
    MarkMessages(Seq),
    MarkTraffic(i64),
    Frames(i64),
    Vacuum,
    Finished,
}

struct Candidate {
    seq: Seq,
    exec: Option<ExecId>,
    msg_type: String,
    bytes: i64,
    ts: f64,
    wired: bool,
    /// Whether no state follows from it.
    stateless: bool,
}

impl Pass {
    pub(super) fn begin(
        connection: &Connection,
        policy: Retention,
        at: f64,
    ) -> rusqlite::Result<Self> {
        let folds_at: Seq = connection
            .query_row(
                "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'folds_at'",
                [],
                |row| row.get(0),
            )
            .unwrap_or(0);
        let widgets_after = connection.query_row(
            "SELECT COALESCE(max(msg_seq), 0) FROM messages WHERE msg_type = 'tithon.kernel'
                AND (instr(content_json, '\"restarted\"') OR instr(content_json, '\"replaced\"'))",
            [],
            |row| row.get(0),
        )?;
        Ok(Self {
            stage: Stage::Rows(0),
            at,
            deleted: 0,
            newest_ts: None,
            widgets_after,
            used: HashSet::new(),
            frames_through: 0,
            policy: Retention {
                through: policy.through.min(folds_at),
                ..policy
            },
        })
    }

    /// Whether the next step begins to look for frames that nothing names. Until then the writer may
    /// remember some; from then on it must store anew what it uses.
    pub(super) fn begins_to_mark(&self) -> bool {
        matches!(self.stage, Stage::MarkMessages(0))
    }

    /// Does a little; says how many content bytes went.
    pub(super) fn step(&mut self, connection: &mut Connection) -> rusqlite::Result<i64> {
        let open = connection.transaction()?;
        let freed = match self.stage {
            Stage::Rows(after) => self.rows(&open, after)?,
            Stage::Traffic => self.traffic(&open)?,
            Stage::MarkMessages(after) => self.mark_messages(&open, after)?,
            Stage::MarkTraffic(after) => self.mark_traffic(&open, after)?,
            Stage::Frames(after) => self.frames(&open, after)?,
            Stage::Vacuum | Stage::Finished => 0,
        };
        open.commit()?;
        if matches!(self.stage, Stage::Vacuum) {
            self.vacuum(connection)?;
        }
        Ok(freed)
    }

    pub(super) fn progress(&self) -> Retained {
        Retained {
            floor: self.policy.floor,
            deleted: self.deleted,
            at: self.at,
            finished: matches!(self.stage, Stage::Finished),
        }
    }

    fn rows(&mut self, open: &Connection, after: Seq) -> rusqlite::Result<i64> {
        let candidates = candidates(open, after, self.policy.through)?;
        let mut freed = 0;
        let mut over = !is_full(candidates.len());
        for row in &candidates {
            let old = self.policy.before.is_some_and(|before| row.ts < before);
            if !old && self.policy.excess_bytes <= 0 {
                over = true;
                break;
            }
            self.stage = Stage::Rows(row.seq);
            if row
                .exec
                .is_some_and(|exec| self.policy.open.contains(&exec))
            {
                continue;
            }
            if self.is_raw(row) {
                open.prepare_cached("DELETE FROM messages WHERE msg_seq = ?1")?
                    .execute([row.seq])?;
                self.policy.excess_bytes -= row.bytes;
                freed += row.bytes;
                self.deleted += 1;
                self.policy.floor = self.policy.floor.max(row.seq);
                self.newest_ts = Some(self.newest_ts.map_or(row.ts, |newest| newest.max(row.ts)));
            } else if row.wired {
                // It stays as an event; the frames it came in go with those around it.
                open.prepare_cached("UPDATE messages SET wire = NULL WHERE msg_seq = ?1")?
                    .execute([row.seq])?;
            }
        }
        if freed > 0 {
            self.note(open)?;
        }
        if over {
            self.stage = if self.deleted > 0 {
                Stage::Traffic
            } else {
                Stage::Finished
            };
        }
        Ok(freed)
    }

    /// Whether a row is raw output that its fold, or nothing any more, needs.
    fn is_raw(&self, row: &Candidate) -> bool {
        match &*row.msg_type {
            "stream"
            | "display_data"
            | "update_display_data"
            | "execute_result"
            | "error"
            | "clear_output" => true,
            "comm_open" | "comm_msg" | "comm_close" => {
                row.stateless || row.seq < self.widgets_after
            }
            _ => false,
        }
    }

    fn note(&self, open: &Connection) -> rusqlite::Result<()> {
        let cleanup = json!({
            "at": self.at,
            "deleted_messages": self.deleted,
            "total_deleted_messages": self.policy.deleted_before + self.deleted,
        });
        meta(open, FLOOR, &self.policy.floor.to_string())?;
        meta(open, CLEANUP, &tithon_ipc::json::to_string(&cleanup))
    }

    fn traffic(&mut self, open: &Connection) -> rusqlite::Result<i64> {
        let oldest: Vec<(i64, f64)> = open
            .prepare_cached("SELECT traffic_id, ts FROM traffic ORDER BY traffic_id LIMIT ?1")?
            .query_map([ROWS], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let cut = self.newest_ts.unwrap_or(f64::MIN);
        let gone = oldest.iter().take_while(|(_, ts)| *ts < cut);
        if let Some((last, _)) = gone.last() {
            open.prepare_cached("DELETE FROM traffic WHERE traffic_id <= ?1")?
                .execute([last])?;
        }
        if !is_full(oldest.len()) || oldest.last().is_some_and(|(_, ts)| *ts >= cut) {
            self.stage = Stage::MarkMessages(0);
        }
        Ok(0)
    }

    fn mark_messages(&mut self, open: &Connection, after: Seq) -> rusqlite::Result<i64> {
        if after == 0 {
            self.frames_through =
                open.query_row("SELECT COALESCE(max(frame_id), 0) FROM frames", [], |row| {
                    row.get(0)
                })?;
        }
        let next = self.mark(
            open,
            "SELECT msg_seq, wire FROM messages WHERE msg_seq > ?1 AND wire IS NOT NULL ORDER BY msg_seq LIMIT ?2",
            after,
        )?;
        self.stage = next.map_or(Stage::MarkTraffic(0), Stage::MarkMessages);
        Ok(0)
    }

    fn mark_traffic(&mut self, open: &Connection, after: i64) -> rusqlite::Result<i64> {
        let next = self.mark(
            open,
            "SELECT traffic_id, wire FROM traffic WHERE traffic_id > ?1 ORDER BY traffic_id LIMIT ?2",
            after,
        )?;
        self.stage = next.map_or(Stage::Frames(0), Stage::MarkTraffic);
        Ok(0)
    }

    /// Notes the frames that some rows name; where to go on, if there may be more.
    fn mark(&mut self, open: &Connection, sql: &str, after: i64) -> rusqlite::Result<Option<i64>> {
        let mut select = open.prepare_cached(sql)?;
        let mut rows = select.query(params![after, ROWS])?;
        let (mut seen, mut last) = (0, after);
        while let Some(row) = rows.next()? {
            seen += 1;
            last = row.get(0)?;
            self.used
                .extend(wire::frames_of(row.get_ref(1)?.as_blob()?)?);
        }
        Ok(is_full(seen).then_some(last))
    }

    fn frames(&mut self, open: &Connection, after: i64) -> rusqlite::Result<i64> {
        let ids: Vec<i64> = open
            .prepare_cached(
                "SELECT frame_id FROM frames WHERE frame_id > ?1 AND frame_id <= ?2 ORDER BY frame_id LIMIT ?3",
            )?
            .query_map(params![after, self.frames_through, ROWS], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in ids.iter().filter(|id| !self.used.contains(id)) {
            open.prepare_cached("DELETE FROM frames WHERE frame_id = ?1")?
                .execute([id])?;
        }
        self.stage = match ids.last() {
            Some(last) if is_full(ids.len()) => Stage::Frames(*last),
            _ => Stage::Vacuum,
        };
        Ok(0)
    }

    /// Gives pages back to the file system, where the database was made for that; elsewhere they are
    /// used again.
    fn vacuum(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let free = |connection: &Connection| {
            connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0))
        };
        let before = free(connection)?;
        connection
            .prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?
            .query([])
            .and_then(|mut pages| {
                while pages.next()?.is_some() {}
                Ok(())
            })?;
        let after = free(connection)?;
        if after == 0 || after >= before {
            self.stage = Stage::Finished;
        }
        Ok(())
    }
}

/// Whether a step's reading may have left rows behind.
fn is_full(rows: usize) -> bool {
    rows >= ROWS as usize
}

fn candidates(open: &Connection, after: Seq, through: Seq) -> rusqlite::Result<Vec<Candidate>> {
    open.prepare_cached(&format!(
        "SELECT msg_seq, COALESCE(target_exec, exec_id), msg_type, octet_length(content_json), ts,
            wire IS NOT NULL, {STATELESS}
         FROM messages WHERE msg_seq > ?1 AND msg_seq <= ?2 ORDER BY msg_seq LIMIT ?3",
    ))?
    .query_map(params![after, through, ROWS], |row| {
        Ok(Candidate {
            seq: row.get(0)?,
            exec: row
                .get::<_, Option<String>>(1)?
                .as_deref()
                .and_then(ExecId::parse),
            msg_type: row.get(2)?,
            bytes: row.get::<_, Option<i64>>(3)?.unwrap_or(0),
            ts: row.get::<_, Option<f64>>(4)?.unwrap_or(0.0),
            wired: row.get(5)?,
            stateless: row.get(6)?,
        })
    })?
    .collect()
}
