//! `tithon states`: states that code is run in, each leaving a new one.

mod serve;

use clap::{Args, Subcommand};

use crate::{error::CliError, exit::Exit};

/// Branch: run code in states that stay as they are
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tithon states serve --bind 127.0.0.1:8080 --token-file token")]
pub(crate) struct StatesArgs {
    #[command(subcommand)]
    command: StatesCommand,
}

#[derive(Debug, Subcommand)]
enum StatesCommand {
    Serve(serve::ServeArgs),
}

/// Runs one of the commands.
///
/// # Errors
/// That command's.
pub(crate) fn run(args: StatesArgs) -> Result<Exit, CliError> {
    match args.command {
        StatesCommand::Serve(args) => serve::run(args),
    }
}
