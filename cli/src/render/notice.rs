//! What a person sees while something takes its time: one line that moves, on a terminal. Elsewhere a
//! server's notices are plain lines, and our own progress is silent.

use std::{
    io::{self, IsTerminal},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{is_plain_terminal, words};

/// From here on a person wonders.
const NOTICEABLE: Duration = Duration::from_millis(500);
/// Slow enough to cost nothing, fast enough to show that something happens.
const TICK: Duration = Duration::from_millis(120);

/// The line, which whoever began last writes: two would draw over each other.
static LINE: Mutex<Line> = Mutex::new(Line {
    bar: None,
    said: Vec::new(),
    numbered: 0,
});

struct Line {
    bar: Option<ProgressBar>,
    said: Vec<(u64, String)>,
    numbered: u64,
}

impl Line {
    fn get() -> MutexGuard<'static, Self> {
        LINE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&mut self) {
        match self.said.last() {
            Some((_, words)) => self
                .bar
                .get_or_insert_with(spinner)
                .set_message(words.clone()),
            None => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

/// Words on the line, for as long as this lives.
struct Said(u64);

impl Said {
    fn new(words: &str) -> Self {
        let mut line = Line::get();
        line.numbered += 1;
        let number = line.numbered;
        line.said.push((number, words.to_owned()));
        line.draw();
        Self(number)
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        let mut line = Line::get();
        line.said.retain(|(number, _)| *number != self.0);
        line.draw();
    }
}

/// Whether there is a line that moves.
fn moves() -> bool {
    io::stderr().is_terminal() && !is_plain_terminal()
}

/// Progress of a kernel's start, as the server tells it.
#[derive(Default)]
pub(crate) struct Notices {
    line: Option<Said>,
    last: String,
}

impl Notices {
    /// Shows a notice in place of the one before.
    pub(crate) fn show(&mut self, message: &str) {
        if self.last == message {
            return;
        }
        message.clone_into(&mut self.last);
        if message.contains('\n') {
            // More than progress: something to read and to do, which stays.
            self.clear();
            words::say(message);
        } else if moves() {
            // Together, or the line would go and come again.
            let before = self.line.replace(Said::new(message));
            drop(before);
        } else {
            words::say(message);
        }
    }

    /// Takes the line away, because something else is about to be printed.
    pub(crate) fn clear(&mut self) {
        self.line = None;
    }
}

/// Says what is being done once that takes so long that a person wonders, until this is dropped.
pub(crate) struct Progress {
    /// Held by whoever works; the other end shows the line.
    working: Option<mpsc::Sender<()>>,
    line: Option<JoinHandle<()>>,
}

impl Progress {
    /// `doing` as in "restarting the kernel".
    pub(crate) fn of(doing: &str) -> Self {
        if !moves() {
            return Self {
                working: None,
                line: None,
            };
        }
        let (working, over) = mpsc::channel::<()>();
        let doing = doing.to_owned();
        let line = thread::Builder::new().spawn(move || {
            if over.recv_timeout(NOTICEABLE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _said = Said::new(&doing);
                // Returns when the other end is gone: nothing is ever sent.
                let _ = over.recv();
            }
        });
        Self {
            working: Some(working),
            // A process that may have no more threads does its work without a word.
            line: line.ok(),
        }
    }
}

impl Drop for Progress {
    /// Returns when the line is gone: what comes next is printed in its place.
    fn drop(&mut self) {
        self.working = None;
        if let Some(line) = self.line.take() {
            drop(line.join());
        }
    }
}

/// Does something under [`Progress`].
pub(crate) async fn during<T>(doing: &str, work: impl Future<Output = T>) -> T {
    let _progress = Progress::of(doing);
    work.await
}

fn spinner() -> ProgressBar {
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
        line.set_style(style);
    }
    line.enable_steady_tick(TICK);
    line
}
