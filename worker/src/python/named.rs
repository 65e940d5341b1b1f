//! `--kernel NAME`: finds the kernelspec and makes a launch of it.
//!
//! A kernelspec that does nothing but start `ipykernel` is recognised and gets Tithon's launcher;
//! any other is started exactly as it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::activate;
use super::error::{PythonError, Unusable};
use super::find::Chosen;
use super::kernelspec::{self, Spec};
use super::probe::{Circumstances, Interpreter, Program, probe};
use super::search::Search;
use super::{CONNECTION_FILE, InterruptMode, LAUNCHER, Launch, Limits, Wish, path};

/// The name under which Jupyter offers the Python at hand, whether or not there is a kernelspec.
pub(super) const NATIVE: &str = "python3";
/// Interpreter options that take the next argument.
const OPTIONS_WITH_VALUE: [&str; 3] = ["-X", "-W", "--check-hash-based-pycs"];

/// The launch of a kernelspec.
///
/// With `--python` as well, that Python replaces the one an `ipykernel` kernelspec names, and a
/// bare `python` in any other: the person at the keyboard knows better than a file. A path to the
/// Python of some other kernel stays, since that kernel is installed there.
pub(super) fn launch(
    name: &str,
    wish: &Wish,
    envs: &Path,
    limits: Limits,
    progress: &mut dyn FnMut(&str),
) -> Result<Launch, PythonError> {
    let search = Search::of(wish, limits)?;
    let Some(kernel) = search.find(name) else {
        return match search.python {
            Ok(chosen) if name.eq_ignore_ascii_case(NATIVE) => {
                super::ipykernel(&chosen, &[], wish, envs, limits, progress)
            }
            // "No such kernelspec" would hide that python3 only lacks a Python.
            Err(error) if name.eq_ignore_ascii_case(NATIVE) => Err(error),
            _ => Err(search.missing(name)),
        };
    };
    let file = kernel.resource_dir.join("kernel.json");
    let spec = kernel.spec.map_err(|reason| PythonError::BadKernelspec {
        file: file.clone(),
        reason,
    })?;
    let asked = Asked {
        name: kernel.name,
        resource_dir: kernel.resource_dir,
        file,
        spec,
        wish,
        limits,
    };
    match ipykernel_arguments(&asked.spec.argv) {
        Some((options, arguments)) => {
            asked.as_ipykernel(search.python, options, arguments, envs, progress)
        }
        None => asked.as_it_stands(search.python),
    }
}

/// The kernelspec that was found for a wish.
struct Asked<'a> {
    name: String,
    resource_dir: PathBuf,
    file: PathBuf,
    spec: Spec,
    wish: &'a Wish,
    limits: Limits,
}

impl Asked<'_> {
    fn as_ipykernel(
        &self,
        session: Result<Chosen, PythonError>,
        options: &[String],
        arguments: &[String],
        envs: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Launch, PythonError> {
        // The kernelspec's variables decide what its Python finds, so they count from the first
        // probe on.
        let mut wish = self.wish.clone();
        wish.env.extend(self.env());
        let chosen = self.python(session, options, &wish)?;
        let mut launch = super::ipykernel(&chosen, options, &wish, envs, self.limits, progress)?;
        launch.argv.truncate(launch.argv.len() - 2);
        launch.argv.extend(
            arguments
                .iter()
                .map(|argument| self.fill(argument, chosen.python.answer.prefix.to_str())),
        );
        // What a kernelspec sets beats what activating would: it was written for this kernel.
        launch.env.extend(self.env());
        launch
            .env_remove
            .retain(|name| !self.spec.env.contains_key(name));
        Ok(self.sign(launch))
    }

    fn as_it_stands(&self, session: Result<Chosen, PythonError>) -> Result<Launch, PythonError> {
        let program = &self.spec.argv[0];
        let mut launch = Launch {
            argv: Vec::new(),
            env: self.env(),
            env_remove: Vec::new(),
            kernel_name: String::new(),
            display_name: String::new(),
            language: String::new(),
            interpreter: None,
            language_version: None,
            interrupt_mode: InterruptMode::Signal,
            why: self.why(),
        };
        let mut prefix = session
            .as_ref()
            .ok()
            .and_then(|chosen| chosen.python.answer.prefix.to_str().map(str::to_owned));
        let program = if is_python(program) && !program.contains('/') {
            let mut wish = self.wish.clone();
            wish.env.extend(self.env());
            let Chosen { python, why, .. } = self.python(session, &[], &wish)?;
            launch.why = why;
            let changes = activate::changes(&python, &self.wish.env);
            let own = std::mem::replace(&mut launch.env, changes.set);
            launch.env.extend(own);
            launch.env_remove = changes.remove;
            prefix = python.answer.prefix.to_str().map(str::to_owned);
            // Of a kernel in another language its Python is an implementation detail.
            if self.spec.language.eq_ignore_ascii_case("python") {
                launch.language_version = Some(python.answer.version);
            }
            launch.interpreter = Some(python.answer.executable);
            python.program
        } else {
            self.program(&self.fill(program, prefix.as_deref()))?
        };
        launch.argv.push(program);
        launch.argv.extend(
            self.spec.argv[1..]
                .iter()
                .map(|argument| self.fill(argument, prefix.as_deref())),
        );
        Ok(self.sign(launch))
    }

    /// The Python a Python kernelspec runs on: `--python`, the path it names, that of the
    /// environment it lies in, or the session's.
    fn python(
        &self,
        session: Result<Chosen, PythonError>,
        options: &[String],
        wish: &Wish,
    ) -> Result<Chosen, PythonError> {
        let named = &self.spec.argv[0];
        let asked_for = self.wish.python.is_some();
        let (path, why) = match (self.environment_python(named), session) {
            _ if !asked_for && named.contains('/') => {
                (self.wish.workdir.join(self.fill(named, None)), self.why())
            }
            (Some(path), _) if !asked_for => (path, self.why()),
            (_, Ok(Chosen { python, why, .. })) if asked_for || is_called(named, &python) => (
                PathBuf::from(python.program),
                format!("{} on {why}", self.why()),
            ),
            // A `python3.9` that is not the session's is a command like any other.
            (_, Ok(_)) => (PathBuf::from(self.program(named)?), self.why()),
            (_, Err(error)) => return Err(error),
        };
        // The session's Python too is asked again: the kernelspec's options and variables may
        // change its answer.
        let circumstances = Circumstances {
            env: &wish.env,
            workdir: &wish.workdir,
            limit: self.limits.probe,
        };
        probe(&path, options, Program::AsNamed, &circumstances)
            .map(|python| Chosen {
                python,
                why,
                skipped: Vec::new(),
            })
            .map_err(|reason| PythonError::Interpreter {
                python: path.display().to_string(),
                asked_by: format!("kernelspec {}", self.name),
                reason,
            })
    }

    fn why(&self) -> String {
        format!("kernelspec {} ({})", self.name, self.resource_dir.display())
    }

    /// For a bare `python`: the one of the environment whose `share/jupyter/kernels` the kernelspec
    /// is in.
    fn environment_python(&self, name: &str) -> Option<PathBuf> {
        let prefix = self.resource_dir.parent()?.parent()?.parent()?.parent()?;
        let environment = prefix.join("pyvenv.cfg").is_file() || prefix.join("conda-meta").is_dir();
        Some(prefix.join("bin").join(name)).filter(|python| environment && path::is_program(python))
    }

    /// The absolute path of a command, so that its absence is known now and by name.
    fn program(&self, name: &str) -> Result<String, PythonError> {
        let found = if name.contains('/') {
            Some(self.wish.workdir.join(name)).filter(|program| path::is_program(program))
        } else {
            path::find(name, &self.wish.env, &self.wish.workdir)
        };
        let program = found.as_deref().and_then(Path::to_str).map(str::to_owned);
        program.ok_or_else(|| {
            let reason = if name.contains('/') {
                Unusable::Missing
            } else {
                Unusable::NotOnPath
            };
            PythonError::BadKernelspec {
                file: self.file.clone(),
                reason: format!("it starts {name}, but {reason}"),
            }
        })
    }

    fn env(&self) -> BTreeMap<String, String> {
        let expand = |value: &String| kernelspec::expand(value, &self.wish.env);
        self.spec
            .env
            .iter()
            .map(|(name, value)| (name.clone(), expand(value)))
            .collect()
    }

    fn fill(&self, argument: &str, prefix: Option<&str>) -> String {
        let resource_dir = self.resource_dir.to_string_lossy();
        let mut values = vec![("resource_dir", resource_dir.as_ref())];
        values.extend(prefix.map(|prefix| ("prefix", prefix)));
        kernelspec::fill(argument, &values)
    }

    fn sign(&self, mut launch: Launch) -> Launch {
        launch.kernel_name.clone_from(&self.name);
        launch.display_name = if self.spec.display_name.is_empty() {
            self.name.clone()
        } else {
            self.spec.display_name.clone()
        };
        launch.language.clone_from(&self.spec.language);
        launch.interrupt_mode = self.spec.interrupt_mode;
        launch
    }
}

/// Of `python [options] -m ipykernel_launcher arguments`, the options and the arguments; `None` for
/// anything else.
fn ipykernel_arguments(argv: &[String]) -> Option<(&[String], &[String])> {
    let (program, rest) = argv.split_first()?;
    if !is_python(program) {
        return None;
    }
    let mut module = 0;
    while rest.get(module)? != "-m" {
        let option = &rest[module];
        if !option.starts_with('-') || option.starts_with("-c") {
            return None;
        }
        module += if OPTIONS_WITH_VALUE.contains(&option.as_str()) {
            2
        } else {
            1
        };
    }
    let (options, rest) = rest.split_at(module);
    let (name, arguments) = rest.get(1..)?.split_first()?;
    let ipykernel = ["ipykernel_launcher", "ipykernel"].contains(&name.as_str());
    let connects = arguments
        .iter()
        .any(|argument| argument.contains(CONNECTION_FILE));
    // Somebody's own {launcher} would be taken for ours.
    let ours = !options
        .iter()
        .chain(arguments)
        .any(|argument| argument == LAUNCHER);
    (ipykernel && connects && ours).then_some((options, arguments))
}

/// Whether a bare `python`, `python3` or `python3.11` means this Python, as it does to Jupyter.
fn is_called(name: &str, python: &Interpreter) -> bool {
    let version = &python.answer.version;
    name.strip_prefix("python").is_some_and(|asked| {
        version
            .strip_prefix(asked)
            .is_some_and(|rest| asked.is_empty() || rest.starts_with('.'))
    })
}

/// Whether a command is some Python: `python`, `python3.12`, `/x/bin/pypy3`.
fn is_python(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    let version = name
        .strip_prefix("python")
        .or_else(|| name.strip_prefix("pypy"));
    version.is_some_and(|version| {
        version
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b't')
    })
}
