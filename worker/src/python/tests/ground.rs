//! What each test stands on: a home and a project of its own, with a space in every path, and an
//! environment that holds nothing of the developer's; and one virtual environment with Jupyter in
//! it that all tests share.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::environment;
use crate::python::error::PythonError;
use crate::python::find::{self, Chosen};
use crate::python::{Launch, Limits, Wish, choose_within, path};

/// Variables that choose a Python or change one; what is left (PATH, proxies, package indexes) is
/// the machine's.
const PERSONAL: [&str; 6] = [
    "PYTHON",
    "JUPYTER",
    "CONDA",
    "VIRTUAL_ENV",
    "XDG_",
    "IPYTHONDIR",
];

pub(super) struct Ground {
    dir: TempDir,
    pub(super) wish: Wish,
}

impl Ground {
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("tithon python ü ")
            .tempdir()
            .expect("a temporary directory");
        let home = dir.path().join("home of somebody");
        let workdir = home.join("my project");
        fs::create_dir_all(&workdir).expect("a project");
        let mut env: BTreeMap<String, String> = std::env::vars()
            .filter(|(name, _)| !PERSONAL.iter().any(|personal| name.starts_with(personal)))
            .collect();
        env.insert("HOME".to_owned(), text(&home));
        // Commands that look into the home directory (version managers' shims) would not find
        // theirs.
        let real = Command::new("python3")
            .args(["-c", "import sys; print(sys.base_prefix)"])
            .output();
        let prefix = String::from_utf8(real.expect("python3 on PATH").stdout).expect("a path");
        env.insert(
            "PATH".to_owned(),
            format!("{}/bin:/usr/bin:/bin", prefix.trim()),
        );
        Self {
            dir,
            wish: Wish {
                workdir,
                env,
                ..Wish::default()
            },
        }
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(super) fn project(&self, relative: &str) -> PathBuf {
        self.wish.workdir.join(relative)
    }

    pub(super) fn set(&mut self, name: &str, value: impl AsRef<Path>) {
        self.wish.env.insert(name.to_owned(), text(value.as_ref()));
    }

    /// Puts a directory in front of PATH.
    pub(super) fn prepend_path(&mut self, dir: &Path) {
        let path = format!("{}:{}", dir.display(), self.wish.env["PATH"]);
        self.wish.env.insert("PATH".to_owned(), path);
    }

    pub(super) fn python3(&self) -> PathBuf {
        path::find("python3", &self.wish.env, &self.wish.workdir).expect("python3 on PATH")
    }

    /// A virtual environment without pip, which takes no time to make.
    pub(super) fn venv(&self, dir: &Path) -> PathBuf {
        let made = Command::new(self.python3())
            .args(["-m", "venv", "--without-pip"])
            .arg(dir)
            .output()
            .expect("venv");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        dir.join("bin/python")
    }

    pub(super) fn interpreter(&self) -> Result<Chosen, PythonError> {
        find::interpreter(&self.wish, Limits::default().probe)
    }

    pub(super) fn launch(&self) -> Result<Launch, PythonError> {
        self.launch_within(Limits::default(), &mut |_| {})
    }

    pub(super) fn launch_within(
        &self,
        limits: Limits,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Launch, PythonError> {
        choose_within(&self.wish, &self.envs(), limits, progress)
    }

    pub(super) fn envs(&self) -> PathBuf {
        self.path("tithon home/envs")
    }

    /// The names in `envs`.
    pub(super) fn lent(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.envs()) else {
            return Vec::new();
        };
        entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect()
    }
}

/// Writes an executable script. Another process does it: were the file open for writing in ours, a
/// child another test is forking at that moment would inherit it, and executing the script would
/// fail as "text file busy".
pub(super) fn script(path: &Path, body: &str) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    let mut sh = Command::new("sh")
        .args(["-c", r#"cat > "$1" && chmod +x "$1""#, "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh");
    sh.stdin
        .take()
        .expect("its input")
        .write_all(body.as_bytes())
        .expect("a script");
    assert!(sh.wait().expect("sh").success());
}

pub(super) fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// A kernelspec `name` under the data directory `data`.
pub(super) fn kernelspec(data: &Path, name: &str, kernel_json: &str) -> PathBuf {
    let dir = data.join("kernels").join(name);
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("kernel.json"), kernel_json).expect("kernel.json");
    dir
}

/// The shared environment's root.
pub(super) fn jupyter() -> PathBuf {
    environment::PYTHON.root()
}
