//! `tithon try`: run code on a copy of the kernel that is thrown away.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde_json::json;

use super::{block_on, run::given};
use crate::{
    arguments,
    error::CliError,
    exit::Exit,
    follow::{FollowCopy, Mode, Stdin},
    history,
    link::Link,
};

const EXAMPLES: &str = "\
Examples:
  tithon try -c 'df = df.dropna(); df.describe()'    df is as it was
  tithon try --from e12 -c 'model.fit(X, y)'         on the state after e12
  tithon try migrate.py                              output streams; nothing is kept
  tithon try --json -c '1/0' | jq .kind              the events, for programs

The code sees the session's variables and may do to them what it likes: it runs in a copy of the
kernel's memory, and when it has ended the copy is gone. Files that it writes are written. While a
cell runs, the kernel is copied when that has ended; --from does not wait. Ctrl-C interrupts the
code, and Ctrl-C again ends the copy; so does the end of this command, whatever ended it.

Exit codes:
    0  the code ended without an error
    1  it raised an error
    2  no supervisor, no such checkpoint or state, or a kernel that cannot be copied
    4  the copy died, or its session ended
  130  it was interrupted";

/// Run code on a copy of the kernel that is thrown away
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    group = ArgGroup::new("source").required(true).args(["code", "file"]),
)]
pub(crate) struct TryArgs {
    /// The code to run
    #[arg(short, long, value_name = "CODE", allow_hyphen_values = true)]
    code: Option<String>,

    /// A file with the code to run, or - for standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = arguments::session, default_value = "default")]
    session: String,

    /// Copy the checkpoint after this execution, or a state, rather than the kernel as it is
    #[arg(long, value_name = "EXEC|STATE")]
    from: Option<String>,

    /// Print the events verbatim, one per line
    #[arg(long)]
    json: bool,

    /// Answer input() with the lines of standard input, even if it is no terminal
    #[arg(long)]
    stdin: bool,
}

/// Runs the code and maps its end to an exit code.
///
/// # Errors
/// When the code cannot be read, there is no such session, or its kernel cannot be copied.
pub(crate) fn run(args: &TryArgs, link: &Link) -> Result<Exit, CliError> {
    let code = given(args.code.as_deref(), args.file.as_deref(), args.stdin)?;
    let bound = link.bound(&args.session, None, None);
    let mut op = json!({"op": "try", "code": code});
    if let Some(from) = &args.from {
        op["from"] = json!(from);
    }
    let mode = if args.json { Mode::Json } else { Mode::Text };
    let copy = FollowCopy::new(mode, Stdin::choose(args.stdin));
    block_on(async {
        history::entry(link, &args.session).await?;
        copy.run(link, &bound, op, "tried").await
    })
}
