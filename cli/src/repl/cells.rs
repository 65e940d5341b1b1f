//! The session's executions as the prompt follows them: whose they are, which one runs, which one is
//! watched, and what is said about the others.

use std::{collections::HashMap, env};

use serde_json::{Value, json};

use super::screen::Screen;
use crate::{
    error::CliError,
    frames::{Event, Execution, Output, Queued, Status, TOKEN},
};

/// Longest first line of code in a heading, in characters.
const TITLE_MAX: usize = 60;

/// What is known of the session's executions.
#[derive(Default)]
pub(super) struct Cells {
    /// Those that wait or run.
    open: HashMap<String, Cell>,
    running: Option<String>,
    watched: Option<Watched>,
    /// Names the session in a command, where it must be named.
    flag: String,
}

struct Cell {
    title: String,
    author: Option<String>,
}

/// The cell whose end brings the prompt back.
enum Watched {
    /// Not known to have arrived, however often it was sent.
    Sent {
        token: String,
        execute: Value,
        times: u8,
    },
    /// In the journal.
    Known(String),
}

/// What an event means for the prompt.
#[derive(Default)]
pub(super) struct Heard {
    /// Code for the editor's history.
    pub(super) code: Option<String>,
    /// The watched cell has ended.
    pub(super) is_over: bool,
}

impl Cells {
    /// None yet, in a session that commands name so.
    pub(super) fn named(flag: String) -> Self {
        Self {
            flag,
            ..Self::default()
        }
    }

    /// Takes over a snapshot's executions; the one that runs is watched, unless one is already.
    pub(super) fn restore(&mut self, executions: &[Execution]) {
        self.open.clear();
        self.running = None;
        for execution in executions.iter().filter(|it| it.is_open()) {
            let cell = Cell {
                title: title(&execution.code),
                author: execution.author().map(str::to_owned),
            };
            self.open.insert(execution.exec_id.clone(), cell);
            if execution.status == "running" {
                self.running = Some(execution.exec_id.clone());
            }
        }
        match &self.watched {
            None => self.watched = self.running.clone().map(Watched::Known),
            Some(Watched::Known(id)) if !self.open.contains_key(id) => self.watched = None,
            Some(_) => {}
        }
    }

    /// The execution that runs.
    pub(super) fn running(&self) -> Option<&str> {
        self.running.as_deref()
    }

    /// Whether a cell is watched.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.is_some()
    }

    /// Whether this one is.
    pub(super) fn watches(&self, exec_id: &str) -> bool {
        matches!(&self.watched, Some(Watched::Known(id)) if id == exec_id)
    }

    /// Whether the watched cell is the one that runs.
    pub(super) fn watched_runs(&self) -> bool {
        self.running().is_some_and(|id| self.watches(id))
    }

    /// Takes code whose cell is watched from now on; [`Cells::unacknowledged`] is to be sent.
    pub(super) fn submit(&mut self, code: &str) {
        let token = uuid::Uuid::now_v7().to_string();
        let execute = json!({
            "op": "execute",
            "code": code,
            "allow_stdin": true,
            "submitted_by": author(),
            "origin": {TOKEN: token},
        });
        self.watched = Some(Watched::Sent {
            token,
            execute,
            times: 0,
        });
    }

    /// The submission that the journal does not have although its backlog is through: it was not
    /// sent yet, or never accepted.
    ///
    /// # Errors
    /// When it was sent twice.
    pub(super) fn unacknowledged(&mut self) -> Result<Option<Value>, CliError> {
        match &mut self.watched {
            Some(Watched::Sent { times: 2.., .. }) => Err(CliError::NeverAccepted),
            Some(Watched::Sent { execute, times, .. }) => {
                *times += 1;
                Ok(Some(execute.clone()))
            }
            _ => Ok(None),
        }
    }

    /// Takes in an event, and shows what it means.
    ///
    /// # Errors
    /// When it is malformed.
    pub(super) fn event(
        &mut self,
        event: &Event<'_>,
        screen: &mut Screen,
    ) -> serde_json::Result<Heard> {
        let exec_id = event.exec_id.as_deref().unwrap_or_default();
        let mut heard = Heard::default();
        match &*event.kind {
            "queued" => {
                let queued: Queued = event.payload()?;
                let is_ours = matches!(&self.watched, Some(Watched::Sent { token, .. })
                    if queued.token() == Some(token));
                if is_ours {
                    self.watched = Some(Watched::Known(exec_id.to_owned()));
                    if let Some(other) = &self.running {
                        screen.aside(&format!("{exec_id} waits for {other}"));
                    }
                }
                let cell = Cell {
                    title: title(&queued.code),
                    author: queued.author().map(str::to_owned),
                };
                self.open.insert(exec_id.to_owned(), cell);
                heard.code = Some(queued.code);
            }
            "started" => {
                self.running = Some(exec_id.to_owned());
                if let Some(cell) = self.open.get(exec_id).filter(|_| !self.watches(exec_id)) {
                    screen.aside(&heading(exec_id, cell));
                }
            }
            "output" => {
                let output: Output = event.payload()?;
                screen.output(&output.msg_type, &output.content);
            }
            "done" => {
                let done: Status = event.payload()?;
                self.ended(exec_id, &done.status, screen);
                heard.is_over = !self.is_watched();
            }
            "kernel" => {
                let kernel: Status = event.payload()?;
                if let Some(words) = kernel_words(&kernel.status, &self.flag) {
                    screen.aside(&words);
                }
            }
            _ => {}
        }
        Ok(heard)
    }

    fn ended(&mut self, exec_id: &str, status: &str, screen: &mut Screen) {
        self.open.remove(exec_id);
        if self.running.as_deref() == Some(exec_id) {
            self.running = None;
        }
        let is_watched = self.watches(exec_id);
        if is_watched {
            self.watched = None;
        }
        match status {
            "ok" | "error" if is_watched => {}
            "ok" => screen.aside(&format!("{exec_id} is done")),
            "error" => screen.aside(&format!("{exec_id} raised an error")),
            "orphaned" => screen.aside(&format!("{exec_id} was lost with its kernel")),
            other => screen.aside(&format!("{exec_id} was {other}")),
        }
    }
}

/// `e7 by ada: print(1)`.
fn heading(exec_id: &str, cell: &Cell) -> String {
    match &cell.author {
        Some(author) => format!("{exec_id} by {author}: {}", cell.title),
        None => format!("{exec_id}: {}", cell.title),
    }
}

/// The first line of code, as far as a heading has room for it.
fn title(code: &str) -> String {
    let mut lines = code.trim().lines();
    let line = lines.next().unwrap_or_default();
    let is_whole = lines.next().is_none() && line.chars().count() <= TITLE_MAX;
    let shown = line.chars().take(TITLE_MAX);
    let mut title: String = shown
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if !is_whole {
        title.push_str(" …");
    }
    title
}

/// Who we are, for the other clients of the session.
fn author() -> String {
    match env::var("USER") {
        Ok(user) if !user.is_empty() => format!("{user} (tithon repl)"),
        _ => "tithon repl".to_owned(),
    }
}

fn kernel_words(status: &str, flag: &str) -> Option<String> {
    let words = match status {
        "restarting" => "the kernel is restarted",
        "restarted" => "the kernel is fresh: variables are gone, the history stays",
        "replaced" => {
            return Some(format!(
                "the kernel was lost and replaced: variables are gone, the history stays; `tithon replay{flag}` runs its cells again"
            ));
        }
        "killed" => "the kernel was ended; the next cell gets a fresh one",
        "gc" => "the kernel was idle for long and was ended; the next cell gets a fresh one",
        "restored" => {
            return Some(format!(
                "the kernel is as it was after an earlier cell; `tithon log{flag}` shows which ran since"
            ));
        }
        "dead" => {
            return Some(format!(
                "the kernel died; `tithon restart{flag}` gives the session a fresh one, `tithon restore{flag}` one of its checkpoints, `tithon replay{flag}` runs its cells again"
            ));
        }
        "shutdown" => "the supervisor was shut down with its kernels",
        _ => return None,
    };
    Some(words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Received;

    fn hear(cells: &mut Cells, screen: &mut Screen, frame: &Value) -> Heard {
        let text = frame.to_string();
        match Received::parse(&text).unwrap() {
            Received::Event(event) => cells.event(&event, screen).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn event(exec_id: &str, kind: &str, payload: &Value) -> Value {
        json!({"op": "event", "seq": 1, "exec_id": exec_id, "kind": kind, "payload": payload})
    }

    #[test]
    fn our_own_cell_is_told_from_others() {
        let mut cells = Cells::default();
        let mut screen = Screen::new(crate::render::log::Palette::Plain);
        cells.submit("1 + 1");
        let execute = cells.unacknowledged().unwrap().unwrap();
        let other = json!({"code": "1 + 1", "origin": {TOKEN: "x"}, "submitted_by": "ada"});
        hear(&mut cells, &mut screen, &event("e1", "queued", &other));
        hear(&mut cells, &mut screen, &event("e1", "started", &json!({})));
        assert!(cells.is_watched() && !cells.watched_runs());
        hear(&mut cells, &mut screen, &event("e2", "queued", &execute));
        let done = json!({"status": "ok"});
        assert!(!hear(&mut cells, &mut screen, &event("e1", "done", &done)).is_over);
        hear(&mut cells, &mut screen, &event("e2", "started", &json!({})));
        assert!(cells.watched_runs());
        assert!(hear(&mut cells, &mut screen, &event("e2", "done", &done)).is_over);
        assert_eq!(cells.running(), None);
    }

    #[test]
    fn a_cell_is_sent_again_once_and_only_if_it_never_arrived() {
        let mut cells = Cells::default();
        let mut screen = Screen::new(crate::render::log::Palette::Plain);
        cells.submit("x");
        let execute = cells.unacknowledged().unwrap();
        assert_eq!(cells.unacknowledged().unwrap(), execute);
        assert!(cells.unacknowledged().is_err());
        cells.submit("z");
        let execute = cells.unacknowledged().unwrap().unwrap();
        hear(&mut cells, &mut screen, &event("e1", "queued", &execute));
        assert_eq!(cells.unacknowledged().unwrap(), None);
    }

    #[test]
    fn titles_are_one_line() {
        assert_eq!(title("\nx = 1\n"), "x = 1");
        assert_eq!(title("def f():\n  pass"), "def f(): …");
        assert_eq!(title("\u{1b}[2J"), "\u{fffd}[2J");
    }
}
