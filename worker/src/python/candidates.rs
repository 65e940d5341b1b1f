//! Where a Python might be, best first, when none was asked for. Looks at files only; runs nothing.
//!
//! The order is what `python` means to the person at the prompt: an environment they activated,
//! then the project's own, then what is on PATH. An activated one wins over the project's because
//! activating is something one does, on purpose and later. Conda's `base` is activated by shells on
//! their own and so comes after the project's.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};

use super::Wish;
use super::error::Unusable;
use super::path;
use super::probe::Program;

/// Environments kept inside a project.
const IN_PROJECT: [&str; 2] = [".venv", "venv"];
/// What marks the root of a repository, above which other projects begin.
const REPOSITORY: [&str; 4] = [".git", ".hg", ".jj", ".svn"];

/// A Python worth trying, or already known to be no use.
pub(super) struct Candidate {
    pub(super) what: String,
    pub(super) python: Result<PathBuf, Unusable>,
    pub(super) program: Program,
}

impl Candidate {
    fn environment(what: &str, dir: &Path) -> Self {
        Self {
            what: format!("{what} {}", dir.display()),
            python: python_in(dir),
            program: Program::AsNamed,
        }
    }
}

/// All of them, in order.
pub(super) fn candidates(wish: &Wish) -> Vec<Candidate> {
    let set = |name: &str| {
        wish.env
            .get(name)
            .filter(|value| !value.is_empty())
            .map(|value| wish.workdir.join(value))
    };
    let conda = set("CONDA_PREFIX").map(|dir| Candidate::environment("conda environment", &dir));
    let conda_is_base = wish
        .env
        .get("CONDA_DEFAULT_ENV")
        .is_some_and(|name| name == "base");
    let (conda, conda_base) = if conda_is_base {
        (None, conda)
    } else {
        (conda, None)
    };

    let mut all = Vec::new();
    all.extend(set("VIRTUAL_ENV").map(|dir| Candidate::environment("activated environment", &dir)));
    all.extend(conda);
    all.extend(of_project(wish));
    all.extend(conda_base);
    for name in ["python3", "python"] {
        all.extend(
            path::find_all(name, &wish.env, &wish.workdir)
                .into_iter()
                .map(|program| Candidate {
                    what: format!("{name} on PATH ({})", program.display()),
                    python: Ok(program),
                    program: Program::Executable,
                }),
        );
    }
    all
}

/// The interpreter of an environment, which may still turn out to be a dangling link.
pub(super) fn python_in(dir: &Path) -> Result<PathBuf, Unusable> {
    if dir.symlink_metadata().is_err() {
        return Err(Unusable::Missing);
    }
    ["bin/python", "bin/python3"]
        .map(|name| dir.join(name))
        .into_iter()
        .find(|python| python.symlink_metadata().is_ok())
        .ok_or(Unusable::NoInterpreter)
}

/// The environments of the project around the working directory, nearest first.
fn of_project(wish: &Wish) -> Vec<Candidate> {
    let home = path::home(&wish.env);
    let mut found = Vec::new();
    for dir in wish.workdir.ancestors() {
        found.extend(uv(dir, wish));
        found.extend(
            IN_PROJECT
                .map(|name| dir.join(name))
                .into_iter()
                .filter(|env| env.is_dir()),
        );
        found.extend(poetry(dir, wish, home.as_deref()));
        if Some(dir) == home.as_deref() || REPOSITORY.iter().any(|mark| dir.join(mark).exists()) {
            break;
        }
    }
    let trusted = [geteuid().as_raw(), 0]
        .into_iter()
        .chain(wish.workdir.metadata().ok().map(|workdir| workdir.uid()))
        .collect::<Vec<_>>();
    found
        .into_iter()
        .map(|dir| {
            let mut candidate = Candidate::environment("project environment", &dir);
            // A `.venv` that somebody left in /tmp must not become the Python of all who work below
            // it. One that belongs to the owner of the working directory is as trusted as the code
            // there.
            if let Ok(uid) = dir.metadata().map(|environment| environment.uid())
                && !trusted.contains(&uid)
            {
                candidate.python = Err(Unusable::Foreign { uid });
            }
            candidate
        })
        .collect()
}

/// uv's project environment where it was moved by `UV_PROJECT_ENVIRONMENT` (relative to the
/// project).
fn uv(dir: &Path, wish: &Wish) -> Option<PathBuf> {
    let environment = wish
        .env
        .get("UV_PROJECT_ENVIRONMENT")
        .filter(|value| !value.is_empty())?;
    (dir.join("pyproject.toml").is_file() || dir.join("uv.lock").is_file())
        .then(|| dir.join(environment))
        .filter(|environment| environment.is_dir())
}

/// Poetry's environment in its cache: `<name>-<digest of the project's path>-py<version>`, the one
/// used last.
fn poetry(dir: &Path, wish: &Wish, home: Option<&Path>) -> Option<PathBuf> {
    if !dir.join("pyproject.toml").is_file() {
        return None;
    }
    let set = |name: &str| {
        wish.env
            .get(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let environments = set("POETRY_VIRTUALENVS_PATH").or_else(|| {
        let cache = set("POETRY_CACHE_DIR").or_else(|| {
            if cfg!(target_os = "macos") {
                return Some(home?.join("Library/Caches/pypoetry"));
            }
            Some(
                set("XDG_CACHE_HOME")
                    .or_else(|| Some(home?.join(".cache")))?
                    .join("pypoetry"),
            )
        });
        Some(cache?.join("virtualenvs"))
    })?;
    let real = dir.canonicalize().ok()?;
    let digest = URL_SAFE.encode(Sha256::digest(real.to_str()?.as_bytes()));
    let mark = format!("-{}-py", &digest[..8]);
    environments
        .read_dir()
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.contains(&mark))
        })
        .max_by_key(|entry| {
            entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
        })
        .map(|entry| entry.path())
}
