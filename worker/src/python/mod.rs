//! Which kernel a session starts, and how (DESIGN §11).
//!
//! [`choose`] turns what a client asked for, and where it stands, into a [`Launch`]: a command line
//! that starts a kernel. A Python without `ipykernel` is lent one from `TITHON_HOME/envs`; nothing
//! is ever installed into an environment of the user's. Everything here blocks (it runs other
//! programs) and belongs on a thread of its own. It starts no kernel, and leaves neither a process
//! nor half a directory behind when it fails.

mod activate;
mod candidates;
mod child;
mod error;
mod find;
mod install;
mod jupyter_path;
mod kernelspec;
mod lend;
mod named;
mod path;
mod place;
mod probe;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::{PythonError, Skipped, Unusable};
pub use kernelspec::KnownKernel;

/// Stands in [`Launch::argv`] for the path of the kernel's connection file.
pub const CONNECTION_FILE: &str = "{connection_file}";
/// Stands in [`Launch::argv`] for the path of Tithon's own launcher, which replaces `-m
/// ipykernel_launcher`.
pub const LAUNCHER: &str = "{launcher}";
/// Names, in the kernel's environment, the directory of a lent `ipykernel`; the launcher appends it
/// to `sys.path`.
pub const SITE_VARIABLE: &str = "TITHON_SITE";

/// What a client asked for, and where it stands.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// `--python`: an interpreter's path, an environment's directory, a command name, or a version
    /// (`3.12`).
    pub python: Option<String>,
    /// `--kernel`: the name of a kernelspec.
    pub kernel: Option<String>,
    /// The session's working directory, absolute.
    pub workdir: PathBuf,
    /// The client's whole environment; ours is not consulted.
    pub env: BTreeMap<String, String>,
}

/// How a kernel is interrupted, as its kernelspec says.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum InterruptMode {
    /// SIGINT to the kernel's process group.
    #[default]
    Signal,
    /// An `interrupt_request` on the control channel.
    Message,
}

/// A kernel that can be started: the client's environment, these changes to it, and this command
/// line.
#[derive(Default, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The command line. [`CONNECTION_FILE`] may occur anywhere inside an argument. Where one
    /// argument is exactly [`LAUNCHER`] (right after the interpreter and its own options), the
    /// kernel is an `ipykernel` that runs under Tithon's launcher; without one it is some other
    /// kernel, to be started as it stands.
    pub argv: Vec<String>,
    /// Variables set on top of the client's.
    pub env: BTreeMap<String, String>,
    /// Variables of the client's that would mislead the kernel, such as the `VIRTUAL_ENV` of
    /// another environment.
    #[serde(default)]
    pub env_remove: Vec<String>,
    /// The kernelspec's name, `python3` where none was asked for.
    pub kernel_name: String,
    /// The kernelspec's name for people.
    pub display_name: String,
    /// The language the kernelspec states; may be empty.
    pub language: String,
    /// `sys.executable`, for kernels that run on a Python.
    pub interpreter: Option<String>,
    /// Version of that Python, such as `3.11.7`.
    pub language_version: Option<String>,
    /// How to interrupt it.
    pub interrupt_mode: InterruptMode,
    /// One sentence for `tithon status`: which Python this is, why it was chosen, and what was
    /// passed over.
    pub why: String,
}

impl Launch {
    /// Whether this is an `ipykernel` under Tithon's launcher, and so has a spool.
    pub fn under_launcher(&self) -> bool {
        self.argv.iter().any(|argument| argument == LAUNCHER)
    }
}

/// How long other programs may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For one interpreter to say what it is. An environment on a cold network file system takes
    /// seconds.
    pub probe: Duration,
    /// For `ipykernel` to be fetched and installed, all attempts together, and for another session
    /// doing so.
    pub build: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            probe: Duration::from_secs(20),
            build: Duration::from_secs(600),
        }
    }
}

/// Chooses the kernel for a session.
///
/// `envs` is `TITHON_HOME/envs`, created when first needed. `progress` receives lines for a person
/// while an `ipykernel` is being fetched, which happens once per Python; otherwise it is not
/// called.
///
/// # Errors
/// What was asked for cannot be used, nothing usable exists, or `ipykernel` could not be fetched.
pub fn choose(
    wish: &Wish,
    envs: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Launch, PythonError> {
    choose_within(wish, envs, Limits::default(), progress)
}

/// [`choose`] with other limits.
///
/// # Errors
/// As [`choose`].
pub fn choose_within(
    wish: &Wish,
    envs: &Path,
    limits: Limits,
    progress: &mut dyn FnMut(&str),
) -> Result<Launch, PythonError> {
    require_workdir(wish)?;
    if let Some(name) = &wish.kernel {
        return named::launch(name, wish, envs, limits, progress);
    }
    let chosen = find::interpreter(wish, limits.probe)?;
    ipykernel(&chosen, &[], wish, envs, limits, progress)
}

/// Every kernelspec a client could name, as Jupyter would list them, broken ones included.
///
/// # Errors
/// The working directory is gone, or the Python asked for by `wish.python` cannot be used.
pub fn kernels(wish: &Wish, limits: Limits) -> Result<Vec<KnownKernel>, PythonError> {
    require_workdir(wish)?;
    Ok(search::Search::of(wish, limits)?.known())
}

fn require_workdir(wish: &Wish) -> Result<(), PythonError> {
    if wish.workdir.is_dir() {
        Ok(())
    } else {
        Err(PythonError::Workdir {
            path: wish.workdir.clone(),
        })
    }
}

/// The launch of `ipykernel` on a Python, lending it one where it has none.
fn ipykernel(
    chosen: &find::Chosen,
    options: &[String],
    wish: &Wish,
    envs: &Path,
    limits: Limits,
    progress: &mut dyn FnMut(&str),
) -> Result<Launch, PythonError> {
    let python = &chosen.python;
    let activate::Changes { mut set, remove } = activate::changes(python, &wish.env);
    let mut why = chosen.why.clone();
    if python.answer.ipykernel.is_none() {
        let lent = lend::site(python, &wish.env, envs, limits.build, progress)?;
        why = format!(
            "{why}; ipykernel {} lent from {}",
            lent.ipykernel, lent.site
        );
        set.insert(SITE_VARIABLE.to_owned(), lent.site);
    }
    if let Some(skipped) = error::passed_over(&chosen.skipped) {
        why = format!("{why}; {skipped}");
    }
    let mut argv = vec![python.program.clone()];
    argv.extend_from_slice(options);
    argv.extend([LAUNCHER, "-f", CONNECTION_FILE].map(str::to_owned));
    Ok(Launch {
        argv,
        env: set,
        env_remove: remove,
        kernel_name: named::NATIVE.to_owned(),
        display_name: "Python 3 (ipykernel)".to_owned(),
        language: "python".to_owned(),
        interpreter: Some(python.answer.executable.clone()),
        language_version: Some(python.answer.version.clone()),
        interrupt_mode: InterruptMode::Signal,
        why,
    })
}
