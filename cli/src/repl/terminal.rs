//! The terminal while a cell runs: what is typed is kept for the next prompt, or answers the cell.
//!
//! The line editor owns the terminal at other times; nothing is read here then.

use std::{
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr},
};
use tithon_ipc::readiness::readable;
use tokio::io::unix::AsyncFd;

/// The editor has the terminal mark what is pasted.
const END_OF_BRACKETED_PASTE: &[u8] = b"\x1b[?2004l";

/// How the terminal is to treat keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As it was found: for the shell, and for the line editor to build on.
    Found,
    /// Key by key and unseen; Ctrl-C and Ctrl-Z still are signals.
    Quiet,
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
            Mode::Quiet => {
                modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
                // A read that finds nothing returns at once.
                modes.special_codes[SpecialCodeIndex::VMIN] = 0;
                modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            }
            Mode::Line => modes.local_modes |= LocalModes::ICANON | LocalModes::ECHO,
            Mode::Hidden => {
                modes.local_modes |= LocalModes::ICANON;
                modes.local_modes -= LocalModes::ECHO;
            }
        }
        // A terminal that is gone needs no setting up.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
        self.mode = mode;
    }

    /// How it is set up.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// What was typed: keys, or in a line mode a line with its end; empty at the end of input.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) async fn typed(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut ready = self.input.readable().await?;
            let mut waiting = [PollFd::from_borrowed_fd(
                rustix::stdio::stdin(),
                PollFlags::IN,
            )];
            // Readiness may be that of keys the editor has read since.
            if poll(&mut waiting, Some(&rustix::event::Timespec::default()))? == 0 {
                ready.clear_ready();
                continue;
            }
            let mut bytes = vec![0; 4096];
            let length = rustix::io::read(io::stdin(), &mut bytes)?;
            bytes.truncate(length);
            return Ok(bytes);
        }
    }
}

impl Drop for Terminal {
    /// Also when the editor still reads: its thread goes with the process and sets nothing back.
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.found);
        let mut out = io::stdout().lock();
        drop(
            out.write_all(END_OF_BRACKETED_PASTE)
                .and_then(|()| out.flush()),
        );
    }
}
