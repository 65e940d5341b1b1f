//! How a command reaches its session: which home, whether a supervisor may be started for it, and
//! what every operation says about the client beside its own fields.

use std::{collections::BTreeMap, env, path::Path, time::Duration};

use serde_json::{Value, json};
use tithon_ipc::{
    client::{Connection, LaunchWish},
    ids::session_flag,
    paths::Home,
};

use crate::{
    error::CliError,
    frames::Received,
    remote::Remote,
    render::notice::{Notices, during},
    start::{self, Start},
};

/// The way to a supervisor.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    home: Home,
    start: Start,
    remote: Option<Remote>,
}

impl Link {
    /// The link of this process's environment.
    ///
    /// # Errors
    /// When the environment names no home.
    pub(crate) fn from_env(start: Start, host: Option<&str>) -> Result<Self, CliError> {
        let home = Home::from_env()?;
        Ok(Self {
            remote: host.map(|host| Remote::new(host, &home)),
            home,
            start,
        })
    }

    /// The other machine, if it is one.
    pub(crate) fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Our own home, also where the supervisor is another machine's.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Connects, starting a supervisor if there is none and one may be started.
    ///
    /// # Errors
    /// When there is none, or it does not start.
    pub(crate) async fn open(&self) -> Result<Connection, CliError> {
        match &self.remote {
            Some(remote) => remote.open(self.start).await,
            None => start::open(&self.home, self.start).await,
        }
    }

    /// Connects to a supervisor that runs already.
    ///
    /// # Errors
    /// [`CliError::NoneRuns`] when there is none.
    pub(crate) async fn open_running(&self) -> Result<Connection, CliError> {
        match &self.remote {
            Some(remote) => remote.open(Start::Never).await,
            None => start::connect(&self.home).await.map_err(CliError::NoneRuns),
        }
    }
}

impl Link {
    /// The session as this process would start it. On another machine neither our directory nor our
    /// environment means anything: a kernel gets those of the supervisor there.
    pub(crate) fn bound(&self, session: &str, python: Option<&str>, kernel: Option<&str>) -> Bound {
        match self.remote {
            None => Bound::new(session, python, kernel),
            Some(_) => Bound {
                session: session.to_owned(),
                workdir: None,
                launch: LaunchWish {
                    python: python.map(str::to_owned),
                    kernel: kernel.map(str::to_owned),
                    env: BTreeMap::new(),
                    ..LaunchWish::default()
                },
            },
        }
    }

    /// A command that is suggested: with the flags that say which machine and which session is meant.
    pub(crate) fn suggested(&self, command: &str, session: &str) -> String {
        let host = match &self.remote {
            Some(remote) => format!(" --host {remote}"),
            None => String::new(),
        };
        format!("tithon{host} {command}{}", session_flag(session))
    }
}

/// How often a question is repeated whose connection broke: a supervisor that is restarted in a loop
/// is not worth more.
const REPEATS: usize = 20;

/// The first pause before it is repeated.
const PAUSE: Duration = Duration::from_millis(20);

impl Link {
    /// Does something again whose connection was closed before it was answered: a worker without a kernel
    /// ends when its last client leaves, and whoever comes in that moment meets it. Only for what may
    /// happen twice.
    ///
    /// # Errors
    /// Any other, and that one if it does not stop.
    pub(crate) async fn repeated<T>(
        &self,
        attempt: impl AsyncFn() -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let mut pauses = (0..6).map(|round| PAUSE * (1 << round));
        loop {
            match (attempt().await, pauses.next()) {
                (Err(CliError::Unanswered(_) | CliError::Connection(_)), Some(pause)) => {
                    tokio::time::sleep(pause).await;
                }
                (done, _) => return done,
            }
        }
    }

    /// Asks a supervisor that runs a question that changes nothing, and its successor when it is
    /// replaced meanwhile.
    ///
    /// # Errors
    /// When none runs, or it answers with an error.
    pub(crate) async fn inquire(
        &self,
        op: &Value,
        answer: &'static str,
    ) -> Result<String, CliError> {
        let mut repeats = 0;
        loop {
            let mut connection = self.open_running().await?;
            match ask(&mut connection, op, answer).await {
                Err(CliError::Unanswered(_) | CliError::Connection(_)) if repeats < REPEATS => {
                    repeats += 1;
                }
                answered => {
                    connection.close().await;
                    return answered;
                }
            }
        }
    }
}

/// Sends an operation that has one answer and waits for it: the frame's text, verbatim.
///
/// # Errors
/// When the server answers with an error, or goes away.
pub(crate) async fn ask(
    connection: &mut Connection,
    op: &Value,
    answer: &'static str,
) -> Result<String, CliError> {
    let mut notices = Notices::default();
    connection.send(op).await?;
    while let Some(text) = connection.next().await? {
        match Received::parse(&text)? {
            Received::Other(op) if op == answer => return Ok(text.to_string()),
            Received::Error(message) => return Err(CliError::Server(message)),
            Received::Notice(message) => notices.show(&message),
            _ => {}
        }
    }
    Err(CliError::Unanswered(answer))
}

/// The same on a connection for this alone, with a line that says what is being done.
///
/// # Errors
/// Those of [`ask`].
pub(crate) async fn ask_once(
    mut connection: Connection,
    op: &Value,
    answer: &'static str,
    doing: &str,
) -> Result<String, CliError> {
    let reply = during(doing, ask(&mut connection, op, answer)).await?;
    connection.close().await;
    Ok(reply)
}

/// The session fields of an operation: where we are, and how a kernel is to be started there.
///
/// Sent with the first operation of every connection: only that one can start a kernel.
#[derive(Debug)]
pub(crate) struct Bound {
    session: String,
    workdir: Option<String>,
    launch: LaunchWish,
}

impl Bound {
    /// The session as this process would start it.
    fn new(session: &str, python: Option<&str>, kernel: Option<&str>) -> Self {
        // A path that is no Unicode text cannot be said in JSON: the kernel starts elsewhere then.
        let workdir = env::current_dir()
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned));
        Self {
            launch: LaunchWish {
                python: python.map(|named| absolute(named, workdir.as_deref())),
                kernel: kernel.map(str::to_owned),
                env: environment(),
                ..LaunchWish::default()
            },
            session: session.to_owned(),
            workdir,
        }
    }

    /// The same with a limit of memory, in bytes.
    pub(crate) fn limited(mut self, memory_max: Option<u64>) -> Self {
        self.launch.memory_max = memory_max;
        self
    }

    /// The same with the Python that a session's kernel had, unless one is named.
    pub(crate) fn like(mut self, session: &str) -> Self {
        self.launch.like = Some(session.to_owned());
        self
    }

    /// The same in another working directory, if there is one.
    pub(crate) fn at(mut self, workdir: Option<&Path>) -> Self {
        if let Some(workdir) = workdir.and_then(Path::to_str) {
            self.workdir = Some(workdir.to_owned());
        }
        self
    }

    /// The session's name.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    /// An operation's fields with the session's beside them.
    pub(crate) fn bind(&self, op: Value) -> Value {
        let mut op = self.name(op);
        op["workdir"] = json!(self.workdir);
        op["launch"] = json!(self.launch);
        op
    }

    /// An operation's fields with the session's name, for a connection that is bound already.
    pub(crate) fn name(&self, mut op: Value) -> Value {
        op["session"] = json!(self.session);
        op
    }
}

/// The whole environment, but for what is no Unicode text.
fn environment() -> BTreeMap<String, String> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// An interpreter given as a path is meant from here; a bare command name is looked up by the worker.
fn absolute(python: &str, workdir: Option<&str>) -> String {
    match workdir {
        Some(here) if python.contains('/') => {
            Path::new(here).join(python).to_string_lossy().into_owned()
        }
        _ => python.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_given_as_paths_are_meant_from_here() {
        for (given, meant) in [
            ("python3.12", "python3.12"),
            (".venv/bin/python", "/p/.venv/bin/python"),
            ("/usr/bin/python3", "/usr/bin/python3"),
        ] {
            assert_eq!(absolute(given, Some("/p")), meant);
        }
        assert_eq!(absolute("./python", None), "./python");
    }

    #[test]
    fn the_first_operation_brings_the_environment_and_later_ones_the_name() {
        let bound = Bound::new("s", None, Some("ir"));
        let first = bound.bind(json!({"op": "attach"}));
        assert_eq!(first["session"], "s");
        assert_eq!(first["launch"]["kernel"], "ir");
        assert!(
            first["launch"]["env"]
                .as_object()
                .is_some_and(|env| env.contains_key("PATH"))
        );
        assert!(
            first["workdir"]
                .as_str()
                .is_some_and(|path| path.starts_with('/'))
        );
        assert_eq!(
            bound.name(json!({"op": "input_reply"})),
            json!({"op": "input_reply", "session": "s"})
        );
    }
}
