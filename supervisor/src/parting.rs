//! Ending a connection so that its last words are read.

use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

/// How long a client may take to read why it was sent away.
const LINGER: Duration = Duration::from_secs(1);

/// A client that has been told everything.
#[derive(Debug)]
pub(crate) struct Parting(pub(crate) UnixStream);

impl Parting {
    /// Says no more, reads on and throws away: a socket closed with something unread in it reports
    /// an error to a client in the middle of sending, before it has read the reason.
    pub(crate) async fn linger(mut self) {
        let drain = async {
            // A client that is gone already fails here and in the reading.
            drop(self.0.shutdown().await);
            let mut rest = vec![0; 16 << 10];
            while matches!(self.0.read(&mut rest).await, Ok(1..)) {}
        };
        // A client that stays longer has had its chance.
        drop(timeout(LINGER, drain).await);
        // A worker that was slow to refuse may still hold the connection: it ends here for all.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}
