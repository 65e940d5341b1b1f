//! Jupyter wire messages: frames, signatures, and views that may fail without losing the frames.
//!
//! Follows the Jupyter messaging specification 5.4, "The wire protocol": identities, `<IDS|MSG>`,
//! the HMAC signature in hex, header, parent header, metadata, content, then raw buffers.

use std::{borrow::Cow, time::SystemTime};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::ids::hex;

const DELIMITER: &[u8] = b"<IDS|MSG>";

/// The protocol version that Tithon's own requests declare.
pub const PROTOCOL_VERSION: &str = "5.4";

/// One message, its frames exactly as they travelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Routing prefix; on iopub the topic.
    pub identities: Vec<Bytes>,
    /// Hex HMAC over the next four frames; empty when the connection has no key.
    pub signature: Bytes,
    /// JSON text.
    pub header: Bytes,
    /// JSON text of the header of the request this answers; `{}` where there is none.
    pub parent_header: Bytes,
    /// JSON text.
    pub metadata: Bytes,
    /// JSON text.
    pub content: Bytes,
    /// Binary payloads.
    pub buffers: Vec<Bytes>,
}

/// Why frames are not a message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// There is no `<IDS|MSG>`.
    #[error("the message has no delimiter among its {0} frames")]
    NoDelimiter(usize),
    /// Fewer than the five frames that follow the delimiter.
    #[error("the message has {0} frames after the delimiter instead of 5 or more")]
    TooFew(usize),
}

impl Message {
    /// Takes a message apart.
    ///
    /// # Errors
    /// When the frames do not have the shape of a message; their contents are not looked at.
    pub fn from_frames(mut frames: Vec<Bytes>) -> Result<Self, FrameError> {
        let delimiter = frames
            .iter()
            .position(|frame| frame == DELIMITER)
            .ok_or(FrameError::NoDelimiter(frames.len()))?;
        let mut rest = frames.split_off(delimiter);
        if rest.len() < 6 {
            return Err(FrameError::TooFew(rest.len() - 1));
        }
        let buffers = rest.split_off(6);
        let mut parts = rest.into_iter().skip(1);
        let mut next = || parts.next().unwrap_or_default();
        Ok(Self {
            identities: frames,
            signature: next(),
            header: next(),
            parent_header: next(),
            metadata: next(),
            content: next(),
            buffers,
        })
    }

    /// The frames to send.
    pub fn into_frames(self) -> Vec<Bytes> {
        let mut frames = self.identities;
        frames.extend([
            Bytes::from_static(DELIMITER),
            self.signature,
            self.header,
            self.parent_header,
            self.metadata,
            self.content,
        ]);
        frames.extend(self.buffers);
        frames
    }

    /// The header's fields that routing needs.
    ///
    /// # Errors
    /// When the header is not JSON, or lacks `msg_id` or `msg_type`.
    pub fn header_view(&self) -> serde_json::Result<HeaderView<'_>> {
        serde_json::from_slice(&self.header)
    }

    /// The content as text, if it is UTF-8.
    pub fn content_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.content).ok()
    }
}

/// The fields of a message header that routing needs; unknown ones stay in the frame.
#[derive(Debug, Deserialize)]
pub struct HeaderView<'a> {
    /// Unique per message.
    #[serde(borrow)]
    pub msg_id: Cow<'a, str>,
    /// As the specification names it, e.g. `stream`.
    #[serde(borrow)]
    pub msg_type: Cow<'a, str>,
    /// Whose it is; empty where a kernel leaves it out.
    #[serde(borrow, default)]
    pub session: Cow<'a, str>,
}

/// The fields of a parent header that tell whose request it was; empty where there was none.
#[derive(Debug, Default, Deserialize)]
pub struct ParentView<'a> {
    /// The request.
    #[serde(borrow, default)]
    pub msg_id: Cow<'a, str>,
    /// What was requested; empty where a kernel leaves it out.
    #[serde(borrow, default)]
    pub msg_type: Cow<'a, str>,
    /// The client that asked.
    #[serde(borrow, default)]
    pub session: Cow<'a, str>,
    /// Its user.
    #[serde(borrow, default)]
    pub username: Cow<'a, str>,
}

impl<'a> ParentView<'a> {
    /// Reads a parent header's frame; `{}` and what is no header have no request.
    pub fn of(parent_header: &'a [u8]) -> Self {
        serde_json::from_slice(parent_header).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Header<'a> {
    msg_id: &'a str,
    msg_type: &'a str,
    username: &'a str,
    session: &'a str,
    date: String,
    version: &'static str,
}

/// Builds and signs requests to one kernel.
#[derive(Clone)]
pub struct Signer {
    key: Vec<u8>,
    session: String,
}

impl Signer {
    /// `key` is the connection file's; an empty one means unsigned messages. `session` names the
    /// client to the kernel.
    pub fn new(key: &str, session: String) -> Self {
        Self {
            key: key.as_bytes().to_vec(),
            session,
        }
    }

    /// A signed request, ready to send.
    pub fn request(&self, msg_id: &str, msg_type: &str, content: &impl Serialize) -> Message {
        self.message(
            msg_id,
            msg_type,
            Bytes::from_static(b"{}"),
            crate::json::to_string(content).into(),
        )
    }

    /// A signed message with a given parent header, e.g. an `input_reply`.
    pub fn message(
        &self,
        msg_id: &str,
        msg_type: &str,
        parent_header: Bytes,
        content: Bytes,
    ) -> Message {
        self.sealed(
            msg_id,
            msg_type,
            Message {
                identities: Vec::new(),
                signature: Bytes::new(),
                header: Bytes::new(),
                parent_header,
                metadata: Bytes::from_static(b"{}"),
                content,
                buffers: Vec::new(),
            },
        )
    }

    /// A signed comm message.
    pub fn comm(&self, msg_id: &str, comm: &crate::client::Comm) -> Message {
        self.sealed(
            msg_id,
            comm.kind.msg_type(),
            Message {
                identities: Vec::new(),
                signature: Bytes::new(),
                header: Bytes::new(),
                parent_header: Bytes::from_static(b"{}"),
                metadata: crate::json::to_string(&comm.metadata).into(),
                content: crate::json::to_string(&comm.content()).into(),
                buffers: comm.buffers.clone(),
            },
        )
    }

    /// The message with its signature, for one that has been put together again.
    pub fn signed(&self, mut message: Message) -> Message {
        message.signature = self.signature(&message).into();
        message
    }

    /// Gives a message its header and signature.
    fn sealed(&self, msg_id: &str, msg_type: &str, mut message: Message) -> Message {
        let header = Header {
            msg_id,
            msg_type,
            username: "tithon",
            session: &self.session,
            date: jiff::Timestamp::try_from(SystemTime::now())
                .unwrap_or_default()
                .to_string(),
            version: PROTOCOL_VERSION,
        };
        message.header = crate::json::to_string(&header).into();
        message.signature = self.signature(&message).into();
        message
    }

    /// The signature a message of these frames must carry.
    pub fn signature(&self, message: &Message) -> String {
        if self.key.is_empty() {
            return String::new();
        }
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            return String::new();
        };
        for frame in [
            &message.header,
            &message.parent_header,
            &message.metadata,
            &message.content,
        ] {
            mac.update(frame);
        }
        hex(&mac.finalize().into_bytes())
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// A Jupyter connection file (`kernel.json`), as `jupyter_client` reads and writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionFile {
    /// `ipc` or `tcp`.
    pub transport: String,
    /// An address, or for `ipc` the prefix of the sockets' paths.
    pub ip: String,
    /// Requests and replies.
    pub shell_port: u16,
    /// What the kernel publishes.
    pub iopub_port: u16,
    /// Prompts.
    pub stdin_port: u16,
    /// Requests that do not wait for a running cell.
    pub control_port: u16,
    /// Heartbeat.
    pub hb_port: u16,
    /// Only `hmac-sha256` is spoken.
    #[serde(default = "hmac_sha256")]
    pub signature_scheme: String,
    /// The HMAC key's text; empty for unsigned messages.
    #[serde(default)]
    pub key: String,
    /// The kernelspec's name.
    #[serde(default)]
    pub kernel_name: String,
}

fn hmac_sha256() -> String {
    "hmac-sha256".to_owned()
}

impl ConnectionFile {
    /// The zmq endpoint of a channel's port.
    pub fn endpoint(&self, port: u16) -> String {
        match self.transport.as_str() {
            "ipc" => format!("ipc://{}-{port}", self.ip),
            transport => format!("{transport}://{}:{port}", self.ip),
        }
    }
}

/// JSON text with every lone surrogate escape replaced by U+FFFD, for parsers that refuse them.
///
/// Python prints `'\ud800'` and `json.dumps` escapes it; that is no Unicode text, but it is
/// somebody's output.
pub fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut clean: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while at + 1 < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match surrogate(bytes, at) {
            Some(0xD800..0xDC00) if matches!(surrogate(bytes, at + 6), Some(0xDC00..0xE000)) => {
                at += 12
            }
            Some(_) => {
                let clean = clean.get_or_insert_default();
                clean.push_str(&text[copied..at]);
                clean.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            None => at += 2,
        }
    }
    match clean {
        None => Cow::Borrowed(text),
        Some(mut clean) => {
            clean.push_str(&text[copied..]);
            Cow::Owned(clean)
        }
    }
}

/// The surrogate that a `\uXXXX` escape at `at` stands for.
fn surrogate(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xD800..0xE000).contains(&code).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(parts: &[&[u8]]) -> Vec<Bytes> {
        parts
            .iter()
            .map(|part| Bytes::copy_from_slice(part))
            .collect()
    }

    #[test]
    fn frames_survive_being_taken_apart() {
        let all = frames(&[
            b"topic", DELIMITER, b"sig", b"{}", b"{}", b"{}", b"{}", b"buf", b"",
        ]);
        let message = Message::from_frames(all.clone()).unwrap();
        assert_eq!(message.buffers.len(), 2);
        assert_eq!(message.into_frames(), all);
        assert_eq!(
            Message::from_frames(frames(&[b"a"])),
            Err(FrameError::NoDelimiter(1))
        );
        assert_eq!(
            Message::from_frames(frames(&[DELIMITER, b"s", b"{}"])),
            Err(FrameError::TooFew(2))
        );
    }

    #[test]
    fn the_signature_is_jupyters() {
        // Computed with Python: hmac.new(b"key", b"hpmc", "sha256").hexdigest()
        let signer = Signer::new("key", String::new());
        let message =
            Message::from_frames(frames(&[DELIMITER, b"", b"h", b"p", b"m", b"c"])).unwrap();
        assert_eq!(
            signer.signature(&message),
            "7ac01dac9d0a3859f492a083a22c57c2668fbf2422f731d3fef9546512b66bfa"
        );
        assert_eq!(Signer::new("", String::new()).signature(&message), "");
    }

    #[test]
    fn lone_surrogates_are_replaced_and_pairs_kept() {
        for (text, clean) in [
            (r#""\ud83e\udd80 \\ud800""#, r#""\ud83e\udd80 \\ud800""#),
            (r#""a\ud800b""#, r#""a\ufffdb""#),
            (
                r#""\udc00\ud800\ud83e\udd80""#,
                r#""\ufffd\ufffd\ud83e\udd80""#,
            ),
        ] {
            assert_eq!(without_lone_surrogates(text), clean);
            serde_json::from_str::<String>(clean).unwrap();
        }
    }

    #[test]
    fn parents_are_found_or_absent() {
        assert_eq!(ParentView::of(b"{}").msg_id, "");
        assert_eq!(ParentView::of(b"nonsense").msg_id, "");
        let parent = ParentView::of(br#"{"msg_id": "a_1", "username": "me", "extra": [1]}"#);
        assert_eq!((&*parent.msg_id, &*parent.username), ("a_1", "me"));
    }
}
