//! The terminal's modes, and the lines that answer `input()`.
//!
//! Only the line editor and an open question read keys. What is typed at any other time waits in the
//! terminal's own queue, so that it is read once, in order, by whoever reads next. Keys that must be
//! heard while a cell runs are made signals.

use std::{
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, getpid, kill_process},
    termios::{
        InputModes, LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush,
        tcgetattr, tcsetattr,
    },
};
use tithon_ipc::readiness::readable;
use tokio::io::unix::AsyncFd;

use crate::render;

const BRACKETED_PASTE: &str = "\x1b[?2004h";
const END_OF_BRACKETED_PASTE: &str = "\x1b[?2004l";
/// Ctrl-D as a key.
const CTRL_D: u8 = 4;

/// How the terminal is to treat keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As it was found: for the shell.
    Found,
    /// What the line editor builds on, and goes back to after each line: keys wait, unseen.
    Editing,
    /// The same while a cell runs, with Ctrl-D as a signal (`SIGQUIT`) beside Ctrl-C and Ctrl-Z.
    Watching,
    /// A line that is shown, for `input()`.
    Line,
    /// A line that is not shown, for `getpass()`.
    Hidden,
}

/// Standard input, as a terminal.
pub(super) struct Terminal {
    input: AsyncFd<OwnedFd>,
    found: Termios,
    mode: Mode,
    /// Whether it knows no escape sequences.
    is_plain: bool,
    /// The beginning of the line that is being typed for a question.
    begun: Vec<u8>,
    /// An answer that was typed before its question came.
    ahead: Option<String>,
}

impl Terminal {
    /// Takes note of how the terminal is set up.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            found: tcgetattr(io::stdin())?,
            input: readable(io::stdin().as_fd().try_clone_to_owned()?)?,
            mode: Mode::Found,
            is_plain: render::is_plain_terminal(),
            begun: Vec::new(),
            ahead: None,
        })
    }

    /// Sets the terminal up.
    pub(super) fn set(&mut self, mode: Mode) {
        if self.mode == mode {
            return;
        }
        let mut modes = self.found.clone();
        match mode {
            Mode::Found => {}
            // It edits lines by itself; what is typed while a cell runs is shown, and waits.
            Mode::Editing | Mode::Watching if self.is_plain => {
                if mode == Mode::Watching {
                    modes.special_codes[SpecialCodeIndex::VQUIT] = CTRL_D;
                }
            }
            Mode::Editing | Mode::Watching => {
                modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
                // A signal must not take the last of the output with it.
                modes.local_modes |= LocalModes::NOFLSH;
                // Enter is the key that the editor knows.
                modes.input_modes -= InputModes::ICRNL;
                // A read that finds nothing returns at once.
                modes.special_codes[SpecialCodeIndex::VMIN] = 0;
                modes.special_codes[SpecialCodeIndex::VTIME] = 0;
                if mode == Mode::Watching {
                    modes.special_codes[SpecialCodeIndex::VQUIT] = CTRL_D;
                }
            }
            Mode::Line => modes.local_modes |= LocalModes::ICANON | LocalModes::ECHO,
            Mode::Hidden => {
                modes.local_modes |= LocalModes::ICANON;
                modes.local_modes -= LocalModes::ECHO;
            }
        }
        // A terminal that is gone needs no setting up.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
        // What is pasted while a cell runs is to be known as such by the editor afterwards.
        self.say(match mode {
            Mode::Editing | Mode::Watching => BRACKETED_PASTE,
            Mode::Found | Mode::Line | Mode::Hidden => END_OF_BRACKETED_PASTE,
        });
        self.mode = mode;
    }

    /// Tells the terminal something, if it understands; one that is gone needs no telling.
    fn say(&self, sequence: &str) {
        if self.is_plain {
            return;
        }
        let mut out = io::stdout().lock();
        drop(
            out.write_all(sequence.as_bytes())
                .and_then(|()| out.flush()),
        );
    }

    /// Whether a question is being answered.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.mode, Mode::Line | Mode::Hidden)
    }

    /// Whether what is typed for it is not shown.
    pub(super) fn is_hidden(&self) -> bool {
        self.mode == Mode::Hidden
    }

    /// Ctrl-Z: the shell gets the terminal as it was, and gives it back with `fg`.
    pub(super) fn suspend(&mut self) {
        let mode = self.mode;
        // Not only our modes: the editor has its own while it reads.
        let modes = tcgetattr(io::stdin());
        self.set(Mode::Found);
        // Nothing to do about a process that may not stop itself.
        let _ = kill_process(getpid(), Signal::STOP);
        self.set(mode);
        if let Ok(modes) = modes {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
        }
        // The editor draws its line again, as after a change of the window's size.
        let _ = kill_process(getpid(), Signal::WINCH);
    }

    /// Drops what was typed and not read.
    pub(super) fn forget_typed(&mut self) {
        self.begun.clear();
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
    }

    /// Sets the terminal up for a question, and gives what was typed ahead of it, which begins the
    /// answer or is all of it. A password is not taken from what was typed for something else.
    pub(super) fn ask(&mut self, is_password: bool) -> String {
        self.begun.clear();
        if is_password {
            self.forget_typed();
            self.set(Mode::Hidden);
            return String::new();
        }
        // Before lines are made of keys: what waits has ends of lines that would not count as such.
        while self.ahead.is_none() && is_readable() {
            match take() {
                Ok(Some(byte)) => self.ahead = self.push(byte),
                Ok(None) | Err(_) => break,
            }
        }
        self.set(Mode::Line);
        match &self.ahead {
            Some(line) => format!("{line}\n"),
            None => String::from_utf8_lossy(&self.begun).into_owned(),
        }
    }

    /// The line that is typed, without its end; nothing at the end of input.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) async fn line(&mut self) -> io::Result<Option<String>> {
        if let Some(line) = self.ahead.take() {
            return Ok(Some(line));
        }
        loop {
            let mut ready = self.input.readable().await?;
            // Readiness may be that of keys the editor has read since.
            if !is_readable() {
                ready.clear_ready();
                continue;
            }
            drop(ready);
            match take()? {
                Some(byte) => {
                    if let Some(line) = self.push(byte) {
                        return Ok(Some(line));
                    }
                }
                None => return Ok(Some(self.begun()).filter(|line| !line.is_empty())),
            }
        }
    }

    fn push(&mut self, byte: u8) -> Option<String> {
        if matches!(byte, b'\n' | b'\r') {
            return Some(self.begun());
        }
        self.begun.push(byte);
        None
    }

    fn begun(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned()
    }
}

/// The next byte, and no more: what follows a line is for whoever reads next.
fn take() -> io::Result<Option<u8>> {
    let mut byte = [0];
    let length = rustix::io::read(io::stdin(), &mut byte)?;
    Ok((length > 0).then_some(byte[0]))
}

/// Whether a read would find something, be it the end.
fn is_readable() -> bool {
    let mut waiting = [PollFd::from_borrowed_fd(
        rustix::stdio::stdin(),
        PollFlags::IN,
    )];
    poll(&mut waiting, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

impl Drop for Terminal {
    /// Also when the editor still reads: its thread goes with the process and sets nothing back.
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.found);
        self.say(END_OF_BRACKETED_PASTE);
    }
}
