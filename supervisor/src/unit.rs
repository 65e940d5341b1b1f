//! Workers as transient services of the user's own systemd, `tithon-k-<id>.service` in
//! `tithon.slice`: accounted and contained per session, and replaced by systemd when they crash.
//!
//! systemd-run is asked rather than the bus: it needs no session bus. Whatever systemd does or does
//! not do has a bound in time, after which the worker is started without it. Two workers that are
//! started so cannot both have the session: the lock decides, and the other one ends for good.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use tithon_ipc::{
    files,
    ids::group_name,
    lock::Lock,
    systemd::{NOT_STARTED, Systemd, SystemdError},
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{platform, spawn::READY_LIMIT};

/// How long a worker may take to be heard of for the first time; longer, and systemd is lost.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// Between two looks at what a worker says.
const POLL: Duration = Duration::from_millis(5);
/// Names of one session's units: more than one only while a worker whose session ended still takes
/// leave of its clients.
pub(crate) const NAMES: u32 = 8;
/// How much of an error message is kept, in bytes.
const WORDS_MAX: u64 = 4 << 10;

/// Beside those of the supervisor's own unit. `RestartPreventExitStatus`: a worker that says that it
/// cannot begin, one that does not understand its command line, and systemd's own codes for a program
/// that is not there, would only fail again.
fn properties() -> Vec<String> {
    let mut all: Vec<String> = [
        "Type=notify",
        "NotifyAccess=main",
        "Delegate=yes",
        "KillMode=process",
        "Restart=on-failure",
        "RestartSec=100ms",
        "StartLimitIntervalSec=0",
        "OOMPolicy=continue",
        "TasksMax=infinity",
        "TimeoutStopSec=10s",
        "SyslogIdentifier=tithon",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!(
        "TimeoutStartSec={}s",
        READY_LIMIT.as_secs() + FIRST_WORD.as_secs()
    ));
    all.push(format!(
        "RestartPreventExitStatus=1 2 {NOT_STARTED} 200 203 219"
    ));
    // Kernels inherit it, as they would from a worker that is our child.
    all.extend(platform::umask().map(|umask| format!("UMask={umask}")));
    all
}

/// The name of a session's `nth` unit.
pub(crate) fn name(dir: &Path, nth: u32) -> String {
    let group = group_name(dir);
    match nth {
        0 => format!("{group}.service"),
        nth => format!("{group}-{nth}.service"),
    }
}

/// Whether it is the name of a session's unit, or of the group of a detached worker.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with("tithon-k-")
}

/// What a worker said of itself.
#[derive(Debug)]
pub(crate) enum Verdict {
    Ready,
    /// Why it cannot work.
    Failed(String),
    /// It ended without a word.
    Ended,
    /// It was not ready in time, and was stopped.
    Slow,
}

/// A worker to be started.
pub(crate) struct Recipe<'a> {
    /// The executable: a path at which every later version is found, for later restarts.
    pub(crate) program: &'a Path,
    pub(crate) home: &'a Path,
    pub(crate) dir: &'a Path,
    /// What it is called, for people.
    pub(crate) description: &'a str,
    pub(crate) environment: BTreeMap<OsString, OsString>,
}

/// Runs a worker as a unit until it says how it is, and leaves it running.
///
/// # Errors
/// Why it cannot be a unit, in words: no manager, one that hangs, or one that refuses.
pub(crate) async fn start(recipe: &Recipe<'_>) -> Result<Verdict, String> {
    let systemd = Systemd::at_hand().map_err(|err| err.to_string())?;
    let environment = recipe.dir.join("environment.json");
    write_environment(&environment, &recipe.environment)
        .map_err(|err| format!("{} cannot be written: {err}", environment.display()))?;
    let (mut nth, mut vanished) = (0, false);
    while nth < NAMES {
        let unit = name(recipe.dir, nth);
        let words = match attempt(recipe.dir, run(&systemd, recipe, &unit)).await? {
            Outcome::Verdict(verdict) => {
                return Ok(finished(&systemd, recipe.dir, &unit, verdict).await);
            }
            Outcome::Refused(words) => words,
        };
        let state = state(&systemd, &unit)
            .await
            .map_err(|err| err.to_string())?;
        match state.as_str() {
            // A unit that has ended, but whose kernel lives on in its group.
            "inactive" | "failed" => {
                let mut start = systemd.command("systemctl");
                start.args(["--user", "start", &unit]);
                return match attempt(recipe.dir, start).await? {
                    Outcome::Verdict(verdict) => {
                        Ok(finished(&systemd, recipe.dir, &unit, verdict).await)
                    }
                    Outcome::Refused(words) => {
                        // It may have crashed without a word, and be about to do so again.
                        finished(&systemd, recipe.dir, &unit, Verdict::Ended).await;
                        Err(words)
                    }
                };
            }
            // The last one of that name was just ending.
            "not-found" if !vanished => vanished = true,
            "not-found" => return Err(words),
            // It fails again and again.
            "activating" => {
                return Ok(finished(&systemd, recipe.dir, &unit, Verdict::Ended).await);
            }
            // Its worker has given the session up and takes leave of its clients.
            _ => nth += 1,
        }
    }
    Err("units of earlier workers of this session are in the way".to_owned())
}

fn run(systemd: &Systemd, recipe: &Recipe<'_>, unit: &str) -> Command {
    let mut command = systemd.command("systemd-run");
    command
        .args(["--user", "--quiet", "--collect", "--slice=tithon.slice"])
        .arg(format!("--unit={unit}"))
        .arg(format!("--description={}", printable(recipe.description)));
    for property in properties() {
        command.arg("--property").arg(property);
    }
    command
        .arg("--")
        // systemd replaces nothing in the path of the executable.
        .arg(recipe.program)
        .args(["worker", "--unit", unit, "--home"])
        .arg(literal(recipe.home.as_os_str()))
        .arg("--dir")
        .arg(literal(recipe.dir.as_os_str()));
    command
}

/// An argument in which systemd finds no variable to replace.
fn literal(argument: &OsStr) -> OsString {
    let bytes = argument.as_bytes().iter();
    let doubled = bytes.flat_map(|byte| std::iter::repeat_n(*byte, 1 + usize::from(*byte == b'$')));
    OsString::from_vec(doubled.collect())
}

fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Never in the unit's own properties: those can be read by every process of the machine.
fn write_environment(path: &Path, environment: &BTreeMap<OsString, OsString>) -> io::Result<()> {
    let texts: BTreeMap<_, _> = environment
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)))
        .collect();
    files::write_json(path, &texts)
}

enum Outcome {
    Verdict(Verdict),
    /// No worker was heard of; the tool's words.
    Refused(String),
}

/// Runs a tool that starts a worker and waits for the word of either.
async fn attempt(dir: &Path, mut tool: Command) -> Result<Outcome, String> {
    let said = files::worker_said(dir);
    if let Err(err) = fs::remove_file(&said)
        && err.kind() != io::ErrorKind::NotFound
    {
        return Err(format!("{} cannot be removed: {err}", said.display()));
    }
    let mut child = tool
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(|err| format!("systemd-run cannot be run: {err}"))?;
    let (mut heard, mut since) = (0, Instant::now());
    loop {
        let exit = tokio::select! {
            exit = child.wait() => Some(exit),
            () = sleep(POLL) => None,
        };
        let words = fs::read_to_string(&said).unwrap_or_default();
        if let Some(verdict) = verdict(&words) {
            return Ok(Outcome::Verdict(verdict));
        }
        if let Some(exit) = exit {
            return Ok(match exit {
                Ok(exit) if exit.success() => Outcome::Verdict(Verdict::Ready),
                _ if words.is_empty() => Outcome::Refused(refusal(&mut child, exit).await),
                _ => Outcome::Verdict(Verdict::Ended),
            });
        }
        if words.len() > heard {
            (heard, since) = (words.len(), Instant::now());
        }
        if heard == 0 && since.elapsed() > FIRST_WORD {
            return Err(format!(
                "systemd did not start it within {} seconds",
                FIRST_WORD.as_secs()
            ));
        }
        if since.elapsed() > READY_LIMIT {
            return Ok(Outcome::Verdict(Verdict::Slow));
        }
    }
}

/// What a worker's words amount to, if it has come to an end with them.
fn verdict(words: &str) -> Option<Verdict> {
    // A line that is not whole yet says nothing.
    let whole = &words[..words.rfind('\n')?];
    match whole.lines().last()? {
        "ready" => Some(Verdict::Ready),
        line => line
            .strip_prefix("failed: ")
            .map(|reason| Verdict::Failed(reason.to_owned())),
    }
}

async fn refusal(child: &mut Child, exit: io::Result<ExitStatus>) -> String {
    let mut words = String::new();
    if let Some(stderr) = child.stderr.take() {
        // Without words the exit status has to do.
        drop(stderr.take(WORDS_MAX).read_to_string(&mut words).await);
    }
    match (words.lines().next(), exit) {
        (Some(line), _) => line.trim().to_owned(),
        (None, Ok(exit)) => format!("systemd-run failed: {exit}"),
        (None, Err(err)) => format!("systemd-run failed: {err}"),
    }
}

/// A worker that was too slow must not take the session later, after its clients were told; one that
/// ended is replaced by the supervisor, which counts, rather than by systemd, which does not.
async fn finished(systemd: &Systemd, dir: &Path, unit: &str, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Slow => stop(systemd, &["--no-block", unit]).await,
        // Waited for: the next start is to find the unit at rest, not in the way.
        Verdict::Ended if !may_be_served(dir) => stop(systemd, &[unit]).await,
        _ => {}
    }
    verdict
}

async fn stop(systemd: &Systemd, what: &[&str]) {
    if let Err(err) = systemd.ctl(&[&["stop"], what].concat()).await {
        tracing::warn!(?what, %err, "a unit cannot be stopped");
    }
}

/// Whether a worker may own the session: only a lock that is free proves that none does (I7).
fn may_be_served(dir: &Path) -> bool {
    !matches!(Lock::is_held(&files::worker_lock(dir)), Ok(false))
}

/// Ends systemd's own attempts to replace a session's worker, the last of which was `unit`, unless
/// one of them owns the session; its kernel is left alone.
pub(crate) async fn give_up(dir: &Path, unit: &str) {
    let Ok(systemd) = Systemd::at_hand() else {
        return;
    };
    let others = (0..NAMES).map(|nth| name(dir, nth));
    for candidate in std::iter::once(unit.to_owned()).chain(others.filter(|it| it != unit)) {
        // Elsewhere a worker that gave the session up may take leave of its clients.
        let is_ours = candidate == unit
            || matches!(
                state(&systemd, &candidate).await.as_deref(),
                Ok("activating")
            );
        if is_ours && !may_be_served(dir) {
            stop(&systemd, &[&candidate]).await;
        }
    }
}

/// Whether systemd is about to put another worker in the place of one that ended.
pub(crate) async fn is_replaced(unit: &str) -> Result<bool, SystemdError> {
    let state = state(&Systemd::at_hand()?, unit).await?;
    Ok(!matches!(
        state.as_str(),
        "inactive" | "failed" | "not-found"
    ))
}

/// `ActiveState`, or `not-found` for a unit that systemd does not know (any more).
async fn state(systemd: &Systemd, unit: &str) -> Result<String, SystemdError> {
    let both = systemd
        .ctl(&["show", "--property=LoadState,ActiveState", unit])
        .await?;
    let value = |name: &str| {
        both.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_default()
    };
    Ok(match value("LoadState") {
        "not-found" => "not-found".to_owned(),
        _ => value("ActiveState").to_owned(),
    })
}

/// A link to this program at a path of the home's own: a unit keeps the path it was started with,
/// and is to run the newest version whenever it starts again.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn link_program(link: &Path, program: &Path) -> io::Result<PathBuf> {
    if fs::read_link(link).is_ok_and(|target| target == program) {
        return Ok(link.to_owned());
    }
    let temporary = link.with_extension(format!("{}.tmp", std::process::id()));
    if let Err(err) = fs::remove_file(&temporary)
        && err.kind() != io::ErrorKind::NotFound
    {
        return Err(err);
    }
    std::os::unix::fs::symlink(program, &temporary)?;
    fs::rename(&temporary, link)?;
    Ok(link.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_by_the_directory() {
        let first = name(Path::new("/h/sessions/s"), 0);
        assert_eq!(first.len(), "tithon-k-.service".len() + 16);
        assert_ne!(first, name(Path::new("/i/sessions/s"), 0));
        let second = name(Path::new("/h/sessions/s"), 1);
        assert!(second.ends_with("-1.service") && second.starts_with(&first[..25]));
    }

    #[test]
    fn only_whole_last_lines_are_verdicts() {
        assert!(verdict("").is_none());
        assert!(verdict("working\n").is_none());
        assert!(verdict("working\nready").is_none());
        assert!(matches!(verdict("working\nready\n"), Some(Verdict::Ready)));
        assert!(
            matches!(verdict("working\nfailed: so\n"), Some(Verdict::Failed(reason)) if reason == "so")
        );
    }

    #[test]
    fn nothing_in_an_argument_is_a_variable() {
        assert_eq!(literal(OsStr::new("/a$b/${HOME}")), "/a$$b/$${HOME}");
    }

    #[test]
    fn the_environment_is_written_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("environment.json");
        let environment = [("A", "b\n\"c"), ("D", "")].map(|(a, b)| (a.into(), b.into()));
        write_environment(&path, &environment.into()).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let read: BTreeMap<String, String> = files::read_json(&path).unwrap();
        assert_eq!(read["A"], "b\n\"c");
    }

    #[test]
    fn the_link_follows_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("tithon");
        for program in ["/v1/tithon", "/v2/tithon", "/v2/tithon"] {
            link_program(&link, Path::new(program)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(program));
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }
}
