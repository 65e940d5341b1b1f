//! From a stored row back to the message it came from.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;
use tithon_ipc::{ids::sha256_hex, jupyter::Message};

use super::{Header, Reference, StoredContent, Wire, header::join, micros};
use crate::artifacts::Encoding;

/// A message put together again.
#[derive(Debug, PartialEq, Eq)]
pub enum Rebuilt {
    /// Header, parent header, metadata, content and buffers exactly as the kernel sent them.
    Exact(Message),
    /// The same but for images whose files are gone: their references stand where they stood.
    Referring(Message),
}

/// The message a stored row came from. The signature is left empty: it follows from the key.
///
/// `artifact` reads the file of an artifact, given its id and `rel_path`. Bytes other than those of the
/// id count as gone.
///
/// # Errors
/// When the row is not one that [`Row`](super::Row) or [`Traffic`](super::Traffic) wrote.
pub fn rebuild(
    connection: &Connection,
    wire: &[u8],
    stored: &[u8],
    ts: f64,
    artifact: impl Fn(&str, &str) -> Option<Vec<u8>>,
) -> rusqlite::Result<Rebuilt> {
    let malformed =
        |err| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, err);
    let wire: Wire = postcard::from_bytes(wire).map_err(|err| malformed(err.into()))?;
    let frame = |id: i64| -> rusqlite::Result<Bytes> {
        connection
            .prepare_cached("SELECT frame FROM frames WHERE frame_id = ?1")?
            .query_row([id], |row| row.get::<_, Vec<u8>>(0))
            .optional()?
            .map(Bytes::from)
            .ok_or_else(|| malformed(format!("frame {id} is missing").into()))
    };
    let header = match wire.header {
        Header::Verbatim(header) => header.into(),
        Header::Template {
            frame: id,
            counter,
            date_us,
        } => join(&frame(id)?, counter, date_us.unwrap_or_else(|| micros(ts))).into(),
    };
    let misplaced = || malformed("the content is not as long as it was".into());
    let (content, buffers, exact) = match wire.content {
        StoredContent::Same => (stored.to_vec(), wire.buffers, true),
        StoredContent::Extended(length) => {
            let end = usize::try_from(length)
                .ok()
                .and_then(|length| length.checked_sub(1));
            let mut content = end
                .and_then(|end| stored.get(..end))
                .ok_or_else(misplaced)?
                .to_vec();
            content.push(b'}');
            (content, buffers_of(stored), true)
        }
        StoredContent::Referring(references) => {
            let (content, exact) =
                with_images(stored, &references, artifact).ok_or_else(misplaced)?;
            (content, wire.buffers, exact)
        }
    };
    let message = Message {
        identities: Vec::new(),
        signature: Bytes::new(),
        header,
        parent_header: frame(wire.parent)?,
        metadata: frame(wire.metadata)?,
        content: content.into(),
        buffers: buffers.into_iter().map(Bytes::from).collect(),
    };
    Ok(if exact {
        Rebuilt::Exact(message)
    } else {
        Rebuilt::Referring(message)
    })
}

/// Puts images back where their references stand, as far as their files are there; says whether all
/// were. `None` where the references are not in the content.
fn with_images(
    stored: &[u8],
    references: &[Reference],
    artifact: impl Fn(&str, &str) -> Option<Vec<u8>>,
) -> Option<(Vec<u8>, bool)> {
    #[derive(Deserialize)]
    struct Value {
        #[serde(rename = "$tithon_artifact")]
        artifact: Artifact,
    }
    #[derive(Deserialize)]
    struct Artifact {
        artifact_id: String,
        rel_path: String,
    }
    let mut content = Vec::with_capacity(stored.len());
    let (mut copied, mut exact) = (0, true);
    for reference in references {
        let start = usize::try_from(reference.at).ok()?;
        let end = start.checked_add(usize::try_from(reference.len).ok()?)?;
        content.extend_from_slice(stored.get(copied..start)?);
        let text = stored.get(start..end)?;
        let image = match &reference.image {
            Encoding::Verbatim(json) => Some(json.clone()),
            encoding => serde_json::from_slice::<Value>(text)
                .ok()
                .and_then(|value| {
                    let Artifact {
                        artifact_id,
                        rel_path,
                    } = value.artifact;
                    let bytes = artifact(&artifact_id, &rel_path)?;
                    (sha256_hex(&bytes) == artifact_id).then(|| encoding.render(&bytes))?
                }),
        };
        exact &= image.is_some();
        content.extend_from_slice(image.as_deref().unwrap_or(text));
        copied = end;
    }
    content.extend_from_slice(stored.get(copied..)?);
    Some((content, exact))
}

fn buffers_of(content: &[u8]) -> Vec<Vec<u8>> {
    #[derive(Deserialize)]
    struct Buffers {
        #[serde(rename = "_buffers_b64", default)]
        base64: Vec<String>,
    }
    serde_json::from_slice::<Buffers>(content)
        .map(|buffers| {
            buffers
                .base64
                .iter()
                .filter_map(|text| BASE64_STANDARD.decode(text).ok())
                .collect()
        })
        .unwrap_or_default()
}
