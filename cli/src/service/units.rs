//! The unit files: the templates of `systemd/` and `launchd/` with this user's paths in them.

use std::{
    env,
    path::{Path, PathBuf},
};

use tithon_ipc::paths::Home;

use super::owned::{Comment, OwnedFile};

const SERVICE: &str = include_str!("../../../systemd/tithon.service");
const SOCKET: &str = include_str!("../../../systemd/tithon.socket");
const SLICE: &str = include_str!("../../../systemd/tithon.slice");
const PLIST: &str = include_str!("../../../launchd/com.tithon.supervisor.plist");

/// The lines of the templates that depend on the user; the tests see that they are there once.
const EXEC_START: &str = "ExecStart=%h/.local/bin/tithon daemon\n";
const LISTEN_STREAM: &str = "ListenStream=%h/.tithon/daemon.sock\n";
const PLIST_PROGRAM: &str = "/Users/USER/.local/bin/tithon<";
const PLIST_SOCKET: &str = "/Users/USER/.tithon/daemon.sock<";
const PLIST_HOME: &str = "/Users/USER/.tithon<";

/// Why there are no unit files for this user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitError {
    /// A path that a unit file cannot hold.
    #[error("{0:?} cannot be written into a unit file: it is no text, or has several lines")]
    Path(PathBuf),
    /// There is no home directory.
    #[error("there is no home directory to install into")]
    NoHome,
}

/// What the units run, and for which home.
#[derive(Debug)]
pub(crate) struct Service<'a> {
    /// The `tithon` to run, as the user knows it: a link that an upgrade moves stays a link.
    pub(crate) program: &'a Path,
    /// The home it serves.
    pub(crate) home: &'a Home,
    /// The user's own directory.
    pub(crate) user: &'a Path,
}

/// The units of systemd, the slice first and the service last.
pub(crate) const UNITS: [&str; 3] = ["tithon.slice", "tithon.socket", "tithon.service"];
/// The label of the job of launchd.
pub(crate) const JOB: &str = "com.tithon.supervisor";

impl Service<'_> {
    /// The units for systemd, in the order of [`UNITS`].
    ///
    /// # Errors
    /// [`UnitError::Path`].
    pub(crate) fn systemd(&self) -> Result<[OwnedFile; 3], UnitError> {
        let exec = format!(
            "ExecStart={} daemon\n",
            quoted(self.program, Dollar::Doubled)?
        );
        let mut service = SERVICE.replace(EXEC_START, &exec);
        let mut socket = SOCKET.to_owned();
        if self.home.root() != self.user.join(".tithon") {
            let variable = quoted_text(
                &format!("TITHON_HOME={}", text(self.home.root())?),
                Dollar::Plain,
            );
            service = service.replace(&exec, &format!("{exec}Environment={variable}\n"));
            // Not quoted: the rest of the line is the path.
            let path = text(&self.home.socket())?.replace('%', "%%");
            socket = socket.replace(LISTEN_STREAM, &format!("ListenStream={path}\n"));
        }
        let directory = self.systemd_directory();
        let texts = [SLICE, socket.as_str(), service.as_str()];
        let mut at = 0;
        Ok(texts.map(|text| {
            let file = OwnedFile::new(directory.join(UNITS[at]), text, Comment::Hash);
            at += 1;
            file
        }))
    }

    fn systemd_directory(&self) -> PathBuf {
        env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .unwrap_or_else(|| self.user.join(".config"))
            .join("systemd/user")
    }

    /// The job for launchd.
    ///
    /// # Errors
    /// [`UnitError::Path`].
    pub(crate) fn launchd(&self) -> Result<OwnedFile, UnitError> {
        let mut plist = PLIST.to_owned();
        for (placeholder, path) in [
            (PLIST_PROGRAM, self.program),
            (PLIST_SOCKET, &self.home.socket()),
            (PLIST_HOME, self.home.root()),
        ] {
            plist = plist.replace(placeholder, &format!("{}<", xml(text(path)?)));
        }
        let path = self
            .user
            .join("Library/LaunchAgents")
            .join(format!("{JOB}.plist"));
        Ok(OwnedFile::new(path, &plist, Comment::Xml))
    }
}

fn text(path: &Path) -> Result<&str, UnitError> {
    path.to_str()
        .filter(|text| !text.contains(char::is_control))
        .ok_or_else(|| UnitError::Path(path.to_owned()))
}

/// Whether `$` begins a variable where the text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dollar {
    Doubled,
    Plain,
}

fn quoted(path: &Path, dollar: Dollar) -> Result<String, UnitError> {
    Ok(quoted_text(text(path)?, dollar))
}

/// One word of a unit file: quoted, with what systemd would expand escaped.
fn quoted_text(text: &str, dollar: Dollar) -> String {
    let mut word = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    if dollar == Dollar::Doubled {
        word = word.replace('$', "$$");
    }
    format!("\"{word}\"")
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service<'a>(program: &'a str, home: &'a Home) -> Service<'a> {
        Service {
            program: Path::new(program),
            home,
            user: Path::new("/home/u"),
        }
    }

    #[test]
    fn the_templates_have_what_is_replaced_once() {
        for (template, line) in [
            (SERVICE, EXEC_START),
            (SOCKET, LISTEN_STREAM),
            (PLIST, PLIST_PROGRAM),
            (PLIST, PLIST_SOCKET),
            (PLIST, PLIST_HOME),
        ] {
            assert_eq!(template.matches(line).count(), 1, "{line}");
        }
    }

    #[test]
    fn the_usual_home_needs_no_environment() {
        let home = Home::at("/home/u/.tithon".into());
        let [_, socket, unit] = service("/opt/tithon", &home).systemd().unwrap();
        assert!(socket.content.contains(LISTEN_STREAM));
        assert!(!unit.content.contains("Environment="));
        assert!(
            unit.content
                .contains("\nExecStart=\"/opt/tithon\" daemon\n")
        );
    }

    #[test]
    fn another_home_and_odd_paths_are_spelt_out() {
        let home = Home::at("/data/50% \"off\"".into());
        let [_, socket, unit] = service("/opt/a b/$x/tithon", &home).systemd().unwrap();
        assert!(
            unit.content
                .contains("\nExecStart=\"/opt/a b/$$x/tithon\" daemon\n")
        );
        assert!(
            unit.content
                .contains("\nEnvironment=\"TITHON_HOME=/data/50%% \\\"off\\\"\"\n")
        );
        assert!(
            socket
                .content
                .contains("\nListenStream=/data/50%% \"off\"/daemon.sock\n")
        );
        let hostile = service("/opt/x\nExecStartPre=/bin/evil", &home);
        assert!(hostile.systemd().is_err() && hostile.launchd().is_err());
    }

    #[test]
    fn a_job_names_this_users_paths() {
        let home = Home::at("/Users/a&b/.tithon".into());
        let job = service("/opt/tithon", &home).launchd().unwrap();
        for path in [
            "<string>/opt/tithon<",
            "<string>/Users/a&amp;b/.tithon<",
            "<string>/Users/a&amp;b/.tithon/daemon.sock<",
        ] {
            assert!(job.content.contains(path), "{path}");
        }
        assert!(!job.content.contains("/Users/USER"));
    }
}
