//! `tithon states exec`: run code in a state, and keep what comes of it as another.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use tithon_ipc::client::StateName;

use crate::{
    arguments,
    commands::{block_on, run::given},
    error::CliError,
    exit::Exit,
    follow::{Follow, Mode, StateWish, Stdin, Submission, Until},
    history,
    link::Link,
};

const EXAMPLES: &str = "\
Examples:
  tithon states exec --as base -c 'X, y = load()'       on a copy of the kernel as it is
  tithon states exec --from base --as large fit.py
  tithon states exec --from e12 -c 'df.dropna()'        the checkpoint after e12; kept by the execution's id
  tithon states exec --from base --as slow --no-wait -c 'search(X, y)'

The run is an execution of the session: it goes on whoever leaves, `tithon tail` shows the rest, and
`tithon log` has it. What it is run in stays as it was. The kernel knows nothing of it; while a cell
runs there, a copy of it is made when that has ended. input() has nobody to ask.

Exit codes:
    0  the code ended without an error, and the state is kept
    1  it raised an error, or the state cannot be kept
    2  no supervisor, no such state, or a kernel that cannot be copied
    4  the copy died
  130  it was interrupted, or left running";

/// Run code in a state and keep what comes of it as another
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    group = ArgGroup::new("source").required(true).args(["code", "file"]),
)]
pub(crate) struct ExecArgs {
    /// The code to run
    #[arg(short, long, value_name = "CODE", allow_hyphen_values = true)]
    code: Option<String>,

    /// A file with the code to run, or - for standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = arguments::session, default_value = "default")]
    session: String,

    /// The state, or the execution whose checkpoint, to run it in; the kernel as it is unless given
    #[arg(long, value_name = "STATE")]
    from: Option<String>,

    /// What to call the new state, in place of one that has this name; the execution's id unless given
    #[arg(long = "as", value_name = "STATE", value_parser = name)]
    name: Option<String>,

    /// Print the execution's id as soon as it has begun, and leave
    #[arg(long, conflicts_with = "json")]
    no_wait: bool,

    /// Print the events verbatim, one per line
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<String, &'static str> {
    StateName::parse(text).map(|name| name.as_str().to_owned())
}

/// Runs the code and maps its end to an exit code.
///
/// # Errors
/// When the code cannot be read, there is no such session or state, or it cannot be copied.
pub(crate) fn run(args: &ExecArgs, link: &Link) -> Result<Exit, CliError> {
    let submission = Submission {
        code: given(args.code.as_deref(), args.file.as_deref(), false)?,
        submitted_by: "tithon states exec".to_owned(),
        origin: None,
        stdin: Stdin::Refused,
        until: match args.no_wait {
            true => Until::Accepted,
            false => Until::Ended,
        },
        state: Some(StateWish {
            name: args.name.clone(),
            from: args.from.clone(),
        }),
    };
    let mode = if args.json { Mode::Json } else { Mode::Text };
    let bound = link.bound(&args.session, None, None);
    block_on(async {
        history::entry(link, &args.session).await?;
        Follow::new(link, &bound, submission, mode).run().await
    })
}
