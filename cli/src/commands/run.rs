//! `tithon run`: a cell in a session's kernel, shown as if it ran here.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgGroup, Args};

use super::block_on;
use crate::{
    arguments,
    error::CliError,
    exit::{self, Exit},
    follow::{Follow, Mode, Stdin, Submission, Until},
    link::Link,
    render::words,
    wish::WishArgs,
};

const EXAMPLES: &str = "\
Examples:
  tithon run -c 'x = 41'                  state persists across calls
  tithon run -c 'x += 1; print(x)'
  tithon run train.py                     output streams; the cell survives this terminal
  tithon run --session lab --python .venv/bin/python setup.py
  tithon run --no-wait train.py           prints the execution's id and leaves
  make-code | tithon run -
  yes | tithon run --stdin -c 'input()'   lines of a pipe answer input()
  tithon run --json -c '1/0' | jq .kind   the events, for programs

Ctrl-C interrupts the cell once it runs; Ctrl-C again detaches and leaves it
running. If the connection is lost, the cell goes on and so does its output.
A cell may ask for input() when standard input is a terminal, or with --stdin.

";

/// Run code in a session's kernel and show its output
#[derive(Debug, Args)]
#[command(
    after_help = format!("{EXAMPLES}{}", exit::TABLE),
    group = ArgGroup::new("source").required(true).args(["code", "file"]),
)]
pub(crate) struct RunArgs {
    /// The code to run
    #[arg(short, long, value_name = "CODE", allow_hyphen_values = true)]
    code: Option<String>,

    /// A file with the code to run, or - for standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    // Caught here to be refused in words: they look like a script's arguments.
    #[arg(
        hide = true,
        value_name = "ARGUMENTS",
        allow_hyphen_values = true,
        trailing_var_arg = true
    )]
    rest: Vec<String>,

    /// The session to run in: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = arguments::session, default_value = "default")]
    session: String,

    /// Print the execution's id as soon as it is queued, and leave
    #[arg(long, conflicts_with_all = ["json", "stdin"])]
    no_wait: bool,

    /// Leave after this many seconds, kernel start included; the cell keeps running (0: never)
    #[arg(long, value_name = "S", default_value = "0", value_parser = arguments::seconds)]
    // Spelt out: clap would read `Option` as "may be left out".
    timeout: ::std::option::Option<Duration>,

    #[command(flatten)]
    wish: WishArgs,

    /// Print the execution's event frames verbatim, one per line
    #[arg(long)]
    json: bool,

    /// Answer input() with the lines of standard input, even if it is no terminal
    #[arg(long)]
    stdin: bool,
}

/// Runs the cell and maps its end to an exit code.
///
/// # Errors
/// When the code cannot be read, or the cell cannot be submitted or followed.
pub(crate) fn run(args: RunArgs, link: &Link) -> Result<Exit, CliError> {
    let code = code(&args)?;
    let bound = args.wish.bound(link, &args.session);
    let (until, stdin) = match args.no_wait {
        true => (Until::Accepted, Stdin::Refused),
        false => (Until::Ended, Stdin::choose(args.stdin)),
    };
    let mode = if args.json { Mode::Json } else { Mode::Text };
    let submission = Submission {
        code,
        submitted_by: "tithon run".to_owned(),
        origin: None,
        stdin,
        until,
        state: None,
    };
    block_on(async {
        let mut follow = Follow::new(link, &bound, submission, mode);
        let Some(limit) = args.timeout else {
            return follow.run().await;
        };
        let ended = tokio::time::timeout(limit, follow.run()).await;
        ended.unwrap_or_else(|_| Ok(timed_out(&follow)))
    })
}

fn timed_out(follow: &Follow<'_>) -> Exit {
    words::say(&match follow.exec_id() {
        Some(exec_id) => {
            let rest = follow.come_back(exec_id);
            format!("timed out; {exec_id} goes on\nhint: {rest}")
        }
        None => "timed out before the cell was acknowledged; it may or may not run".to_owned(),
    });
    Exit::TimedOut
}

fn code(args: &RunArgs) -> Result<String, CliError> {
    if let Some(first) = args.rest.first() {
        return Err(CliError::Usage(format!(
            "'{first}' after the file: arguments are not passed to the code, whose process is not started by this command\n\
             hint: set them first: tithon run -c 'import sys; sys.argv = [\"file.py\", \"{first}\"]'"
        )));
    }
    given(args.code.as_deref(), args.file.as_deref(), args.stdin)
}

/// The code that was given, as it is or by a file, where standard input may answer `input()`.
///
/// # Errors
/// When the file cannot be read, is no text, or is the standard input that answers.
pub(crate) fn given(
    code: Option<&str>,
    file: Option<&Path>,
    answers: bool,
) -> Result<String, CliError> {
    match (code, file) {
        (Some(code), _) => Ok(code.to_owned()),
        (None, Some(file)) if file == Path::new("-") && answers => Err(CliError::Usage(
            "standard input cannot be both the code and the answers to input()".to_owned(),
        )),
        (None, Some(file)) => read(file),
        (None, None) => Ok(String::new()),
    }
}

/// The code that a file holds, or standard input for `-`.
fn read(file: &Path) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let (path, read) = if file == Path::new("-") {
        let read = io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes);
        (PathBuf::from("standard input"), read)
    } else {
        (file.to_owned(), fs::read(file))
    };
    read.and_then(|bytes| text(bytes).map_err(io::Error::other))
        .map_err(|source| CliError::Read { path, source })
}

/// The code as Python reads it: UTF-8, without a byte order mark.
fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn parsed(words: &[&str]) -> RunArgs {
        let all = ["tithon", "run"].iter().chain(words);
        match Arguments::try_parse_from(all).unwrap().command {
            Some(Command::Run(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn code_comes_from_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.py");
        std::fs::write(&file, "\u{feff}print('ü')\r\n").unwrap();
        let path = file.to_str().unwrap();
        assert_eq!(code(&parsed(&["-c", "-1"])).unwrap(), "-1");
        assert_eq!(code(&parsed(&[path])).unwrap(), "print('ü')\r\n");
        std::fs::write(&file, b"caf\xe9").unwrap();
        let err = code(&parsed(&[path])).unwrap_err().to_string();
        assert!(err.contains("a.py") && err.contains("UTF-8"), "{err}");
        let err = code(&parsed(&["/nowhere/b.py"])).unwrap_err().to_string();
        assert!(
            err.contains("/nowhere/b.py cannot be read: No such file"),
            "{err}"
        );
        assert!(code(&parsed(&["--stdin", "-"])).is_err());
    }

    #[test]
    fn arguments_for_a_script_are_refused_in_words() {
        for words in [&["a.py", "one", "--two"][..], &["a.py", "--", "x"]] {
            let err = code(&parsed(words)).unwrap_err().to_string();
            assert!(
                err.contains("not passed") && err.contains("sys.argv"),
                "{err}"
            );
        }
    }
}
