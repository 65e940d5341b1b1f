//! Words to the user, on standard error: `tithon: …`, with `hint:` lines.
//!
//! Colour only where the other end shows it. Nobody reading is no reason to fail.

use std::io::{IsTerminal, Write};

const RED: &str = "\x1b[1;31m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Tells why a command failed.
pub(crate) fn fail(words: &str) {
    print(words, RED);
}

/// Tells something while a command goes on.
pub(crate) fn say(words: &str) {
    print(words, BOLD);
}

/// Tells somebody who watches that it takes a moment; nothing where nobody does.
pub(crate) fn progress(words: &str) {
    if std::io::stderr().is_terminal() {
        say(words);
    }
}

fn print(words: &str, style: &str) {
    let mut stderr = anstream::stderr().lock();
    for (number, line) in words.lines().enumerate() {
        let written = match line.strip_prefix("hint:") {
            Some(hint) => writeln!(stderr, "{DIM}hint:{RESET}{hint}"),
            None if number == 0 => writeln!(stderr, "{style}tithon:{RESET} {line}"),
            None => writeln!(stderr, "{line}"),
        };
        if written.is_err() {
            return;
        }
    }
    drop(stderr.flush());
}
