//! The worker's control socket: the supervisor's requests, and the clients it hands over.

use std::os::{fd::OwnedFd, unix::net::UnixStream as StdStream};

use tithon_ipc::control::{Handover, Reply, Request, Server};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::oneshot,
    task::spawn_local,
};

use crate::{
    client::{self, ClientId, Door},
    session::Command,
};

/// Accepts supervisors until the listener's task is dropped.
pub(crate) async fn listen(listener: UnixListener, door: Door) {
    let mut clients: ClientId = 0;
    let me = rustix::process::getuid().as_raw();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(err) => {
                // Out of descriptors, most likely: accepting again at once would only spin.
                tracing::warn!("failed to accept a control connection: {err}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == me) {
            tracing::warn!("refused a control connection of another user");
            continue;
        }
        clients += 1;
        spawn_local(converse(stream, door.clone(), clients));
    }
}

/// One connection carries at most one hand-over, so its number names the client.
async fn converse(stream: UnixStream, door: Door, client: ClientId) {
    let mut server = match Server::accept(stream).await {
        Ok(server) => server,
        Err(err) => return tracing::warn!("failed to talk to a supervisor: {err}"),
    };
    loop {
        let reply = match server.next().await {
            Ok(Some((Request::Handover(handover), Some(fd)))) => {
                let taken = take_over(&door, client, handover, fd);
                let reply = taken.as_ref().err().cloned().unwrap_or(Reply::Done(true));
                drop(server.reply(&reply).await);
                return;
            }
            Ok(Some((request, _))) => ask(&door, request).await,
            Ok(None) => return,
            Err(err) => return tracing::warn!("failed to understand a supervisor: {err}"),
        };
        if server.reply(&reply).await.is_err() {
            return;
        }
    }
}

async fn ask(door: &Door, request: Request) -> Reply {
    let (reply, answer) = oneshot::channel();
    if door
        .commands
        .send(Command::Control(request, reply))
        .await
        .is_ok()
        && let Ok(answer) = answer.await
    {
        return answer;
    }
    Reply::Refused("the worker is ending".to_owned())
}

fn take_over(door: &Door, client: ClientId, handover: Handover, fd: OwnedFd) -> Result<(), Reply> {
    let stream = StdStream::from(fd);
    let stream = stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream))
        .map_err(|err| Reply::Refused(format!("the connection cannot be taken over: {err}")))?;
    spawn_local(client::serve(
        door.clone(),
        client,
        stream,
        handover.first,
        handover.unread,
    ));
    Ok(())
}
