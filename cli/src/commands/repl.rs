//! `tithon repl`, and `tithon` alone: a prompt.

use std::io::{self, IsTerminal};

use clap::Args;

use crate::{
    arguments::session, error::CliError, exit::Exit, link::Link, repl::Repl, wish::WishArgs,
};

const EXAMPLES: &str = "\
Examples:
  tithon                          the default session
  tithon repl --session lab --python .venv/bin/python

Enter runs what is whole and goes on with what is not; Alt-Enter breaks a line.
Tab completes, `name?` explains, Ctrl-R searches the session's history.
Ctrl-C interrupts the cell, or clears the line. Ctrl-D leaves: cells, variables
and outputs stay, and are there when you come back.";

/// Work in a session at a prompt
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReplArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    #[command(flatten)]
    wish: WishArgs,
}

impl Default for ReplArgs {
    fn default() -> Self {
        Self {
            session: "default".to_owned(),
            wish: WishArgs::default(),
        }
    }
}

/// Whether there is somebody to talk to.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Serves the prompt until its user leaves.
///
/// # Errors
/// When there is no terminal, or the session cannot be reached.
pub(crate) async fn run(args: &ReplArgs, link: &Link) -> Result<Exit, CliError> {
    if !is_possible() {
        return Err(CliError::Usage(
            "the prompt needs a terminal\nhint: tithon run - runs code from a pipe".to_owned(),
        ));
    }
    let bound = args.wish.bound(link, &args.session);
    Repl::new(link, &bound)?.run().await
}
