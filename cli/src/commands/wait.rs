//! `tithon wait`: a cell's end as an exit code, for scripts.

use std::time::Duration;

use clap::Args;

use crate::{
    arguments,
    error::CliError,
    exit::{self, Exit},
    follow::{Follow, Mode},
    history,
    link::Link,
    render::{notice::Progress, words},
};

const EXAMPLES: &str = "\
Examples:
  tithon run --no-wait train.py && tithon wait && notify-send trained
  tithon wait e12 --timeout 60

";

/// Wait until a cell has ended, and exit as it did
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}{}", exit::TABLE))]
pub(crate) struct WaitArgs {
    /// The execution; without it, the one submitted last
    #[arg(value_name = "EXEC")]
    exec: Option<String>,

    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = arguments::session, default_value = "default")]
    session: String,

    /// Leave after this many seconds (0: never)
    #[arg(long, value_name = "S", default_value = "0", value_parser = arguments::seconds)]
    // Spelt out: clap would read `Option` as "may be left out".
    timeout: ::std::option::Option<Duration>,
}

/// Waits for the cell.
///
/// # Errors
/// When there is no such cell, or its end cannot be learnt.
pub(crate) async fn run(args: &WaitArgs, link: &Link) -> Result<Exit, CliError> {
    let bound = link.bound(&args.session, None, None);
    let history = history::read(link, &bound).await?;
    let newest = history.executions.last();
    let wanted = match &args.exec {
        Some(exec) => Some(exec.as_str()),
        None => newest.map(|past| past.execution.exec_id.as_str()),
    };
    let execution = history.choose(&args.session, wanted)?;
    if !history.is_inhabited && execution.is_open() {
        return Ok(lost(&execution.exec_id));
    }
    let _progress = Progress::of(&format!("waiting for {}", execution.exec_id));
    let mut follow = Follow::existing(link, &bound, &execution.exec_id, Mode::Silent);
    let Some(limit) = args.timeout else {
        return follow.run().await;
    };
    let ended = tokio::time::timeout(limit, follow.run()).await;
    ended.unwrap_or_else(|_| {
        let exec_id = &execution.exec_id;
        let rest = follow.come_back(exec_id);
        words::say(&format!("timed out; {exec_id} goes on\nhint: {rest}"));
        Ok(Exit::TimedOut)
    })
}

/// A cell that was open when its worker went, and that nobody runs any more.
pub(super) fn lost(exec_id: &str) -> Exit {
    words::say(&format!("{exec_id} was lost with its kernel"));
    Exit::KernelLost
}
