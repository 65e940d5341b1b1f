//! Where things are under TITHON_HOME, and the checks that make it safe to use.
//!
//! Sockets live in `run/`. A unix socket's path is short (107 bytes on Linux), so under a long home `run`
//! is a symbolic link to a short private directory, and `daemon.sock` one into it.

use std::{
    env,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::{
    ids::{ExecId, SessionKey, sha256_hex},
    platform::sockets::SUN_PATH_MAX,
};

/// The longest name ever made inside `run/`: a session key and a kernel channel, with room to grow.
const RUN_NAME_MAX: usize = 40;

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither TITHON_HOME nor HOME says where to live.
    #[error(
        "TITHON_HOME is not set and there is no home directory\nhint: set TITHON_HOME to a directory of yours"
    )]
    Unknown,
    /// The path, or a parent of it, is not a directory.
    #[error("{0} is not a directory\nhint: move it away, or set TITHON_HOME to another path")]
    NotADirectory(PathBuf),
    /// The directory belongs to another user.
    #[error(
        "{path} belongs to user id {owner}, not to you ({me})\nhint: set TITHON_HOME to a directory of yours"
    )]
    Foreign { path: PathBuf, owner: u32, me: u32 },
    /// Somebody else could put files into the directory.
    #[error("{path} is writable by other users (mode {mode:04o})\nhint: chmod 700 {path}")]
    Open { path: PathBuf, mode: u32 },
    /// A directory that must be real is a symbolic link somebody else may steer.
    #[error("{0} is a symbolic link where a directory must be\nhint: remove it")]
    Link(PathBuf),
    /// The file system refused.
    #[error("{path} cannot be made or read: {source}{}", hint(source))]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
}

fn hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "\nhint: free some space, or set TITHON_HOME to another disk"
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            "\nhint: set TITHON_HOME to a directory you can write to"
        }
        _ => "",
    }
}

/// A user's Tithon directory.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    run: PathBuf,
}

impl Home {
    /// The home that TITHON_HOME names (`~` and relative paths are resolved), else `~/.tithon`.
    ///
    /// # Errors
    /// [`HomeError::Unknown`] when neither TITHON_HOME nor HOME is set, or the working directory is gone.
    pub fn from_env() -> Result<Self, HomeError> {
        let user = env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
            .or_else(env::home_dir);
        let root = match env::var_os("TITHON_HOME").filter(|home| !home.is_empty()) {
            None => user.ok_or(HomeError::Unknown)?.join(".tithon"),
            Some(named) => {
                let named = PathBuf::from(named);
                match (named.strip_prefix("~"), user) {
                    (Ok(rest), Some(user)) => user.join(rest),
                    _ => std::path::absolute(&named).map_err(|source| HomeError::Io {
                        path: named,
                        source,
                    })?,
                }
            }
        };
        Ok(Self::at(root))
    }

    /// The home at an absolute path.
    pub fn at(root: PathBuf) -> Self {
        // The link's target decides whether names are stable: two spellings are one home.
        let root = root.canonicalize().unwrap_or(root);
        let run = root.join("run");
        let run = if run.as_os_str().len() + 1 + RUN_NAME_MAX <= SUN_PATH_MAX {
            run
        } else {
            let name = sha256_hex(root.as_os_str().as_encoded_bytes());
            PathBuf::from(format!(
                "/tmp/tithon-{}-{}",
                rustix::process::getuid().as_raw(),
                &name[..12]
            ))
        };
        Self { root, run }
    }

    /// Makes the directories, all 0700, and refuses a home that others own or could write to.
    ///
    /// # Errors
    /// Any [`HomeError`]; nothing is changed about a directory that is refused.
    pub fn prepare(&self) -> Result<(), HomeError> {
        private_dir(&self.root)?;
        private_dir(&self.sessions())?;
        private_dir(&self.run)?;
        if self.run_is_elsewhere() {
            link(&self.run, &self.root.join("run"))?;
        }
        Ok(())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where sockets live: `run/`, or its short stand-in under a long home.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The path to bind or connect the public socket at: one that a socket may have.
    pub fn socket(&self) -> PathBuf {
        if self.run_is_elsewhere() {
            self.run.join("daemon.sock")
        } else {
            self.root.join("daemon.sock")
        }
    }

    /// The public socket as people know it; a link to [`Home::socket`] under a long home.
    pub fn public_socket(&self) -> PathBuf {
        self.root.join("daemon.sock")
    }

    /// Makes [`Home::public_socket`] lead to the bound socket where they differ.
    ///
    /// # Errors
    /// When the link cannot be made.
    pub fn publish_socket(&self) -> Result<(), HomeError> {
        if self.run_is_elsewhere() {
            link(&self.socket(), &self.public_socket())?;
        }
        Ok(())
    }

    /// The supervisor's pid, in decimal, without a newline.
    pub fn pid_file(&self) -> PathBuf {
        self.root.join("daemon.pid")
    }

    /// Held by the supervisor for life.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("daemon.lock")
    }

    /// The supervisor's log.
    pub fn log(&self) -> PathBuf {
        self.root.join(crate::logs::SUPERVISOR)
    }

    /// One directory per session.
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// Environments lent to Pythons that have no ipykernel.
    pub fn envs(&self) -> PathBuf {
        self.root.join("envs")
    }

    /// The kernel launchers of every version that ever ran here.
    pub fn launchers(&self) -> PathBuf {
        self.root.join("launchers")
    }

    /// The control socket of a session's worker.
    pub fn control_socket(&self, key: &SessionKey) -> PathBuf {
        self.run.join(format!("{key}.sock"))
    }

    /// The prefix of a kernel's `ipc://` endpoints; a dash and the channel's port follow.
    pub fn kernel_endpoint(&self, key: &SessionKey) -> PathBuf {
        self.run.join(format!("{key}.k"))
    }

    /// Where the checkpoint after a session's execution waits.
    pub fn checkpoint_socket(&self, key: &SessionKey, exec: ExecId) -> PathBuf {
        self.run.join(format!("{key}.c{}", exec.0))
    }

    /// Where a copy of a session's kernel waits that is not kept; a dash and a channel's port more is what it
    /// listens on once it was woken.
    pub fn copy_endpoint(&self, key: &SessionKey, number: u64) -> PathBuf {
        self.run.join(format!("{key}.t{number}"))
    }

    fn run_is_elsewhere(&self) -> bool {
        self.run.parent() != Some(&self.root)
    }
}

/// Makes a directory 0700, or checks one that is there.
fn private_dir(path: &Path) -> Result<(), HomeError> {
    let io = |source| HomeError::Io {
        path: path.to_owned(),
        source,
    };
    let made = std::fs::DirBuilder::new()
        .recursive(false)
        .mode(0o700)
        .create(path);
    match made {
        Ok(()) => return Ok(()),
        Err(err) if err.kind() == ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(io)?;
            }
            return private_dir(path);
        }
        Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
        Err(err) if err.kind() == ErrorKind::NotADirectory => {
            let file = path.ancestors().find(|p| p.is_file()).unwrap_or(path);
            return Err(HomeError::NotADirectory(file.to_owned()));
        }
        Err(err) => return Err(io(err)),
    }
    let found = std::fs::symlink_metadata(path).map_err(io)?;
    if found.is_symlink() {
        return Err(HomeError::Link(path.to_owned()));
    }
    if !found.is_dir() {
        return Err(HomeError::NotADirectory(path.to_owned()));
    }
    let me = rustix::process::getuid().as_raw();
    if found.uid() != me {
        return Err(HomeError::Foreign {
            path: path.to_owned(),
            owner: found.uid(),
            me,
        });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(HomeError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    if mode & 0o077 != 0 {
        // Readable by others is the Python program's habit: ours to mend, not a reason to refuse.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(io)?;
    }
    Ok(())
}

/// Makes `link` a symbolic link to `target`, replacing an older link but never anything else.
fn link(target: &Path, link: &Path) -> Result<(), HomeError> {
    let io = |source| HomeError::Io {
        path: link.to_owned(),
        source,
    };
    match std::fs::read_link(link) {
        Ok(found) if found == target => return Ok(()),
        Ok(_) => std::fs::remove_file(link).map_err(io)?,
        Err(_) => {}
    }
    match symlink(target, link) {
        // Two commands may set up one home at the same time.
        Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(io),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("a/b"));
        home.prepare().unwrap();
        for path in [home.root(), &home.sessions(), home.run()] {
            assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        }
        home.prepare().unwrap();
    }

    #[test]
    fn a_long_home_keeps_its_sockets_short() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("x".repeat(200)));
        home.prepare().unwrap();
        home.publish_socket().unwrap();
        let key = crate::ids::SessionId::default().key();
        for path in [
            home.socket(),
            home.control_socket(&key),
            home.kernel_endpoint(&key),
        ] {
            assert!(path.as_os_str().len() + 2 <= SUN_PATH_MAX, "{path:?}");
        }
        assert_eq!(
            std::fs::read_link(home.public_socket()).unwrap(),
            home.socket()
        );
        assert_eq!(
            std::fs::read_link(home.root().join("run")).unwrap(),
            home.run()
        );
        std::fs::remove_dir(home.run()).unwrap();
    }

    #[test]
    fn unsafe_homes_are_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(
            matches!(Home::at(file.clone()).prepare(), Err(HomeError::NotADirectory(p)) if p.ends_with("file"))
        );
        assert!(
            matches!(Home::at(file.join("below")).prepare(), Err(HomeError::NotADirectory(p)) if p.ends_with("file"))
        );

        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            Home::at(open).prepare(),
            Err(HomeError::Open { mode: 0o777, .. })
        ));

        let steered = dir.path().join("steered");
        std::fs::create_dir(&steered).unwrap();
        std::fs::set_permissions(&steered, std::fs::Permissions::from_mode(0o700)).unwrap();
        symlink(dir.path(), steered.join("sessions")).unwrap();
        assert!(matches!(
            Home::at(steered).prepare(),
            Err(HomeError::Link(_))
        ));
    }
}
