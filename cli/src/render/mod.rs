//! What people see: output, words, progress and tables.

pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod markdown;
pub(crate) mod notice;
pub(crate) mod output;
pub(crate) mod picture;
mod sixel;
pub(crate) mod table;
pub(crate) mod units;
pub(crate) mod words;

use std::env;

/// Whether the terminal says that it moves no cursor, such as an editor's shell buffer: it gets lines
/// and never an escape sequence.
pub(crate) fn is_plain_terminal() -> bool {
    // Those that the line editor refuses.
    env::var("TERM").is_ok_and(|term| ["dumb", "emacs", "cons25"].contains(&&*term))
}

/// Decides once for the whole process, help texts included, what the environment leaves open.
///
/// Where `CI` or `CLICOLOR` is set, `anstream` takes any terminal for one with colours. Only who asks with
/// `CLICOLOR_FORCE` gets them on one that says it has none.
pub(crate) fn settle_colours() {
    if is_plain_terminal() && env::var_os("CLICOLOR_FORCE").is_none_or(|value| value == "0") {
        anstream::ColorChoice::Never.write_global();
    }
}
