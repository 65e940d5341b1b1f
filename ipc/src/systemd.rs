//! The user's own systemd, asked through its command-line tools.
//!
//! No bus library and no session bus is needed for that. Every question has a bound in time: a
//! manager that hangs must not hang us.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// How long a tool may take. Starting the supervisor is the longest: its unit allows it 30 s.
const TOOL_WITHIN: Duration = Duration::from_secs(60);
/// How long a manager may take over what costs it milliseconds, before it counts as lost.
const AT_ONCE_WITHIN: Duration = Duration::from_secs(10);

/// The exit code of a worker that cannot begin: to start it again at once would not help.
pub const NOT_STARTED: u8 = 78;

/// Where a manager listens for its tools, below the user's runtime directory.
const MANAGER: &str = "systemd/private";

/// Why systemd is not there or does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// systemd is not installed.
    #[error("{0} cannot be run: {1}")]
    NoTool(&'static str, io::Error),
    /// No user manager answers: a container, WSL, a batch node, a shell made by `su`.
    #[error("no systemd user manager answers here ({0})")]
    NoManager(String),
    /// It refused.
    #[error("{command} failed: {words}")]
    Failed { command: String, words: String },
    /// It did not answer.
    #[error("{command} did not end within {within:?}")]
    Slow { command: String, within: Duration },
}

/// A user manager that answered.
#[derive(Debug)]
pub struct Systemd {
    runtime: Option<PathBuf>,
    within: Duration,
    /// The version as it states it itself, `252.38-1~deb12u1`.
    pub version: String,
}

impl Systemd {
    /// The manager of this user.
    ///
    /// # Errors
    /// [`SystemdError::NoTool`] or [`SystemdError::NoManager`] when there is none.
    pub async fn find() -> Result<Self, SystemdError> {
        let mut systemd = Self {
            runtime: runtime_directory(),
            within: TOOL_WITHIN,
            version: String::new(),
        };
        systemd.version = match systemd.show(None, "Version").await {
            Err(SystemdError::Failed { words, .. }) => return Err(SystemdError::NoManager(words)),
            answered => answered?,
        };
        Ok(systemd)
    }

    /// The manager of this user if its socket is there. It was not asked anything yet, so it may be
    /// dead; questions to it have a bound of seconds, and its version is not known.
    ///
    /// # Errors
    /// [`SystemdError::NoManager`] where there is no socket.
    pub fn at_hand() -> Result<Self, SystemdError> {
        let runtime = runtime_directory();
        let directory = runtime
            .clone()
            .or_else(|| env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
        match directory {
            Some(directory) if directory.join(MANAGER).exists() => Ok(Self {
                runtime,
                within: AT_ONCE_WITHIN,
                version: String::new(),
            }),
            Some(directory) => Err(SystemdError::NoManager(format!(
                "there is no {}",
                directory.join(MANAGER).display()
            ))),
            None => Err(SystemdError::NoManager(
                "there is no runtime directory".to_owned(),
            )),
        }
    }

    /// `systemctl --user` with these arguments; what it printed, without the last newline.
    ///
    /// # Errors
    /// When it fails.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String, SystemdError> {
        let mut all = vec!["--user"];
        all.extend(arguments);
        self.tool("systemctl", &all).await
    }

    /// A property of a unit, or of the manager itself. Units that are not there have properties too.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn show(&self, unit: Option<&str>, property: &str) -> Result<String, SystemdError> {
        let mut arguments = vec!["show", "--value", "--property", property];
        arguments.extend(unit);
        self.ctl(&arguments).await
    }

    /// The pid of a service's main process, while it has one.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn main_pid(&self, unit: &str) -> Result<Option<i32>, SystemdError> {
        let pid = self.show(Some(unit), "MainPID").await?;
        Ok(pid.parse().ok().filter(|pid| *pid != 0))
    }

    /// Whether this user's manager, and all it runs, stays when the user logs out.
    ///
    /// # Errors
    /// When logind does not answer.
    pub async fn lingers(&self) -> Result<bool, SystemdError> {
        let me = rustix::process::getuid().as_raw().to_string();
        let arguments = ["show-user", &me, "--value", "--property", "Linger"];
        Ok(self.tool("loginctl", &arguments).await? == "yes")
    }

    /// Lets the manager stay. Needs no privilege for oneself, where the administrator left it so.
    ///
    /// # Errors
    /// When logind refuses.
    pub async fn enable_linger(&self) -> Result<(), SystemdError> {
        let arguments = ["--no-ask-password", "enable-linger"];
        self.tool("loginctl", &arguments).await.map(drop)
    }

    /// One of systemd's tools, to be run as this user against this manager; killed when dropped.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .stdin(Stdio::null())
            .env("SYSTEMD_PAGER", "")
            .env("SYSTEMD_COLORS", "0")
            .env("LC_ALL", "C.UTF-8")
            // What a manager says to and hears from this process alone.
            .env_remove("NOTIFY_SOCKET")
            .kill_on_drop(true);
        if let Some(runtime) = &self.runtime {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        command
    }

    async fn tool(&self, name: &'static str, arguments: &[&str]) -> Result<String, SystemdError> {
        let mut command = self.command(name);
        command.args(arguments);
        let spelt = || format!("{name} {}", arguments.join(" "));
        let output = timeout(self.within, command.output())
            .await
            .map_err(|_| SystemdError::Slow {
                command: spelt(),
                within: self.within,
            })?
            .map_err(|source| SystemdError::NoTool(name, source))?;
        if output.status.success() {
            Ok(line(&output.stdout))
        } else {
            Err(SystemdError::Failed {
                command: spelt(),
                words: line(&output.stderr),
            })
        }
    }
}

/// Where the manager's socket is; `su` and cron do not say.
fn runtime_directory() -> Option<PathBuf> {
    if env::var_os("XDG_RUNTIME_DIR").is_some_and(|path| !path.is_empty()) {
        return None;
    }
    let usual = format!("/run/user/{}", rustix::process::getuid().as_raw());
    Some(PathBuf::from(usual)).filter(|path| path.is_dir())
}

/// Whether systemd keeps its promise of lingering: 255 ends user managers despite it, and so did
/// 256 before 256.3.
pub fn keeps_lingering(version: &str) -> bool {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    match (numbers.next(), numbers.next()) {
        (Some(255), _) => false,
        (Some(256), patch) => version.starts_with("256.") && patch.unwrap_or(0) >= 3,
        _ => true,
    }
}

fn line(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim_end().to_owned()
}

/// The pid that the supervisor of a home announced.
pub fn announced(pid_file: &Path) -> Option<i32> {
    std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_end_lingering_users_are_known() {
        for (version, keeps) in [
            ("252.38-1~deb12u1", true),
            ("254.5-1", true),
            ("255", false),
            ("255.4-1ubuntu8.6", false),
            ("256", false),
            ("256.2-1", false),
            ("256-3.fc41", false),
            ("256.3-1", true),
            ("257.1", true),
            ("", true),
        ] {
            assert_eq!(keeps_lingering(version), keeps, "{version}");
        }
    }
}
