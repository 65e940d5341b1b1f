//! The prompt of a terminal that moves no cursor, such as an editor's shell buffer: lines as the
//! terminal itself edits them, and never an escape sequence.

use std::{
    io::{self, BufRead, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    editor::{Kernel, PROMPT},
    python::Completeness,
};

const CONTINUATION: &str = "... ";

/// Reads code line by line.
pub(super) struct Lines {
    kernel: Kernel,
    is_dropped: Arc<AtomicBool>,
}

impl Lines {
    /// `is_dropped`: set by whoever hears Ctrl-C, see [`drop_line`].
    pub(super) fn new(kernel: Kernel, is_dropped: Arc<AtomicBool>) -> Self {
        Self { kernel, is_dropped }
    }

    /// The next code that is whole, or that an empty line ends; nothing at the end of input.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn read(&self) -> io::Result<Option<String>> {
        self.is_dropped.store(false, Ordering::Relaxed);
        let mut code = String::new();
        say(PROMPT)?;
        loop {
            let mut line = String::new();
            if io::stdin().lock().read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if self.is_dropped.swap(false, Ordering::Relaxed) {
                code.clear();
            }
            let is_end = line.trim().is_empty();
            code.push_str(&line);
            // An end of line would count as the empty line that ends a block.
            let so_far = code.trim_end_matches(['\r', '\n']);
            let is_whole = is_end || self.kernel.completeness(so_far) == Completeness::Complete;
            // Ctrl-C right after Enter means this code, too; the prompt has been shown again.
            if self.is_dropped.swap(false, Ordering::Relaxed) {
                code.clear();
                continue;
            }
            if is_whole {
                return Ok(Some(code.trim_end().to_owned()));
            }
            say(CONTINUATION)?;
        }
    }
}

/// Ctrl-C at the prompt: the terminal has forgotten the line, and the lines before it go too.
///
/// # Errors
/// When the terminal is gone.
pub(super) fn drop_line(is_dropped: &AtomicBool) -> io::Result<()> {
    is_dropped.store(true, Ordering::Relaxed);
    say(&format!("\n{PROMPT}"))
}

/// Shows lines, and the prompt again below them.
///
/// # Errors
/// When the terminal is gone.
pub(super) fn print_between(lines: &str) -> io::Result<()> {
    say(&format!("\n{lines}{PROMPT}"))
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
