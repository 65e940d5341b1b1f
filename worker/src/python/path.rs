//! Programs as a shell of the client's would find them: its PATH, its home, its working directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// What a shell searches when no PATH is set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The client's PATH.
pub(super) fn search_path(env: &BTreeMap<String, String>) -> &str {
    env.get("PATH").map_or(DEFAULT_PATH, String::as_str)
}

/// Every program of that name on the client's PATH, in order, each real file once.
pub(super) fn find_all(name: &str, env: &BTreeMap<String, String>, workdir: &Path) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    std::env::split_paths(search_path(env))
        .map(|dir| workdir.join(dir).join(name))
        .filter(|program| is_program(program))
        .filter(|program| {
            let Ok(real) = program.canonicalize() else {
                return false;
            };
            // /bin and /usr/bin are one directory on many systems.
            let new = !seen.contains(&real);
            seen.push(real);
            new
        })
        .collect()
}

/// The first program of that name on the client's PATH.
pub(super) fn find(name: &str, env: &BTreeMap<String, String>, workdir: &Path) -> Option<PathBuf> {
    std::env::split_paths(search_path(env))
        .map(|dir| workdir.join(dir).join(name))
        .find(|program| is_program(program))
}

/// Whether we may execute this file.
pub(super) fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// The client's home directory.
pub(super) fn home(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    match env.get("HOME") {
        Some(home) if !home.is_empty() => Some(PathBuf::from(home)),
        _ => std::env::home_dir(),
    }
}

/// Resolves a leading `~/` as a shell would have (a setting of an editor has met no shell).
pub(super) fn expand_home(path: &str, env: &BTreeMap<String, String>) -> PathBuf {
    match (path.strip_prefix("~/"), home(env)) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}
