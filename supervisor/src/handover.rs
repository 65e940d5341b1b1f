//! Giving a client to its session's worker, whole: the descriptor, the message that named the
//! session, and every byte read behind it.

use std::{
    os::{fd::OwnedFd, unix::net},
    time::Duration,
};

use bytes::BytesMut;
use tithon_ipc::control::{Handover, Reply, Request};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::{
    client::{Client, Dismissal},
    framewise::Framewise,
    session::{Demand, Session},
};

/// How long a worker may take to accept a client: its kernel may have to start, which takes it up to
/// two minutes before it says so.
const HANDOVER_LIMIT: Duration = Duration::from_secs(150);

/// Hands the client over, or tells it why nobody will serve it.
pub(crate) async fn hand_over(client: Client, session: &Session, demand: &Demand, first: String) {
    let Some((stream, unread)) = client.take_apart().await else {
        return;
    };
    // Out of our poller first: it would go on reporting on a connection that is no longer ours.
    let fd = match stream.into_std() {
        Ok(stream) => OwnedFd::from(stream),
        Err(err) => return tracing::warn!(%err, "a client is lost"),
    };
    let request = Request::Handover(Handover { first, unread });
    let reason = match session
        .call(demand, &request, Some(&fd), HANDOVER_LIMIT)
        .await
    {
        Ok(Some(Reply::Done(_))) => {
            return tracing::debug!(session = %session.id(), "handed a client over");
        }
        Ok(Some(Reply::Refused(reason))) => reason,
        Ok(Some(Reply::Status(_)) | None) => "the session's worker takes no clients".to_owned(),
        Err(err) => err.to_string(),
    };
    match UnixStream::from_std(net::UnixStream::from(fd)) {
        Ok(stream) => {
            let client = Client::new(Framewise::new(stream, BytesMut::new())).await;
            let dismissal = Dismissal {
                code: CloseCode::Normal,
                error: Some(reason.into()),
            };
            client.dismiss(&dismissal).await;
        }
        Err(err) => tracing::warn!(%err, "a client is lost"),
    }
}
