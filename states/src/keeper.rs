//! The Python process that everything else descends from, and that ends all of it when this one is gone.

use std::{
    cell::RefCell,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    process::Stdio,
    rc::{Rc, Weak},
    time::Duration,
};

use serde::Deserialize;
use tithon_ipc::{control::FdStream, paths::Home};
use tithon_worker::{
    kernel::launcher,
    python::{self, LAUNCHER, PythonError, SITE_VARIABLE, Wish},
    standing::Leaf,
};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};

use crate::process::{Process, receive};

const ENTRY: &str = "tithon_states.py";
/// Names, for the keeper alone, where it enters its control group.
const GROUP_VARIABLE: &str = "TITHON_STATES_GROUP";
/// How long Python may take to start, from a cold disk.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to end everything.
const END_PATIENCE: Duration = Duration::from_secs(15);

const FILES: [(&str, &str); 9] = [
    launcher::FORKING[0],
    launcher::FORKING[1],
    launcher::FORKING[2],
    (
        "tithon_channel.py",
        include_str!("../python/tithon_channel.py"),
    ),
    (
        "tithon_namespace.py",
        include_str!("../python/tithon_namespace.py"),
    ),
    (
        "tithon_display.py",
        include_str!("../python/tithon_display.py"),
    ),
    (
        "tithon_questions.py",
        include_str!("../python/tithon_questions.py"),
    ),
    ("tithon_cell.py", include_str!("../python/tithon_cell.py")),
    (ENTRY, include_str!("../python/tithon_states.py")),
];

/// Why there is no Python for states.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// None can be used.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// It could not be started.
    #[error("start {program}: {source}")]
    Start { program: String, source: io::Error },
    /// It started and said nothing.
    #[error("start {program}: it ended or did not answer within {} s; what it said is above", START_PATIENCE.as_secs())]
    Silent { program: String },
}

/// Processes that have ended or are about to, each with the state that was forked, for that to forget them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forgetting(Rc<RefCell<Vec<Forgotten>>>);

type Forgotten = (Weak<Process>, i32);

impl Forgetting {
    pub(crate) fn push(&self, parent: Weak<Process>, pid: i32) {
        self.0.borrow_mut().push((parent, pid));
    }
}

/// The keeper's process, seen as the state in which nothing has run.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: Child,
    pub(crate) root: Rc<Process>,
    pub(crate) forgetting: Forgetting,
    /// Which Python it is, for people.
    pub(crate) python: String,
}

impl Keeper {
    /// Chooses a Python as for a session's kernel and starts it.
    pub(crate) async fn start(
        home: &Home,
        wish: &Wish,
        group: Option<&Leaf>,
        hidden: &[&str],
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, KeeperError> {
        let launch = python::choose(wish, &home.envs(), progress)?;
        let program = launch.argv.first().cloned().unwrap_or_default();
        let failed = |source| KeeperError::Start {
            program: program.clone(),
            source,
        };
        let files = launcher::install_files(&home.launchers(), &FILES).map_err(failed)?;
        let (mine, its) = StdStream::pair().map_err(failed)?;
        mine.set_nonblocking(true).map_err(failed)?;
        let options = launch.argv.iter().skip(1);
        let mut command = Command::new(&program);
        command
            .args(options.take_while(|argument| *argument != LAUNCHER))
            .arg(files.join(ENTRY))
            .current_dir(&wish.workdir)
            .env_clear()
            .envs(&wish.env)
            .envs(&launch.env)
            .stdin(OwnedFd::from(its))
            .stdout(Stdio::null());
        for name in launch
            .env_remove
            .iter()
            .map(String::as_str)
            .chain(hidden.iter().copied())
        {
            command.env_remove(name);
        }
        if let Some(site) = launch.env.get(SITE_VARIABLE) {
            command.env(SITE_VARIABLE, site);
        }
        if let Some(group) = group {
            command.env(GROUP_VARIABLE, group.entrance());
        }
        let child = command.spawn().map_err(failed)?;
        // It holds the other end of our socket until here.
        drop(command);
        let mut channel = FdStream::new(UnixStream::from_std(mine).map_err(failed)?);
        let hello = timeout(START_PATIENCE, receive(&mut channel)).await;
        let hello: Hello = hello
            .ok()
            .and_then(Result::ok)
            .and_then(|frame| serde_json::from_slice(&frame).ok())
            .ok_or_else(|| KeeperError::Silent {
                program: program.clone(),
            })?;
        let channel = channel.into_stream().into_std().map_err(failed)?;
        Ok(Self {
            child,
            root: Rc::new(Process::keeper(channel)),
            forgetting: Forgetting::default(),
            python: format!("Python {} ({program})", hello.python),
        })
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Lets go of processes that have ended; of all orphans, while nobody waits to hear how they did.
    pub(crate) fn forget(&self, orphans: bool) {
        for (parent, pid) in self.forgetting.0.take() {
            let Ok(pid) = u32::try_from(pid) else {
                continue;
            };
            // An orphan's parent is the keeper.
            let parent = parent.upgrade().unwrap_or_else(|| self.root.clone());
            parent.order(b'W', pid, &[]).ok();
        }
        if orphans {
            self.root.order(b'W', 0, &[]).ok();
        }
    }

    /// Returns when it has ended, which it does not do by itself.
    pub(crate) async fn ended(&mut self) {
        self.child.wait().await.ok();
    }

    /// Ends it and everything that descends from it.
    pub(crate) async fn end(self) {
        let Self {
            mut child, root, ..
        } = self;
        // Nobody else holds it any more: this closes its channel.
        drop(root);
        if timeout(END_PATIENCE, child.wait()).await.is_err() {
            child.kill().await.ok();
        }
    }
}

#[derive(Deserialize)]
struct Hello {
    python: String,
}
