//! Processes of ours that nobody will end any more: found by the mark they carry, proved, and reaped.
//!
//! Worker and kernel end what a session's kernel started. Left over is what outlived both, and what
//! belongs to a session whose directory is gone. A worker whose supervisor never came back is shown
//! with them, but ended only on demand: its kernel is what a user wanted to live on, and the next
//! supervisor finds it. Who has lost the mark is still found in the control group of a session.
//! Nothing is signalled but through a handle that was opened before the process
//! was looked at, and looked at again right before the signal (I7).

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use tithon_ipc::{
    files::{self, CheckpointRecord, KernelRecord},
    ids::group_name,
    lock::Lock,
    marks::Marked,
    paths::Home,
    platform::process as system,
    process::{ProcessIdentity, WatchedProcess},
};
use tokio::time::timeout;

use crate::{discover, unit};

/// How long an orphan may take to end by itself.
const GRACE: Duration = Duration::from_secs(1);
/// How long a killed one may take to disappear; longer means uninterruptible sleep.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// Why a process is an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The session's directory was deleted, or is another one of the same name now.
    SessionDeleted,
    /// The session has neither worker nor kernel.
    Abandoned,
    /// It is older than the session's kernel, so an earlier kernel left it behind.
    EarlierKernel,
    /// A worker of a home without a supervisor.
    NoSupervisor,
}

impl Why {
    /// In a few words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionDeleted => "session deleted",
            Self::Abandoned => "no worker, no kernel",
            Self::EarlierKernel => "left by an earlier kernel",
            Self::NoSupervisor => "no supervisor",
        }
    }
}

/// A process that nobody will end.
#[derive(Debug)]
pub struct Orphan {
    marked: Marked,
    why: Why,
    /// Held by the home's supervisor.
    supervisors_lock: PathBuf,
}

/// What became of an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// It has ended.
    Ended,
    /// It is no orphan any more, or had ended before.
    Spared,
    /// It does not end: it hangs in the kernel of the system.
    Hangs,
}

impl Orphan {
    /// Every orphan of a home.
    pub fn find(home: &Home) -> Vec<Self> {
        let sessions = home.sessions();
        // Whoever runs this inside an orphan would end with it.
        let ancestors = ancestors(std::process::id());
        let marked = Marked::all();
        let unmarked = grouped(&sessions, &marked);
        marked
            .into_iter()
            .chain(unmarked)
            .filter(|marked| marked.session.starts_with(&sessions) && marked.session != sessions)
            .filter(|marked| !ancestors.contains(&marked.process.identity().pid))
            .filter_map(|marked| {
                Some(Self {
                    why: why(&marked, &home.lock_file())?,
                    marked,
                    supervisors_lock: home.lock_file(),
                })
            })
            .collect()
    }

    /// Its process.
    pub fn process(&self) -> &ProcessIdentity {
        self.marked.process.identity()
    }

    /// The directory of its session.
    pub fn session(&self) -> &Path {
        &self.marked.session
    }

    /// Its command line.
    pub fn command(&self) -> &[OsString] {
        &self.marked.command
    }

    /// Why it is one.
    pub fn why(&self) -> Why {
        self.why
    }

    /// Ends it: SIGTERM, and SIGKILL to one that does not listen. Call within a tokio runtime.
    ///
    /// # Errors
    /// When it cannot be signalled or watched.
    pub async fn reap(self) -> io::Result<Reaped> {
        // A worker may have come for the session meanwhile.
        let why = why(&self.marked, &self.supervisors_lock);
        if why != Some(self.why) || !self.marked.process.is_alive() {
            return Ok(Reaped::Spared);
        }
        let process = WatchedProcess::new(self.marked.process)?;
        for (signal, wait) in [(Signal::TERM, GRACE), (Signal::KILL, KILL_WAIT)] {
            process.handle().signal(signal)?;
            if timeout(wait, process.ended()).await.is_ok() {
                return Ok(Reaped::Ended);
            }
        }
        Ok(Reaped::Hangs)
    }
}

/// Processes in the group of a session's unit or detached worker, and so started by its kernel, that do not carry its mark.
fn grouped(sessions: &Path, marked: &[Marked]) -> Vec<Marked> {
    let units: HashMap<String, PathBuf> = discover::directories(sessions)
        .into_iter()
        .flat_map(|dir| {
            let names = (0..unit::NAMES).map(|nth| unit::name(&dir, nth));
            let names: Vec<_> = names.chain([group_name(&dir)]).collect();
            names.into_iter().map(move |name| (name, dir.clone()))
        })
        .collect();
    let known: HashSet<_> = marked
        .iter()
        .map(|marked| marked.process.identity().pid)
        .collect();
    system::all()
        .into_iter()
        .filter(|pid| !known.contains(pid))
        .filter_map(|pid| {
            // Opened before its group is looked at, as with the mark.
            let process = ProcessIdentity::of(pid).ok()??.open().ok()??;
            let session = units.get(&unit_of(pid)?)?.clone();
            let command = system::command_line(pid).ok()?;
            process.is_alive().then_some(Marked {
                process,
                session,
                command,
            })
        })
        .collect()
}

/// The unit, or the group of a detached worker, in whose kernel's leaf a process is.
fn unit_of(pid: i32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut parts = path.split('/').skip_while(|part| !unit::is_name(part));
    let unit = parts.next()?;
    (parts.next() == Some("k")).then(|| unit.to_owned())
}

fn why(marked: &Marked, supervisors_lock: &Path) -> Option<Why> {
    let copied = files::copy_owner(&marked.session);
    let session = copied.unwrap_or(&marked.session);
    match session.try_exists() {
        Ok(true) => {}
        Ok(false) => return Some(Why::SessionDeleted),
        // A file system that is away for a moment proves nothing.
        Err(_) => return None,
    }
    if marked.is_worker() {
        return if holds_a_deleted_lock(marked) {
            Some(Why::SessionDeleted)
        } else {
            matches!(Lock::is_held(supervisors_lock), Ok(false)).then_some(Why::NoSupervisor)
        };
    }
    if copied.is_some() {
        if is_spared(session, &marked.session) {
            return None;
        }
        // Of no use to anybody but a worker that waits for it.
        let owned = Lock::is_held(&files::worker_lock(session));
        return matches!(owned, Ok(false)).then_some(Why::Abandoned);
    }
    // It waits to be gone back to, also when worker and kernel have died; `tithon kill` ends it.
    if is_checkpoint(marked) {
        return None;
    }
    let kernel = kernel(session);
    match Lock::is_held(&files::worker_lock(session)) {
        Ok(false) if kernel.is_none() => Some(Why::Abandoned),
        Err(_) => None,
        // Nothing that a kernel starts is older than the kernel.
        Ok(_) => kernel
            .filter(|kernel| marked.process.identity().start_time < kernel.start_time)
            .map(|_| Why::EarlierKernel),
    }
}

/// Whether a copy of a session's kernel goes on without a worker, with all that it started.
fn is_spared(session: &Path, copy: &Path) -> bool {
    let run = KernelRecord::read(copy).ok().map(|record| record.process);
    let spared = CheckpointRecord::read(session).processes;
    run.is_some_and(|run| spared.contains(&run) && matches!(run.open(), Ok(Some(_))))
}

fn is_checkpoint(marked: &Marked) -> bool {
    CheckpointRecord::read(&marked.session)
        .processes
        .contains(marked.process.identity())
}

/// The session's living kernel.
fn kernel(session: &Path) -> Option<ProcessIdentity> {
    let process = KernelRecord::read(session).ok()?.process;
    process.open().ok()?.map(|_| process)
}

/// A worker serves the directory in which its lock is; a directory made later is not its own. One
/// that released its lock is taking leave of its clients.
fn holds_a_deleted_lock(worker: &Marked) -> bool {
    let lock = files::worker_lock(&worker.session);
    system::holds_deleted(worker.process.identity().pid, &lock)
}

fn ancestors(pid: u32) -> HashSet<i32> {
    let mut found = HashSet::new();
    let mut next = i32::try_from(pid).ok();
    while let Some(pid) = next.filter(|pid| *pid > 1 && found.insert(*pid)) {
        next = system::parent(pid);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        process::{Child, Command, Stdio},
    };

    use tithon_ipc::marks::MARK;

    use super::*;

    /// A process, ended with the test.
    struct Sleeper(Child);

    impl Sleeper {
        fn marked(mark: &Path) -> Self {
            Self(
                Command::new("sleep")
                    .arg("1000")
                    .env(MARK, mark)
                    .spawn()
                    .unwrap(),
            )
        }

        fn stubborn(mark: &Path) -> Self {
            let script = "trap '' TERM; echo; read line";
            let mut child = Command::new("sh")
                .args(["-c", script])
                .env(MARK, mark)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // The trap is set once it has said so.
            io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
            Self(child)
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }

        fn identity(&self) -> ProcessIdentity {
            ProcessIdentity::of(self.pid()).unwrap().unwrap()
        }

        fn has_ended(&mut self) -> bool {
            self.0.try_wait().unwrap().is_some()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("h"));
        home.prepare().unwrap();
        (dir, home)
    }

    fn session(home: &Home, name: &str) -> PathBuf {
        let dir = home.sessions().join(name);
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn found(home: &Home) -> Vec<(i32, Why)> {
        let mut found: Vec<_> = Orphan::find(home)
            .iter()
            .map(|orphan| (orphan.process().pid, orphan.why()))
            .collect();
        found.sort_by_key(|(pid, _)| *pid);
        found
    }

    fn reap(home: &Home) -> Vec<Reaped> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let mut ends = Vec::new();
                for orphan in Orphan::find(home) {
                    ends.push(orphan.reap().await.unwrap());
                }
                ends
            })
    }

    #[test]
    fn what_nobody_owns_is_reaped_and_look_alikes_are_not() {
        let (elsewhere, other) = home();
        let (_dir, home) = home();
        let abandoned = session(&home, "abandoned");
        let owned = session(&home, "owned");
        let _lock = Lock::try_acquire(&files::worker_lock(&owned))
            .unwrap()
            .unwrap();
        let deleted = home.sessions().join("deleted");
        let mut orphans = [Sleeper::marked(&abandoned), Sleeper::stubborn(&deleted)];
        let mut others = [
            Sleeper::marked(&owned),
            Sleeper::marked(&session(&other, "abandoned")),
            Sleeper::marked(elsewhere.path()),
            Sleeper::marked(&home.sessions()),
            Sleeper::marked(&PathBuf::from(format!("{}-x/s", home.sessions().display()))),
            // The mark among its arguments is no mark.
            Sleeper(
                Command::new("sh")
                    .args(["-c", "read line"])
                    .arg(format!("{MARK}={}", abandoned.display()))
                    .stdin(Stdio::piped())
                    .spawn()
                    .unwrap(),
            ),
        ];
        let mut expected = vec![
            (orphans[0].pid(), Why::Abandoned),
            (orphans[1].pid(), Why::SessionDeleted),
        ];
        expected.sort_by_key(|(pid, _)| *pid);
        assert_eq!(found(&home), expected);
        assert_eq!(reap(&home), [Reaped::Ended; 2]);
        assert!(orphans.iter_mut().all(Sleeper::has_ended));
        assert!(!others.iter_mut().any(Sleeper::has_ended));
        assert_eq!(found(&home), []);
    }

    #[test]
    fn what_an_earlier_kernel_left_is_older_than_the_kernel() {
        let (_dir, home) = home();
        let dir = session(&home, "s");
        let earlier = Sleeper::marked(&dir);
        // Start times have the resolution of a clock tick.
        let started = earlier.identity().start_time;
        let kernel = loop {
            let kernel = Sleeper::marked(&dir);
            if kernel.identity().start_time > started {
                break kernel;
            }
        };
        let child = Sleeper::marked(&dir);
        KernelRecord {
            process: kernel.identity(),
        }
        .write(&dir)
        .unwrap();
        assert_eq!(found(&home), [(earlier.pid(), Why::EarlierKernel)]);

        // A record of a pid that another process has now names no kernel.
        let reused = ProcessIdentity {
            start_time: kernel.identity().start_time - 1,
            ..kernel.identity()
        };
        KernelRecord { process: reused }.write(&dir).unwrap();
        let all = found(&home);
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all.contains(&(child.pid(), Why::Abandoned)));
    }

    #[test]
    fn a_copy_is_its_sessions_while_that_has_a_worker() {
        let (_dir, home) = home();
        let dir = session(&home, "s");
        let copy = Sleeper::marked(&files::copy_dir(&dir, 1));
        assert_eq!(found(&home), [(copy.pid(), Why::Abandoned)]);
        let _lock = Lock::try_acquire(&files::worker_lock(&dir))
            .unwrap()
            .unwrap();
        assert_eq!(found(&home), []);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found(&home), [(copy.pid(), Why::SessionDeleted)]);
    }

    #[test]
    fn a_session_that_came_back_to_life_is_spared() {
        let (_dir, home) = home();
        let dir = session(&home, "s");
        let mut sleeper = Sleeper::marked(&dir);
        let mut orphans = Orphan::find(&home);
        let _lock = Lock::try_acquire(&files::worker_lock(&dir))
            .unwrap()
            .unwrap();
        let end = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(orphans.remove(0).reap());
        assert_eq!(end.unwrap(), Reaped::Spared);
        assert!(!sleeper.has_ended());
    }

    #[test]
    fn nobody_reaps_the_ground_he_stands_on() {
        let ancestors = ancestors(std::process::id());
        assert!(ancestors.contains(&i32::try_from(std::process::id()).unwrap()));
        let parent = system::parent(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(parent == 1 || ancestors.contains(&parent));
    }
}
