//! `tithon kill`: the end of a session's kernel; its history stays.

use clap::Args;
use serde_json::json;

use super::{is_ok, print_reply};
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    link::{Link, ask},
};

/// End a session's kernel; its history stays
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tithon kill --session lab        its history stays: tithon log --session lab"
)]
pub(crate) struct KillArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session)]
    session: String,
}

/// Kills; exit code 1 when there was nothing to kill.
///
/// # Errors
/// When no supervisor runs.
pub(crate) async fn run(args: &KillArgs, link: &Link) -> Result<Exit, CliError> {
    let op = json!({"op": "kill_kernel", "target": args.session});
    let mut connection = link.open_running().await?;
    let reply = ask(&mut connection, &op, "kernel_killed").await?;
    print_reply(&reply)?;
    connection.close().await;
    Ok(if is_ok(&reply) {
        Exit::Success
    } else {
        Exit::Failure
    })
}
