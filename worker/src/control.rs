//! The worker's control socket: the supervisor's requests, and the clients it hands over.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
};

use tithon_ipc::control::{Reply, Request, Server};
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
        // A supervisor that only looks who listens says nothing.
        Err(err) => return tracing::debug!("failed to talk to a supervisor: {err}"),
    };
    loop {
        let reply = match server.next().await {
            Ok(Some((Request::Handover(handover), Some(fd)))) => {
                return match stream_of(fd) {
                    // Answered first: a supervisor that hears nothing may hand the client to another.
                    Ok(stream) => match server.reply(&Reply::Done(true)).await {
                        Ok(()) => {
                            client::serve(door, client, stream, handover.first, handover.unread)
                                .await
                        }
                        Err(err) => tracing::warn!("failed to take over a client: {err}"),
                    },
                    Err(err) => drop(
                        server
                            .reply(&Reply::Refused(format!(
                                "the connection cannot be taken over: {err}"
                            )))
                            .await,
                    ),
                };
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

fn stream_of(fd: OwnedFd) -> io::Result<UnixStream> {
    let stream = StdStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
