//! Where Jupyter keeps kernelspecs, as `jupyter --paths` of the session's Python would have it
//! (<https://docs.jupyter.org/en/latest/use/jupyter-directories.html>), and the active environments
//! besides.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::path;
use super::probe::Interpreter;

/// Data directories, best first. Without a Python those of the user and the system remain.
pub(super) fn data_dirs(
    env: &BTreeMap<String, String>,
    python: Option<&Interpreter>,
) -> Vec<PathBuf> {
    let mut dirs = Dirs(Vec::new());
    if let Some(listed) = nonempty(env, "JUPYTER_PATH") {
        dirs.0
            .extend(std::env::split_paths(listed).filter(|dir| dir.is_absolute()));
    }
    let system = system(env);
    let of_python = python
        .map(|python| python.answer.prefix.join("share/jupyter"))
        .filter(|dir| !system.contains(dir));
    let user = of_user(env, python);
    if python.is_some_and(|python| prefers_environment(env, python)) {
        dirs.0.extend(of_python);
        dirs.0.extend(user);
    } else {
        dirs.0.extend(user);
        dirs.0.extend(of_python);
    }
    // Jupyter itself knows one environment, its own. To a person the one they activated counts as
    // much.
    for active in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        dirs.add(nonempty(env, active).map(|prefix| Path::new(prefix).join("share/jupyter")));
    }
    dirs.add(system);
    dirs.0
}

/// Directories of kernelspecs, best first.
pub(super) fn kernel_dirs(
    env: &BTreeMap<String, String>,
    python: Option<&Interpreter>,
) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = data_dirs(env, python)
        .into_iter()
        .map(|dir| dir.join("kernels"))
        .collect();
    let ipython = match nonempty(env, "IPYTHONDIR") {
        Some(dir) => Some(path::expand_home(dir, env)),
        None => path::home(env).map(|home| home.join(".ipython")),
    };
    dirs.extend(ipython.map(|dir| dir.join("kernels")));
    dirs
}

struct Dirs(Vec<PathBuf>);

impl Dirs {
    fn add(&mut self, more: impl IntoIterator<Item = PathBuf>) {
        for dir in more {
            if !self.0.contains(&dir) {
                self.0.push(dir);
            }
        }
    }
}

fn of_user(env: &BTreeMap<String, String>, python: Option<&Interpreter>) -> Vec<PathBuf> {
    let home = path::home(env).map(|home| home.canonicalize().unwrap_or(home));
    let data = nonempty(env, "JUPYTER_DATA_DIR")
        .map(PathBuf::from)
        .or_else(|| {
            if cfg!(target_os = "macos") {
                let app_dir = if platform_dirs(env) {
                    "Library/Application Support/jupyter"
                } else {
                    "Library/Jupyter"
                };
                return Some(home?.join(app_dir));
            }
            let data = nonempty(env, "XDG_DATA_HOME")
                .map(PathBuf::from)
                .or_else(|| Some(home?.join(".local/share")));
            Some(data?.join("jupyter"))
        });
    let mut user = Dirs(data.into_iter().collect());
    user.add(
        python
            .and_then(|python| python.answer.user_base.as_ref())
            .map(|base| base.join("share/jupyter")),
    );
    user.0
}

fn system(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    if platform_dirs(env) {
        if cfg!(target_os = "macos") {
            return vec![PathBuf::from("/Library/Application Support/jupyter")];
        }
        let listed = nonempty(env, "XDG_DATA_DIRS").unwrap_or("/usr/local/share:/usr/share");
        return std::env::split_paths(listed)
            .map(|dir| dir.join("jupyter"))
            .collect();
    }
    ["/usr/local/share/jupyter", "/usr/share/jupyter"]
        .map(PathBuf::from)
        .to_vec()
}

/// Jupyter puts an environment before the user's own directories if it is one (not a system's
/// Python) and theirs.
fn prefers_environment(env: &BTreeMap<String, String>, python: &Interpreter) -> bool {
    if let Some(wanted) = env.get("JUPYTER_PREFER_ENV_PATH") {
        return is_on(wanted);
    }
    let prefix = &python.answer.prefix;
    let ours = || {
        prefix
            .metadata()
            .is_ok_and(|dir| dir.uid() == geteuid().as_raw())
    };
    let conda = || {
        nonempty(env, "CONDA_PREFIX").is_some_and(|conda| prefix.starts_with(conda))
            && env
                .get("CONDA_DEFAULT_ENV")
                .is_some_and(|name| name != "base")
    };
    (python.in_virtual_environment() || conda()) && ours()
}

fn platform_dirs(env: &BTreeMap<String, String>) -> bool {
    env.get("JUPYTER_PLATFORM_DIRS")
        .is_some_and(|value| is_on(value))
}

/// Jupyter's notion of a variable that is switched on.
fn is_on(value: &str) -> bool {
    !["no", "n", "false", "off", "0", "0.0"].contains(&value.to_lowercase().as_str())
}

fn nonempty<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    env.get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}
