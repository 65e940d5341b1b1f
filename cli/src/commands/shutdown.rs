//! `tithon shutdown`: ends the supervisor; kernels stay unless they are to go too.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tithon_ipc::lock::Lock;
use tokio::time::{sleep, timeout};

use super::answer::Telling;
use crate::{
    error::CliError,
    exit::Exit,
    link::{Link, ask},
    render::notice::during,
    service,
};

/// How long the supervisor's exit is waited for; `shutdown` is true before that.
const EXIT_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// Stop the supervisor; kernels keep running
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tithon shutdown                  kernels go on; the next command finds them\n  tithon shutdown --kill-kernels"
)]
pub(crate) struct ShutdownArgs {
    /// End every kernel as well
    #[arg(long)]
    kill_kernels: bool,

    #[command(flatten)]
    telling: Telling,
}

/// What becomes of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// They run on.
    Keep,
    /// They end.
    End,
}

/// Asks for the end and waits until the next supervisor could start.
///
/// # Errors
/// When no supervisor runs.
pub(crate) async fn run(args: &ShutdownArgs, link: &Link) -> Result<Exit, CliError> {
    let kernels = match args.kill_kernels {
        true => Kernels::End,
        false => Kernels::Keep,
    };
    let service = service::serving(link.home()).await;
    let (doing, sentence) = match kernels {
        Kernels::Keep => (
            "ending the supervisor",
            "the supervisor has ended; kernels go on, and the next command finds them",
        ),
        Kernels::End => (
            "ending kernels and supervisor",
            "every kernel and the supervisor have ended; histories stay",
        ),
    };
    let reply = during(doing, end(link, kernels)).await?;
    args.telling.tell(&reply, sentence)?;
    if let Some(systemd) = service {
        // Else it would be running again within a second.
        systemd
            .ctl(&["stop", "tithon.socket", "tithon.service"])
            .await?;
    }
    Ok(Exit::Success)
}

/// Ends the supervisor; its reply, once its lock is free or it takes too long.
///
/// # Errors
/// When none runs.
pub(crate) async fn end(link: &Link, kernels: Kernels) -> Result<String, CliError> {
    let op = json!({"op": "shutdown", "kill_kernels": kernels == Kernels::End});
    let mut connection = link.open_running().await?;
    let reply = ask(&mut connection, &op, "shutting_down").await?;
    let lock = link.home().lock_file();
    let exit = async {
        while Lock::is_held(&lock).unwrap_or(false) {
            sleep(POLL).await;
        }
    };
    // A supervisor that takes longer is ending all the same.
    drop(timeout(EXIT_WITHIN, exit).await);
    Ok(reply)
}
