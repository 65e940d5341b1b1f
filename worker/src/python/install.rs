//! Fetches `ipykernel` into a directory: with `uv` if the client has it, else with the pip of a
//! temporary virtual environment, else with the Python's own pip. Says what is going on in a few
//! lines, and why it failed in the installer's own words with what to do about it. Touches nothing
//! outside its directory but the installers' caches.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::child::{self, Ended};
use super::error::PythonError;
use super::path;
use super::probe::Interpreter;

/// What is lent. From 6.29, the oldest under which Tithon's launcher is tested (and the last that
/// runs on Python 3.9 is 6.31), to below 8, because the launcher reaches into places a major
/// version may move.
pub(super) const REQUIREMENT: &str = "ipykernel>=6.29,<8";
pub(super) const OTHER_PYTHON: &str = "name a Python that has ipykernel with --python PATH";
/// Lines of an installer that are quoted.
const LAST_WORDS: usize = 8;
/// pip's default of five retries makes a dead network take minutes per package index.
const PIP_RETRIES: &str = "2";
/// Variables that would send the packages elsewhere, or refuse to.
const MISLEADING: [&str; 8] = [
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_NO_DEPS",
    "PIP_DRY_RUN",
    "UV_SYSTEM_PYTHON",
];

/// Words of installers that could not reach a package index.
const NETWORK: [&str; 13] = [
    "Connection",
    "connection",
    "resolution",
    "dns error",
    "timed out",
    "Timeout",
    "in time",
    "unreachable",
    "Proxy",
    "proxy",
    "No matching distribution",
    "error sending request",
    "Failed to fetch",
];

/// Where one installation happens.
pub(super) struct Workshop<'a> {
    pub(super) python: &'a Interpreter,
    pub(super) env: &'a BTreeMap<String, String>,
    /// Ours alone, and temporary.
    pub(super) dir: &'a Path,
    /// Receives the packages.
    pub(super) site: &'a Path,
    /// For all attempts together.
    pub(super) deadline: Instant,
}

/// How far an attempt came.
enum Attempt {
    Done,
    /// This installer is not there at all.
    NotHere,
    /// It came to nothing, for this reason; another may fare better.
    TryNext(String),
    /// It came to nothing, for this reason; another would fare no better.
    GiveUp(String),
}

impl Workshop<'_> {
    /// Tries each installer there is until one succeeds.
    pub(super) fn install(&self, progress: &mut dyn FnMut(&str)) -> Result<(), PythonError> {
        let mut words = Vec::new();
        for attempt in [Self::with_uv, Self::with_venv, Self::with_own_pip] {
            match attempt(self, progress) {
                Attempt::Done => {
                    // Scripts whose first line names the temporary environment.
                    let _none = std::fs::remove_dir_all(self.site.join("bin"));
                    return Ok(());
                }
                Attempt::NotHere => {}
                Attempt::TryNext(why) => words.push(why),
                Attempt::GiveUp(why) => {
                    words.push(why);
                    break;
                }
            }
            let _nothing_there_yet = std::fs::remove_dir_all(self.site);
        }
        let words = words.join("\n    ");
        let hint = hint(&words, self.python);
        Err(PythonError::Lend {
            python: self.python.short_name(),
            words,
            hint,
        })
    }

    fn with_uv(&self, progress: &mut dyn FnMut(&str)) -> Attempt {
        let Some(uv) = path::find("uv", self.env, self.dir) else {
            return Attempt::NotHere;
        };
        let mut command = self.command(&uv);
        command.args([
            "pip",
            "install",
            "--color",
            "never",
            "--no-progress",
            "--compile-bytecode",
            "--python",
        ]);
        command
            .arg(&self.python.program)
            .arg("--target")
            .arg(self.site)
            .arg(REQUIREMENT);
        // uv knows nothing of a pip.conf, in which a company's package index may be named.
        self.attempt("uv pip install", &mut command, progress)
            .map_or(Attempt::Done, Attempt::TryNext)
    }

    fn with_venv(&self, progress: &mut dyn FnMut(&str)) -> Attempt {
        if !self.python.answer.venv {
            return Attempt::TryNext("it has no venv module with ensurepip".to_owned());
        }
        let venv = self.dir.join("venv");
        let mut make = self.command(Path::new(&self.python.program));
        make.args(["-I", "-m", "venv"]).arg(&venv);
        // Debian splits ensurepip off, and says so only when it is used.
        let attempt = match self.attempt("python -m venv", &mut make, progress) {
            Some(why) => Attempt::TryNext(why),
            None => {
                let mut python = self.command(&venv.join("bin/python"));
                python.arg("-I");
                self.pip(python, progress)
            }
        };
        let _not_made = std::fs::remove_dir_all(&venv);
        attempt
    }

    fn with_own_pip(&self, progress: &mut dyn FnMut(&str)) -> Attempt {
        if !self.python.answer.pip {
            return Attempt::TryNext("it has no pip".to_owned());
        }
        self.pip(self.command(Path::new(&self.python.program)), progress)
    }

    fn pip(&self, mut python: Command, progress: &mut dyn FnMut(&str)) -> Attempt {
        python.args([
            "-m",
            "pip",
            "install",
            "--no-input",
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
        ]);
        // An older release that is there as a wheel beats a newer one that needs a compiler.
        python.args([
            "--no-warn-script-location",
            "--prefer-binary",
            "--retries",
            PIP_RETRIES,
        ]);
        // A pip.conf may say `user = true`, which cannot go with --target.
        python
            .arg("--no-user")
            .arg("--target")
            .arg(self.site)
            .arg(REQUIREMENT);
        self.attempt("pip install", &mut python, progress)
            .map_or(Attempt::Done, Attempt::GiveUp)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // In our directory, so that no project's pyproject.toml or uv.toml has a say.
        command.env_clear().envs(self.env).current_dir(self.dir);
        for variable in MISLEADING {
            command.env_remove(variable);
        }
        command
    }

    /// Runs one program to its end; why it failed, if it did.
    fn attempt(
        &self,
        name: &str,
        command: &mut Command,
        progress: &mut dyn FnMut(&str),
    ) -> Option<String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let ended = child::run(command, left, &mut |line| {
            if let Some(line) = condense(line) {
                progress(&line);
            }
        });
        match ended {
            Err(error) => Some(format!("{name} cannot be run: {error}")),
            Ok(ended) if ended.succeeded() => None,
            Ok(ended) => Some(format!("{name} {}", describe(&ended))),
        }
    }
}

fn describe(ended: &Ended) -> String {
    let words = ended.last_words(LAST_WORDS).replace('\n', "\n    ");
    match ended.status {
        Some(status) => format!(
            "ended with {}:\n    {words}",
            super::probe::describe(status)
        ),
        None => format!("came to no end in time:\n    {words}"),
    }
}

/// What a person wants to know of an installer's line, if anything.
pub(super) fn condense(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(what) = line.strip_prefix("Downloading ") {
        // Metadata is a few kB per package, and there are thirty.
        return (!what.contains(".metadata"))
            .then(|| format!("downloading {}", without_tags(what)));
    }
    if let Some(packages) = line.strip_prefix("Installing collected packages: ") {
        return Some(format!(
            "installing {} packages",
            packages.split(", ").count()
        ));
    }
    if let Some(package) = line.strip_prefix("Building wheel for ") {
        return Some(format!(
            "compiling {}",
            package.split(' ').next().unwrap_or(package)
        ));
    }
    if line.starts_with("WARNING: Retrying") {
        return Some("no answer from the package index; trying again".to_owned());
    }
    ["Resolved ", "Prepared ", "Installed "]
        .iter()
        .any(|uv| line.starts_with(uv))
        .then(|| line.to_lowercase())
}

/// `pyzmq-27.1.0-cp312-abi3-manylinux_2_26_x86_64.whl (1.0 MB)` becomes `pyzmq 27.1.0 (1.0 MB)`.
fn without_tags(download: &str) -> String {
    let (file, size) = download.split_once(' ').unwrap_or((download, ""));
    let file = file.rsplit('/').next().unwrap_or(file);
    let mut parts = file.split('-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(package), Some(version), Some(_)) => {
            format!("{package} {version} {size}").trim_end().to_owned()
        }
        _ => download.to_owned(),
    }
}

/// What to do, judging from an installer's last words.
fn hint(words: &str, python: &Interpreter) -> String {
    let says = |any: &[&str]| any.iter().any(|text| words.contains(text));
    let cause = if says(&["CERTIFICATE_VERIFY_FAILED", "invalid peer certificate"]) {
        "a certificate on the way is not trusted; name one that is with PIP_CERT or SSL_CERT_FILE"
            .to_owned()
    } else if says(&["No space left", "Disk quota exceeded"]) {
        "it takes about 100 MB under TITHON_HOME; make room".to_owned()
    } else if says(&["ensurepip"]) && !says(&["pip install"]) {
        let package = python.short_name().to_lowercase().replace(' ', "");
        format!("install venv (on Debian and Ubuntu: apt install {package}-venv) or uv")
    } else if says(&NETWORK) {
        "the package index could not be reached; check the network, HTTPS_PROXY and PIP_INDEX_URL"
            .to_owned()
    } else {
        return OTHER_PYTHON.to_owned();
    };
    format!("{cause}, or {OTHER_PYTHON}")
}
