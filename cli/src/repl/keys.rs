//! What a person does beside editing lines: answers, and interrupts.

use serde_json::json;
use tithon_ipc::client::Connection;

use super::{
    Phase, Repl,
    connection::{Stop, send},
    terminal::Mode,
};
use crate::{follow, frames::InputRequest};

/// What an `input_reply` says at the end of input; the kernel raises `EOFError`.
const END_OF_INPUT: &str = "\x04";

impl Repl<'_> {
    /// A cell asks for a line.
    pub(super) fn asked(&mut self, request: &InputRequest) {
        self.screen.write(request.words());
        let typed = self.terminal.ask(request.password);
        self.screen.write(&typed);
    }

    /// The question has its answer, from here or from elsewhere.
    pub(super) fn resolved(&mut self) {
        self.answer = None;
        if self.terminal.is_asking() {
            self.terminal.set(Mode::Watching);
            // It was typed for a question that somebody else has answered.
            self.terminal.forget_typed();
        }
    }

    /// The line that answers a cell; none at the end of input.
    pub(super) async fn answer(
        &mut self,
        line: Option<String>,
        connection: &mut Connection,
    ) -> Result<(), Stop> {
        if self.terminal.is_hidden() || line.is_none() {
            self.screen.write("\n");
        } else {
            self.screen.line_was_ended();
        }
        let value = line.unwrap_or_else(|| END_OF_INPUT.to_owned());
        let reply = json!({"op": "input_reply", "value": value});
        self.answer = Some(value);
        self.terminal.set(Mode::Watching);
        send(connection, &self.bound.name(reply)).await
    }

    /// Ctrl-C while a cell runs.
    pub(super) fn interrupt(&mut self) {
        if self.phase == Phase::Editing {
            // Or it came a moment too late: the cell is over.
            return self.prompt.interrupted();
        }
        self.screen.end_line();
        let (link, session) = (self.link.clone(), self.bound.session().to_owned());
        if !self.cells.watched_runs() {
            // An interrupt would reach somebody else's cell.
            self.screen
                .aside("the cell has not started yet; Ctrl-D leaves it queued");
            return;
        }
        self.terminal.set(Mode::Watching);
        // Whoever interrupts does not mean what they typed to run after that.
        self.terminal.forget_typed();
        tokio::spawn(async move {
            // Over a connection of its own: ours may be busy with output. A failure shows in the
            // cell going on.
            drop(follow::interrupt(&link, &session).await);
        });
    }
}
