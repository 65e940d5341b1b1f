//! Runs a program of somebody else's to its end: within a time limit, with bounded memory, in a
//! process group of its own that is killed when the time is over. What it says is kept from the
//! end, where errors are.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

/// Kept of each stream, in bytes: a screenful of errors, or a probe's answer, many times over.
const TAIL: usize = 64 * 1024;
/// How often an exit is looked for while a descendant holds the pipes open.
const TICK: Duration = Duration::from_millis(50);

/// How a program ended, and its last words.
pub(super) struct Ended {
    /// `None` where it was killed because its time was over.
    pub(super) status: Option<ExitStatus>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ended {
    pub(super) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The end of what it said on stderr, or on stdout where it kept silent there: at most `lines`
    /// lines.
    pub(super) fn last_words(&self, lines: usize) -> String {
        let said = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let said: Vec<&str> = said
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        said[said.len().saturating_sub(lines)..].join("\n")
    }
}

/// Runs `command` with no input, passing on every line it writes to either stream.
pub(super) fn run(
    command: &mut Command,
    limit: Duration,
    each_line: &mut dyn FnMut(&str),
) -> io::Result<Ended> {
    let deadline = Instant::now() + limit;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut group = Group(command.spawn()?);
    let mut pipes = [
        Pipe::new(group.0.stdout.take().map(OwnedFd::from)),
        Pipe::new(group.0.stderr.take().map(OwnedFd::from)),
    ];
    let mut status = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // A descendant may keep the pipes open for ever: once the program itself has ended, take
        // what is there.
        let wait = if status.is_some() {
            Duration::ZERO
        } else {
            left.min(TICK)
        };
        let progressed = drain(&mut pipes, wait, each_line)?;
        status = status.or(group.0.try_wait()?);
        if left.is_zero() || (status.is_some() && !progressed) {
            break;
        }
    }
    let [stdout, stderr] = pipes.map(Pipe::into_text);
    Ok(Ended {
        status,
        stdout,
        stderr,
    })
}

/// Waits for output and reads one piece from each pipe that has some; false when there was nothing
/// to read.
fn drain(
    pipes: &mut [Pipe; 2],
    wait: Duration,
    each_line: &mut dyn FnMut(&str),
) -> io::Result<bool> {
    let open: Vec<usize> = (0..pipes.len())
        .filter(|&i| pipes[i].source.is_some())
        .collect();
    if open.is_empty() {
        // Both ends are closed and the exit is imminent.
        std::thread::sleep(wait.min(Duration::from_millis(1)));
        return Ok(false);
    }
    let ready: Vec<usize> = {
        let mut fds: Vec<PollFd<'_>> = open
            .iter()
            .filter_map(|&i| pipes[i].source.as_ref())
            .map(|file| PollFd::new(file, PollFlags::IN))
            .collect();
        let wait = Timespec::try_from(wait).unwrap_or_default();
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        open.iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(&i, _)| i)
            .collect()
    };
    for &i in &ready {
        pipes[i].read(each_line)?;
    }
    Ok(!ready.is_empty())
}

/// One stream of the program: its tail, and the line that is being written.
struct Pipe {
    source: Option<File>,
    tail: Vec<u8>,
    line: Vec<u8>,
}

impl Pipe {
    fn new(source: Option<OwnedFd>) -> Self {
        Self {
            source: source.map(File::from),
            tail: Vec::new(),
            line: Vec::new(),
        }
    }

    fn read(&mut self, each_line: &mut dyn FnMut(&str)) -> io::Result<()> {
        let Some(source) = &mut self.source else {
            return Ok(());
        };
        let mut buffer = [0; 8192];
        let read = match source.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        if read == 0 {
            self.source = None;
        }
        let new = &buffer[..read];
        self.tail.extend_from_slice(new);
        let excess = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..excess);
        for piece in new.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") || self.line.len() > TAIL {
                each_line(String::from_utf8_lossy(&self.line).trim_end());
                self.line.clear();
            }
        }
        Ok(())
    }

    fn into_text(self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }
}

/// A child that does not outlive us, nor do its own children while it lives.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Not yet waited for, so the number is still its own and cannot be somebody else's group.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _gone_already = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _reaped = self.0.wait();
        }
    }
}
