//! `tithon reach`: what `--host` asks on the other machine.

use super::print;
use crate::{error::CliError, exit::Exit, link::Link, remote::Reached};

/// Says where the supervisor listens, once one does.
///
/// # Errors
/// When none runs and none may be or could be started.
pub(crate) async fn run(link: &Link) -> Result<Exit, CliError> {
    link.open().await?.close().await;
    let reached = Reached {
        tithon: env!("CARGO_PKG_VERSION").to_owned(),
        socket: link.home().socket(),
    };
    print(&serde_json::to_string(&reached)?)?;
    Ok(Exit::Success)
}
