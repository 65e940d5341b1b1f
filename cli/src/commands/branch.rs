//! `tithon branch`: a second session with the history and the variables of a first.

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
  tithon branch other-model                     from here on there are two sessions
  tithon run --session other-model -c 'fit()'
  tithon branch before --from e12               as it was after e12
  tithon branch copy --session lab              of another session than default

The new session has the history up to there, the variables, and the execution counter, in a kernel of
its own; both go on independently. What is not the kernel's memory is not copied: files and databases
are shared, connections and child processes belong to the first.";

/// Make a second session with a session's history and variables
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BranchArgs {
    /// The new session's name, which no session has yet
    #[arg(value_name = "NAME", value_parser = session)]
    name: String,

    /// The session to branch off: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    /// The execution whose checkpoint, or the state, to begin with; the kernel as it is unless given
    #[arg(long, value_name = "EXEC|STATE")]
    from: Option<String>,

    #[command(flatten)]
    telling: Telling,
}

/// Branches, and waits until the new kernel can be used.
///
/// # Errors
/// When there is no such session or checkpoint, the name is taken, or the kernel cannot be copied.
pub(crate) async fn run(args: &BranchArgs, link: &Link) -> Result<Exit, CliError> {
    history::entry(link, &args.session).await?;
    let mut op = json!({"op": "branch", "name": args.name});
    if let Some(from) = &args.from {
        op["from"] = json!(from);
    }
    let op = link.bound(&args.session, None, None).bind(op);
    let reply = ask_once(link.open().await?, &op, "branched", "branching").await?;
    let told: Value = serde_json::from_str(&reply)?;
    let sentence = format!(
        "session '{}' goes on from where '{}' {}, with {} of its executions",
        args.name,
        args.session,
        match &args.from {
            Some(from) => format!("was after {from}"),
            None => "is".to_owned(),
        },
        told["executions"],
    );
    args.telling.tell(&reply, &sentence)?;
    Ok(Exit::Success)
}
