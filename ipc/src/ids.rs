//! Identifiers as types, so that a session is never taken for an execution or a seq for a count.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest session id accepted, in bytes of UTF-8.
///
/// A file URI of a path at Linux's `PATH_MAX` fits even where every byte is percent-encoded
/// only in part; anything longer is a mistake or an attack, not a name.
pub const SESSION_ID_MAX: usize = 4096;

/// The name of a session: a file URI, `default`, or any other text a client chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(String);

/// Why a text cannot name a session.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SessionIdError {
    /// The text has no characters.
    #[error("the session name is empty")]
    Empty,
    /// The text is longer than [`SESSION_ID_MAX`].
    #[error("the session name is {0} bytes long; at most {SESSION_ID_MAX} are allowed")]
    TooLong(usize),
    /// The text holds a control character, which no file, log line or terminal can show.
    #[error("the session name holds the control character U+{0:04X}")]
    Control(u32),
}

impl SessionId {
    /// The session of a client that names none.
    pub const DEFAULT: &str = "default";

    /// Checks a name that came from a client.
    ///
    /// # Errors
    /// When it is empty, longer than [`SESSION_ID_MAX`] or holds a control character.
    pub fn parse(text: &str) -> Result<Self, SessionIdError> {
        if text.is_empty() {
            return Err(SessionIdError::Empty);
        }
        if text.len() > SESSION_ID_MAX {
            return Err(SessionIdError::TooLong(text.len()));
        }
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(SessionIdError::Control(u32::from(c)));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 16 hex digits of the name's SHA-256: unique, short and safe in any file name.
    pub fn key(&self) -> SessionKey {
        SessionKey(sha256_hex(self.0.as_bytes())[..16].to_owned())
    }
}

impl Default for SessionId {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What names a session in a command that is suggested, ` --session 'lab'`, so that it can be pasted into a
/// shell whatever the name holds; nothing for the session that is meant without it.
pub fn session_flag(session: &str) -> String {
    match session {
        SessionId::DEFAULT => String::new(),
        session => format!(" --session {}", quoted(session)),
    }
}

/// A word for a POSIX shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A session's short name in the file system: 16 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey(String);

impl SessionKey {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An execution's number within its session, counted from 1; written `e1`, `e2`, …, stored as the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecId(pub u64);

impl ExecId {
    /// Reads `e12`; anything else is not an execution's name.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('e')?;
        if digits.is_empty() || digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        digits.parse().ok().map(Self)
    }
}

impl fmt::Display for ExecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

/// A position in a session's journal: strictly increasing, never used twice; 0 is before the first.
pub type Seq = i64;

/// What a session's unit and control group are called: its directory tells the sessions of one name
/// in several homes apart.
pub fn group_name(dir: &Path) -> String {
    let id = sha256_hex(dir.as_os_str().as_encoded_bytes());
    format!("tithon-k-{}", &id[..16])
}

/// Lower-case hex SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_accept_what_people_name_things() {
        for ok in ["default", "file:///a b/ü.py", "🦀", "../../etc", "a\u{a0}b"] {
            assert_eq!(SessionId::parse(ok).unwrap().as_str(), ok);
        }
        assert_eq!(SessionId::parse(""), Err(SessionIdError::Empty));
        assert_eq!(SessionId::parse("a\0b"), Err(SessionIdError::Control(0)));
        assert_eq!(
            SessionId::parse(&"x".repeat(4097)),
            Err(SessionIdError::TooLong(4097))
        );
    }

    #[test]
    fn a_suggested_session_is_one_word_of_a_shell() {
        assert_eq!(session_flag("default"), "");
        assert_eq!(session_flag("lab 2"), " --session 'lab 2'");
        assert_eq!(session_flag("it's"), r" --session 'it'\''s'");
    }

    #[test]
    fn exec_ids_round_trip_and_refuse_look_alikes() {
        assert_eq!(ExecId::parse("e12").unwrap().to_string(), "e12");
        for bad in [
            "",
            "e",
            "e01",
            "E1",
            "e-1",
            "e1x",
            "12",
            "e99999999999999999999",
        ] {
            assert_eq!(ExecId::parse(bad), None, "{bad}");
        }
    }
}
