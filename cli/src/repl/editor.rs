//! The line editor, on a thread of its own: reading a line blocks, following a session must not.
//!
//! The editor asks the session questions (is this code whole, what could follow it) and waits for a
//! moment at most; a kernel that is busy or does not know the question costs no more than that.

use std::{
    borrow::Cow,
    io,
    sync::{
        Arc,
        atomic::AtomicBool,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use rustyline::{
    Cmd, ColorMode, CompletionType, ConditionalEventHandler, Config, Context, Editor, Event,
    EventContext, EventHandler, ExternalPrinter, Helper, KeyCode, KeyEvent, Modifiers, RepeatCount,
    completion::{Completer, Pair},
    error::ReadlineError,
    highlight::{CmdKind, Highlighter},
    hint::Hinter,
    history::MemHistory,
    validate::Validator,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    plain,
    python::{Completeness, INDENT, completeness, highlighted},
};
use crate::render::{self, log::Palette};

pub(super) const PROMPT: &str = ">>> ";
/// Longer than an idle kernel takes, shorter than a pause in typing.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// Completion is asked for, and the first one imports what it needs.
const COMPLETE_WITHIN: Duration = Duration::from_secs(3);
/// Lines of history kept in memory.
const HISTORY_MAX: usize = 10_000;

/// What the person at the prompt did.
#[derive(Debug)]
pub(super) enum Said {
    /// Entered code.
    Code(String),
    /// Pressed Ctrl-C: what was typed is gone.
    Interrupted,
    /// Pressed Ctrl-D on an empty line, or closed the terminal.
    Left,
    /// The editor asks.
    Asks(Question),
}

/// A question for the session's kernel.
#[derive(Debug)]
pub(super) struct Question {
    /// The operation, without its `req_id`.
    pub(super) op: Value,
    /// Takes the content of the kernel's reply; nobody waits for it for long.
    pub(super) answer: Sender<Value>,
}

enum Order {
    Read,
    Remember(String),
}

/// The thread that edits lines.
pub(super) struct Prompt {
    orders: Sender<Order>,
    said: UnboundedReceiver<Said>,
    /// There is none on a terminal that moves no cursor.
    printer: Option<Box<dyn ExternalPrinter + Send>>,
    is_dropped: Arc<AtomicBool>,
}

impl Prompt {
    /// Starts the editor; it reads nothing yet.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub(super) fn start(palette: Palette) -> io::Result<Self> {
        let (sender, said) = unbounded_channel();
        let (orders, requests) = mpsc::channel();
        let is_dropped = Arc::<AtomicBool>::default();
        let mut printer: Option<Box<dyn ExternalPrinter + Send>> = None;
        if render::is_plain_terminal() {
            let lines = plain::Lines::new(Kernel(sender.clone()), Arc::clone(&is_dropped));
            thread::spawn(move || serve_plain(&lines, &requests, &sender));
        } else {
            let mut editor = editor(palette, &sender).map_err(io::Error::other)?;
            let above = editor.create_external_printer().map_err(io::Error::other)?;
            printer = Some(Box::new(above));
            thread::spawn(move || serve(&mut editor, &requests, &sender));
        }
        Ok(Self {
            orders,
            said,
            printer,
            is_dropped,
        })
    }

    /// Shows the prompt.
    pub(super) fn read(&self) {
        self.tell(Order::Read);
    }

    /// Adds code to the history.
    pub(super) fn remember(&self, code: &str) {
        self.tell(Order::Remember(code.trim_end().to_owned()));
    }

    fn tell(&self, order: Order) {
        // An editor that has failed has said so.
        drop(self.orders.send(order));
    }

    /// The next thing the person or the editor says.
    pub(super) async fn said(&mut self) -> Said {
        self.said.recv().await.unwrap_or(Said::Left)
    }

    /// Shows lines above the one being edited.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn print_above(&mut self, lines: String) -> io::Result<()> {
        match &mut self.printer {
            Some(printer) => printer.print(lines).map_err(io::Error::other),
            None => plain::print_between(&lines),
        }
    }

    /// Ctrl-C as a signal while a line is edited; the editor knows it as a key.
    pub(super) fn interrupted(&self) {
        if self.printer.is_none() {
            // A terminal that is gone shows no prompt.
            drop(plain::drop_line(&self.is_dropped));
        }
    }
}

type Lines = Editor<Assistant, MemHistory>;

fn editor(palette: Palette, sender: &UnboundedSender<Said>) -> rustyline::Result<Lines> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .color_mode(match palette {
            Palette::Colours => ColorMode::Enabled,
            Palette::Plain => ColorMode::Disabled,
        })
        .max_history_size(HISTORY_MAX)?
        .build();
    let history = MemHistory::with_config(&config);
    let mut editor = Editor::with_history(config, history)?;
    editor.set_helper(Some(Assistant {
        kernel: Kernel(sender.clone()),
    }));
    let enter = Enter(Kernel(sender.clone()));
    editor.bind_sequence(
        KeyEvent(KeyCode::Enter, Modifiers::NONE),
        EventHandler::Conditional(Box::new(enter)),
    );
    editor.bind_sequence(
        KeyEvent(KeyCode::Enter, Modifiers::ALT),
        EventHandler::Simple(Cmd::Newline),
    );
    Ok(editor)
}

fn serve(editor: &mut Lines, orders: &Receiver<Order>, said: &UnboundedSender<Said>) {
    while let Ok(order) = orders.recv() {
        if let Order::Remember(code) = order {
            // A history that is full drops its oldest line by itself.
            drop(editor.add_history_entry(code));
            continue;
        }
        // What is read ahead of a line's end stays in the editor and begins the next line.
        let heard = match editor.readline(PROMPT) {
            Ok(code) => Said::Code(code),
            Err(ReadlineError::Interrupted) => Said::Interrupted,
            Err(_) => Said::Left,
        };
        if said.send(heard).is_err() {
            return;
        }
    }
}

fn serve_plain(lines: &plain::Lines, orders: &Receiver<Order>, said: &UnboundedSender<Said>) {
    // What was entered before is in the terminal's own scroll, if anywhere.
    while let Ok(order) = orders.recv() {
        if matches!(order, Order::Remember(_)) {
            continue;
        }
        let heard = match lines.read() {
            Ok(Some(code)) => Said::Code(code),
            Ok(None) | Err(_) => Said::Left,
        };
        if said.send(heard).is_err() {
            return;
        }
    }
}

/// The way to the kernel, from the editor's thread.
#[derive(Clone)]
pub(super) struct Kernel(UnboundedSender<Said>);

impl Kernel {
    fn ask(&self, op: Value, within: Duration) -> Option<Value> {
        let (answer, answered) = mpsc::channel();
        self.0.send(Said::Asks(Question { op, answer })).ok()?;
        answered.recv_timeout(within).ok()
    }

    /// Whether that code is whole: in the kernel's opinion, or in ours if it does not say.
    pub(super) fn completeness(&self, code: &str) -> Completeness {
        let op = json!({"op": "is_complete", "code": code});
        let answer = self.ask(op, ANSWER_WITHIN).unwrap_or_default();
        match answer["status"].as_str() {
            Some("incomplete") => Completeness::Incomplete {
                indent: answer["indent"].as_str().unwrap_or_default().to_owned(),
            },
            Some("complete" | "invalid") => Completeness::Complete,
            _ => completeness(code),
        }
    }
}

/// Enter: runs what is whole, and goes on with what is not.
struct Enter(Kernel);

impl ConditionalEventHandler for Enter {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        let (code, at) = (context.line(), context.pos());
        if code.trim().is_empty() {
            return Some(Cmd::AcceptLine);
        }
        if code[at..].contains('\n') {
            return Some(Cmd::Newline);
        }
        Some(match self.0.completeness(code) {
            Completeness::Complete => Cmd::AcceptLine,
            // In the middle of a line Enter breaks it; at its end the next one is indented.
            Completeness::Incomplete { .. } if at < code.len() => Cmd::Newline,
            Completeness::Incomplete { indent } => Cmd::Insert(1, format!("\n{indent}")),
        })
    }
}

struct Assistant {
    kernel: Kernel,
}

impl Helper for Assistant {}
impl Hinter for Assistant {
    type Hint = String;
}
impl Validator for Assistant {}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        highlighted(line)
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let begun = line[..pos].rsplit('\n').next().unwrap_or_default();
        if begun.trim().is_empty() {
            return Ok((pos, vec![pair(INDENT)]));
        }
        let op = json!({"op": "complete", "code": line, "cursor_pos": line[..pos].chars().count()});
        let Some(answer) = self.kernel.ask(op, COMPLETE_WITHIN) else {
            return Ok((pos, Vec::new()));
        };
        Ok(candidates(line, pos, &answer))
    }
}

/// The kernel's matches, and the byte where they begin; the kernel counts characters.
fn candidates(line: &str, pos: usize, answer: &Value) -> (usize, Vec<Pair>) {
    let start = answer["cursor_start"]
        .as_u64()
        .and_then(|start| usize::try_from(start).ok())
        .and_then(|start| line.char_indices().map(|(at, _)| at).nth(start))
        .filter(|start| *start <= pos)
        .unwrap_or(pos);
    let matches = answer["matches"].as_array();
    let texts = matches.into_iter().flatten().filter_map(Value::as_str);
    (start, texts.map(pair).collect())
}

fn pair(text: &str) -> Pair {
    Pair {
        display: text.to_owned(),
        replacement: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_positions_count_characters() {
        let answer = json!({"matches": ["größe", "gräte"], "cursor_start": 4, "cursor_end": 6});
        let line = "ü + gr";
        let (start, found) = candidates(line, line.len(), &answer);
        assert_eq!(&line[start..], "gr");
        assert_eq!(found[0].replacement, "größe");
        let (start, found) = candidates(line, line.len(), &json!({"status": "error"}));
        assert_eq!((start, found.len()), (line.len(), 0));
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_not_waited_for() {
        let (sender, mut said) = unbounded_channel();
        let kernel = Kernel(sender);
        assert_eq!(kernel.completeness("x = 1"), Completeness::Complete);
        let Some(Said::Asks(question)) = said.blocking_recv() else {
            panic!("nothing was asked");
        };
        assert_eq!(question.op["code"], "x = 1");
    }

    #[test]
    fn the_kernels_word_goes_before_ours() {
        let (sender, mut said) = unbounded_channel();
        let kernel = Kernel(sender);
        thread::spawn(move || {
            while let Some(Said::Asks(question)) = said.blocking_recv() {
                let answer = json!({"status": "incomplete", "indent": "  "});
                drop(question.answer.send(answer));
            }
        });
        let indent = "  ".to_owned();
        assert_eq!(
            kernel.completeness("x = 1"),
            Completeness::Incomplete { indent }
        );
    }
}
