//! The Python environments that tests run kernels in: made once under `target/`, from pinned
//! requirements, by whichever test comes first.

#![allow(
    dead_code,
    clippy::print_stderr,
    reason = "shared by test targets that use a part each; what takes a minute once is said"
)]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{FlockOperation, flock};

/// A requirements file beside this folder, and the environment made of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Environment {
    name: &'static str,
    /// Everything in it, also what its packages need.
    requirements: &'static str,
    /// What pip is told besides.
    options: &'static [&'static str],
    /// What its interpreter runs once, to complete it.
    then: &'static [&'static str],
}

/// The environment of nearly every test.
pub(crate) const PYTHON: Environment = Environment {
    name: "python",
    requirements: "requirements.txt",
    options: &[],
    then: &[],
};

/// An environment with the older ipykernel that many people still have.
pub(crate) const IPYKERNEL_6: Environment = Environment {
    name: "python-ipykernel6",
    requirements: "requirements-ipykernel6.txt",
    options: &[],
    then: &[],
};

/// The usual kernel with widgets, plots and tables, and other Jupyter programs.
pub(crate) const RICH: Environment = Environment {
    name: "python-rich",
    requirements: "requirements-rich.txt",
    options: &[],
    then: &[],
};

/// The libraries that states are tested with; see [`Environment::is_available`].
pub(crate) const STATES: Environment = Environment {
    name: "python-states",
    requirements: "requirements-states.txt",
    // Compiling numpy is nothing that a test waits for.
    options: &["--only-binary", ":all:"],
    then: &[],
};

/// A kernel of another language, installed as the kernelspec `bash`.
pub(crate) const BASH: Environment = Environment {
    name: "bash",
    requirements: "requirements-bash.txt",
    options: &[],
    then: &["-m", "bash_kernel.install", "--sys-prefix"],
};

impl Environment {
    /// Where the environment is; makes it if it is not there, or is of other requirements.
    pub(crate) fn root(self) -> PathBuf {
        match self.make() {
            Ok(root) => root,
            Err(failed) => panic!("{failed}"),
        }
    }

    /// Whether it is there or can be made: not every Python has wheels of everything.
    pub(crate) fn is_available(self) -> bool {
        self.make().is_ok()
    }

    /// Makes the environment, or says what failed.
    fn make(self) -> Result<PathBuf, String> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
        let requirements = tests.join(self.requirements);
        let wanted = whole(&requirements);
        let environments = target().join("test-env");
        fs::create_dir_all(&environments).unwrap();
        let venv = environments.join(self.name);
        // Held until the environment is complete: other tests wait for it here.
        let lock = File::create(venv.with_extension("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let receipt = venv.join("made-of.txt");
        if fs::read_to_string(&receipt).is_ok_and(|made| made == wanted) {
            return Ok(venv);
        }
        eprintln!(
            "making the Python environment {} from tests/{} (once)",
            venv.display(),
            self.requirements
        );
        finish(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&venv),
        );
        let mut install = Command::new(venv.join("bin/python"));
        install
            .args(["-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--disable-pip-version-check", "-r"])
            .arg(&requirements)
            .args(self.options);
        if !succeeds(&mut install) {
            return Err(format!("{install:?}"));
        }
        if !self.then.is_empty() {
            finish(Command::new(venv.join("bin/python")).args(self.then));
        }
        fs::write(receipt, wanted).unwrap();
        Ok(venv)
    }

    /// Its interpreter.
    pub(crate) fn interpreter(self) -> PathBuf {
        self.root().join("bin/python")
    }

    /// The directory of its programs.
    pub(crate) fn programs(self) -> PathBuf {
        self.root().join("bin")
    }
}

/// A requirements file with those it includes.
fn whole(requirements: &Path) -> String {
    let text = fs::read_to_string(requirements).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix("-r ") {
        Some(included) => whole(&requirements.with_file_name(included)),
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// The build's directory, wherever cargo was told to put it.
fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    let directory = test.ancestors().nth(3);
    directory.unwrap().to_owned()
}

fn finish(command: &mut Command) {
    assert!(succeeds(command), "{command:?}");
}

fn succeeds(command: &mut Command) -> bool {
    for name in ["PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"] {
        command.env_remove(name);
    }
    command.status().unwrap().success()
}
