//! What the Python program left running: its kernel, under its own routing id.

use tithon_ipc::jupyter::ConnectionFile;

use crate::{journal::Loaded, python::Launch};

/// The routing id under which the Python program's last cell was sent: the kernel addresses its reply
/// and its prompts to it, whoever connects as that.
pub(super) fn identity(loaded: &Loaded) -> Option<String> {
    let (msg_id, _) = loaded.foreign_requests.last()?;
    session_of(msg_id)
}

/// `jupyter_client` names a message `<session>_<pid>_<count>`, and its sockets after the session.
fn session_of(msg_id: &str) -> Option<String> {
    let (rest, _count) = msg_id.rsplit_once('_')?;
    let (session, _pid) = rest.rsplit_once('_')?;
    Some(session.to_owned())
}

/// Whether a kernel is the Python program's: ours are never without a key.
pub(super) fn is_inherited(connection: &ConnectionFile) -> bool {
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
