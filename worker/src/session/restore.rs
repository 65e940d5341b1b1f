//! Going back to a checkpoint: the kernel that runs, or has died, is replaced by a copy of an earlier
//! state of it.

use std::{fs, io, time::Duration};

use serde_json::json;
use tithon_ipc::{
    client::Frame,
    files,
    ids::ExecId,
    jupyter::{ConnectionFile, Signer},
    logs,
    process::ProcessHandle,
};

use tokio::time::timeout;

use super::{
    NOBODY, Session,
    ending::End,
    kernel::{Capture, Kernel, KernelSlot, Origin},
    launch::{LaunchEvent, LaunchFile},
    spool::Spool,
    store::Effect,
};
use crate::{
    client::{Answer, ClientId},
    journal::{Row, now},
    kernel::{
        channels::Channels,
        checkpoint::{self, Seat},
        process::KernelProcess,
    },
    python::Launch,
    widgets::WidgetMirror,
};

/// How long a copy may take until it answers; it has nothing to import.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a checkpoint may take to prove that it can fork; page tables of a hundred gigabytes need a second.
const PROOF_PATIENCE: Duration = Duration::from_secs(10);

/// What a kernel is restored to, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restored {
    /// After which execution it was taken.
    pub(super) exec: ExecId,
    /// Whether a person asked for it.
    pub(super) deliberate: bool,
}

/// A checkpoint that is being woken.
#[derive(Debug)]
pub(super) struct Waking {
    restored: Restored,
    client: ClientId,
    launch: Launch,
    connection: ConnectionFile,
    spool: Spool,
}

impl Session {
    /// Replaces the kernel by a state or checkpoint: the one named, else the newest.
    pub(super) async fn restore_kernel(&mut self, client: ClientId, to: Option<&str>) {
        let exec = match self.choose_checkpoint(to) {
            Ok(exec) => exec,
            Err(message) => return self.frame(client, &Frame::Error { message: &message }),
        };
        // Proved to answer before the kernel is given up for it.
        if let Err(message) = self.check_checkpoint(exec).await {
            return self.frame(client, &Frame::Error { message: &message });
        }
        self.checkpoints.failed = false;
        self.orphan_all();
        let restored = Restored {
            exec,
            deliberate: true,
        };
        self.end_kernel(End::Restored(client, restored)).await;
    }

    pub(super) fn choose_checkpoint(&self, to: Option<&str>) -> Result<ExecId, String> {
        if self.kernel.is_loading() && !matches!(self.kernel, KernelSlot::Absent) {
            return Err("the kernel is being started: try again in a moment".to_owned());
        }
        let list = "`tithon checkpoints` lists those there are, and says how to have more; `tithon replay` runs the recorded cells again";
        let found = match to {
            None => self
                .checkpoints
                .newest_in_line()
                .ok_or_else(|| format!("there is no checkpoint to go back to\nhint: {list}")),
            Some(name) => match ExecId::parse(name) {
                Some(exec) => self
                    .checkpoints
                    .get(exec)
                    .ok_or_else(|| format!("there is no checkpoint after {name}\nhint: {list}")),
                None => self
                    .checkpoints
                    .named(name)
                    .ok_or_else(|| match self.copies.makes(name) {
                        Some(exec) => format!(
                            "the state '{name}' is still being made, by {exec}\nhint: `tithon wait {exec}`"
                        ),
                        None => format!(
                            "there is no state '{name}'\nhint: `tithon states ls` lists those there are"
                        ),
                    }),
            },
        }?;
        let exec = ExecId(found.exec);
        match (found.process.open(), &found.state) {
            (Ok(Some(_)), _) => Ok(exec),
            (_, Some(state)) => Err(format!(
                "the state '{}' has ended, for memory perhaps\nhint: `tithon log --exec {exec}` has the code that made it",
                state.name
            )),
            _ => Err(format!(
                "the checkpoint after {exec} has ended, for memory perhaps\nhint: {list}",
            )),
        }
    }

    async fn check_checkpoint(&self, exec: ExecId) -> Result<(), String> {
        let Some(known) = self.checkpoints.get(exec) else {
            return Err(format!("{} has been given up", self.called(exec)));
        };
        let socket = self.checkpoint_socket(exec);
        let proof = checkpoint::prove(&socket, &known.process);
        match timeout(PROOF_PATIENCE, proof).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(err)) => Err(format!("{} does not answer: {err}", self.called(exec))),
            Err(_) => Err(format!("{} does not answer", self.called(exec))),
        }
    }

    /// What to call a checkpoint or state before a person.
    fn called(&self, exec: ExecId) -> String {
        match self.checkpoints.name_of(exec) {
            Some(name) => format!("the state '{name}'"),
            None => format!("the checkpoint after {exec}"),
        }
    }

    /// Whether an earlier state is about to be the kernel's.
    pub(super) fn is_being_restored(&self) -> bool {
        self.checkpoints.waking
            || self
                .kernel
                .running()
                .is_some_and(|kernel| kernel.restored.is_some())
    }

    /// Goes on from the newest checkpoint after the kernel died, if that is wished; says whether it does.
    pub(super) fn restore_by_itself(&mut self) -> bool {
        if !self.checkpoints.restores_by_itself() || self.checkpoints.failed {
            return false;
        }
        let Some(exec) = self.way_back() else {
            return false;
        };
        self.wake(
            NOBODY,
            Restored {
                exec,
                deliberate: false,
            },
        );
        true
    }

    /// The checkpoint that a dead kernel can go on from.
    pub(super) fn way_back(&self) -> Option<ExecId> {
        let newest = self.checkpoints.newest_in_line()?;
        matches!(newest.process.open(), Ok(Some(_))).then_some(ExecId(newest.exec))
    }

    /// Lets a checkpoint become the kernel; there is no other.
    pub(super) fn wake(&mut self, client: ClientId, restored: Restored) {
        match self.prepare_to_wake(client, restored) {
            Ok(waking) => {
                let exec = restored.exec;
                let socket = self.checkpoint_socket(exec);
                let process = self
                    .checkpoints
                    .get(exec)
                    .map(|known| known.process.clone());
                let (base, events) = (waking.spool.offset(), self.launch_sender.clone());
                // A state was made by a copy with connections of its own.
                let seat = self.checkpoints.name_of(exec).map(|_| Seat {
                    connection: self.place.dir.join("kernel.json"),
                    spool: self.spool_dir(),
                    log: logs::kernel(&self.place.dir),
                });
                self.kernel = KernelSlot::Choosing {
                    restart: Some(client),
                };
                self.checkpoints.waking = true;
                tokio::task::spawn_local(async move {
                    let woken = match process {
                        Some(process) => checkpoint::wake(&socket, &process, base, seat).await,
                        None => Err(io::Error::from(io::ErrorKind::NotFound)),
                    };
                    let waking = Box::new(waking);
                    drop(events.send(LaunchEvent::Woken { waking, woken }));
                });
            }
            Err(err) => self.waking_failed(client, restored, &err),
        }
    }

    fn prepare_to_wake(&self, client: ClientId, restored: Restored) -> io::Result<Waking> {
        let stored = files::read_json::<LaunchFile>(&self.place.dir.join("launch.json"))?;
        let launch = stored
            .launch
            .ok_or_else(|| io::Error::other("launch.json does not say how it was started"))?;
        let spool = Spool::open(&self.spool_dir(), self.spool_position.as_deref(), false)
            .map_err(io::Error::other)?;
        Ok(Waking {
            restored,
            client,
            launch,
            connection: files::read_json(&self.place.dir.join("kernel.json"))?,
            spool,
        })
    }

    /// The copy runs, or could not be made.
    pub(super) fn woken(&mut self, waking: Waking, woken: io::Result<ProcessHandle>) {
        let (client, restored) = (waking.client, waking.restored);
        self.checkpoints.waking = false;
        if let Err(err) = woken.and_then(|process| self.connect_woken(process, waking)) {
            self.waking_failed(client, restored, &err);
        }
    }

    fn connect_woken(&mut self, process: ProcessHandle, waking: Waking) -> io::Result<()> {
        let process = KernelProcess::woken(process, &self.place.dir)?;
        tracing::info!(pid = process.pid(), to = %waking.restored.exec, "restored the kernel");
        let (channels, incoming) =
            Channels::open(&waking.connection, &self.identity()).map_err(io::Error::other)?;
        let signer = Signer::new(&waking.connection.key, self.identity());
        let log_start = fs::metadata(self.place.dir.join("kernel.log")).map_or(0, |log| log.len());
        let origin = Origin::Started {
            restart: Some(waking.client),
            log_start,
        };
        let capture = Capture::Spool(Box::new(waking.spool));
        let mut kernel = Kernel::new(process, channels, signer, waking.launch, capture, origin);
        kernel.is_restored(waking.restored, READY_PATIENCE);
        self.kernel_events = incoming;
        self.numbering = Default::default();
        self.kernel = KernelSlot::Running(Box::new(kernel));
        Ok(())
    }

    fn waking_failed(&mut self, client: ClientId, restored: Restored, err: &io::Error) {
        self.checkpoints.failed = true;
        let reason = format!("{} cannot be restored: {err}", self.called(restored.exec));
        self.start_failed(&reason, Some(client));
    }

    /// The restored kernel can be used.
    pub(super) fn restored_kernel_ready(&mut self, pid: i32, client: ClientId, restored: Restored) {
        let lost = self.checkpoints.lost_since(restored.exec);
        let lost: Vec<String> = lost.iter().map(|exec| ExecId(*exec).to_string()).collect();
        let mirror = self
            .checkpoints
            .get(restored.exec)
            .and_then(|known| WidgetMirror::restore(known.widgets()?).ok());
        if let Some(mirror) = &mirror {
            self.close_widgets_unknown_to(mirror);
        }
        let lost_state = !restored.deliberate && !lost.is_empty();
        self.lifecycle.generation = self.journal_kernel(&json!({
            "status": "restored",
            "pid": pid,
            "to": restored.exec.to_string(),
            "state": self.checkpoints.name_of(restored.exec),
            "lost": lost,
            "deliberate": restored.deliberate,
            "lost_state": lost_state,
        }));
        self.lifecycle.lost_state = lost_state;
        self.open_widgets(mirror);
        self.checkpoints.failed = false;
        self.checkpoints.line_ends_at(restored.exec);
        self.store_checkpoints();
        self.comms.may_be_incomplete();
        self.ask_for_comms();
        let to = restored.exec.to_string();
        let frame = Frame::KernelRestored {
            kernel_pid: pid,
            to: &to,
            state: self.checkpoints.name_of(restored.exec),
            lost: &lost,
        }
        .to_text();
        self.after_commit(Effect::Answer(client, Answer::Frame(frame.into())));
        if !restored.deliberate {
            self.notice(&format!("the kernel was restored to its state after {to}"));
        }
    }

    /// Tells clients that widgets are gone which the restored kernel does not have.
    fn close_widgets_unknown_to(&mut self, mirror: &WidgetMirror) {
        for comm_id in self.widgets.unknown_to(mirror) {
            self.row(None, "comm_close", &json!({"comm_id": comm_id, "data": {}}));
        }
    }

    /// Tells the widgets of the restored kernel anew, as they were; a later worker reads them from here.
    fn open_widgets(&mut self, mirror: Option<WidgetMirror>) {
        if let Some(mirror) = mirror {
            self.widgets = mirror;
        }
        for content in self.widgets.opens() {
            self.push(Row {
                seq: 0,
                exec: None,
                target: None,
                msg_type: "comm_open".to_owned(),
                content: content.into(),
                ts: now(),
                message: None,
                images: Vec::new(),
            });
        }
    }
}
