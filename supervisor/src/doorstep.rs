//! Where clients arrive: whose process it is, and the handshake, before anything is believed.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use rustix::process::getuid;
use tithon_ipc::platform::memory;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{House, conversation, handshake};

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Clients that may be half-way through a handshake; the oldest yields to one more.
const HALF_OPEN_MAX: usize = 256;
/// How long clients are waited for when the supervisor ends.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// How long nobody must come or go before memory is given back.
const REST_AFTER: Duration = Duration::from_secs(10);
/// After an accept that failed, most likely for want of descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Dropped by whoever decides that the handshake has taken too long.
type Patience = oneshot::Sender<()>;

/// Accepts clients until the supervisor closes, and sees the last of them off.
pub(crate) async fn attend(listener: UnixListener, house: Arc<House>) {
    let mut connections = JoinSet::new();
    let mut half_open: VecDeque<Patience> = VecDeque::new();
    let mut rests = false;
    loop {
        let rested = std::mem::take(&mut rests);
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if is_ours(&stream) => {
                    let (patience, evicted) = oneshot::channel();
                    make_room(&mut half_open);
                    half_open.push_back(patience);
                    connections.spawn(welcome(stream, evicted, Arc::clone(&house)));
                }
                Ok(_) => {}
                Err(err) => {
                    tracing::warn!(%err, "a client cannot be accepted");
                    sleep(BREATH).await;
                }
            },
            Some(ended) = connections.join_next() => if let Err(err) = ended {
                tracing::error!(%err, "a client's task failed; the client was dropped");
            },
            () = sleep(REST_AFTER), if !rested => {
                memory::give_back();
                rests = true;
            }
            () = house.closing.wait() => break,
        }
    }
    drop(listener);
    let seen_off = async { while connections.join_next().await.is_some() {} };
    if timeout(FAREWELL_LIMIT, seen_off).await.is_err() {
        tracing::debug!(left = connections.len(), "clients did not leave in time");
    }
}

/// The socket's mode keeps others out already; this holds where modes do not.
fn is_ours(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == getuid().as_raw() => true,
        Ok(peer) => {
            tracing::warn!(
                uid = peer.uid(),
                "another user's process knocked; not let in"
            );
            false
        }
        Err(err) => {
            tracing::warn!(%err, "a client's user cannot be told; not let in");
            false
        }
    }
}

fn make_room(half_open: &mut VecDeque<Patience>) {
    half_open.retain(|patience| !patience.is_closed());
    while half_open.len() >= HALF_OPEN_MAX {
        half_open.pop_front();
    }
}

async fn welcome(stream: UnixStream, evicted: oneshot::Receiver<()>, house: Arc<House>) {
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE_LIMIT, handshake::accept(stream)) => accepted,
        _ = evicted => return tracing::debug!("a handshake made room for others"),
        () = house.closing.wait() => return,
    };
    match accepted {
        Ok(Ok(stream)) => conversation::hold(stream, &house).await,
        Ok(Err(handshake::HandshakeError::Io(err)))
            if err.kind() == io::ErrorKind::UnexpectedEof => {}
        Ok(Err(err)) => tracing::debug!(%err, "no handshake"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_half_open_client_yields() {
        let mut half_open = VecDeque::new();
        let mut clients = Vec::new();
        for _ in 0..=HALF_OPEN_MAX {
            let (patience, evicted) = oneshot::channel::<()>();
            make_room(&mut half_open);
            half_open.push_back(patience);
            clients.push(evicted);
        }
        assert!(
            clients[0]
                .try_recv()
                .is_err_and(|err| err == oneshot::error::TryRecvError::Closed)
        );
        assert!(
            clients[1]
                .try_recv()
                .is_err_and(|err| err == oneshot::error::TryRecvError::Empty)
        );
        // One that is through its handshake counts no more.
        drop(clients.remove(5));
        make_room(&mut half_open);
        assert_eq!(half_open.len(), HALF_OPEN_MAX - 1);
        assert!(
            clients[1]
                .try_recv()
                .is_err_and(|err| err == oneshot::error::TryRecvError::Empty)
        );
    }
}
