//! `tithon states rm`: give states of a session up.

use clap::Args;
use serde_json::json;

use crate::{
    arguments::session,
    commands::answer::Telling,
    error::CliError,
    exit::Exit,
    history,
    link::{Link, ask_once},
};

/// Give states up; a run that has not ended is ended
///
/// States that were made of them stay, and so do their code and output in the history.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Their names, as `tithon states ls` shows them; an execution's id for one that runs
    #[arg(value_name = "STATE", required = true)]
    names: Vec<String>,

    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    #[command(flatten)]
    telling: Telling,
}

/// Gives all of them up, or none if one is not known.
///
/// # Errors
/// When there is no such session or state.
pub(crate) async fn run(args: &RmArgs, link: &Link) -> Result<Exit, CliError> {
    history::entry(link, &args.session).await?;
    let op = link
        .bound(&args.session, None, None)
        .bind(json!({"op": "state_rm", "names": args.names}));
    let reply = ask_once(link.open().await?, &op, "states_removed", "giving up").await?;
    let names: Vec<_> = args.names.iter().map(|name| format!("'{name}'")).collect();
    args.telling
        .tell(&reply, &format!("gave up {}", names.join(", ")))?;
    Ok(Exit::Success)
}
