//! What can go wrong between a client's wish and a kernel's command line, in words for the person
//! who made the wish.
//!
//! Messages are fragments for "failed to …". Where something can be done, the last line is a
//! `hint:`.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::KnownKernel;

/// Why no kernel can be started.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// The session's working directory is not there.
    #[error("enter the working directory {}: there is no such directory", path.display())]
    Workdir { path: PathBuf },
    /// A Python that was asked for cannot be used.
    #[error("use {python} as the Python of this session (asked for by {asked_by}): {reason}")]
    Interpreter {
        /// What was asked for, or the path it came to.
        python: String,
        /// `--python`, or the kernelspec that names it.
        asked_by: String,
        reason: Unusable,
    },
    /// Nothing was asked for, and nothing that was found works.
    #[error(
        "find a Python 3.9 or newer{}\nhint: install one, or name one with --python PATH",
        list_skipped(skipped)
    )]
    NoPython { skipped: Vec<Skipped> },
    /// There is no kernelspec of that name.
    #[error(
        "find a kernelspec named {name:?}{}",
        describe_missing(suggestion.as_deref(), known, looked)
    )]
    NoKernelspec {
        name: String,
        /// The one that was probably meant.
        suggestion: Option<String>,
        known: Vec<KnownKernel>,
        /// The directories searched, in order.
        looked: Vec<PathBuf>,
    },
    /// The kernelspec exists and cannot be used.
    #[error("use the kernelspec {}: {reason}", file.display())]
    BadKernelspec { file: PathBuf, reason: String },
    /// `ipykernel` could not be fetched or installed.
    #[error("lend an ipykernel to {python}: {words}\nhint: {hint}")]
    Lend {
        python: String,
        words: String,
        hint: String,
    },
    /// Another session is doing the same and does not come to an end.
    #[error(
        "lend an ipykernel: another session has been making one for {} s (it holds {})",
        waited.as_secs(),
        lock.display()
    )]
    Busy { lock: PathBuf, waited: Duration },
    /// A directory or file of ours cannot be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// A Python that was found and passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What it was: "project environment /x/.venv", "python3 on PATH (/usr/bin/python3)".
    pub what: String,
    pub reason: Unusable,
}

/// What is wrong with a Python. Each reads on after a colon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("there is no such file")]
    Missing,
    #[error("there is no such command on PATH")]
    NotOnPath,
    #[error(
        "it is a link to {}, which is not there (an environment made for a Python that is gone \
         has to be made anew)",
        target.display()
    )]
    Dangling { target: PathBuf },
    #[error("it is not executable")]
    NotExecutable,
    #[error("it is a directory without a bin/python")]
    NoInterpreter,
    #[error("it belongs to another user (uid {uid}), whose programs are not run unasked")]
    Foreign { uid: u32 },
    #[error("it is Python {version}, and 3.9 is the oldest that works")]
    TooOld { version: String },
    #[error("it cannot be run: {error}")]
    CannotRun { error: String },
    #[error("it ended with {status}{}", last_words(words))]
    Died { status: String, words: String },
    #[error("it said nothing within {limit:?}{}", last_words(words))]
    Hung { limit: Duration, words: String },
    #[error("it does not behave like a Python{}", last_words(words))]
    Garbled { words: String },
}

/// "passed over: …" for a sentence about what was chosen instead.
pub(super) fn passed_over(skipped: &[Skipped]) -> Option<String> {
    // A sentence has one line: of a traceback its last line, which names the error, is the one to
    // keep.
    let one = |s: &Skipped| {
        let reason = s.reason.to_string();
        let mut lines = reason
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default();
        let reason = lines
            .next_back()
            .map_or_else(|| first.to_owned(), |last| format!("{first} {last}"));
        format!("{}: {reason}", s.what)
    };
    let all: Vec<_> = skipped.iter().map(one).collect();
    (!all.is_empty()).then(|| format!("passed over {}", all.join("; ")))
}

fn list_skipped(skipped: &[Skipped]) -> String {
    if skipped.is_empty() {
        return ": there is neither python3 nor python on PATH".to_owned();
    }
    skipped.iter().fold(":".to_owned(), |mut text, s| {
        let _infallible = write!(text, "\n  {}: {}", s.what, s.reason);
        text
    })
}

fn last_words(words: &str) -> String {
    match words.trim() {
        "" => String::new(),
        words if words.contains('\n') => {
            format!("; its last words:\n    {}", words.replace('\n', "\n    "))
        }
        words => format!("; its last words: {words}"),
    }
}

fn describe_missing(suggestion: Option<&str>, known: &[KnownKernel], looked: &[PathBuf]) -> String {
    let mut text = suggestion
        .map(|name| format!(" (did you mean {name}?)"))
        .unwrap_or_default();
    text.push_str(if known.is_empty() {
        "\nthere is none at all"
    } else {
        "\nthere are:"
    });
    for kernel in known {
        let _infallible = match &kernel.spec {
            Ok(spec) => write!(text, "\n  {}  {}", kernel.name, spec.display_name),
            Err(reason) => write!(text, "\n  {}  (broken: {reason})", kernel.name),
        };
    }
    text.push_str("\nlooked in:");
    for dir in looked {
        let _infallible = write!(text, "\n  {}", dir.display());
    }
    text
}
