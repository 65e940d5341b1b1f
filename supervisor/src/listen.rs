//! The public socket: bound so that nobody else could ever connect, or inherited bound.

use std::{fs, io, os::unix::fs::PermissionsExt, path::PathBuf};

use tithon_ipc::paths::Home;
use tokio::net::{UnixListener, UnixStream};

use crate::{SupervisorError, claim, platform};

/// The listening socket and what is to be done about its path in the end.
#[derive(Debug)]
pub(crate) struct PublicSocket {
    listener: UnixListener,
    /// Paths to remove when it closes; none where a service manager owns it.
    paths: Vec<PathBuf>,
}

impl PublicSocket {
    /// The service manager's socket if there is one, else one bound at [`Home::socket`].
    ///
    /// A stale socket is replaced; the home's lock must be held.
    ///
    /// # Errors
    /// When it cannot be bound, or something that does not know our lock listens there.
    pub(crate) async fn open(home: &Home) -> Result<Self, SupervisorError> {
        let failed = |source| SupervisorError::Listen {
            path: home.public_socket(),
            source,
        };
        let inherited = platform::inherited().map_err(failed)?;
        let (listener, paths) = match inherited {
            Some(listener) => (adopt(listener).map_err(failed)?, Vec::new()),
            None => {
                refuse_to_usurp(home).await?;
                let mut paths = vec![home.public_socket()];
                if home.socket() != home.public_socket() {
                    paths.insert(0, home.socket());
                }
                (bind(home).map_err(failed)?, paths)
            }
        };
        home.publish_socket()?;
        Ok(Self { listener, paths })
    }

    /// The listener, and the paths to remove before it is dropped.
    pub(crate) fn into_parts(self) -> (UnixListener, Vec<PathBuf>) {
        (self.listener, self.paths)
    }
}

fn adopt(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Binds under another name and renames: at its own path the socket was never open to others, and
/// takes the place of a stale one in one step.
fn bind(home: &Home) -> io::Result<UnixListener> {
    let temporary = home.run().join("daemon.sock.new");
    match fs::remove_file(&temporary) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temporary, home.socket())?;
    Ok(listener)
}

/// The Python program takes no lock: only its listening shows that it is there.
async fn refuse_to_usurp(home: &Home) -> Result<(), SupervisorError> {
    match UnixStream::connect(home.socket()).await {
        Ok(_) => {}
        // Its queue is full: somebody listens.
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => return Ok(()),
    }
    Err(SupervisorError::AlreadyRunning {
        pid: claim::announced(home),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_served_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        home.prepare().unwrap();
        drop(std::os::unix::net::UnixListener::bind(home.socket()).unwrap());
        let socket = PublicSocket::open(&home).await.unwrap();
        let mode = fs::metadata(home.public_socket())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(UnixStream::connect(home.socket()).await.is_ok());
        assert!(matches!(
            PublicSocket::open(&home).await,
            Err(SupervisorError::AlreadyRunning { pid: None })
        ));
        let (listener, paths) = socket.into_parts();
        assert_eq!(paths, [home.public_socket()]);
        drop(listener);
    }

    #[tokio::test]
    async fn a_long_home_is_reached_through_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("x".repeat(180)));
        home.prepare().unwrap();
        let socket = PublicSocket::open(&home).await.unwrap();
        assert_eq!(fs::read_link(home.public_socket()).unwrap(), home.socket());
        assert!(UnixStream::connect(home.socket()).await.is_ok());
        let (_listener, paths) = socket.into_parts();
        for path in paths {
            fs::remove_file(path).unwrap();
        }
        fs::remove_dir(home.run()).unwrap();
    }
}
