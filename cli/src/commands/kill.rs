//! `tithon kill`: the end of a session's kernel; its history stays.

use clap::Args;
use serde_json::json;
use tithon_ipc::{client::Frame, control::Request};

use super::{answer::Telling, is_ok};
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    history,
    link::{Link, ask_once},
    workers,
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
/// When there is no such session, or neither a supervisor nor a worker that could be asked.
pub(crate) async fn run(args: &KillArgs, link: &Link) -> Result<Exit, CliError> {
    let reply = match supervised(args, link).await {
        Ok(reply) => reply,
        Err(err) => {
            let ok = workers::instead(link, err, &args.session, &Request::Kill).await?;
            let session = &json!(args.session);
            Frame::KernelKilled { ok, session }.to_text()
        }
    };
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

async fn supervised(args: &KillArgs, link: &Link) -> Result<String, CliError> {
    history::running_entry(link, &args.session).await?;
    let op = json!({"op": "kill_kernel", "target": args.session});
    let connection = link.open_running().await?;
    ask_once(connection, &op, "kernel_killed", "ending the kernel").await
}
