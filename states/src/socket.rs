//! Where the server listens.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tithon_ipc::lock::Lock;
use tokio::net::{TcpListener, UnixListener};

use crate::serve::{Listen, StatesError};

/// A listening socket; a unix socket's path goes with it.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        path: PathBuf,
        /// Released after the path is removed.
        _lock: Lock,
    },
}

impl Listener {
    /// Listens. A socket that a killed server left is taken over.
    pub(crate) async fn open(listen: &Listen) -> Result<Self, StatesError> {
        match listen {
            Listen::Tcp(address) => {
                let failed = |source| StatesError::Bind {
                    address: address.to_string(),
                    source,
                };
                TcpListener::bind(address)
                    .await
                    .map(Self::Tcp)
                    .map_err(failed)
            }
            Listen::Unix(path) => {
                let failed = |source| StatesError::Bind {
                    address: path.display().to_string(),
                    source,
                };
                let lock = Lock::try_acquire(&beside(path, ".lock"))
                    .map_err(failed)?
                    .ok_or_else(|| StatesError::AlreadyServed(path.clone()))?;
                Ok(Self::Unix {
                    listener: bind(path).map_err(failed)?,
                    path: path.clone(),
                    _lock: lock,
                })
            }
        }
    }

    /// How a client names it.
    pub(crate) fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(listener) => format!("http://{}", listener.local_addr()?),
            Self::Unix { path, .. } => path.display().to_string(),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            fs::remove_file(path).ok();
        }
    }
}

/// Binds under another name and renames: at its own path the socket was never open to others.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let temporary = beside(path, ".new");
    match fs::remove_file(&temporary) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temporary, path)?;
    Ok(listener)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether others than this machine's users can reach an address.
pub(crate) fn is_public(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}
