//! What `tests/switchboard` starts: a supervisor, and the smallest worker that keeps a worker's side
//! of the bargain. Its kernel is a process that sleeps, and what it says to clients is an echo.
//!
//! A file in the session's directory makes it misbehave: `crash` (ends at once), `mute` (never tells
//! its status), `unwilling` (takes no clients), `brittle` (ends at the next client, once). A session
//! named `hopeless` has no luck at all.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own program: a panic is the report"
)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::{
    env, fs,
    os::{fd::OwnedFd, unix::net},
    path::PathBuf,
    process::{Command, ExitCode, Stdio, exit},
    rc::Rc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use serde_json::json;
use tithon_ipc::{
    client::websocket_config,
    control::{Handover, Reply, Request, Server},
    files::{self, KernelRecord, Meta, WorkerRecord},
    ids::SessionId,
    lock::Lock,
    paths::Home,
    process::{ProcessHandle, ProcessIdentity},
};
use tithon_supervisor::Options;
use tokio::{
    net::{UnixListener, UnixStream},
    task::{JoinSet, LocalSet},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[1..] {
        ["daemon", home] => supervise(Home::at(home.into())),
        ["worker", "--home", home, "--dir", dir, ..] => {
            work(&Home::at(home.into()), dir.into());
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}

fn supervise(home: Home) -> ExitCode {
    let options = Options {
        idle_timeout: Some(Duration::from_millis(1500)),
        retention_days: None,
        history_target_mib: Some(7.0),
        journaled: false,
        detached_workers: true,
        worker_program: env::current_exe().unwrap(),
    };
    match tithon_supervisor::run(home, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("failed to {err}");
            ExitCode::FAILURE
        }
    }
}

fn work(home: &Home, dir: PathBuf) {
    let id = SessionId::parse(&Meta::read(&dir).unwrap().session_id).unwrap();
    if dir.join("crash").exists() {
        eprintln!("alas");
        exit(3);
    }
    if id.as_str() == "hopeless" {
        println!("failed: no luck with {id}");
        exit(1);
    }
    let Some(lock) = Lock::try_acquire(&files::worker_lock(&dir)).unwrap() else {
        println!("failed: the session has a worker");
        exit(1);
    };
    let kernel = kernel(&dir);
    let control = home.control_socket(&id.key());
    drop(fs::remove_file(&control));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(LocalSet::new().run_until(async {
            let listener = UnixListener::bind(&control).unwrap();
            let record = WorkerRecord {
                process: ProcessIdentity::current().unwrap(),
                control: control.clone(),
                version: "rig".to_owned(),
                unit: None,
            };
            record.write(&dir).unwrap();
            println!("ready");
            let worker = Rc::new(Worker { id, dir, kernel });
            let mut clients = JoinSet::new();
            let (over, mut ended) = tokio::sync::mpsc::channel(1);
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (worker, over) = (Rc::clone(&worker), over.clone());
                        clients.spawn_local(async move {
                            worker.serve(accepted.unwrap().0, over).await;
                        });
                    }
                    _ = ended.recv() => break,
                }
            }
            while clients.join_next().await.is_some() {}
            drop(lock);
        }));
}

struct Worker {
    id: SessionId,
    dir: PathBuf,
    kernel: ProcessHandle,
}

impl Worker {
    async fn serve(&self, stream: UnixStream, over: tokio::sync::mpsc::Sender<()>) {
        let Ok(mut supervisor) = Server::accept(stream).await else {
            return;
        };
        while let Ok(Some((request, fd))) = supervisor.next().await {
            let reply = match request {
                Request::Handover(_) if self.has("unwilling") => Reply::Refused("not today".into()),
                Request::Handover(handover) => {
                    if self.has("brittle") {
                        fs::remove_file(self.dir.join("brittle")).unwrap();
                        exit(4);
                    }
                    supervisor.reply(&Reply::Done(true)).await.unwrap();
                    return echo(handover, fd.unwrap()).await;
                }
                Request::Status if self.has("mute") => std::future::pending().await,
                Request::Status => Reply::Status(
                    json!({
                        "session": self.id,
                        "kernel_pid": self.kernel.identity().pid,
                        "worker_pid": std::process::id(),
                        "environment": env::vars()
                            .filter(|(name, _)| name.starts_with("TITHON_") || name.contains("SOCKET"))
                            .collect::<std::collections::BTreeMap<_, _>>(),
                    })
                    .to_string(),
                ),
                Request::Interrupt => Reply::Done(self.kernel.is_alive()),
                Request::Policy { .. } => Reply::Done(true),
                Request::Kill | Request::Stop { .. } => {
                    let alive = self.kernel.is_alive();
                    self.kernel.signal(Signal::KILL).unwrap();
                    while self.kernel.is_alive() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    over.send(()).await.unwrap();
                    supervisor.reply(&Reply::Done(alive)).await.unwrap();
                    exit(0);
                }
            };
            supervisor.reply(&reply).await.unwrap();
        }
    }

    fn has(&self, vice: &str) -> bool {
        self.dir.join(vice).exists()
    }
}

async fn echo(handover: Handover, fd: OwnedFd) {
    let stream = UnixStream::from_std(net::UnixStream::from(fd)).unwrap();
    let config = Some(websocket_config());
    let unread = handover.unread;
    let mut client =
        WebSocketStream::from_partially_read(stream, unread, Role::Server, config).await;
    let mut heard = Some(handover.first);
    loop {
        if let Some(text) = heard.take() {
            let frame = json!({"op": "echo", "worker": std::process::id(), "text": text});
            if client.send(Message::text(frame.to_string())).await.is_err() {
                return;
            }
        }
        match client.next().await {
            Some(Ok(Message::Text(text))) => heard = Some(text.to_string()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// The session's kernel: the one that lives, else a new one.
fn kernel(dir: &std::path::Path) -> ProcessHandle {
    if let Ok(record) = KernelRecord::read(dir)
        && let Some(kernel) = record.process.open().unwrap()
    {
        return kernel;
    }
    let mut child = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = ProcessIdentity::of(i32::try_from(child.id()).unwrap())
        .unwrap()
        .unwrap();
    std::thread::spawn(move || child.wait());
    let record = KernelRecord { process };
    record.write(dir).unwrap();
    record.process.open().unwrap().unwrap()
}
