//! `tithon version`.

use super::print;
use crate::{error::CliError, exit::Exit};

/// Prints the version alone, for scripts to compare.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn run() -> Result<Exit, CliError> {
    print(env!("CARGO_PKG_VERSION"))?;
    Ok(Exit::Success)
}
