//! `tithon clear`: takes outputs away; code and times stay in the history.

use clap::Args;
use serde_json::{Value, json};

use super::answer::Telling;
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    history,
    link::{Link, ask_once},
    render::words,
};

const EXAMPLES: &str = "\
Examples:
  tithon clear e3 e4
  tithon clear --all

Every client that shows the session shows them empty from then on. What a cell
prints later appears again.";

/// Clear the output of executions, for every client
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    override_usage = "tithon clear [OPTIONS] <EXEC>...\n       tithon clear [OPTIONS] --all"
)]
pub(crate) struct ClearArgs {
    /// The executions
    #[arg(
        value_name = "EXEC",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    exec: Vec<String>,

    /// Every execution of the session
    #[arg(long)]
    all: bool,

    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    #[command(flatten)]
    telling: Telling,
}

/// Clears; exit code 1 when nothing was there to clear.
///
/// # Errors
/// When there is no such session, or it cannot be reached.
pub(crate) async fn run(args: &ClearArgs, link: &Link) -> Result<Exit, CliError> {
    history::entry(link, &args.session).await?;
    let op = match args.all {
        true => json!({"op": "clear_output", "all": true}),
        false => json!({"op": "clear_output", "exec_ids": args.exec}),
    };
    let op = link.bound(&args.session, None, None).bind(op);
    let reply = link
        .repeated(async || ask_once(link.open().await?, &op, "cleared", "clearing").await)
        .await?;
    let told: Value = serde_json::from_str(&reply)?;
    let count = told["count"].as_u64().unwrap_or_default();
    let executions = match count {
        1 => "execution",
        _ => "executions",
    };
    let sentence = format!("the output of {count} {executions} was cleared");
    if count > 0 || !args.telling.is_for_a_person() {
        args.telling.tell(&reply, &sentence)?;
    }
    if count > 0 {
        return Ok(Exit::Success);
    }
    let named = match args.all {
        true => String::new(),
        false => format!(" {}", args.exec.join(", ")),
    };
    words::say(&format!(
        "session '{}' has no such execution{named}\nhint: {}",
        args.session,
        link.suggested("log", &args.session)
    ));
    Ok(Exit::Failure)
}
