//! `tithon checkpoints`: the states a session can go back to, and how many there are to be.

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tithon_ipc::ids::SessionId;

use super::{print, print_reply};
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    history,
    link::{Link, ask},
    render::{units, words},
};

const EXAMPLES: &str = "\
Examples:
  tithon checkpoints --keep 10            one after each cell from now on, the ten most useful kept
  tithon checkpoints                      which there are
  tithon checkpoints --auto-restore on    go on from the newest when the kernel dies
  tithon restore --to e12
  tithon checkpoints --keep 0             none any more

A checkpoint is a frozen copy of the kernel that shares its memory with it. MEMORY is what
it holds alone. Off unless asked for, here or by TITHON_CHECKPOINTS.";

/// Show a session's checkpoints, or say how many to keep
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckpointsArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    /// Keep so many, and take one after each successful cell; 0 is none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=100))]
    keep: Option<u32>,

    /// Go on from the newest checkpoint when the kernel dies
    #[arg(long, value_name = "on|off", value_parser = switch)]
    auto_restore: Option<bool>,

    /// The server's answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Reply {
    keep: u32,
    auto_restore: bool,
    memory_bytes: u64,
    memory_max: u64,
    refused: Option<String>,
    refused_ts: Option<f64>,
    checkpoints: Vec<Checkpoint>,
}

#[derive(Deserialize)]
struct Checkpoint {
    exec_id: String,
    ts: f64,
    private_bytes: u64,
    undone: bool,
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off"),
    }
}

/// Prints the checkpoints, oldest first.
///
/// # Errors
/// When there is no such session, or it cannot be reached.
pub(crate) async fn run(args: &CheckpointsArgs, link: &Link) -> Result<Exit, CliError> {
    let asks = args.keep.is_none() && args.auto_restore.is_none();
    if asks || args.session != SessionId::DEFAULT {
        // No session is to be made of a name that was only mistyped; this one was not typed.
        history::entry(link, &args.session).await?;
    }
    let mut op = json!({"op": "checkpoints"});
    if let Some(keep) = args.keep {
        op["keep"] = json!(keep);
    }
    if let Some(auto_restore) = args.auto_restore {
        op["auto_restore"] = json!(auto_restore);
    }
    let op = link.bound(&args.session, None, None).bind(op);
    let mut connection = link.open().await?;
    let reply = ask(&mut connection, &op, "checkpoints").await?;
    connection.close().await;
    if args.json {
        print_reply(&reply)?;
    } else {
        show(&serde_json::from_str(&reply)?)?;
    }
    Ok(Exit::Success)
}

fn show(reply: &Reply) -> Result<(), CliError> {
    let now = jiff::Timestamp::now().as_duration().as_secs_f64();
    if !reply.checkpoints.is_empty() {
        print(&format!("{:8} {:>8} {:>9}", "AFTER", "AGE", "MEMORY"))?;
    }
    for known in &reply.checkpoints {
        print(
            format!(
                "{:8} {:>8} {:>9} {}",
                known.exec_id,
                units::span(now - known.ts),
                units::bytes(known.private_bytes),
                if known.undone { " undone" } else { "" }
            )
            .trim_end(),
        )?;
    }
    words::say(&match reply.keep {
        0 => "no checkpoints are taken; `tithon checkpoints --keep 10` takes one after each cell"
            .to_owned(),
        keep => format!(
            "up to {keep} are kept, {} of at most {} used{}",
            units::bytes(reply.memory_bytes),
            units::bytes(reply.memory_max),
            if reply.auto_restore {
                "; the newest takes the place of a kernel that dies"
            } else {
                ""
            }
        ),
    });
    if let Some(refused) = &reply.refused {
        let when = match reply.refused_ts {
            Some(at) => format!("was taken {} ago", units::span(now - at)),
            None => "is taken".to_owned(),
        };
        words::say(&format!(
            "no checkpoint {when}: {refused}\n\
             hint: after the kernel's death `tithon replay` runs the recorded cells again"
        ));
    }
    Ok(())
}
