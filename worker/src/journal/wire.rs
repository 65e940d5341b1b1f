//! What a row keeps of a kernel's message beside its content, so that the exact frames come back.
//!
//! A header is a template (its text without the counter in `msg_id` and without the date) plus those
//! two; templates, parent headers and metadata repeat and are stored once in `frames`. The date is
//! the row's `ts` wherever microseconds express it. Encoded with postcard: about seven bytes.

mod header;
mod rebuild;

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use header::split;
pub use rebuild::{Rebuilt, rebuild};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tithon_ipc::jupyter::Message;

use super::record::TakenImage;
use crate::artifacts::Encoding;

/// Texts remembered with their ids; when full it starts again, so it costs at most some 100 kB.
const INTERNED_MAX: usize = 128;
/// Longer frames are unlikely to repeat.
const INTERNED_LEN_MAX: usize = 2048;

/// A kernel's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Requests and replies.
    Shell,
    /// Requests that do not wait for a running cell.
    Control,
    /// Prompts.
    Stdin,
    /// What the kernel publishes.
    Iopub,
}

impl Channel {
    /// The specification's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Control => "control",
            Self::Stdin => "stdin",
            Self::Iopub => "iopub",
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wire {
    header: Header,
    parent: i64,
    metadata: i64,
    content: StoredContent,
    /// Buffers that the content does not hold.
    buffers: Vec<Vec<u8>>,
}

/// How the kernel's content stands in the row's.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum StoredContent {
    /// As it came.
    Same,
    /// So many bytes of it, with `_buffers_b64` behind them.
    Extended(u64),
    /// With references in the place of images.
    Referring(Vec<Reference>),
}

/// A reference in the place of an image: where it stands, and what the image's file is to become.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reference {
    at: u64,
    len: u64,
    image: Encoding,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Header {
    /// `date_us` is microseconds since the epoch, or `None` where the row's `ts` says it.
    Template {
        frame: i64,
        counter: u64,
        date_us: Option<i64>,
    },
    Verbatim(Vec<u8>),
}

/// Ids of texts that were stored once.
#[derive(Default)]
pub(super) struct Interned(HashMap<Bytes, i64>);

impl Interned {
    fn id(&mut self, connection: &Connection, text: &Bytes) -> rusqlite::Result<i64> {
        if let Some(id) = self.0.get(text) {
            return Ok(*id);
        }
        connection
            .prepare_cached("INSERT INTO frames(frame) VALUES (?1)")?
            .execute([text.as_ref()])?;
        let id = connection.last_insert_rowid();
        if text.len() <= INTERNED_LEN_MAX {
            if self.0.len() >= INTERNED_MAX {
                self.0.clear();
            }
            // A copy: the frame may be a slice of something large.
            self.0.insert(Bytes::copy_from_slice(text), id);
        }
        Ok(id)
    }

    /// Forgets what a transaction that was rolled back had stored.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Unix time of a message's own date, in seconds; `None` where the header has none.
pub fn date_of(header: &[u8]) -> Option<f64> {
    header::date(header).map(seconds)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of this century fit in 53 bits"
)]
fn seconds(date_us: i64) -> f64 {
    date_us as f64 / 1e6
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "unix seconds times a million fit in an i64"
)]
fn micros(ts: f64) -> i64 {
    (ts * 1e6).round() as i64
}

/// Encodes what `stored` (the row's content) does not keep of a message.
pub(super) fn encode(
    connection: &Connection,
    interned: &mut Interned,
    message: &Message,
    stored: &[u8],
    images: &[TakenImage],
    ts: f64,
) -> rusqlite::Result<Vec<u8>> {
    let header = match split(&message.header) {
        Some((template, counter, date_us)) => Header::Template {
            frame: interned.id(connection, &template.into())?,
            counter,
            date_us: (micros(ts) != date_us).then_some(date_us),
        },
        None => Header::Verbatim(message.header.to_vec()),
    };
    let content = if !images.is_empty() {
        StoredContent::Referring(images.iter().map(Reference::of).collect())
    } else if stored.len() != message.content.len() {
        StoredContent::Extended(message.content.len() as u64)
    } else {
        StoredContent::Same
    };
    let extended = matches!(content, StoredContent::Extended(_));
    let wire = Wire {
        header,
        parent: interned.id(connection, &message.parent_header)?,
        metadata: interned.id(connection, &message.metadata)?,
        content,
        buffers: if extended {
            Vec::new()
        } else {
            message.buffers.iter().map(|b| b.to_vec()).collect()
        },
    };
    postcard::to_stdvec(&wire).map_err(|err| rusqlite::Error::ToSqlConversionFailure(err.into()))
}

impl Reference {
    fn of(image: &TakenImage) -> Self {
        Self {
            at: image.reference.start as u64,
            len: image.reference.len() as u64,
            image: image.encoding.clone(),
        }
    }
}

/// The ids of the frames that an encoded row names.
pub(super) fn frames_of(wire: &[u8]) -> rusqlite::Result<impl Iterator<Item = i64>> {
    let wire: Wire = postcard::from_bytes(wire).map_err(|err| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, err.into())
    })?;
    let template = match wire.header {
        Header::Template { frame, .. } => Some(frame),
        Header::Verbatim(_) => None,
    };
    Ok(template.into_iter().chain([wire.parent, wire.metadata]))
}

/// Now, as unix time in seconds at the microsecond that `ts` can express.
pub fn now() -> f64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    seconds(i64::try_from(since.as_micros()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use tithon_ipc::ids::sha256_hex;

    use super::*;

    const HEADER: &str = r#"{"msg_id": "61e3-d7_4711_23", "msg_type": "stream", "username": "root", "session": "61e3-d7", "date": "2026-11-21T09:24:13.120456Z", "version": "5.4"}"#;

    fn message(header: &str, content: &str, buffers: &[&[u8]]) -> Message {
        Message {
            identities: vec![],
            signature: Bytes::new(),
            header: header.to_owned().into(),
            parent_header: r#"{"msg_id": "p_1"}"#.into(),
            metadata: "{}".into(),
            content: content.to_owned().into(),
            buffers: buffers.iter().map(|b| Bytes::copy_from_slice(b)).collect(),
        }
    }

    fn no_file(_: &str, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE frames(frame_id INTEGER PRIMARY KEY, frame BLOB NOT NULL)")
            .unwrap();
        connection
    }

    #[test]
    fn any_header_comes_back_byte_for_byte() {
        let connection = database();
        let mut interned = Interned::default();
        for header in [
            HEADER.to_owned(),
            HEADER.replace("120456Z", "000000Z"),
            HEADER.replace(".120456Z", "Z"),
            HEADER.replace("Z\"", "+00:00\""),
            HEADER.replace("Z\"", "\""),
            HEADER.replace("2026-11-21", "0001-01-01"),
            HEADER.replace("2026-11-21", "1969-12-31"),
            HEADER.replace("2026-11-21", "2026-02-30"),
            HEADER.replace(":13.", ":60."),
            HEADER.replace("120456Z", "12045Z"),
            HEADER.replace("120456Z", "12+456Z"),
            HEADER.replace("username", "user\u{1}name"),
            HEADER.replace("_23\"", "_99999999999999999999\""),
            HEADER.replace("_23\"", "_007\""),
            HEADER.replace("_23\"", "_x\""),
            HEADER.replace("\": ", "\":"),
            HEADER.replace("root", "r\\\"o\\u0001t"),
            "{}".to_owned(),
            "not json \x01\x02".to_owned(),
            String::new(),
        ] {
            for ts in [date_of(header.as_bytes()).unwrap_or(1.0), 1.5] {
                let sent = message(&header, "{}", &[]);
                let wire = encode(&connection, &mut interned, &sent, b"{}", &[], ts).unwrap();
                assert_eq!(
                    rebuild(&connection, &wire, b"{}", ts, no_file).unwrap(),
                    Rebuilt::Exact(sent),
                    "{header}"
                );
            }
        }
    }

    #[test]
    fn images_come_back_from_their_files_or_are_said_to_be_gone() {
        let connection = database();
        let mut interned = Interned::default();
        let content =
            r#"{"data": {"image/png": "aGVsbG8=\n", "text/plain": "x", "image/gif": "aGV sbG8="}}"#;
        let sent = message(HEADER, content, &[b"a buffer"]);
        let id = sha256_hex(b"hello");
        let reference = format!(
            r#"{{"$tithon_artifact": {{"artifact_id": "{id}", "rel_path": ".tithon/outputs/x"}}}}"#
        );
        let mut stored = String::new();
        let mut images = Vec::new();
        let mut copied = 0;
        for image in [r#""aGVsbG8=\n""#, r#""aGV sbG8=""#] {
            let at = content.find(image).unwrap();
            stored.push_str(&content[copied..at]);
            let start = stored.len();
            stored.push_str(&reference);
            copied = at + image.len();
            images.push(TakenImage {
                artifact_id: id.clone(),
                reference: start..stored.len(),
                encoding: Encoding::of(image, b"hello"),
            });
        }
        stored.push_str(&content[copied..]);
        let stored = stored.as_bytes();
        let wire = encode(&connection, &mut interned, &sent, stored, &images, 1.0).unwrap();
        let file = |asked: &str, path: &str| {
            assert_eq!((asked, path), (id.as_str(), ".tithon/outputs/x"));
            Some(b"hello".to_vec())
        };
        let rebuilt = rebuild(&connection, &wire, stored, 1.0, file).unwrap();
        assert_eq!(rebuilt, Rebuilt::Exact(sent.clone()));
        // Gone, or other bytes: the reference stays; what no file reproduces was kept beside it.
        for found in [None, Some(b"other".to_vec())] {
            let rebuilt = rebuild(&connection, &wire, stored, 1.0, |_, _| found.clone()).unwrap();
            let Rebuilt::Referring(message) = rebuilt else {
                panic!("{rebuilt:?}");
            };
            let text = message.content_text().unwrap();
            assert!(
                text.contains(&reference) && text.contains("aGV sbG8="),
                "{text}"
            );
            assert_eq!(
                (message.header, message.buffers),
                (sent.header.clone(), sent.buffers.clone())
            );
        }
        assert!(rebuild(&connection, &wire, b"{}", 1.0, file).is_err());
    }

    #[test]
    fn a_small_message_costs_few_bytes() {
        let connection = database();
        let mut interned = Interned::default();
        let ts = date_of(HEADER.as_bytes()).unwrap();
        let wire = encode(
            &connection,
            &mut interned,
            &message(HEADER, "{}", &[]),
            b"{}",
            &[],
            ts,
        )
        .unwrap();
        assert!(wire.len() <= 8, "{}", wire.len());
    }

    #[test]
    fn buffers_come_back_from_the_content_or_beside_it() {
        let connection = database();
        let mut interned = Interned::default();
        for content in [r#"{"comm_id": "c", "data": {}}"#, "{}"] {
            let sent = message(HEADER, content, &[b"\x00\xff", b""]);
            let stored = crate::widgets::journaled_content(content, &sent.buffers);
            serde_json::from_str::<serde_json::Value>(&stored).unwrap();
            for stored in [stored.as_bytes(), content.as_bytes()] {
                let wire = encode(&connection, &mut interned, &sent, stored, &[], 1.0).unwrap();
                assert_eq!(
                    rebuild(&connection, &wire, stored, 1.0, no_file).unwrap(),
                    Rebuilt::Exact(sent.clone())
                );
            }
        }
    }
}
