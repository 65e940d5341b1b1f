//! Why another machine's supervisor is not reached.

use std::io;

/// A machine, and what stands in the way to its supervisor.
#[derive(Debug, thiserror::Error)]
#[error("{host}{why}")]
pub(crate) struct RemoteError {
    pub(super) host: String,
    pub(super) why: Why,
}

impl RemoteError {
    /// Whether it may be otherwise in a moment: the network is away, not the permission.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self.why, Why::Away(_) | Why::NotForwarded)
    }
}

/// Words that follow the machine's name.
#[derive(Debug, thiserror::Error)]
pub(super) enum Why {
    /// There is no ssh here.
    #[error(" cannot be reached: ssh does not run: {0}\nhint: install OpenSSH's client")]
    NoSsh(io::Error),
    /// ssh does not get there.
    #[error(" cannot be reached: {0}")]
    Away(String),
    /// ssh gets there and is not let in.
    #[error(" does not let you in: {0}\nhint: does plain ssh?")]
    Refused(String),
    /// Nothing goes by our name there.
    #[error(
        " has no Tithon on its PATH, nor in ~/.local/bin or ~/.cargo/bin\nhint: copy this program there: scp \"$(command -v tithon)\" {0}:.local/bin/"
    )]
    NoTithon(String),
    /// It does not know what it is asked.
    #[error(
        " has an older Tithon{}, which cannot be used from here (this is {})\nhint: bring it up to date there",
        .0.as_deref().map(|version| format!(" ({version})")).unwrap_or_default(), env!("CARGO_PKG_VERSION")
    )]
    Older(Option<String>),
    /// It says why not.
    #[error(": {0}")]
    Said(String),
    /// sshd does not forward unix sockets.
    #[error(
        " does not let its supervisor's socket be forwarded\nhint: its sshd needs AllowStreamLocalForwarding yes"
    )]
    NotForwarded,
}
