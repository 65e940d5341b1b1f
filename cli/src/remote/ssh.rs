//! The ssh commands, and what their ends mean.

use std::{
    env, fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{ExitCode, Output, Stdio},
};

use tithon_ipc::ids::quoted;
use tokio::process::Command;

use super::{
    Reached,
    error::{RemoteError, Why},
};
use crate::start::Start;

/// ssh's own exit code when the connection is the matter.
const SSH_FAILED: i32 = 255;
/// A shell's when there is no such command.
const NOT_FOUND: i32 = 127;
/// Ours, and that of most command lines, for arguments that are not understood.
const USAGE: i32 = 2;
/// How long an ssh connection outlives its last use, in seconds.
const PERSIST: &str = "ControlPersist=600";
/// Together: a connection without a sign of life for 15 s is given up.
const ALIVE: [&str; 2] = ["ServerAliveInterval=5", "ServerAliveCountMax=3"];
/// Runs our program there, also where it was installed for one user: a shell that nobody logs into
/// often has a short PATH. In single quotes, so that any login shell passes it on.
const PROGRAM: &str =
    "exec sh -c 'PATH=\"$PATH:$HOME/.local/bin:$HOME/.cargo/bin\"; exec tithon \"$@\"' tithon";
/// As much of what ssh says as a person reads.
const WORDS_MAX: usize = 500;

/// ssh, for one machine.
#[derive(Clone, Debug)]
pub(super) struct Ssh {
    host: String,
    /// The socket by which ssh finds its own connection again.
    control: PathBuf,
    /// What ssh says while nobody is to be disturbed.
    log: PathBuf,
}

impl Ssh {
    pub(super) fn new(host: &str, control: PathBuf, log: PathBuf) -> Self {
        Self {
            host: host.to_owned(),
            control,
            log,
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn failed(&self, why: Why) -> RemoteError {
        RemoteError {
            host: self.host.clone(),
            why,
        }
    }

    /// Asks the program there for its supervisor, which it starts if it may.
    ///
    /// # Errors
    /// When ssh does not get there, or what is there does not fit.
    pub(super) async fn reach(&self, start: Start, asks: bool) -> Result<Reached, RemoteError> {
        let mut ssh = self.connect();
        if !asks {
            ssh.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
        }
        let arguments = match start {
            Start::IfNeeded => &["reach"][..],
            Start::Never => &["reach", "--no-start"],
        };
        ssh.args(["-T", "--", &self.host, &remote_command(arguments)]);
        let output = self.output(&mut ssh).await?;
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        match output.status.code() {
            // Whatever a login prints comes before.
            Some(0) => String::from_utf8_lossy(&output.stdout)
                .lines()
                .rev()
                .find_map(|line| serde_json::from_str(line).ok())
                .ok_or_else(|| self.failed(Why::Older(None))),
            code => {
                let mut why = why(code, &self.host, words);
                if let Why::Older(version) = &mut why {
                    *version = self.version().await;
                }
                Err(self.failed(why))
            }
        }
    }

    /// What the program there says of itself.
    async fn version(&self) -> Option<String> {
        let mut ssh = self.connect();
        ssh.args(["-T", "--", &self.host, &remote_command(&["version"])]);
        let output = self.output(&mut ssh).await.ok()?;
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = words.lines().last()?.trim().trim_start_matches("tithon ");
        (output.status.success() && !version.is_empty()).then(|| version.to_owned())
    }

    /// Has ssh bind a socket here that leads to one there.
    ///
    /// # Errors
    /// When ssh cannot be run; whether it worked shows when somebody connects.
    pub(super) async fn forward(&self, here: &Path, there: &Path) -> Result<(), RemoteError> {
        let mut ssh = self.command();
        let forward = format!("{}:{}", forwarded(here), forwarded(there));
        ssh.args(["-O", "forward", "-L", &forward, "--", &self.host]);
        self.output(&mut ssh).await.map(drop)
    }

    /// Runs our program there with these arguments, in this terminal.
    ///
    /// # Errors
    /// When ssh cannot be run.
    pub(super) async fn run(&self, arguments: &[String]) -> Result<ExitCode, RemoteError> {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut ssh = self.connect();
        let has_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        ssh.args([if has_terminal { "-t" } else { "-T" }, "-q", "--"])
            .args([&self.host, &remote_command(&arguments)]);
        let status = ssh.status().await;
        let status = status.map_err(|err| self.failed(Why::NoSsh(err)))?;
        match status.code() {
            Some(SSH_FAILED) | None => Err(self.failed(Why::Away("ssh failed".to_owned()))),
            Some(NOT_FOUND) => Err(self.failed(Why::NoTithon(self.host.clone()))),
            Some(code) => Ok(u8::try_from(code).unwrap_or(1).into()),
        }
    }

    /// ssh to a command there. What the user's own configuration forwards is for their own
    /// connections: ours would keep its ports from them, or fail because they have them.
    fn connect(&self) -> Command {
        let mut ssh = self.command();
        ssh.args(["-o", "ClearAllForwardings=yes"]);
        ssh
    }

    fn command(&self) -> Command {
        // As GIT_SSH_COMMAND: another program, or flags.
        let named = env::var("TITHON_SSH").unwrap_or_default();
        let mut words = named.split_whitespace();
        let mut ssh = Command::new(words.next().unwrap_or("ssh"));
        ssh.args(words).arg("-o");
        ssh.arg(control_path(&self.control));
        for option in [
            "ControlMaster=auto",
            PERSIST,
            ALIVE[0],
            ALIVE[1],
            "StreamLocalBindUnlink=yes",
            "RemoteCommand=none",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.kill_on_drop(true);
        ssh
    }

    /// Runs ssh to its end; what it says goes to a file first, because the connection that outlives
    /// it would hold a pipe open.
    async fn output(&self, ssh: &mut Command) -> Result<Output, RemoteError> {
        let failed = |err| self.failed(Why::NoSsh(err));
        let log = fs::File::create(&self.log).map_err(failed)?;
        ssh.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log));
        let child = ssh.spawn().map_err(failed)?;
        let mut output = child.wait_with_output().await.map_err(failed)?;
        output.stderr = fs::read(&self.log).unwrap_or_default();
        drop(fs::remove_file(&self.log));
        Ok(output)
    }
}

/// The option for a socket's path: ssh splits its value at blanks and fills in what `%` names.
fn control_path(path: &Path) -> String {
    let path = path.display().to_string().replace('%', "%%");
    let path = path.replace('\\', r"\\").replace('"', "\\\"");
    format!("ControlPath=\"{path}\"")
}

/// A path for `-L`, which is split at colons and in which `%` names something too.
fn forwarded(path: &Path) -> String {
    let path = path.display().to_string().replace('\\', r"\\");
    path.replace(':', r"\:").replace('%', "%%")
}

fn why(code: Option<i32>, host: &str, words: String) -> Why {
    let mut said = words.lines().rev().filter(|line| !line.trim().is_empty());
    let last = said.next().unwrap_or("ssh said nothing").trim_end();
    let last: String = last.chars().take(WORDS_MAX).collect();
    let is_refused = ["Permission denied", "Host key verification failed"]
        .iter()
        .any(|refusal| words.contains(refusal));
    match code {
        Some(SSH_FAILED) if is_refused => Why::Refused(last),
        Some(SSH_FAILED) | None => Why::Away(last),
        Some(NOT_FOUND) => Why::NoTithon(host.to_owned()),
        Some(USAGE) if words.contains("'reach'") => Why::Older(None),
        Some(_) => Why::Said(words.strip_prefix("tithon: ").unwrap_or(&words).to_owned()),
    }
}

/// The command line for the login shell there.
fn remote_command(arguments: &[&str]) -> String {
    let mut command = PROGRAM.to_owned();
    for argument in arguments {
        command.push(' ');
        command.push_str(&quoted(argument));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_ssh_are_told_apart() {
        let why = |code, words: &str| super::why(code, "h", words.to_owned()).to_string();
        for (code, words, told) in [
            (
                Some(255),
                "banner\nssh: connect to host h: No route to host\n",
                "cannot be reached: ssh: connect",
            ),
            (
                Some(255),
                "me@h: Permission denied (publickey).",
                "let you in",
            ),
            (Some(127), "sh: 1: exec: tithon: not found", "has no Tithon"),
            (
                Some(2),
                "error: unrecognized subcommand 'reach'",
                "has an older Tithon",
            ),
            (
                Some(2),
                "tithon: cannot reach daemon at /x",
                ": cannot reach daemon",
            ),
            (Some(1), "tithon: disk full\n", ": disk full"),
        ] {
            let said = why(code, words);
            assert!(said.contains(told), "{words}: {said}");
        }
    }

    #[test]
    fn arguments_arrive_as_they_were() {
        let command = remote_command(&["rm", "--session", "it's $HOME; `x`"]);
        assert!(
            command.ends_with(r"tithon 'rm' '--session' 'it'\''s $HOME; `x`'"),
            "{command}"
        );
    }
}
