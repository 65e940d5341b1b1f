//! `tithon states`: states that code is run in, each leaving a new one; a session's, or a server's.

mod exec;
mod ls;
mod rm;
mod serve;
mod show;

use clap::{Args, Subcommand};

use super::block_on;
use crate::{error::CliError, exit::Exit, link::Link};

const EXAMPLES: &str = "\
Examples:
  tithon states exec --as base -c 'X, y = load()'          run on a copy of the kernel, which stays
  tithon states exec --from base --as small -c 'm = fit(X, y, depth=3)'
  tithon states exec --from base --as large -c 'm = fit(X, y, depth=9)'
  tithon states ls
  tithon states show small                                 its code, output and variables
  tithon restore --to large                                go on with it
  tithon states rm base small
  tithon states serve --bind 127.0.0.1:8080 --token-file token

A state is a frozen copy of a session's kernel. Code that is run in it changes a copy of it, and
what comes of that is kept as another state; an error leaves nothing. The kernel knows nothing of it.";

/// Run code in states that stay as they are, each leaving another
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatesArgs {
    #[command(subcommand)]
    command: StatesCommand,
}

#[derive(Debug, Subcommand)]
enum StatesCommand {
    Ls(ls::LsArgs),
    Show(show::ShowArgs),
    Rm(rm::RmArgs),
    Exec(exec::ExecArgs),
    Serve(serve::ServeArgs),
}

impl StatesArgs {
    /// Whether it serves states of its own.
    pub(crate) fn is_a_server(&self) -> bool {
        matches!(self.command, StatesCommand::Serve(_))
    }
}

/// Runs one of the commands.
///
/// # Errors
/// That command's.
pub(crate) fn run(
    args: StatesArgs,
    link: impl FnOnce() -> Result<Link, CliError>,
) -> Result<Exit, CliError> {
    match args.command {
        StatesCommand::Ls(args) => block_on(ls::run(&args, &link()?)),
        StatesCommand::Show(args) => block_on(show::run(&args, &link()?)),
        StatesCommand::Rm(args) => block_on(rm::run(&args, &link()?)),
        StatesCommand::Exec(args) => exec::run(&args, &link()?),
        StatesCommand::Serve(args) => serve::run(args),
    }
}
