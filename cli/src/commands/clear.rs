//! `tithon clear`: takes outputs away; code and times stay in the history.

use clap::Args;
use serde_json::json;

use super::print_reply;
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    history,
    link::{Link, ask},
};

const EXAMPLES: &str = "\
Examples:
  tithon clear e3 e4
  tithon clear --all

Every client that shows the session shows them empty from then on. What a cell
prints later appears again.";

/// Clear the output of executions, for every client
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
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
    let mut connection = link.open().await?;
    let op = link.bound(&args.session, None, None).bind(op);
    let reply = ask(&mut connection, &op, "cleared").await?;
    connection.close().await;
    print_reply(&reply)?;
    let cleared: serde_json::Value = serde_json::from_str(&reply)?;
    Ok(match cleared["count"].as_u64() {
        Some(0) => Exit::Failure,
        _ => Exit::Success,
    })
}
