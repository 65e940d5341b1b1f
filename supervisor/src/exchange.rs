//! Notebooks converted at a client's wish, with the outputs of the session that runs the file.
//!
//! The work is done off the event loop, and no kernel is started for it: a session whose kernel
//! does not live has said everything in its sidecar.

use std::path::{Path, PathBuf};

use serde_json::json;
use tithon_ipc::{
    client::{Connection, ConnectionError, Direction, Frame, NotebookWish},
    ids::SessionId,
    naming::percent_decoded,
    paths::Home,
};
use tithon_notebook::{Conversion, Converted};
use tokio::time::timeout;

use crate::{House, client::Client, discover, living::kernel_lives};

/// How long a session may take to say what it shows; else the sidecar must do.
const SNAPSHOT_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// Converts and answers; `false` when the client does not take the answer.
pub(crate) async fn convert(
    client: &mut Client,
    house: &House,
    wish: Result<NotebookWish, String>,
) -> bool {
    match converted(house, wish).await {
        Ok(converted) => {
            let frame = Frame::NotebookConverted {
                cells: converted.cells,
                destination: &converted.destination.to_string_lossy(),
                missing_images: converted.missing_images,
            };
            client.tell(&frame).await
        }
        Err(message) => client.tell(&Frame::Error { message: &message }).await,
    }
}

async fn converted(house: &House, wish: Result<NotebookWish, String>) -> Result<Converted, String> {
    let wish = wish?;
    let live = match wish.direction {
        Direction::Import => None,
        Direction::Export => snapshot(house, wish.source.clone()).await,
    };
    let work = move || {
        let conversion = Conversion {
            source: wish.source,
            destination: wish.destination,
            workdir: wish.workdir,
        };
        match wish.direction {
            Direction::Import => tithon_notebook::import(&conversion),
            Direction::Export => tithon_notebook::export(&conversion, live.as_deref()),
        }
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(converted)) => Ok(converted),
        Ok(Err(err)) => Err(err.to_string()),
        Err(_) => Err("the conversion ended unexpectedly: this is a defect".to_owned()),
    }
}

/// What the session that runs a file shows, if its kernel lives.
async fn snapshot(house: &House, file: PathBuf) -> Option<String> {
    let sessions = house.sessions.clone();
    let found = tokio::task::spawn_blocking(move || running(&sessions, &file));
    let session = found.await.ok().flatten()?;
    match timeout(SNAPSHOT_LIMIT, attach(&house.home, &session)).await {
        Ok(Ok(snapshot)) => snapshot,
        Ok(Err(err)) => {
            tracing::warn!(%session, %err, "the session's outputs cannot be read: the sidecar is used");
            None
        }
        Err(_) => {
            tracing::warn!(%session, "the session does not answer: the sidecar is used");
            None
        }
    }
}

/// The living session that is named after a file, by whichever way to it.
fn running(sessions: &Path, file: &Path) -> Option<SessionId> {
    let file = file.canonicalize().ok()?;
    let is_named_after = |id: &SessionId| {
        let path = id.as_str().strip_prefix("file://").map(percent_decoded);
        path.is_some_and(|path| {
            Path::new(&path)
                .canonicalize()
                .is_ok_and(|path| path == file)
        })
    };
    discover::directories(sessions)
        .into_iter()
        .filter_map(|dir| Some((discover::meta(&dir)?.0, dir)))
        .find(|(id, dir)| is_named_after(id) && kernel_lives(dir))
        .map(|(id, _)| id)
}

/// Reads the snapshot as any client would.
async fn attach(home: &Home, session: &SessionId) -> Result<Option<String>, ConnectionError> {
    let mut connection = Connection::open(home).await?;
    let op = json!({"op": "attach", "session": session.as_str(), "last_seen_seq": 0});
    connection.send(&op).await?;
    while let Some(text) = connection.next().await? {
        if text.starts_with(r#"{"op": "snapshot""#) {
            let snapshot = text.to_string();
            connection.close().await;
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}
