//! The session's kernel: absent, starting, running or dead, and what it takes to know.

use std::time::Duration;

use serde_json::json;
use tithon_ipc::jupyter::{Message, Signer};
use tokio::time::Instant;

use super::{NOBODY, Session, death::Remains, ending::End, restore::Restored, spool::Spool};
use crate::{
    client::ClientId,
    journal::Channel,
    kernel::{channels::Channels, memory::MemoryWatch, process::KernelProcess},
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
    /// It ended while no worker was there, and what it said last is being read.
    Remains(Box<Remains>),
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
            Self::Absent | Self::Choosing { .. } | Self::Remains(_) => true,
            Self::Running(kernel) => kernel.is_starting() || kernel.is_being_replaced(),
            Self::Dead { .. } => false,
        }
    }

    /// The process id of the kernel, dead or alive.
    pub(super) fn pid(&self) -> Option<i32> {
        match self {
            Self::Running(kernel) => Some(kernel.process.pid()),
            Self::Dead { pid } => Some(*pid),
            Self::Remains(remains) => Some(remains.pid),
            _ => None,
        }
    }

    /// The snapshot's `kernel.status`.
    pub(super) fn status(&self) -> &str {
        match self {
            Self::Absent => "unknown",
            Self::Choosing { .. } => "starting",
            Self::Running(_) if self.is_loading() => "starting",
            Self::Running(kernel) => &kernel.execution_state,
            Self::Dead { .. } | Self::Remains(_) => "dead",
        }
    }

    /// Returns once the kernel's process has ended by itself; never where there is none.
    pub(super) async fn ended(&self) {
        match self {
            Self::Running(kernel) if kernel.end.is_none() => kernel.process.ended().await,
            _ => std::future::pending().await,
        }
    }
}

/// How a worker came by its kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// An earlier worker started it.
    Adopted,
    /// This one did: for a client that wanted another, with its words in `kernel.log` from here on.
    Started {
        restart: Option<ClientId>,
        log_start: u64,
    },
}

/// Where what a kernel says is read.
#[derive(Debug)]
pub(super) enum Capture {
    /// From its spool; nothing is lost, whoever dies.
    Spool(Box<Spool>),
    /// From its iopub socket, as far as zmq carries it.
    Zmq,
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
    /// The checkpoint it was, until it is ready.
    pub(super) restored: Option<Restored>,
    /// Where its words begin in `kernel.log`.
    pub(super) log_start: u64,
    /// The language's version, as the kernel says it.
    pub(super) language_version: Option<String>,
    /// Where what it says is read.
    pub(super) capture: Capture,
    /// Whether it runs out of memory.
    pub(super) memory: MemoryWatch,
    /// How its process ended, where that is known.
    pub(super) exit: Option<std::process::ExitStatus>,
    /// Set once its process is over: what follows when its last words are read.
    pub(super) end: Option<End>,
    /// What kind of kernel it says it is, e.g. `ipython`.
    pub(super) implementation: Option<String>,
    answered: bool,
    published: bool,
    probes: u32,
    shell_probe: String,
    probe_due: Option<Instant>,
    give_up: Option<Instant>,
}

/// Begins the `msg_id` of what Tithon asks for itself.
pub(super) const PROBE: &str = "tithon-probe-";

impl Kernel {
    /// A kernel behind its process and channels; asks it the first questions.
    pub(super) fn new(
        process: KernelProcess,
        channels: Channels,
        signer: Signer,
        launch: Launch,
        capture: Capture,
        origin: Origin,
    ) -> Self {
        if matches!(capture, Capture::Zmq) {
            channels.subscribe();
        }
        let reattached = matches!(origin, Origin::Adopted);
        let now = Instant::now();
        let mut kernel = Self {
            memory: MemoryWatch::of(process.pid()),
            process,
            channels,
            signer,
            language_version: launch.language_version.clone(),
            launch,
            execution_state: "unknown".to_owned(),
            ready: false,
            reattached,
            restart: match origin {
                Origin::Started { restart, .. } => restart,
                Origin::Adopted => None,
            },
            restored: None,
            log_start: match origin {
                Origin::Started { log_start, .. } => log_start,
                Origin::Adopted => 0,
            },
            capture,
            exit: None,
            end: None,
            implementation: None,
            answered: false,
            published: false,
            probes: 0,
            shell_probe: String::new(),
            probe_due: None,
            give_up: (!reattached).then(|| now + READY_TIMEOUT),
        };
        kernel.ask(Channel::Shell);
        kernel.ask(Channel::Control);
        kernel.probe_due = Some(now + PROBE_INTERVAL);
        kernel
    }

    /// Notes that it is a copy of an earlier state, which need not be waited for as long as a start.
    pub(super) fn is_restored(&mut self, restored: Restored, patience: Duration) {
        self.restored = Some(restored);
        self.give_up = Some(Instant::now() + patience);
    }

    /// Whether it never answered yet.
    fn is_starting(&self) -> bool {
        !self.ready && !self.reattached
    }

    /// Whether its process was ended to make room for another.
    fn is_being_replaced(&self) -> bool {
        matches!(self.end, Some(End::Replaced(..)))
    }

    /// Whether the session ends with it.
    pub(super) fn is_last(&self) -> bool {
        matches!(self.end, Some(End::Wanted(_)))
    }

    /// Whether everything the kernel ever said is read, however long nobody listened.
    pub(super) fn records_everything(&self) -> bool {
        matches!(self.capture, Capture::Spool(_))
    }

    /// When to ask again, or to give up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.probe_due, self.give_up].into_iter().flatten().min()
    }

    fn ask(&mut self, channel: Channel) {
        self.probes += 1;
        let msg_id = format!("{PROBE}{}_{}", std::process::id(), self.probes);
        let request = self
            .signer
            .request(&msg_id, "kernel_info_request", &json!({}));
        self.channels.send(channel, request);
        if channel == Channel::Shell {
            self.shell_probe = msg_id;
        }
    }

    /// Asks on shell, which is served in order: the answer comes behind everything sent before.
    pub(super) fn ask_whether_free(&mut self) {
        self.ask(Channel::Shell);
    }

    /// Whether a message answers a question of Tithon's own.
    pub(super) fn is_probe(parent: &str) -> bool {
        parent.starts_with(PROBE)
    }

    fn is_own_probe(parent: Option<&str>) -> bool {
        parent.is_some_and(|parent| {
            parent
                .strip_prefix(PROBE)
                .is_some_and(|rest| rest.starts_with(&format!("{}_", std::process::id())))
        })
    }

    /// Whether a message is about the last question that the kernel's shell was asked.
    pub(super) fn is_shell_probe(&self, parent: &str) -> bool {
        self.shell_probe == parent
    }

    fn update_ready(&mut self) -> bool {
        let asked = self.answered || self.reattached;
        let heard = self.records_everything() || self.published || self.probes >= PROBES_MAX;
        if self.ready || !asked || !heard {
            return false;
        }
        self.ready = true;
        self.give_up = None;
        self.probe_due = None;
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
            self.check_ready();
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
        let Some(kernel) = self.kernel.running_mut() else {
            return;
        };
        if channel == Channel::Shell {
            kernel.answered = true;
            // What a kernel publishes for our own questions is not looked at, and nothing else has been
            // asked of it: one that answers here is idle.
            if kernel.execution_state == "unknown" {
                "idle".clone_into(&mut kernel.execution_state);
            }
        }
        if let Ok(info) = serde_json::from_slice::<KernelInfo>(&reply.content) {
            kernel.implementation = info.implementation;
            kernel.language_version = info
                .language_info
                .version
                .or(kernel.language_version.take());
            if let Some(name) = info.language_info.name {
                kernel.launch.language = name;
            }
        }
        // The shell is served in order: whatever was sent before this question is done. What it
        // said is known once it is read.
        match &mut kernel.capture {
            Capture::Spool(spool) => spool.kernel_answered(),
            Capture::Zmq if channel == Channel::Shell => self.kernel_is_free(),
            Capture::Zmq => {}
        }
        self.check_ready();
    }

    /// Lets waiting cells and clients go on if the kernel can be used now.
    pub(super) fn check_ready(&mut self) {
        if self.kernel.running_mut().is_some_and(Kernel::update_ready) {
            self.kernel_ready();
        }
    }

    fn kernel_ready(&mut self) {
        let Some(kernel) = self.kernel.running_mut() else {
            return;
        };
        let (pid, restart) = (kernel.process.pid(), kernel.restart.take());
        if kernel.reattached {
            self.ask_for_comms();
        } else if let Some(restored) = kernel.restored.take() {
            self.restored_kernel_ready(pid, restart.unwrap_or(NOBODY), restored);
        } else {
            self.fresh_kernel_ready(pid, restart);
        }
        self.announce();
        self.answer_waiting();
        self.start_next();
    }

    pub(super) async fn kernel_deadline(&mut self, now: Instant) {
        let Some(kernel) = self.kernel.running_mut() else {
            return;
        };
        if kernel.give_up.is_some_and(|due| now >= due) {
            kernel.give_up = None;
            return self.end_kernel(End::Late).await;
        }
        if kernel.probe_due.is_some_and(|due| now >= due) {
            kernel.probe_due = Some(now + PROBE_INTERVAL);
            // On control a busy kernel answers too, and publishes that it does.
            if kernel.answered || kernel.reattached {
                kernel.ask(Channel::Control);
            }
            self.check_ready();
        }
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
}

#[derive(serde::Deserialize)]
struct KernelInfo {
    implementation: Option<String>,
    #[serde(default)]
    language_info: LanguageInfo,
}

#[derive(Default, serde::Deserialize)]
struct LanguageInfo {
    name: Option<String>,
    version: Option<String>,
}
