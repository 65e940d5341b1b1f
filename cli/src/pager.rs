//! Long text on a terminal goes through the user's pager; anywhere else it is simply written.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::{Command, Stdio},
};

use crate::{error::CliError, render};

/// Shows text that may be longer than a screen.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn show(text: &str) -> Result<(), CliError> {
    if io::stdout().is_terminal() && !render::is_plain_terminal() {
        let named = ["TITHON_PAGER", "PAGER"]
            .into_iter()
            .find_map(|name| env::var(name).ok());
        let pager = named.unwrap_or_else(|| "less".to_owned());
        if !pager.is_empty() && paged(&pager, text) {
            return Ok(());
        }
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(CliError::Output)
}

/// Whether the pager was there to read it.
fn paged(pager: &str, text: &str) -> bool {
    let mut command = Command::new("sh");
    command.arg("-c").arg(pager).stdin(Stdio::piped());
    if env::var_os("LESS").is_none() {
        // Leave at once if it fits, pass colours through, keep the screen.
        command.env("LESS", "FRX");
    }
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A pager that was left early has read enough.
        drop(stdin.write_all(text.as_bytes()));
    }
    // 127 is the shell's word for a program that is not there.
    child.wait().is_ok_and(|status| status.code() != Some(127))
}
