//! Another machine's supervisor, over the user's own OpenSSH.
//!
//! One ssh connection per machine, kept for a while and shared by all commands (`ControlMaster`),
//! forwards a socket in our `run/` to the `daemon.sock` there: from then on a command connects as it
//! would here. There is no daemon, port or protocol of ours; configuration, keys and agent are ssh's.

mod error;
mod ssh;

use std::{
    fmt, io,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tithon_ipc::{
    client::{Connection, ConnectionError},
    ids::sha256_hex,
    lock::Lock,
    paths::Home,
};
use tokio::time::{sleep, timeout};

pub(crate) use self::error::RemoteError;
use self::ssh::Ssh;
use crate::{error::CliError, render::words, start::Start};

/// Longer than ssh needs to notice that the network is gone.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(20);
/// How long a forwarding that was just made may take to let somebody through.
const FORWARD_WITHIN: Duration = Duration::from_secs(5);
/// From here on a person wonders.
const NOTICEABLE: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(20);

/// What `tithon reach` says on the other machine.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Reached {
    /// The version there.
    pub(crate) tithon: String,
    /// The supervisor's socket.
    pub(crate) socket: PathBuf,
}

/// A machine that ssh knows how to reach.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    ssh: Ssh,
    /// Where the supervisor there is reached from here.
    socket: PathBuf,
    /// Held while the way is made.
    lock: PathBuf,
    home: Home,
    /// Whether this process was there already: what then comes back must not ask for a password.
    is_known: Arc<AtomicBool>,
}

impl Remote {
    /// The machine that goes by this name; `home` is ours, and keeps the sockets.
    pub(crate) fn new(host: &str, home: &Home) -> Self {
        let name = format!("h-{}", &sha256_hex(host.as_bytes())[..12]);
        let at = |end: &str| home.run().join(format!("{name}{end}"));
        Self {
            ssh: Ssh::new(host, at(".ssh"), at(".log")),
            socket: at(".sock"),
            lock: at(".lock"),
            home: home.clone(),
            is_known: Arc::default(),
        }
    }

    /// Its name, as the user gave it.
    pub(crate) fn host(&self) -> &str {
        self.ssh.host()
    }

    /// Connects to the supervisor there; starts one if there is none and one may be started.
    ///
    /// # Errors
    /// When ssh does not get there, or there is no Tithon that fits.
    pub(crate) async fn open(&self, start: Start) -> Result<Connection, CliError> {
        let connection = match self.connect().await {
            Ok(connection) => connection,
            Err(_) => self.make_way(start).await?,
        };
        self.is_known.store(true, Ordering::Relaxed);
        Ok(connection)
    }

    /// Runs a command there, in this terminal, that is about that machine's own files.
    ///
    /// # Errors
    /// When ssh cannot be run.
    pub(crate) async fn run(&self, arguments: &[String]) -> Result<ExitCode, CliError> {
        self.home.prepare()?;
        Ok(self.ssh.run(arguments).await?)
    }

    async fn connect(&self) -> Result<Connection, ConnectionError> {
        timeout(HANDSHAKE_WITHIN, Connection::open_at(&self.socket))
            .await
            .unwrap_or_else(|_| Err(self.unreachable(io::ErrorKind::TimedOut)))
    }

    fn unreachable(&self, kind: io::ErrorKind) -> ConnectionError {
        ConnectionError::Unreachable {
            path: self.socket.clone(),
            source: kind.into(),
        }
    }

    async fn make_way(&self, start: Start) -> Result<Connection, CliError> {
        self.home.prepare()?;
        let making = async {
            let _lock = self.lock().await?;
            // Whoever held the lock before us may have made it.
            if let Ok(connection) = self.connect().await {
                return Ok(connection);
            }
            let asks = !self.is_known.load(Ordering::Relaxed);
            let reached = self.ssh.reach(start, asks).await?;
            self.ssh.forward(&self.socket, &reached.socket).await?;
            let through = timeout(FORWARD_WITHIN, async {
                loop {
                    match self.connect().await {
                        Ok(connection) => return connection,
                        Err(_) => sleep(POLL).await,
                    }
                }
            });
            through
                .await
                .map_err(|_| self.ssh.failed(error::Why::NotForwarded).into())
        };
        tokio::pin!(making);
        tokio::select! {
            made = &mut making => return made,
            () = sleep(NOTICEABLE), if !self.is_known.load(Ordering::Relaxed) => {}
        }
        // A line of its own rather than one that moves: ssh may be asking for a password.
        words::progress(&format!("connecting to {}", self.host()));
        making.await
    }

    async fn lock(&self) -> Result<Lock, CliError> {
        loop {
            let lock = Lock::try_acquire(&self.lock).map_err(|source| CliError::Write {
                path: self.lock.clone(),
                source,
            })?;
            match lock {
                Some(lock) => return Ok(lock),
                None => sleep(POLL).await,
            }
        }
    }
}

/// A machine's name for the command line, refused where ssh would take it for a flag.
pub(crate) fn host(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("must not be empty"),
        text if text.starts_with('-') => Err("must not begin with a dash"),
        text if text.chars().any(|c| c.is_control() || c == ' ') => {
            Err("must be one word, as ssh takes it")
        }
        text => Ok(text.to_owned()),
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host())
    }
}
