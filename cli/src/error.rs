//! Why a command failed, in words for its user, and the exit code that says so.

use std::{io, path::PathBuf};

use tithon_ipc::{
    client::ConnectionError,
    ids::{quoted, session_flag},
    paths::HomeError,
};

use crate::{
    exit::Exit,
    remote::RemoteError,
    service::{systemd::SystemdError, units::UnitError},
    start::StartError,
};

/// Every way a command fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The supervisor cannot be talked to.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Nobody listens, and the user does not want a supervisor started.
    #[error("{0}\nhint: no supervisor runs, and --no-start forbids starting one")]
    NotStarted(ConnectionError),
    /// Nobody listens, and starting a supervisor only to ask would change the answer.
    #[error(
        "{0}\nhint: no supervisor runs; kernels it left keep running, and the next `tithon run` finds them"
    )]
    NoneRuns(ConnectionError),
    /// This process cannot be the supervisor.
    #[error("failed to {0}")]
    Supervisor(#[from] tithon_supervisor::SupervisorError),
    /// The server of states does not start, or ended.
    #[error(transparent)]
    States(#[from] tithon_states::StatesError),
    /// The server of states has no secret.
    #[error(transparent)]
    Token(#[from] tithon_states::TokenError),
    /// The supervisor does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Another machine's supervisor is not reached.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The server's own words.
    #[error("{0}")]
    Server(String),
    /// The server closed the connection before it answered.
    #[error("the connection was closed before {0} was answered")]
    Unanswered(&'static str),
    /// A frame that is not what the protocol has there.
    #[error(
        "a frame from the server cannot be understood: {0}\nhint: is the supervisor of another version? `tithon ps --wide`"
    )]
    Frame(#[from] serde_json::Error),
    /// A cell was sent twice and its connection broke both times before it was accepted.
    #[error("the connection was lost twice before the cell was accepted; it does not run")]
    NeverAccepted,
    /// It cannot be known whether a cell was accepted: running it again could run it twice.
    #[error(
        "the connection was lost before the cell was acknowledged, and several cells in the history could be it; it is not run again\nhint: tithon log{}", session_flag(.session)
    )]
    Unknown { session: String },
    /// No connection comes about any more.
    #[error(
        "the connection to the supervisor was lost and did not come back{}",
        .left.as_ref().map(|(exec_id, command)| format!("; {exec_id} keeps running if its kernel does\nhint: {command}")).unwrap_or_default()
    )]
    Lost {
        /// The cell that was watched, and the command that shows the rest of it.
        left: Option<(String, String)>,
    },
    /// Nothing goes by that name.
    #[error("there is no session '{session}'{}", did_you_mean(.near.as_deref()))]
    NoSession {
        session: String,
        near: Option<String>,
    },
    /// The session has no such execution.
    #[error(
        "session '{session}' has no execution {exec_id}\nhint: tithon log{}", session_flag(.session)
    )]
    NoExecution { session: String, exec_id: String },
    /// The session has run nothing.
    #[error(
        "nothing ran in session '{session}' yet\nhint: tithon run{} -c 'print(42)'", session_flag(.session)
    )]
    NothingRan { session: String },
    /// A session in use is not removed.
    #[error("session '{session}' is in use: {why}\nhint: tithon kill --session {}", quoted(.session))]
    InUse { session: String, why: &'static str },
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// Nothing was converted.
    #[error(transparent)]
    Notebook(#[from] tithon_notebook::NotebookError),
    /// A file of the user's cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    /// A file cannot be written or removed.
    #[error("{path} cannot be written: {source}")]
    Write { path: PathBuf, source: io::Error },
    /// A file that a command would replace is somebody else's.
    #[error(
        "{path} {why}; nothing was changed\nhint: move it away, or keep your own settings in a drop-in: systemctl --user edit tithon.service"
    )]
    NotOurs { path: PathBuf, why: &'static str },
    /// There are no unit files for this user.
    #[error(transparent)]
    Units(#[from] UnitError),
    /// The service manager refuses.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// The system refuses something a command needs.
    #[error("failed to {doing}: {source}")]
    System {
        doing: &'static str,
        source: io::Error,
    },
    /// Our output goes nowhere.
    #[error("failed to write the output: {0}")]
    Output(io::Error),
}

fn did_you_mean(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("\nhint: did you mean '{name}'?"),
        None => "\nhint: `tithon ps --all` lists those there are".to_owned(),
    }
}

impl CliError {
    /// What to tell the user: the message, and `hint:` lines; nothing when nobody reads.
    pub(crate) fn words(&self) -> Option<String> {
        (self.exit() != Exit::BrokenPipe).then(|| self.to_string())
    }

    /// Whether trying to connect again would only repeat it.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Start(_) => true,
            Self::Remote(err) => !err.may_pass(),
            _ => false,
        }
    }

    /// The exit code of the failure.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Output(err) if err.kind() == io::ErrorKind::BrokenPipe => Exit::BrokenPipe,
            _ => Exit::Trouble,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_left_is_no_news() {
        let gone = CliError::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!((gone.exit(), gone.words()), (Exit::BrokenPipe, None));
        let full = CliError::Output(io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit(), Exit::Trouble);
        assert!(full.words().unwrap().starts_with("failed to write"));
    }

    #[test]
    fn an_unreachable_supervisor_reads_as_it_always_did() {
        let refused = ConnectionError::Unreachable {
            path: "/h/daemon.sock".into(),
            source: io::Error::from_raw_os_error(2),
        };
        let words = CliError::NoneRuns(refused).words().unwrap();
        let (first, hint) = words.split_once('\n').unwrap();
        assert!(
            first.starts_with("cannot reach daemon at /h/daemon.sock: No such file"),
            "{first}"
        );
        assert!(hint.starts_with("hint: "), "{hint}");
    }
}
