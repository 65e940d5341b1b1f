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

/// Why systemd is not there or does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemdError {
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
pub(crate) struct Systemd {
    runtime: Option<PathBuf>,
    /// The version as it states it itself, `252.38-1~deb12u1`.
    pub(crate) version: String,
}

impl Systemd {
    /// The manager of this user.
    ///
    /// # Errors
    /// [`SystemdError::NoTool`] or [`SystemdError::NoManager`] when there is none.
    pub(crate) async fn find() -> Result<Self, SystemdError> {
        let mut systemd = Self {
            runtime: runtime_directory(),
            version: String::new(),
        };
        systemd.version = match systemd.show(None, "Version").await {
            Err(SystemdError::Failed { words, .. }) => return Err(SystemdError::NoManager(words)),
            answered => answered?,
        };
        Ok(systemd)
    }

    /// `systemctl --user` with these arguments; what it printed, without the last newline.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) async fn ctl(&self, arguments: &[&str]) -> Result<String, SystemdError> {
        let mut all = vec!["--user"];
        all.extend(arguments);
        self.tool("systemctl", &all).await
    }

    /// A property of a unit, or of the manager itself. Units that are not there have properties too.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub(crate) async fn show(
        &self,
        unit: Option<&str>,
        property: &str,
    ) -> Result<String, SystemdError> {
        let mut arguments = vec!["show", "--value", "--property", property];
        arguments.extend(unit);
        self.ctl(&arguments).await
    }

    /// The pid of a service's main process, while it has one.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub(crate) async fn main_pid(&self, unit: &str) -> Result<Option<i32>, SystemdError> {
        let pid = self.show(Some(unit), "MainPID").await?;
        Ok(pid.parse().ok().filter(|pid| *pid != 0))
    }

    /// Whether this user's manager, and all it runs, stays when the user logs out.
    ///
    /// # Errors
    /// When logind does not answer.
    pub(crate) async fn lingers(&self) -> Result<bool, SystemdError> {
        let me = rustix::process::getuid().as_raw().to_string();
        let arguments = ["show-user", &me, "--value", "--property", "Linger"];
        Ok(self.tool("loginctl", &arguments).await? == "yes")
    }

    /// Lets the manager stay. Needs no privilege for oneself, where the administrator left it so.
    ///
    /// # Errors
    /// When logind refuses.
    pub(crate) async fn enable_linger(&self) -> Result<(), SystemdError> {
        let arguments = ["--no-ask-password", "enable-linger"];
        self.tool("loginctl", &arguments).await.map(drop)
    }

    async fn tool(&self, name: &'static str, arguments: &[&str]) -> Result<String, SystemdError> {
        let mut command = Command::new(name);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .env("SYSTEMD_PAGER", "")
            .env("SYSTEMD_COLORS", "0")
            .env("LC_ALL", "C.UTF-8")
            .kill_on_drop(true);
        if let Some(runtime) = &self.runtime {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        let spelt = || format!("{name} {}", arguments.join(" "));
        let output = timeout(TOOL_WITHIN, command.output())
            .await
            .map_err(|_| SystemdError::Slow {
                command: spelt(),
                within: TOOL_WITHIN,
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
pub(crate) fn keeps_lingering(version: &str) -> bool {
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
pub(crate) fn announced(pid_file: &Path) -> Option<i32> {
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
