//! `tithon kill`: the end of a session's kernel; its history stays.

use clap::Args;
use serde_json::json;

use super::{answer::Telling, is_ok};
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    history,
    link::{Link, ask_once},
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

    #[command(flatten)]
    telling: Telling,
}

/// Kills; exit code 1 when there was nothing to kill.
///
/// # Errors
/// When no supervisor runs, or there is no such session.
pub(crate) async fn run(args: &KillArgs, link: &Link) -> Result<Exit, CliError> {
    history::running_entry(link, &args.session).await?;
    let op = json!({"op": "kill_kernel", "target": args.session});
    let reply = ask_once(
        link.open_running().await?,
        &op,
        "kernel_killed",
        "ending the kernel",
    )
    .await?;
    let (exit, sentence) = match is_ok(&reply) {
        true => {
            let log = link.suggested("log", &args.session);
            let sentence = format!(
                "the kernel of session '{}' was ended; its history stays: {log}",
                args.session
            );
            (Exit::Success, sentence)
        }
        false => (
            Exit::Failure,
            format!("no kernel runs in session '{}'", args.session),
        ),
    };
    args.telling.tell(&reply, &sentence)?;
    Ok(exit)
}
