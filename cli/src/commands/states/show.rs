//! `tithon states show`: what a state is.

use std::collections::BTreeMap;

use clap::Args;
use comfy_table::CellAlignment::Left;
use jiff::Zoned;
use serde::Deserialize;
use serde_json::json;

use super::ls::State;
use crate::{
    arguments::session,
    commands::print_reply,
    error::CliError,
    exit::Exit,
    history,
    link::{Link, ask_once},
    pager,
    render::{
        log::{self, Extent, Palette},
        table, units, words,
    },
};

/// Characters of a value in the table.
const VALUE_MAX: usize = 100;

/// Show a state: the code that made it, its output, and its variables
///
/// Values are asked in a copy of the state that is thrown away: whatever they do to show themselves,
/// the state stays as it is.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Its name, as `tithon states ls` shows it; also the execution of a checkpoint
    #[arg(value_name = "STATE")]
    name: String,

    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    /// The server's answer as JSON: state and variables
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Reply {
    state: State,
    variables: BTreeMap<String, Variable>,
    left_out: u64,
}

#[derive(Deserialize)]
struct Variable {
    #[serde(rename = "type")]
    kind: String,
    repr: String,
}

/// Prints what is known of it.
///
/// # Errors
/// When there is no such session or state, or its variables cannot be told.
pub(crate) async fn run(args: &ShowArgs, link: &Link) -> Result<Exit, CliError> {
    history::entry(link, &args.session).await?;
    let bound = link.bound(&args.session, None, None);
    let op = bound.bind(json!({"op": "state_show", "name": args.name}));
    let reply = ask_once(link.open().await?, &op, "state", "asking").await?;
    if args.json {
        print_reply(&reply)?;
        return Ok(Exit::Success);
    }
    let reply: Reply = serde_json::from_str(&reply)?;
    let now = Zoned::now();
    let past = history::read(link, &bound).await?;
    let made_by = past
        .executions
        .iter()
        .find(|past| past.execution.exec_id == reply.state.exec_id);
    let mut text = made_by.map_or_else(String::new, |past| {
        log::execution(&past.execution, &now, Palette::of_stdout(), Extent::Excerpt)
    });
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&variables(&reply));
    pager::show(&text)?;
    if let Some(bytes) = reply.state.private_bytes {
        words::say(&format!("it alone holds {}", units::bytes(bytes)));
    }
    Ok(Exit::Success)
}

fn variables(reply: &Reply) -> String {
    if reply.variables.is_empty() {
        return "no variables\n".to_owned();
    }
    let rows = reply.variables.iter().map(|(name, variable)| {
        [
            log::printable(name),
            log::printable(&variable.kind),
            on_one_line(&variable.repr),
        ]
    });
    let mut text = table::of_text(["VARIABLE", "TYPE", "VALUE"], [Left; 3], rows);
    text.push('\n');
    if reply.left_out > 0 {
        text.push_str(&format!("… and {} more\n", reply.left_out));
    }
    text
}

fn on_one_line(repr: &str) -> String {
    let words: Vec<_> = repr.split_whitespace().collect();
    let line = log::printable(&words.join(" "));
    match line.char_indices().nth(VALUE_MAX) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
