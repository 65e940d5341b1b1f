//! The secret that every request has to name.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// Longest token that is read from a file, in bytes.
const TOKEN_MAX: u64 = 4096;

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Whoever knows nothing knows an empty token.
    #[error(
        "the token is empty\nhint: python3 -c 'import secrets; print(secrets.token_urlsafe())'"
    )]
    Empty,
    /// The file cannot be read.
    #[error("the token file {path} cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    /// Others could read the file or write to it.
    #[error(
        "the token file {path} can be read by other users (mode {mode:04o})\nhint: chmod 600 {path}"
    )]
    Open { path: PathBuf, mode: u32 },
    /// The file is somebody else's, who knows the token.
    #[error("the token file {path} belongs to user id {owner}, not to you ({me})")]
    Foreign { path: PathBuf, owner: u32, me: u32 },
    /// No text, or far more than a token.
    #[error("the token file {0} holds no token: one line of text, of at most 4096 bytes")]
    NoText(PathBuf),
}

/// A token, of which only a digest is kept: comparing digests tells nobody how much of a guess was right.
#[derive(Clone, Debug)]
pub struct Token([u8; 32]);

impl Token {
    /// A token from the command line or the environment.
    ///
    /// # Errors
    /// [`TokenError::Empty`].
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        Ok(Self(digest(text)))
    }

    /// The token that a file of ours holds, without the line end.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Read {
            path: path.to_owned(),
            source,
        };
        // What is opened is what is looked at, and it is no pipe that nobody writes to.
        let file = File::options()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let me = rustix::process::getuid().as_raw();
        if found.uid() != me {
            return Err(TokenError::Foreign {
                path: path.to_owned(),
                owner: found.uid(),
                me,
            });
        }
        if found.mode() & 0o077 != 0 {
            return Err(TokenError::Open {
                path: path.to_owned(),
                mode: found.mode() & 0o7777,
            });
        }
        let mut text = String::new();
        let no_text = || TokenError::NoText(path.to_owned());
        let read = file.take(TOKEN_MAX + 1).read_to_string(&mut text);
        match read {
            Err(err) if err.kind() == io::ErrorKind::InvalidData => return Err(no_text()),
            Err(err) => return Err(failed(err)),
            Ok(_) => {}
        }
        let text = text.trim_end_matches(['\r', '\n']);
        if text.len() as u64 > TOKEN_MAX || text.contains('\n') {
            return Err(no_text());
        }
        Self::new(text)
    }

    /// Whether somebody knows it.
    pub(crate) fn is(&self, guess: &str) -> bool {
        self.0 == digest(guess)
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_file_that_others_could_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let put = |content: &[u8], mode| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Token::from_file(&path)
        };
        assert!(put(b"s3cret\n", 0o600).unwrap().is("s3cret"));
        assert!(!put(b"s3cret\n", 0o400).unwrap().is("s3cre"));
        assert!(matches!(
            put(b"s3cret\n", 0o640),
            Err(TokenError::Open { .. })
        ));
        assert!(matches!(put(b"\n", 0o600), Err(TokenError::Empty)));
        assert!(matches!(put(b"a\nb\n", 0o600), Err(TokenError::NoText(_))));
        assert!(matches!(
            put(b"\xff\xfe", 0o600),
            Err(TokenError::NoText(_))
        ));
        let missing = Token::from_file(&dir.path().join("none"));
        assert!(matches!(missing, Err(TokenError::Read { .. })));
    }
}
