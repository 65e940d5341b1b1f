//! `tithon restart`: a fresh kernel for a session; its history stays.

use clap::Args;
use serde_json::{Value, json};

use super::answer::Telling;
use crate::{
    arguments::{memory, session},
    error::CliError,
    exit::Exit,
    history,
    link::{Bound, Link, ask_once},
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

    #[command(flatten)]
    telling: Telling,
}

/// Restarts the kernel and waits until it is ready.
///
/// # Errors
/// When there is no such session, it cannot be reached, or the kernel does not start.
pub(crate) async fn run(args: &RestartArgs, link: &Link) -> Result<Exit, CliError> {
    history::entry(link, &args.session).await?;
    let bound = link
        .bound(&args.session, None, None)
        .limited(args.memory_max);
    let reply = fresh(link, &bound).await?;
    let told: Value = serde_json::from_str(&reply)?;
    let sentence = format!(
        "session '{}' has a fresh kernel (pid {}); its history stays",
        args.session, told["kernel_pid"]
    );
    args.telling.tell(&reply, &sentence)?;
    Ok(Exit::Success)
}

/// Gives a session a fresh kernel; returns the frame that says so.
///
/// # Errors
/// When it cannot be reached, or the kernel does not start.
pub(super) async fn fresh(link: &Link, bound: &Bound) -> Result<String, CliError> {
    let op = bound.bind(json!({"op": "restart_kernel"}));
    // One that is fresh twice is as fresh: who meets a worker that is leaving asks the next one.
    let ask = async || {
        let connection = link.open().await?;
        ask_once(connection, &op, "kernel_restarted", "restarting the kernel").await
    };
    link.repeated(ask).await
}
