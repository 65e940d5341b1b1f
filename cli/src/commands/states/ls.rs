//! `tithon states ls`: the states of a session.

use clap::Args;
use comfy_table::CellAlignment::{Left, Right};
use serde::Deserialize;
use serde_json::json;

use crate::{
    arguments::session,
    commands::{print, print_reply},
    error::CliError,
    exit::Exit,
    history,
    link::{Link, ask_once},
    render::{log, table, units, words},
};

/// List a session's states, and what is being run in some
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    /// The server's answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Reply {
    memory_bytes: u64,
    memory_max: u64,
    states: Vec<State>,
    running: Vec<State>,
}

/// A state as the server names it.
#[derive(Deserialize)]
pub(super) struct State {
    pub(super) name: String,
    pub(super) exec_id: String,
    pub(super) from: Option<String>,
    pub(super) ts: f64,
    /// `None` for one that is not weighed yet, or is being made.
    pub(super) private_bytes: Option<u64>,
}

/// Prints the states, oldest first.
///
/// # Errors
/// When there is no such session, or it cannot be reached.
pub(crate) async fn run(args: &LsArgs, link: &Link) -> Result<Exit, CliError> {
    history::entry(link, &args.session).await?;
    let op = link
        .bound(&args.session, None, None)
        .bind(json!({"op": "states"}));
    let reply = ask_once(link.open().await?, &op, "states", "asking").await?;
    if args.json {
        print_reply(&reply)?;
    } else {
        show(&serde_json::from_str(&reply)?)?;
    }
    Ok(Exit::Success)
}

fn show(reply: &Reply) -> Result<(), CliError> {
    let now = jiff::Timestamp::now().as_duration().as_secs_f64();
    let made = reply.states.iter().map(|state| {
        let memory = state.private_bytes.map(units::bytes);
        (state, memory.unwrap_or_else(|| "-".to_owned()))
    });
    let running = reply.running.iter();
    let all = made.chain(running.map(|state| (state, "running".to_owned())));
    if all.clone().next().is_none() {
        words::say(
            "no states; `tithon states exec --as NAME -c CODE` runs code on a copy of the kernel, which stays",
        );
        return Ok(());
    }
    print(&table::of_text(
        ["STATE", "FROM", "MADE BY", "AGE", "MEMORY"],
        [Left, Left, Left, Right, Right],
        all.map(|(state, memory)| {
            [
                log::printable(&state.name),
                log::printable(state.from.as_deref().unwrap_or("-")),
                state.exec_id.clone(),
                units::span(now - state.ts),
                memory,
            ]
        }),
    ))?;
    if !reply.states.is_empty() {
        words::say(&format!(
            "{} of at most {} used, the session's checkpoints included",
            units::bytes(reply.memory_bytes),
            units::bytes(reply.memory_max)
        ));
    }
    Ok(())
}
