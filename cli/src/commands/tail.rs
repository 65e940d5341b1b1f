//! `tithon tail`: the running cell from its beginning, and on as it prints.

use clap::Args;

use super::wait::lost;
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    follow::{Follow, Mode},
    history,
    link::Link,
    render::words,
};

const EXAMPLES: &str = "\
Examples:
  tithon tail                 what runs in the default session
  tithon tail e12             that cell, whether it still runs or not
  tithon tail --session lab

Ctrl-C stops looking; the cell goes on. The exit code is the cell's, as of
`tithon run`.";

/// Follow the output of the running cell, or of the newest
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TailArgs {
    /// The execution; without it, the one that runs, else the newest
    #[arg(value_name = "EXEC")]
    exec: Option<String>,

    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,
}

/// Prints the cell's output until it ends.
///
/// # Errors
/// When there is no such cell, or it cannot be followed.
pub(crate) async fn run(args: &TailArgs, link: &Link) -> Result<Exit, CliError> {
    let bound = link.bound(&args.session, None, None);
    let history = history::read(link, &bound).await?;
    let execution = history.choose(&args.session, args.exec.as_deref())?;
    if !history.is_inhabited && execution.is_open() {
        return Ok(lost(&execution.exec_id));
    }
    words::say(&format!("{} is {}", execution.exec_id, execution.status));
    Follow::existing(link, &bound, &execution.exec_id, Mode::Text)
        .run()
        .await
}
