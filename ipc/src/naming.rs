//! From a session's name to its directory (PROTOCOL §3).
//!
//! Ours is `sessions/<readable part>-<hash>`: unique for every name, and no name leaves `sessions/`.
//! A directory the Python program made for the same session is found and kept.

use std::path::{Component, Path, PathBuf};

use crate::{
    files::Meta,
    ids::{SessionId, sha256_hex},
};

/// The longest readable part of a directory name, in characters.
const READABLE_MAX: usize = 48;

/// The directory of a session below `sessions`, whether it exists or is to be made.
///
/// `workdir` is what the client said with its first operation; it only matters for finding a
/// directory that the Python program made.
pub fn session_dir(sessions: &Path, id: &SessionId, workdir: Option<&Path>) -> PathBuf {
    let ours = sessions.join(own_name(id));
    let older = || {
        [older_name(id, workdir), older_name(id, None)]
            .into_iter()
            .map(|name| sessions.join(name))
            .find(|dir| Meta::read(dir).is_ok_and(|meta| meta.session_id == id.as_str()))
    };
    if ours.is_dir() {
        ours
    } else {
        older().unwrap_or(ours)
    }
}

fn own_name(id: &SessionId) -> String {
    if id.as_str() == SessionId::DEFAULT {
        return SessionId::DEFAULT.to_owned();
    }
    let path = id.as_str().trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or_default();
    let readable: String = percent_decoded(last)
        .chars()
        .take(READABLE_MAX)
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    format!("{}-{}", readable.trim_start_matches('.'), id.key())
}

/// The Python program's name for the directory; may hold several components.
fn older_name(id: &SessionId, workdir: Option<&Path>) -> PathBuf {
    if id.as_str() == SessionId::DEFAULT {
        return PathBuf::from(SessionId::DEFAULT);
    }
    nested_name(id, workdir)
        .unwrap_or_else(|| PathBuf::from(&sha256_hex(id.as_str().as_bytes())[..16]))
}

fn nested_name(id: &SessionId, workdir: Option<&Path>) -> Option<PathBuf> {
    let workdir = workdir?;
    let file = PathBuf::from(percent_decoded(id.as_str().strip_prefix("file://")?));
    let below = file.strip_prefix(workdir).ok()?;
    let mut parts = below.components().map(|part| match part {
        Component::Normal(name) => Some(sanitised(&name.to_string_lossy())),
        _ => None,
    });
    let first = parts.next()??;
    let top = workdir.file_name().map_or_else(
        || "root".to_owned(),
        |name| sanitised(&name.to_string_lossy()),
    );
    let hash = &sha256_hex(workdir.as_os_str().as_encoded_bytes())[..8];
    let mut name = PathBuf::from(format!("{top}-{hash}")).join(first);
    for part in parts {
        name.push(part?);
    }
    Some(name)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn sanitised(name: &str) -> String {
    let plain: String = name
        .chars()
        .take(80)
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    if plain.is_empty() {
        "_".to_owned()
    } else {
        plain
    }
}

/// Decodes `%20` and its like; what does not decode to UTF-8 is kept lossily.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SessionId {
        SessionId::parse(text).unwrap()
    }

    #[test]
    fn names_are_readable_unique_and_stay_inside() {
        assert_eq!(own_name(&id("default")), "default");
        assert!(own_name(&id("file:///p/train%20it.py")).starts_with("train_it.py-"));
        assert_ne!(
            own_name(&id("file:///p/a b.py")),
            own_name(&id("file:///p/a_b.py"))
        );
        for hostile in ["..", "../../x", "/", "a/..", ".hidden", &"🦀".repeat(900)] {
            let name = own_name(&id(hostile));
            assert!(
                !name.contains('/') && !name.starts_with('.') && name.len() < 80,
                "{name}"
            );
        }
    }

    #[test]
    fn the_python_programs_directories_are_found() {
        let sessions = tempfile::tempdir().unwrap();
        let (name, hint) = (id("file:///p/lab/sub/a%20b.py"), Path::new("/p/lab"));
        assert!(session_dir(sessions.path(), &name, Some(hint)).ends_with(own_name(&name)));
        let older = sessions.path().join(older_name(&name, Some(hint)));
        assert!(older.ends_with("sub/a_b.py"));
        std::fs::create_dir_all(&older).unwrap();
        // Another session with the same sanitised name does not inherit it.
        Meta::new(&id("file:///p/lab/sub/a_b.py"), hint)
            .write(&older)
            .unwrap();
        assert_ne!(session_dir(sessions.path(), &name, Some(hint)), older);
        Meta::new(&name, hint).write(&older).unwrap();
        assert_eq!(session_dir(sessions.path(), &name, Some(hint)), older);
    }
}
