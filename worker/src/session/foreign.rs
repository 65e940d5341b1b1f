//! What the Python program left running: its kernel, and cells whose requests do not name them.

use std::collections::HashMap;

use tithon_ipc::{ids::ExecId, jupyter::ConnectionFile};

use crate::{journal::Loaded, python::Launch};

/// Executions that another program sent to the kernel.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    execs: HashMap<String, ExecId>,
    identity: Option<String>,
}

impl Foreign {
    pub(super) fn load(loaded: &Loaded) -> Self {
        Self {
            execs: loaded.foreign.iter().cloned().collect(),
            identity: loaded
                .foreign
                .last()
                .and_then(|(msg_id, _)| session_of(msg_id)),
        }
    }

    /// The execution that was sent under this `msg_id`.
    pub(super) fn exec_of(&self, msg_id: &str) -> Option<ExecId> {
        self.execs.get(msg_id).copied()
    }

    /// The routing id under which the last of them was sent: the kernel addresses its reply and its
    /// prompts to it, whoever connects as that.
    pub(super) fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }
}

/// `jupyter_client` names a message `<session>_<pid>_<count>`, and its sockets after the session.
fn session_of(msg_id: &str) -> Option<String> {
    let (rest, _count) = msg_id.rsplit_once('_')?;
    let (session, _pid) = rest.rsplit_once('_')?;
    Some(session.to_owned())
}

/// Whether a kernel is the Python program's: ours are never without a key.
pub(super) fn is_foreign(connection: &ConnectionFile) -> bool {
    connection.key.is_empty()
}

/// What is known of how that program started its kernels.
pub(super) fn launch() -> Launch {
    Launch {
        kernel_name: "python3".to_owned(),
        display_name: "Python 3 (ipykernel)".to_owned(),
        language: "python".to_owned(),
        why: "taken over from the Python program, which started it".to_owned(),
        ..Launch::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_from_jupyter_clients_message_ids() {
        for (msg_id, session) in [
            (
                "750e19a0-70fa5d69bdc1691e96c887d1_10413_2",
                Some("750e19a0-70fa5d69bdc1691e96c887d1"),
            ),
            ("a_b_1_2", Some("a_b")),
            ("51a77766-3ad5_2", None),
            ("", None),
        ] {
            assert_eq!(session_of(msg_id).as_deref(), session, "{msg_id}");
        }
    }
}
