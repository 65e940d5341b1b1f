//! `tithon interrupt`: what Ctrl-C is to a program in the foreground.

use clap::Args;
use serde_json::json;
use tithon_ipc::{client::Frame, control::Request};

use super::{answer::Telling, is_ok};
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    history,
    link::{Link, ask},
    workers,
};

/// Interrupt a session's running cell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tithon interrupt\n  tithon interrupt --session lab")]
pub(crate) struct InterruptArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    #[command(flatten)]
    telling: Telling,
}

/// Interrupts; that there was nothing to interrupt is in the reply, not in the exit code.
///
/// # Errors
/// When there is no such session, or neither a supervisor nor a worker that could be asked.
pub(crate) async fn run(args: &InterruptArgs, link: &Link) -> Result<Exit, CliError> {
    let reply = match supervised(args, link).await {
        Ok(reply) => reply,
        Err(err) => {
            let ok = workers::instead(link, err, &args.session, &Request::Interrupt).await?;
            Frame::Interrupted { ok }.to_text()
        }
    };
    let sentence = match is_ok(&reply) {
        true => format!("session '{}' was interrupted", args.session),
        false => format!("no kernel runs in session '{}'", args.session),
    };
    args.telling.tell(&reply, &sentence)?;
    Ok(Exit::Success)
}

async fn supervised(args: &InterruptArgs, link: &Link) -> Result<String, CliError> {
    history::running_entry(link, &args.session).await?;
    let op = json!({"op": "interrupt", "session": args.session});
    let mut connection = link.open_running().await?;
    let reply = ask(&mut connection, &op, "interrupted").await?;
    connection.close().await;
    Ok(reply)
}
