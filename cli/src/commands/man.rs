//! `tithon man`: manual pages, for whoever packages the program.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::{arguments::Arguments, error::CliError, exit::Exit};

/// Write the manual pages into a directory
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// An existing directory, e.g. share/man/man1
    directory: PathBuf,
}

/// Writes one page for every command.
///
/// # Errors
/// When a page cannot be written.
pub(crate) fn run(args: &ManArgs) -> Result<Exit, CliError> {
    clap_mangen::generate_to(Arguments::command(), &args.directory).map_err(|source| {
        CliError::System {
            doing: "write the manual pages",
            source,
        }
    })?;
    Ok(Exit::Success)
}
