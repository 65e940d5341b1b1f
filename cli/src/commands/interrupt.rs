//! `tithon interrupt`: what Ctrl-C is to a program in the foreground.

use clap::Args;
use serde_json::json;

use super::print_reply;
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    link::{Link, ask},
};

/// Interrupt a session's running cell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tithon interrupt\n  tithon interrupt --session lab")]
pub(crate) struct InterruptArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,
}

/// Interrupts; that there was nothing to interrupt is in the reply, not in the exit code.
///
/// # Errors
/// When no supervisor runs.
pub(crate) async fn run(args: &InterruptArgs, link: &Link) -> Result<Exit, CliError> {
    let op = json!({"op": "interrupt", "session": args.session});
    let mut connection = link.open_running().await?;
    print_reply(&ask(&mut connection, &op, "interrupted").await?)?;
    connection.close().await;
    Ok(Exit::Success)
}
