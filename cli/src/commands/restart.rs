//! `tithon restart`: a fresh kernel for a session; its history stays.

use clap::Args;
use serde_json::json;

use super::print_reply;
use crate::{
    arguments::{memory, session},
    error::CliError,
    exit::Exit,
    link::{Link, ask},
};

/// Give a session a fresh kernel; its history stays
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tithon restart --session lab     variables go, the history stays"
)]
pub(crate) struct RestartArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    /// Bound the session's memory, as 20G or 512M; kept for later kernels until told otherwise (infinity)
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    memory_max: Option<u64>,
}

/// Restarts the kernel and waits until it is ready.
///
/// # Errors
/// When the session cannot be reached, or the kernel does not start.
pub(crate) async fn run(args: &RestartArgs, link: &Link) -> Result<Exit, CliError> {
    let op = link
        .bound(&args.session, None, None)
        .limited(args.memory_max)
        .bind(json!({"op": "restart_kernel"}));
    let mut connection = link.open().await?;
    print_reply(&ask(&mut connection, &op, "kernel_restarted").await?)?;
    connection.close().await;
    Ok(Exit::Success)
}
