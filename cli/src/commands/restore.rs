//! `tithon restore`: go back to a checkpoint.

use clap::Args;
use serde_json::{Value, json};

use super::answer::Telling;
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    history,
    link::{Link, ask_once},
};

const EXAMPLES: &str = "\
Examples:
  tithon restore                          after a crash: go on from the newest checkpoint
  tithon restore --to e12                 undo what ran since e12; running cells are given up
  tithon restore --to tuned               go on with a state of `tithon states`

Variables, imports and the execution counter are as they were. Files, databases and what other
programs know are not: a checkpoint is the kernel's memory. Later checkpoints stay, so a restore
can be undone by another.";

/// Go back to the state after an earlier cell, also after the kernel's death
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RestoreArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    /// The execution whose checkpoint, or the state, to go to; the newest checkpoint unless given
    #[arg(long, value_name = "EXEC|STATE")]
    to: Option<String>,

    #[command(flatten)]
    telling: Telling,
}

/// Restores, and waits until the kernel can be used.
///
/// # Errors
/// When there is no such session or checkpoint, or the copy does not answer.
pub(crate) async fn run(args: &RestoreArgs, link: &Link) -> Result<Exit, CliError> {
    history::entry(link, &args.session).await?;
    let mut op = json!({"op": "restore_kernel"});
    if let Some(to) = &args.to {
        op["to"] = json!(to);
    }
    let op = link.bound(&args.session, None, None).bind(op);
    let reply = ask_once(link.open().await?, &op, "kernel_restored", "going back").await?;
    let told: Value = serde_json::from_str(&reply)?;
    let sentence = format!(
        "session '{}' is {}{}",
        args.session,
        match (told["state"].as_str(), told["to"].as_str()) {
            (Some(state), _) => format!("in state '{state}'"),
            (None, to) => format!("as it was after {}", to.unwrap_or("the checkpoint")),
        },
        match told["lost"].as_array().map_or(0, Vec::len) {
            0 => String::new(),
            1 => "; what 1 cell did since is undone".to_owned(),
            many => format!("; what {many} cells did since is undone"),
        }
    );
    args.telling.tell(&reply, &sentence)?;
    Ok(Exit::Success)
}
