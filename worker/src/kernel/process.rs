//! The kernel's process: started detached, adopted by proof, ended with all it forked.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStringExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal, kill_process_group},
};
use tithon_ipc::{
    files::{CheckpointRecord, KernelRecord, write_atomic},
    process::{ProcessHandle, ProcessIdentity, WatchedProcess},
    python_kernel::PythonKernel,
};
use tokio::time::{sleep, timeout};

use super::tree;
use crate::standing::Leaf;

pub use tithon_ipc::marks::MARK;

/// How long a kernel may take to end by itself.
const GRACE: Duration = Duration::from_secs(1);
/// How long a killed process may take to disappear; longer means uninterruptible sleep.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// How often and how long apart it is asked how a process ended that is not our child.
const EXIT_LOOKS: u32 = 10;
const EXIT_INTERVAL: Duration = Duration::from_millis(2);

/// How to start a kernel.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program and its arguments.
    pub argv: &'a [String],
    /// The whole environment, but for [`MARK`].
    pub env: &'a BTreeMap<String, String>,
    /// Where it runs.
    pub workdir: &'a Path,
    /// The session's directory.
    pub dir: &'a Path,
    /// Where its own stdout and stderr go.
    pub log: &'a File,
    /// The control group to be in, with all it starts.
    pub leaf: Option<&'a Leaf>,
}

/// A running kernel.
#[derive(Debug)]
pub struct KernelProcess {
    process: WatchedProcess,
    child: Option<Child>,
}

impl KernelProcess {
    /// Starts a kernel in a session of its own, and records it.
    ///
    /// # Errors
    /// When the program cannot be run; the error names it.
    pub fn spawn(spawn: &Spawn<'_>) -> io::Result<Self> {
        let (program, arguments) = spawn
            .argv
            .split_first()
            .ok_or_else(|| io::Error::other("the kernel has no command"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(spawn.env)
            .env(MARK, spawn.dir)
            .current_dir(spawn.workdir)
            .stdin(Stdio::null())
            .stdout(spawn.log.try_clone()?)
            .stderr(spawn.log.try_clone()?);
        detach(&mut command, spawn.leaf)?;
        let mut child = command.spawn().map_err(|err| {
            let place = if spawn.workdir.is_dir() {
                program.clone()
            } else {
                spawn.workdir.display().to_string()
            };
            io::Error::new(err.kind(), format!("{place}: {err}"))
        })?;
        let adopted = i32::try_from(child.id())
            .map_err(io::Error::other)
            .and_then(|pid| {
                let identity = ProcessIdentity::of(pid)?
                    .ok_or_else(|| io::Error::other("the kernel ended at once"))?;
                write_atomic(&spawn.dir.join("kernel.pid"), pid.to_string().as_bytes())?;
                KernelRecord {
                    process: identity.clone(),
                }
                .write(spawn.dir)?;
                // A kernel that ended at once is seen to end, with its last words.
                WatchedProcess::new(identity.open_child()?)
            });
        match adopted {
            Ok(process) => Ok(Self {
                process,
                child: Some(child),
            }),
            Err(err) => {
                child.kill().ok();
                child.wait().ok();
                Err(err)
            }
        }
    }

    /// Takes over the kernel that a session's directory names; `None` when it has ended.
    ///
    /// # Errors
    /// When `/proc` or a pidfd is refused.
    pub fn adopt(dir: &Path) -> io::Result<Option<Self>> {
        let handle = match KernelRecord::read(dir) {
            Ok(record) => record.process.open()?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            Err(err) => return Err(err),
        };
        let handle = match handle {
            Some(handle) => Some(handle),
            None => left_by_python(dir)?,
        };
        let Some(handle) = handle else {
            return Ok(None);
        };
        Ok(Some(Self {
            process: WatchedProcess::new(handle)?,
            child: None,
        }))
    }

    /// A checkpoint that was woken: the session's kernel from here on.
    ///
    /// # Errors
    /// When it cannot be recorded or watched.
    pub fn woken(handle: ProcessHandle, dir: &Path) -> io::Result<Self> {
        let process = handle.identity().clone();
        write_atomic(&dir.join("kernel.pid"), process.pid.to_string().as_bytes())?;
        KernelRecord { process }.write(dir)?;
        Ok(Self {
            process: WatchedProcess::new(handle)?,
            child: None,
        })
    }

    /// The kernel's process id.
    pub fn pid(&self) -> i32 {
        self.process.handle().identity().pid
    }

    /// Interrupts the kernel itself, not what it started.
    ///
    /// # Errors
    /// When the signal is not permitted.
    pub fn interrupt(&self) -> io::Result<()> {
        self.process.handle().signal(Signal::INT)
    }

    /// Waits until the kernel has ended.
    pub async fn ended(&self) {
        self.process.ended().await;
    }

    /// How it ended, if this worker is its parent or Linux tells it nevertheless. To be called once it
    /// has ended.
    pub async fn exit(&mut self) -> Option<ExitStatus> {
        if let Some(child) = &mut self.child {
            return child.wait().ok();
        }
        exit_of(self.process.handle()).await
    }

    /// Ends the kernel's whole process group, then whatever left the group but is in its leaf or
    /// carries the mark.
    pub async fn terminate(&mut self, dir: &Path, leaf: Option<&Leaf>) {
        for (signal, wait) in [(Signal::TERM, GRACE), (Signal::KILL, KILL_WAIT)] {
            if !self.process.handle().is_alive() {
                break;
            }
            signal_group(self.process.handle(), signal);
            timeout(wait, self.ended()).await.ok();
        }
        if !self.process.handle().is_alive() {
            self.exit().await;
        }
        sweep(dir, leaf).await;
    }
}

/// How a process has ended that is no child of ours, if Linux tells it.
pub(crate) async fn exit_of(process: &ProcessHandle) -> Option<ExitStatus> {
    // Its parent is init by now, or waits for it later: nobody is kept waiting.
    for _ in 0..EXIT_LOOKS {
        if let Some(status) = process.exit_status() {
            return Some(status);
        }
        sleep(EXIT_INTERVAL).await;
    }
    None
}

/// Signals a process that has not been waited for, and whatever is in the group that it leads: so the
/// group's number is still its own. One that another program started may lead none.
pub(crate) fn signal_group(process: &ProcessHandle, signal: Signal) {
    let group = Pid::from_raw(process.identity().pid);
    if group.is_none_or(|group| kill_process_group(group, signal).is_err()) {
        process.signal(signal).ok();
    }
}

/// The kernel of the Python program, recorded as ours once it is proven to be that.
fn left_by_python(dir: &Path) -> io::Result<Option<ProcessHandle>> {
    let process = match PythonKernel::find(dir)? {
        PythonKernel::Proven(process) => process,
        PythonKernel::Unproven(pid, reason) => {
            tracing::warn!(
                pid,
                "kernel.pid names a process that is left alone, since {reason}: the session begins with a fresh kernel"
            );
            return Ok(None);
        }
        PythonKernel::None => return Ok(None),
    };
    let handle = process.open()?;
    if handle.is_some() {
        KernelRecord { process }.write(dir)?;
    }
    Ok(handle)
}

/// Ends what a session's kernel left behind: by proof of being in its leaf, or of the mark in each
/// process's environment.
pub async fn sweep(dir: &Path, leaf: Option<&Leaf>) {
    // Frozen to outlive their kernel.
    let spared = CheckpointRecord::read(dir).processes;
    let leaf = leaf.filter(|leaf| !leaf.is_left_to(&spared));
    if let Some(leaf) = leaf {
        leaf.terminate(&spared);
    }
    sweep_marked(dir).await;
    if let Some(leaf) = leaf {
        // Those without the mark have had no time yet.
        let gone = async {
            while !leaf.is_left_to(&spared) {
                sleep(EXIT_INTERVAL).await;
            }
        };
        if timeout(GRACE, gone).await.is_err() {
            leaf.kill(&spared).await;
        }
    }
}

async fn sweep_marked(dir: &Path) {
    for (signal, wait) in [(Signal::TERM, GRACE), (Signal::KILL, KILL_WAIT)] {
        let left = tree::marked(dir);
        for process in &left {
            process.signal(signal).ok();
        }
        let gone = async {
            for process in left {
                if let Ok(process) = WatchedProcess::new(process) {
                    process.ended().await;
                }
            }
        };
        if timeout(wait, gone).await.is_ok() {
            return;
        }
    }
}

/// How a process ended, in the words of a person: `killed by SIGSEGV`, `exited with code 3`.
pub fn describe(exit: ExitStatus) -> String {
    match (exit.signal(), exit.code()) {
        (Some(signal), _) => format!("killed by {}", signal_name(signal)),
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// `SIGSEGV`, or the number of one that programs do not usually die of.
pub(crate) fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

/// How much sooner the kernel is killed for memory than its worker: a tenth of what there is.
const KILLED_SOONER: i32 = 100;
const OOM_SCORE: &CStr = c"/proc/self/oom_score_adj";

/// What the child is to write into files about itself before it becomes the kernel.
fn entries(leaf: Option<&Leaf>) -> io::Result<Vec<(CString, String)>> {
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let score = (own + KILLED_SOONER).min(1000).to_string();
    let mut entries = vec![(OOM_SCORE.to_owned(), score)];
    if let Some(leaf) = leaf {
        let entrance = CString::new(leaf.entrance().into_os_string().into_vec())?;
        entries.push((entrance, "0".to_owned()));
    }
    Ok(entries)
}

#[expect(
    unsafe_code,
    reason = "only a child can leave its parent's session, control group and signal dispositions"
)]
fn detach(command: &mut Command, leaf: Option<&Leaf>) -> io::Result<()> {
    let entries = entries(leaf)?;
    let child = move || {
        rustix::process::setsid()?;
        for (file, text) in &entries {
            // A kernel without its own leaf or score is a kernel all the same.
            if let Ok(file) = rustix::fs::open(
                file.as_c_str(),
                OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::empty(),
            ) {
                rustix::io::write(&file, text.as_bytes()).ok();
            }
        }
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            // SAFETY: signal(2) with SIG_DFL is async-signal-safe and touches no memory of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it neither allocates nor locks.
    unsafe { command.pre_exec(child) };
    Ok(())
}
