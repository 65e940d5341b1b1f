//! The session's kernel: absent, starting, running or dead, and what it takes to know.

use std::time::Duration;

use serde_json::json;
use tithon_ipc::jupyter::{ConnectionFile, Message, Signer};
use tokio::time::Instant;

use super::{Session, queue::ExecuteReply};
use crate::{
    client::ClientId,
    journal::Channel,
    kernel::{
        channels::{Channels, ChannelsError, Iopub},
        process::{KernelProcess, describe},
    },
    python::Launch,
};

/// How long a kernel may take to answer for the first time (PROTOCOL §3).
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a kernel is asked until it is known to hear and to be heard.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// Questions after which a kernel that answers but publishes nothing is taken as it is.
const PROBES_MAX: u32 = 40;

/// Where the session's kernel stands.
#[derive(Debug)]
pub(super) enum KernelSlot {
    /// None was wanted yet.
    Absent,
    /// An interpreter is being looked for. `restart` names who asked for a new kernel, if that is why.
    Choosing { restart: Option<ClientId> },
    /// There is a process.
    Running(Box<Kernel>),
    /// It ended, and nobody has asked for another.
    Dead { pid: i32 },
}

impl KernelSlot {
    /// The kernel, if there is a process.
    pub(super) fn running(&self) -> Option<&Kernel> {
        match self {
            Self::Running(kernel) => Some(kernel),
            _ => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Kernel> {
        match self {
            Self::Running(kernel) => Some(kernel),
            _ => None,
        }
    }

    /// Whether clients must still wait for the session to be usable.
    pub(super) fn is_loading(&self) -> bool {
        match self {
            Self::Absent | Self::Choosing { .. } => true,
            Self::Running(kernel) => !kernel.ready && !kernel.reattached,
            Self::Dead { .. } => false,
        }
    }

    /// The process id of the kernel, dead or alive.
    pub(super) fn pid(&self) -> Option<i32> {
        match self {
            Self::Running(kernel) => Some(kernel.process.pid()),
            Self::Dead { pid } => Some(*pid),
            _ => None,
        }
    }

    /// The snapshot's `kernel.status`.
    pub(super) fn status(&self) -> &str {
        match self {
            Self::Absent => "unknown",
            Self::Choosing { .. } => "starting",
            Self::Running(kernel) if !kernel.ready && !kernel.reattached => "starting",
            Self::Running(kernel) => &kernel.execution_state,
            Self::Dead { .. } => "dead",
        }
    }

    /// Returns once the kernel's process has ended; never where there is none.
    pub(super) async fn ended(&self) {
        match self {
            Self::Running(kernel) => kernel.process.ended().await,
            _ => std::future::pending().await,
        }
    }
}

/// A kernel's process and the connections to it.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) process: KernelProcess,
    pub(super) channels: Channels,
    pub(super) signer: Signer,
    pub(super) launch: Launch,
    /// The last `execution_state` it published.
    pub(super) execution_state: String,
    /// Whether it may be sent cells.
    pub(super) ready: bool,
    /// Whether an earlier worker started it.
    pub(super) reattached: bool,
    /// Who asked for it to replace another.
    pub(super) restart: Option<ClientId>,
    /// Where its words begin in `kernel.log`.
    pub(super) log_start: u64,
    /// The language's version, as the kernel says it.
    pub(super) language_version: Option<String>,
    answered: bool,
    published: bool,
    probes: u32,
    probe_due: Option<Instant>,
    give_up: Option<Instant>,
}

/// Begins the `msg_id` of what Tithon asks for itself.
const PROBE: &str = "tithon-probe-";

impl Kernel {
    /// Connects to a kernel's process.
    ///
    /// # Errors
    /// When zmq refuses.
    pub(super) fn connect(
        process: KernelProcess,
        connection: &ConnectionFile,
        launch: Launch,
        identity: &str,
        reattached: bool,
    ) -> Result<
        (
            Self,
            tokio::sync::mpsc::UnboundedReceiver<crate::kernel::channels::Incoming>,
        ),
        ChannelsError,
    > {
        let (channels, incoming) = Channels::open(connection, identity, Iopub::Subscribe)?;
        let now = Instant::now();
        let mut kernel = Self {
            process,
            channels,
            signer: Signer::new(&connection.key, identity.to_owned()),
            language_version: launch.language_version.clone(),
            launch,
            execution_state: "unknown".to_owned(),
            ready: false,
            reattached,
            restart: None,
            log_start: 0,
            answered: false,
            published: false,
            probes: 0,
            probe_due: None,
            give_up: (!reattached).then(|| now + READY_TIMEOUT),
        };
        kernel.ask(Channel::Shell);
        kernel.ask(Channel::Control);
        kernel.probe_due = Some(now + PROBE_INTERVAL);
        Ok((kernel, incoming))
    }

    /// Whether everything the kernel ever said can still be read.
    pub(super) fn records_everything(&self) -> bool {
        false
    }

    /// When to ask again, or to give up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.probe_due, self.give_up].into_iter().flatten().min()
    }

    fn ask(&mut self, channel: Channel) {
        self.probes += 1;
        let msg_id = format!("{PROBE}{}_{}", std::process::id(), self.probes);
        self.channels.send(
            channel,
            self.signer
                .request(&msg_id, "kernel_info_request", &json!({})),
        );
    }

    /// Whether a message answers a question of Tithon's own.
    pub(super) fn is_probe(parent: Option<&str>) -> bool {
        parent.is_some_and(|parent| parent.starts_with(PROBE))
    }

    fn is_own_probe(parent: Option<&str>) -> bool {
        parent.is_some_and(|parent| {
            parent
                .strip_prefix(PROBE)
                .is_some_and(|rest| rest.starts_with(&format!("{}_", std::process::id())))
        })
    }

    fn update_ready(&mut self) -> bool {
        let heard = self.answered || self.reattached;
        if self.ready || !heard || !self.published && self.probes < PROBES_MAX {
            return false;
        }
        self.ready = true;
        self.give_up = None;
        self.probe_due = None;
        if self.execution_state == "unknown" && self.answered {
            "idle".clone_into(&mut self.execution_state);
        }
        true
    }
}

impl Session {
    /// Sends a message to the kernel, if there is one.
    pub(super) fn send(&self, channel: Channel, message: Message) {
        if let Some(kernel) = self.kernel.running() {
            kernel.channels.send(channel, message);
        }
    }

    /// The kernel published something: its subscription is live.
    pub(super) fn kernel_published(&mut self) {
        if let Some(kernel) = self.kernel.running_mut() {
            kernel.published = true;
            if kernel.update_ready() {
                self.kernel_ready();
            }
        }
    }

    /// The kernel answered `kernel_info`.
    pub(super) fn kernel_answered(
        &mut self,
        channel: Channel,
        parent: Option<&str>,
        reply: &Message,
    ) {
        if !Kernel::is_own_probe(parent) {
            return;
        }
        if let Some(kernel) = self.kernel.running_mut() {
            kernel.answered |= channel == Channel::Shell;
            if let Ok(info) = serde_json::from_slice::<KernelInfo>(&reply.content) {
                kernel.language_version = info
                    .language_info
                    .version
                    .or(kernel.language_version.take());
                if let Some(name) = info.language_info.name {
                    kernel.launch.language = name;
                }
            }
            if kernel.update_ready() {
                self.kernel_ready();
            }
        }
        if channel == Channel::Shell {
            // The shell is served in order: whatever was sent before this question is done.
            self.kernel_is_free();
        }
    }

    fn kernel_ready(&mut self) {
        let Some(kernel) = self.kernel.running_mut() else {
            return;
        };
        let (pid, restart) = (kernel.process.pid(), kernel.restart.take());
        if !kernel.reattached {
            self.fresh_kernel_ready(pid, restart);
        }
        self.answer_waiting();
        self.start_next();
    }

    /// The kernel's process ended by itself.
    pub(super) async fn kernel_ended(&mut self) {
        // What it had sent before it died is still on its way through the channels' thread.
        self.drain_kernel().await;
        let KernelSlot::Running(mut kernel) =
            std::mem::replace(&mut self.kernel, KernelSlot::Absent)
        else {
            return;
        };
        let pid = kernel.process.pid();
        let how = kernel.process.exit().map(describe);
        tracing::warn!(
            pid,
            how = how.as_deref().unwrap_or("ended"),
            "the kernel died"
        );
        let started = kernel.ready || kernel.reattached;
        let (restart, log_start) = (kernel.restart, kernel.log_start);
        drop(kernel);
        crate::kernel::process::sweep(&self.place.dir).await;
        self.kernel = KernelSlot::Dead { pid };
        if !started {
            let reason = self.died_at_start(log_start);
            return self.start_failed(&reason, restart);
        }
        self.running_died(how.as_deref());
        self.journal_kernel(&json!({"status": "dead", "pid": pid, "deliberate": false}));
        self.start_next();
    }

    /// Takes in what the dead kernel's channels still hold.
    async fn drain_kernel(&mut self) {
        const QUIET: Duration = Duration::from_millis(100);
        while let Ok(Some((channel, frames))) =
            tokio::time::timeout(QUIET, self.kernel_events.recv()).await
        {
            self.kernel_messages(channel, frames);
        }
    }

    pub(super) async fn kernel_deadline(&mut self, now: Instant) {
        let Some(kernel) = self.kernel.running_mut() else {
            return;
        };
        if kernel.give_up.is_some_and(|due| now >= due) {
            let restart = kernel.restart;
            let reason = format!(
                "kernel did not become ready in time (see {})",
                self.place.dir.join("kernel.log").display()
            );
            self.end_kernel().await;
            return self.start_failed(&reason, restart);
        }
        if kernel.probe_due.is_some_and(|due| now >= due) {
            kernel.probe_due = Some(now + PROBE_INTERVAL);
            // On control a busy kernel answers too, and publishes that it does.
            if kernel.answered || kernel.reattached {
                kernel.ask(Channel::Control);
            }
            if kernel.update_ready() {
                self.kernel_ready();
            }
        }
    }

    /// Ends the kernel's process and all it started.
    pub(super) async fn end_kernel(&mut self) {
        let pid = self.kernel.pid();
        if let KernelSlot::Running(kernel) = std::mem::replace(&mut self.kernel, KernelSlot::Absent)
        {
            let Kernel {
                process, channels, ..
            } = *kernel;
            process.terminate(&self.place.dir).await;
            drop(channels);
        }
        self.kernel = pid.map_or(KernelSlot::Absent, |pid| KernelSlot::Dead { pid });
    }

    /// Interrupts the running cell; false when there is no kernel to interrupt.
    pub(super) fn interrupt(&mut self) -> bool {
        let Some(kernel) = self
            .kernel
            .running_mut()
            .filter(|kernel| kernel.ready || kernel.reattached)
        else {
            return false;
        };
        match kernel.launch.interrupt_mode {
            crate::python::InterruptMode::Signal => {
                if let Err(err) = kernel.process.interrupt() {
                    tracing::warn!("failed to interrupt the kernel: {err}");
                    return false;
                }
            }
            crate::python::InterruptMode::Message => {
                let msg_id = format!("{PROBE}interrupt-{}", crate::journal::now());
                let request = kernel
                    .signer
                    .request(&msg_id, "interrupt_request", &json!({}));
                kernel.channels.send(Channel::Control, request);
            }
        }
        self.journal_kernel(&json!({"status": "interrupted"}));
        true
    }

    /// An execute reply's outcome and pager texts.
    pub(super) fn execute_replied(&mut self, content: &[u8]) {
        let Ok(reply) = serde_json::from_slice::<Reply>(content) else {
            tracing::warn!("the kernel's execute_reply cannot be understood");
            return self.replied(ExecuteReply {
                status: "error".to_owned(),
                execution_count: None,
            });
        };
        let exec = self.running.as_ref().map(|running| running.exec);
        for text in reply
            .payload
            .iter()
            .filter_map(|payload| payload.pointer("/data/text~1plain")?.as_str())
        {
            self.row(
                exec,
                "stream",
                &json!({"name": "stdout", "text": text, "tithon_scope": "cell"}),
            );
        }
        self.replied(ExecuteReply {
            status: reply.status,
            execution_count: reply.execution_count,
        });
    }
}

#[derive(serde::Deserialize)]
struct KernelInfo {
    #[serde(default)]
    language_info: LanguageInfo,
}

#[derive(Default, serde::Deserialize)]
struct LanguageInfo {
    name: Option<String>,
    version: Option<String>,
}

#[derive(serde::Deserialize)]
struct Reply {
    status: String,
    #[serde(default)]
    execution_count: Option<i64>,
    #[serde(default)]
    payload: Vec<serde_json::Value>,
}
