//! Connections to the session: lost, and found again.

use serde_json::Value;
use tithon_ipc::client::Connection;
use tokio::time::{Instant, sleep};

use super::Repl;
use crate::{
    error::CliError,
    follow::{Attempts, Lost},
};

/// Why a connection is no longer served.
pub(super) enum Stop {
    Lost(Lost),
    Failed(CliError),
}

impl<E: Into<CliError>> From<E> for Stop {
    fn from(err: E) -> Self {
        Self::Failed(err.into())
    }
}

pub(super) async fn send(connection: &mut Connection, op: &Value) -> Result<(), Stop> {
    connection
        .send(op)
        .await
        .map_err(|_| Stop::Lost(Lost::Broken))
}

impl Repl<'_> {
    /// A new connection after the old one ended.
    ///
    /// # Errors
    /// When none comes about any more.
    pub(super) async fn reopen(&mut self, lost: Lost) -> Result<Connection, CliError> {
        let began = Instant::now();
        let mut told = false;
        while let Some(delay) = self.attempts.next() {
            let (link, may_start) = (self.link, self.attempts.may_start(lost));
            let attempt = async {
                sleep(delay).await;
                match may_start {
                    true => link.open().await,
                    false => link.open_running().await,
                }
            };
            let mut written = Ok(());
            let tell = || {
                if !std::mem::replace(&mut told, true) {
                    self.screen.aside("the connection was lost, reconnecting");
                    written = self.flush();
                }
            };
            let opened = Attempts::telling(began, tell, attempt).await;
            written?;
            match opened {
                Ok(connection) => {
                    if told {
                        let seconds = began.elapsed().as_secs();
                        self.screen
                            .aside(&format!("connected again after {seconds}s"));
                    }
                    return Ok(connection);
                }
                Err(err) if err.is_final() => return Err(err),
                Err(_) => {}
            }
        }
        Err(CliError::Lost {
            left: self.cells.running().map(|exec_id| {
                let command = self.link.suggested("repl", self.bound.session());
                (exec_id.to_owned(), command)
            }),
        })
    }
}
