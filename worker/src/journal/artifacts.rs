//! What a journal knows of artifacts when its session is loaded.

use rusqlite::Connection;
use tithon_ipc::ids::ExecId;

use crate::artifacts::StoredArtifact;

/// The artifacts, and the stored folds that may show some.
#[derive(Debug, Default)]
pub struct LoadedArtifacts {
    /// The table's rows.
    pub known: Vec<StoredArtifact>,
    /// Outputs of executions that refer to artifacts.
    pub shown: Vec<(ExecId, String)>,
}

pub(super) fn load(connection: &Connection) -> rusqlite::Result<LoadedArtifacts> {
    let known: Vec<_> = connection
        .prepare("SELECT artifact_id, mime, rel_path, bytes_len, elided_from FROM artifacts")?
        .query_map([], |row| {
            Ok(StoredArtifact {
                artifact_id: row.get(0)?,
                mime: row.get(1)?,
                rel_path: row.get(2)?,
                bytes_len: row.get::<_, Option<i64>>(3)?.map_or(0, i64::unsigned_abs),
                elided_from: row
                    .get::<_, Option<String>>(4)?
                    .as_deref()
                    .and_then(ExecId::parse),
            })
        })?
        .collect::<Result<_, _>>()?;
    if known.is_empty() {
        // Most sessions have no images: theirs folds need not be looked through.
        return Ok(LoadedArtifacts::default());
    }
    let shown = connection
        .prepare("SELECT exec_id, folded_json FROM executions WHERE instr(folded_json, '\"$tithon_artifact\"')")?
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?
        .filter_map(|row| match row {
            Ok((exec, outputs)) => ExecId::parse(&exec).map(|exec| Ok((exec, outputs))),
            Err(err) => Some(Err(err)),
        })
        .collect::<Result<_, _>>()?;
    Ok(LoadedArtifacts { known, shown })
}
