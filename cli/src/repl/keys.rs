//! Keys while a cell runs: answers to it, goodbyes, and what is typed ahead.

use std::io;

use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;
use tithon_ipc::client::Connection;

use super::{
    Repl,
    connection::{Stop, send},
    terminal::Mode,
};
use crate::{follow, frames::InputRequest};

/// What an `input_reply` says at the end of input; the kernel raises `EOFError`.
const END_OF_INPUT: &str = "\x04";
/// Ctrl-D as a key.
const CTRL_D: u8 = 4;
/// Bytes typed ahead that are kept.
const TYPED_MAX: usize = 64 << 10;

impl Repl<'_> {
    /// A cell asks for a line.
    pub(super) fn asked(&mut self, request: &InputRequest) {
        self.screen.write(&request.prompt);
        self.terminal.set(match request.password {
            true => Mode::Hidden,
            false => Mode::Line,
        });
    }

    /// Keys while a cell runs; `false` when they say goodbye.
    pub(super) async fn typed(
        &mut self,
        typed: io::Result<Vec<u8>>,
        connection: &mut Connection,
    ) -> Result<bool, Stop> {
        let Ok(bytes) = typed else { return Ok(false) };
        match self.terminal.mode() {
            Mode::Quiet | Mode::Found => {
                if bytes.contains(&CTRL_D) {
                    return Ok(false);
                }
                // Keys that move a cursor mean nothing where there is none.
                let keys = bytes
                    .iter()
                    .filter(|key| !key.is_ascii_control() || **key == b'\n');
                let room = TYPED_MAX.saturating_sub(self.typed.len());
                if !bytes.contains(&0x1b) {
                    self.typed.extend(keys.take(room));
                }
            }
            mode @ (Mode::Line | Mode::Hidden) => {
                let line = String::from_utf8_lossy(&bytes);
                let value = match line.strip_suffix('\n') {
                    Some(line) => line,
                    None if line.is_empty() => END_OF_INPUT,
                    None => &line,
                };
                if mode == Mode::Hidden {
                    self.screen.write("\n");
                }
                self.answer = Some(value.to_owned());
                self.terminal.set(Mode::Quiet);
                let reply = json!({"op": "input_reply", "value": value});
                send(connection, &self.bound.name(reply)).await?;
            }
        }
        Ok(true)
    }

    /// Ctrl-C while a cell runs.
    pub(super) fn interrupt(&mut self) {
        self.screen.end_line();
        let (link, session) = (self.link.clone(), self.bound.session().to_owned());
        if !self.cells.watched_runs() {
            // An interrupt would reach somebody else's cell.
            self.screen
                .aside("the cell has not started yet; Ctrl-D leaves it queued");
            return;
        }
        self.terminal.set(Mode::Quiet);
        tokio::spawn(async move {
            // Over a connection of its own: ours may be busy with output. A failure shows in the
            // cell going on.
            drop(follow::interrupt(&link, &session).await);
        });
    }

    /// Ctrl-Z: the shell gets the terminal as it was, and gives it back with `fg`.
    pub(super) fn suspend(&mut self) {
        let mode = self.terminal.mode();
        self.terminal.set(Mode::Found);
        // Nothing to do about a process that may not stop itself.
        let _ = kill_process(getpid(), Signal::STOP);
        self.terminal.set(mode);
    }
}
