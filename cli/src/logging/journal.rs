//! systemd's journal, spoken to in its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram
//! of `KEY=value` lines. Written here because the crate for it leaves an event's fields out of the
//! message, and then `journalctl` shows "a worker serves" without saying whose.

use std::{
    env,
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    path::Path,
};

use tracing::Level;

use super::{Author, line, line::Words};

const SOCKET: &str = "/run/systemd/journal/socket";
/// The unit under which `journalctl --user -u tithon` also shows what workers say that run in units
/// of their own.
const UNIT: &str = "tithon.service";
/// Bytes of one message: a datagram must fit into the socket's buffer.
const MESSAGE_MAX: usize = 32 << 10;

pub(super) struct Journal {
    socket: UnixDatagram,
    author: Author,
}

impl Journal {
    /// The journal, where this process belongs to a service whose words go there.
    pub(super) fn find(author: &Author) -> Option<Self> {
        // "device:inode" of the stream that systemd made for the service's standard error.
        let stream = env::var("JOURNAL_STREAM").ok()?;
        let is_ours = match author {
            Author::Supervisor => is_stderr(&stream),
            // Its standard error is its log; the variable is there if the supervisor left it.
            Author::Worker(_) => true,
        };
        if !is_ours || !Path::new(SOCKET).exists() {
            return None;
        }
        let socket = UnixDatagram::unbound().ok()?;
        // A journal that hangs costs its own copy of the log, not a session.
        socket.set_nonblocking(true).ok()?;
        Some(Self {
            socket,
            author: author.clone(),
        })
    }

    /// Sends an event. The file has it too: what the journal does not take is not missing there.
    pub(super) fn send(&self, target: &str, level: Level, words: &Words) {
        let entry = entry(&self.author, target, level, words);
        drop(self.socket.send_to(&entry, SOCKET));
    }
}

fn is_stderr(stream: &str) -> bool {
    let found = std::fs::metadata("/proc/self/fd/2");
    found.is_ok_and(|found| format!("{}:{}", found.dev(), found.ino()) == stream)
}

fn entry(author: &Author, target: &str, level: Level, words: &Words) -> Vec<u8> {
    let mut words = words.clone();
    if let Author::Worker(Some(session)) = author {
        words.fields.push(("session".to_owned(), session.clone()));
    }
    let mut message = words.to_string();
    let end = message.floor_char_boundary(MESSAGE_MAX);
    message.truncate(end);
    let identifier = match author {
        Author::Supervisor => "tithon",
        Author::Worker(_) => "tithon-worker",
    };
    let mut entry = Vec::with_capacity(message.len() + 256);
    field(&mut entry, "MESSAGE", &message);
    field(&mut entry, "PRIORITY", priority(level));
    field(&mut entry, "SYSLOG_IDENTIFIER", identifier);
    field(&mut entry, "TITHON_LOGGER", &line::logger(target));
    if matches!(author, Author::Worker(_)) {
        field(&mut entry, "USER_UNIT", UNIT);
    }
    for (key, value) in &words.fields {
        let end = value.floor_char_boundary(MESSAGE_MAX);
        let key: String = key
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect();
        field(&mut entry, &format!("TITHON_{key}"), &value[..end]);
    }
    entry
}

/// A value with a newline in it has its length before it instead.
fn field(entry: &mut Vec<u8>, key: &str, value: &str) {
    entry.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// As syslog(3) counts.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_the_session_in_words_and_in_a_field() {
        let words = Words {
            message: "failed".to_owned(),
            fields: vec![("err".to_owned(), "two\nlines".to_owned())],
        };
        let author = Author::Worker(Some("lab".to_owned()));
        let sent = entry(&author, "tithon_worker::run", Level::WARN, &words);
        let expected = b"MESSAGE=failed err=\"two\\nlines\" session=lab\n\
            PRIORITY=4\nSYSLOG_IDENTIFIER=tithon-worker\nTITHON_LOGGER=tithon.worker.run\n\
            USER_UNIT=tithon.service\nTITHON_ERR\n\x09\0\0\0\0\0\0\0two\nlines\nTITHON_SESSION=lab\n";
        assert_eq!(
            String::from_utf8_lossy(&sent),
            String::from_utf8_lossy(expected)
        );
    }
}
