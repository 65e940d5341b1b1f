//! Runs of the real binary, in bounded time.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdout, Command, Stdio},
    thread::JoinHandle,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::until;

/// What a run left.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code, or 128 and the signal that ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Its stdout, given that it went well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// A run under way; killed if the test gives it up.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a command that reads `stdin`.
    pub(crate) fn start(mut command: Command, stdin: &[u8]) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What no pipe holds at once is more than any test has to say.
        drop(child.stdin.take().unwrap().write_all(stdin));
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut words = String::new();
                drop(stderr.read_to_string(&mut words));
                words
            })
        });
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// The next line of stdout.
    pub(crate) fn line(&mut self) -> String {
        let stdout = self.stdout.as_mut().unwrap();
        let mut line = Vec::new();
        until("a line of the command", || {
            while !stdout.buffer().is_empty() || is_readable(stdout.get_ref()) {
                let read = stdout.fill_buf().unwrap();
                let end = read.iter().position(|byte| *byte == b'\n');
                let length = end.map_or(read.len(), |end| end + 1);
                let is_last = end.is_some() || read.is_empty();
                line.extend_from_slice(&read[..length]);
                stdout.consume(length);
                if is_last {
                    return Some(());
                }
            }
            None
        });
        String::from_utf8(line).unwrap()
    }

    /// Reads its stdout no more, as a pipe whose other end goes away.
    pub(crate) fn stop_reading(&mut self) {
        self.stdout = None;
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Output {
        let stdout = self.stdout.take();
        let stdout = std::thread::spawn(move || {
            let mut text = Vec::new();
            drop(stdout.map(|mut stdout| stdout.read_to_end(&mut text)));
            String::from_utf8_lossy(&text).into_owned()
        });
        let status = until("the command's end", || self.child.try_wait().unwrap());
        Output {
            code: status
                .code()
                .or_else(|| status.signal().map(|signal| 128 + signal))
                .unwrap(),
            stdout: stdout.join().unwrap(),
            stderr: self.stderr.take().unwrap().join().unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether there is something to read, or the end.
fn is_readable(pipe: &ChildStdout) -> bool {
    let mut polled = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).unwrap() > 0
}
