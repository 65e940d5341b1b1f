//! A cell's `input()`, answered from standard input.
//!
//! Reading a line cannot be cancelled, so a thread does it, and only while a prompt is open: what is
//! typed at other times belongs to whoever reads the terminal next.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    sync::mpsc::{Sender, channel},
    thread,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc::{Receiver, channel as answers};

/// What an `input_reply` says at the end of input; the kernel raises `EOFError`.
const END_OF_INPUT: &str = "\x04";

/// Who answers a cell's prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// Nobody: `input()` raises an error at once.
    Refused,
    /// A person.
    Terminal,
    /// The lines of a pipe or a file.
    Lines,
}

impl Stdin {
    /// Standard input if a person is there, or if the user says so.
    pub(crate) fn choose(wanted: bool) -> Self {
        match (io::stdin().is_terminal(), wanted) {
            (true, _) => Self::Terminal,
            (false, true) => Self::Lines,
            (false, false) => Self::Refused,
        }
    }
}

/// A line, or `None` at the end of input.
pub(super) type Answer = Option<String>;

/// The open prompt and its answer.
pub(super) struct Prompts {
    stdin: Stdin,
    reader: Option<Reader>,
    open: bool,
    echo_off: Option<EchoOff>,
    unconfirmed: Option<String>,
}

/// The thread that reads lines on request.
struct Reader {
    requests: Sender<()>,
    answers: Receiver<Answer>,
    /// Whether it is reading a line that somebody asked for.
    reading: bool,
}

impl Prompts {
    pub(super) fn new(stdin: Stdin) -> Self {
        Self {
            stdin,
            reader: None,
            open: false,
            echo_off: None,
            unconfirmed: None,
        }
    }

    /// Whether an answer is awaited.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Begins to read the answer to a prompt.
    pub(super) fn open(&mut self, password: bool) {
        if self.stdin == Stdin::Refused {
            return;
        }
        self.unconfirmed = None;
        self.echo_off = (password && self.stdin == Stdin::Terminal)
            .then(EchoOff::new)
            .flatten();
        let reader = self.reader.get_or_insert_with(Reader::start);
        // A line typed for a prompt that has gone is no answer to this one.
        if reader.reading && reader.answers.try_recv().is_ok() {
            reader.reading = false;
        }
        if !reader.reading {
            reader.reading = reader.requests.send(()).is_ok();
        }
        self.open = true;
    }

    /// The answer; may be awaited again after being dropped.
    pub(super) async fn answer(&mut self) -> Answer {
        match &mut self.reader {
            Some(reader) => {
                let answer = reader.answers.recv().await.flatten();
                reader.reading = false;
                answer
            }
            None => None,
        }
    }

    /// Keeps an answer until the prompt is reported gone.
    pub(super) fn answered(&mut self, answer: Answer) {
        self.open = false;
        if self.echo_off.take().is_some() {
            // The line end that was typed was not shown either.
            drop(writeln!(io::stderr()));
        }
        self.unconfirmed = Some(answer.unwrap_or_else(|| END_OF_INPUT.to_owned()));
    }

    /// The answer that may not have arrived.
    pub(super) fn unconfirmed(&self) -> Option<&str> {
        self.unconfirmed.as_deref()
    }

    /// The prompt is gone, by our answer, somebody else's, or with its cell.
    pub(super) fn close(&mut self) {
        self.open = false;
        self.echo_off = None;
        self.unconfirmed = None;
    }
}

impl Reader {
    fn start() -> Self {
        let (requests, requested) = channel();
        let (sender, answers) = answers(1);
        thread::spawn(move || {
            while requested.recv().is_ok() {
                if sender.blocking_send(read_line()).is_err() {
                    return;
                }
            }
        });
        Self {
            requests,
            answers,
            reading: false,
        }
    }
}

fn read_line() -> Answer {
    let mut line = Vec::new();
    match io::stdin().lock().read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => {
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            Some(String::from_utf8_lossy(line).into_owned())
        }
    }
}

/// While it lives, the terminal does not show what is typed.
struct EchoOff(Termios);

impl EchoOff {
    fn new() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).ok()?;
        Some(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
