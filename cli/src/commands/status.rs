//! `tithon status`: a session's status, or every session's, as the server reports it.

use clap::Args;
use serde_json::json;

use super::print_reply;
use crate::{arguments::session, error::CliError, exit::Exit, history, link::Link};

/// Print a session's status, or every session's, as JSON
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tithon status\n  tithon status --session lab")]
pub(crate) struct StatusArgs {
    /// The session; without it, every session
    #[arg(long, value_name = "NAME", value_parser = session)]
    session: Option<String>,
}

/// Asks a running supervisor.
///
/// # Errors
/// When none runs, there is no such session, or it refuses.
pub(crate) async fn run(args: &StatusArgs, link: &Link) -> Result<Exit, CliError> {
    let op = json!({"op": "status"});
    let op = match &args.session {
        Some(session) => {
            // Asking must not make a session of a name that was only mistyped.
            history::running_entry(link, session).await?;
            link.bound(session, None, None).bind(op)
        }
        None => op,
    };
    print_reply(&link.inquire(&op, "status_reply").await?)?;
    Ok(Exit::Success)
}
