//! Chooses the interpreter: the one asked for or an error, else the first candidate that works.

use std::path::PathBuf;
use std::time::Duration;

use super::Wish;
use super::candidates::{candidates, python_in};
use super::error::{PythonError, Skipped, Unusable};
use super::path;
use super::probe::{Circumstances, Interpreter, Program, probe};

/// A working Python and how it was come by.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) python: Interpreter,
    pub(super) why: String,
    /// Better ones that did not work.
    pub(super) skipped: Vec<Skipped>,
}

/// The Python of this session.
pub(super) fn interpreter(wish: &Wish, limit: Duration) -> Result<Chosen, PythonError> {
    let circumstances = Circumstances {
        env: &wish.env,
        workdir: &wish.workdir,
        limit,
    };
    if let Some(asked) = &wish.python {
        return named(asked, wish, &circumstances);
    }
    let mut skipped = Vec::new();
    for candidate in candidates(wish) {
        let python = candidate
            .python
            .and_then(|path| probe(&path, &[], candidate.program, &circumstances));
        match python {
            Ok(python) => {
                return Ok(Chosen {
                    python,
                    why: candidate.what,
                    skipped,
                });
            }
            Err(reason) => skipped.push(Skipped {
                what: candidate.what,
                reason,
            }),
        }
    }
    Err(PythonError::NoPython { skipped })
}

/// The Python a person named: it, or an error.
fn named(
    asked: &str,
    wish: &Wish,
    circumstances: &Circumstances<'_>,
) -> Result<Chosen, PythonError> {
    let resolved = resolve(asked, wish);
    let shown = resolved
        .as_ref()
        .map_or_else(|_| asked.to_owned(), |(path, _)| path.display().to_string());
    resolved
        .and_then(|(path, program)| probe(&path, &[], program, circumstances))
        .map(|python| {
            let why = if python.program == asked {
                format!("--python {asked}")
            } else {
                format!("--python {asked} ({})", python.program)
            };
            Chosen {
                python,
                why,
                skipped: Vec::new(),
            }
        })
        .map_err(|reason| PythonError::Interpreter {
            python: shown,
            asked_by: "--python".to_owned(),
            reason,
        })
}

/// Which file `--python` means.
fn resolve(asked: &str, wish: &Wish) -> Result<(PathBuf, Program), Unusable> {
    let file = wish.workdir.join(path::expand_home(asked, &wish.env));
    if !asked.contains('/') {
        let command = if is_version(asked) {
            format!("python{asked}")
        } else {
            asked.to_owned()
        };
        if let Some(program) = path::find(&command, &wish.env, &wish.workdir) {
            return Ok((program, Program::Executable));
        }
        // `--python .venv` means the directory, which is no command.
        if !file.is_dir() || asked.is_empty() {
            return Err(Unusable::NotOnPath);
        }
    }
    let python = if file.is_dir() {
        python_in(&file)?
    } else {
        file
    };
    Ok((python, Program::AsNamed))
}

/// `3`, `3.12`, `3.13t`.
fn is_version(text: &str) -> bool {
    let digits = text.strip_suffix('t').unwrap_or(text);
    !digits.is_empty()
        && digits
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}
