//! Asks an interpreter what it is, by running it once, in the environment and directory the kernel
//! will have.
//!
//! So an `ipykernel` is found exactly where the kernel will find it, and a Python that cannot start
//! is known before a session depends on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde::Deserialize;

use super::child;
use super::error::Unusable;
use super::path::is_program;
use crate::kernel::process::signal_name;

/// See there for what it must not do.
const PROBE: &str = include_str!("probe.py");
/// What precedes the answer: a `sitecustomize` may print whatever it likes before.
const MARK: &str = "tithon-probe ";
/// Lines of a traceback that are quoted.
const LAST_WORDS: usize = 6;
/// The oldest Python an `ipykernel` of ours runs on.
const OLDEST: (u32, u32) = (3, 9);

/// A Python that was run and answered.
#[derive(Clone, Debug)]
pub(super) struct Interpreter {
    /// What to start: the path that was named, or `sys.executable` for one found by a command's
    /// name. Shims on PATH choose by directory and by variables that may change; a path that a
    /// person named may be a wrapper that matters.
    pub(super) program: String,
    pub(super) answer: Answer,
}

/// What `probe.py` prints.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) version: String,
    pub(super) executable: String,
    #[serde(default)]
    pub(super) implementation: String,
    /// What extension modules are built for, such as `cpython-311-x86_64-linux-gnu`.
    #[serde(default)]
    pub(super) soabi: String,
    #[serde(default)]
    pub(super) platform: String,
    /// The C library and its version where it is glibc, else empty.
    #[serde(default)]
    pub(super) libc: String,
    #[serde(default)]
    pub(super) prefix: PathBuf,
    #[serde(default)]
    pub(super) base_prefix: PathBuf,
    /// Root of per-user packages, where this Python uses them.
    pub(super) user_base: Option<PathBuf>,
    /// Version of the `ipykernel` it can import.
    pub(super) ipykernel: Option<String>,
    #[serde(default)]
    pub(super) pip: bool,
    /// Whether it can make a virtual environment that has pip.
    #[serde(default)]
    pub(super) venv: bool,
}

impl Interpreter {
    /// Whether it is that of a virtual environment.
    pub(super) fn in_virtual_environment(&self) -> bool {
        self.answer.prefix != self.answer.base_prefix
    }

    /// "Python 3.11".
    pub(super) fn short_name(&self) -> String {
        let mut parts = self.answer.version.split('.');
        let (major, minor) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let name = if self.answer.implementation == "pypy" {
            "PyPy"
        } else {
            "Python"
        };
        format!("{name} {major}.{minor}")
    }
}

/// Which path ends up in the kernel's command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The very file that was probed.
    AsNamed,
    /// What that file turned out to start.
    Executable,
}

/// Where and how an interpreter is asked.
pub(super) struct Circumstances<'a> {
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) workdir: &'a Path,
    pub(super) limit: Duration,
}

/// Runs `path` (with the interpreter's own `options`, such as `-E`) and reads its answer.
pub(super) fn probe(
    path: &Path,
    options: &[String],
    program: Program,
    circumstances: &Circumstances<'_>,
) -> Result<Interpreter, Unusable> {
    require_program(path)?;
    let named = path.to_str().ok_or_else(|| Unusable::CannotRun {
        error: "its path is not UTF-8".to_owned(),
    })?;
    let mut command = Command::new(path);
    command.args(options).arg("-c").arg(PROBE);
    command
        .env_clear()
        .envs(circumstances.env)
        .current_dir(circumstances.workdir);
    let ended = child::run(&mut command, circumstances.limit, &mut |_| {}).map_err(|error| {
        Unusable::CannotRun {
            error: error.to_string(),
        }
    })?;

    let words = ended.last_words(LAST_WORDS);
    let Some(status) = ended.status else {
        return Err(Unusable::Hung {
            limit: circumstances.limit,
            words,
        });
    };
    if !status.success() {
        return Err(Unusable::Died {
            status: describe(status),
            words,
        });
    }
    let answer = ended
        .stdout
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(MARK));
    let answer: Answer = answer
        .and_then(|json| serde_json::from_str(json).ok())
        .ok_or(Unusable::Garbled { words })?;
    if version(&answer.version) < OLDEST {
        return Err(Unusable::TooOld {
            version: answer.version,
        });
    }
    let program = match program {
        Program::Executable if !answer.executable.is_empty() => answer.executable.clone(),
        _ => named.to_owned(),
    };
    Ok(Interpreter { program, answer })
}

/// Says what the system would only call "no such file".
fn require_program(path: &Path) -> Result<(), Unusable> {
    if is_program(path) {
        return Ok(());
    }
    Err(match (path.symlink_metadata(), path.canonicalize()) {
        (Err(_), _) => Unusable::Missing,
        (Ok(_), Err(_)) => Unusable::Dangling {
            target: std::fs::read_link(path).unwrap_or_default(),
        },
        (Ok(_), Ok(_)) => Unusable::NotExecutable,
    })
}

/// "status 3", "SIGSEGV".
pub(super) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(number)) => signal_name(number),
        (None, None) => status.to_string(),
    }
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
