//! How commands that change something tell what came of it: a sentence to a person, JSON to a program.

use std::io::{self, IsTerminal};

use clap::Args;

use super::{print, print_reply};
use crate::error::CliError;

/// Whom the answer is for.
#[derive(Debug, Args)]
pub(crate) struct Telling {
    /// The answer as JSON, as it is wherever standard output is no terminal
    #[arg(long)]
    json: bool,
}

impl Telling {
    /// Tells a reply, or in its place what it comes to.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn tell(&self, reply: &str, sentence: &str) -> Result<(), CliError> {
        match self.is_for_a_person() {
            true => print(sentence),
            false => print_reply(reply),
        }
    }

    /// Whether somebody reads it who wants words.
    pub(crate) fn is_for_a_person(&self) -> bool {
        !self.json && io::stdout().is_terminal()
    }
}
