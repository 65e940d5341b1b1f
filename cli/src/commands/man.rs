//! `tithon man`: manual pages, for whoever packages the program.

use std::{fs, path::PathBuf};

use clap::{Args, CommandFactory};

use crate::{arguments::Arguments, error::CliError, exit::Exit};

/// Write the manual pages into a directory
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory, e.g. share/man/man1; made if it is not there
    directory: PathBuf,
}

/// Writes one page for every command.
///
/// # Errors
/// When a page cannot be written.
pub(crate) fn run(args: &ManArgs) -> Result<Exit, CliError> {
    let failed = |source| CliError::Write {
        path: args.directory.clone(),
        source,
    };
    fs::create_dir_all(&args.directory).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), &args.directory).map_err(failed)?;
    Ok(Exit::Success)
}
