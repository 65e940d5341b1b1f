//! What a row keeps of a kernel's message beside its content, so that the exact frames come back.
//!
//! A header is a template (its text without the counter in `msg_id` and without the date) plus those
//! two; templates, parent headers and metadata repeat and are stored once in `frames`. The date is
//! the row's `ts` wherever microseconds express it. Encoded with postcard: about seven bytes.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use tithon_ipc::jupyter::Message;

/// Texts remembered with their ids; when full it starts again, so it costs at most some 100 kB.
const INTERNED_MAX: usize = 128;
/// Longer frames are unlikely to repeat.
const INTERNED_LEN_MAX: usize = 2048;

/// Where in a template the counter and the date go. Neither byte occurs in JSON text.
const COUNTER: u8 = 0x01;
const DATE: u8 = 0x02;

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
    /// Length of the kernel's own content, where ours has `_buffers_b64` behind it.
    content_len: Option<u64>,
    /// Buffers that the content does not hold.
    buffers: Vec<Vec<u8>>,
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
    split(header).map(|(_, _, date)| seconds(date))
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
    let extended = stored.len() != message.content.len();
    let wire = Wire {
        header,
        parent: interned.id(connection, &message.parent_header)?,
        metadata: interned.id(connection, &message.metadata)?,
        content_len: extended.then_some(message.content.len() as u64),
        buffers: if extended {
            Vec::new()
        } else {
            message.buffers.iter().map(|b| b.to_vec()).collect()
        },
    };
    postcard::to_stdvec(&wire).map_err(|err| rusqlite::Error::ToSqlConversionFailure(err.into()))
}

/// The message a stored row came from: header, parent header, metadata, content and buffers exactly
/// as the kernel sent them. The signature is left empty: it follows from the key.
///
/// # Errors
/// When the row is not one that [`Row`](super::Row) or [`Traffic`](super::Traffic) wrote.
pub fn rebuild(
    connection: &Connection,
    wire: &[u8],
    stored: &[u8],
    ts: f64,
) -> rusqlite::Result<Message> {
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
    let (content, buffers) = match wire.content_len.map(usize::try_from) {
        None => (stored.to_vec(), wire.buffers),
        Some(Ok(length)) if 0 < length && length <= stored.len() => {
            let mut content = stored[..length - 1].to_vec();
            content.push(b'}');
            (content, buffers_of(stored))
        }
        Some(_) => return Err(malformed("the content's length is wrong".into())),
    };
    Ok(Message {
        identities: Vec::new(),
        signature: Bytes::new(),
        header,
        parent_header: frame(wire.parent)?,
        metadata: frame(wire.metadata)?,
        content: content.into(),
        buffers: buffers.into_iter().map(Bytes::from).collect(),
    })
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

/// Splits a header into its template, the counter that ends its `msg_id`, and its date in
/// microseconds; `None` unless putting them together gives the very same bytes.
fn split(header: &[u8]) -> Option<(Vec<u8>, u64, i64)> {
    let id = value(header, b"\"msg_id\": \"").or_else(|| value(header, b"\"msg_id\":\""))?;
    let digits = header[id.clone()]
        .iter()
        .rev()
        .take_while(|b| b.is_ascii_digit())
        .count();
    let counter_at = id.end - digits..id.end;
    let counter = std::str::from_utf8(&header[counter_at.clone()])
        .ok()?
        .parse()
        .ok()?;
    let date_at = value(header, b"\"date\": \"").or_else(|| value(header, b"\"date\":\""))?;
    let date: Timestamp = std::str::from_utf8(&header[date_at.clone()])
        .ok()?
        .parse()
        .ok()?;
    let date_us = date.as_microsecond();
    let mut template = header.to_vec();
    // The later one first, so that the earlier one's place still holds.
    let mut places = [(counter_at, COUNTER), (date_at, DATE)];
    places.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
    for (place, mark) in places {
        template.splice(place, [mark]);
    }
    (join(&template, counter, date_us) == header).then_some((template, counter, date_us))
}

fn join(template: &[u8], counter: u64, date_us: i64) -> Vec<u8> {
    let mut header = Vec::with_capacity(template.len() + 40);
    for byte in template {
        match *byte {
            COUNTER => header.extend(counter.to_string().bytes()),
            DATE => header.extend(iso(date_us).bytes()),
            byte => header.push(byte),
        }
    }
    header
}

/// Python's `isoformat` of a UTC date, as jupyter_client writes it.
fn iso(date_us: i64) -> String {
    let Ok(date) = Timestamp::from_microsecond(date_us) else {
        return String::new();
    };
    let date = date.strftime(if date_us % 1_000_000 == 0 {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    });
    date.to_string()
}

fn value(json: &[u8], key: &[u8]) -> Option<std::ops::Range<usize>> {
    let start = json.windows(key.len()).position(|window| window == key)? + key.len();
    let length = json[start..]
        .iter()
        .position(|b| matches!(b, b'"' | b'\\'))?;
    Some(start..start + length)
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
                let wire = encode(&connection, &mut interned, &sent, b"{}", ts).unwrap();
                assert_eq!(
                    rebuild(&connection, &wire, b"{}", ts).unwrap(),
                    sent,
                    "{header}"
                );
            }
        }
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
                let wire = encode(&connection, &mut interned, &sent, stored, 1.0).unwrap();
                assert_eq!(rebuild(&connection, &wire, stored, 1.0).unwrap(), sent);
            }
        }
    }
}
