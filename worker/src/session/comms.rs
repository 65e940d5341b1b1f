//! The way back for widgets: a client's comm messages, to the kernel, the mirror and the other clients.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::json;
use tithon_ipc::{
    client::{Comm, CommKind, Frame},
    ids::{ExecId, Seq},
    jupyter::Message,
};

use super::{
    Session,
    kernel::{KernelSlot, PROBE},
    store::Effect,
};
use crate::{
    client::{Answer, ClientId},
    journal::{Change, Channel, HEARD, Row, StoredRow, now},
    widgets::journaled_content,
};

/// The comms that are open, as far as is known of them.
#[derive(Debug, Default)]
pub(super) struct Comms {
    /// Which execution opened a widget's comm: what its handlers print is shown there.
    owners: HashMap<String, ExecId>,
    /// Comms that are no widgets'.
    others: HashSet<String>,
    /// Whether an earlier worker may know of comms that this one does not.
    incomplete: bool,
    /// How many messages were sent.
    sent: u64,
    /// Clients' messages, by seq and `msg_id`, that the kernel has not begun to take up.
    unheard: VecDeque<(Seq, String)>,
    /// Those among them that cannot be sent yet, because an earlier worker may have died before it sent its own.
    held: VecDeque<Held>,
}

#[derive(Debug)]
struct Held {
    msg_id: String,
    message: Message,
    /// Whether an earlier worker may have sent it.
    of_predecessor: bool,
}

impl Comms {
    /// Takes up what the journal holds of the current kernel's comms.
    pub(super) fn restore(&mut self, rows: &[StoredRow], unheard: Vec<(Seq, Message)>) {
        for row in rows.iter().filter(|row| row.msg_type == "comm_open") {
            if let Some((comm_id, exec)) = comm_id(&row.content).zip(row.exec) {
                self.owners.insert(comm_id, exec);
            }
        }
        self.incomplete = true;
        for (seq, message) in unheard {
            let Ok(msg_id) = message
                .header_view()
                .map(|header| header.msg_id.into_owned())
            else {
                continue;
            };
            self.unheard.push_back((seq, msg_id.clone()));
            self.held.push_back(Held {
                msg_id,
                message,
                of_predecessor: true,
            });
        }
    }

    /// The kernel has begun to take up a message, and so all before it; returns the seq of a client's.
    fn heard(&mut self, msg_id: &str) -> Option<Seq> {
        let at = self.unheard.iter().position(|(_, id)| id == msg_id)?;
        for (_, id) in self.unheard.iter().take(at + 1) {
            self.held.retain(|held| held.msg_id != *id);
        }
        self.unheard.drain(..=at).next_back().map(|(seq, _)| seq)
    }

    /// The kernel may have other comms than those it was heard of.
    pub(super) fn may_be_incomplete(&mut self) {
        self.incomplete = true;
    }

    /// Numbers a message.
    pub(super) fn next_number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Takes note of a comm message, accepted by the widget mirror or not.
    pub(super) fn note(
        &mut self,
        msg_type: &str,
        content: &str,
        exec: Option<ExecId>,
        accepted: bool,
    ) {
        let Some(comm_id) = comm_id(content) else {
            return;
        };
        match (msg_type, exec) {
            ("comm_open", _) if !accepted => drop(self.others.insert(comm_id)),
            ("comm_open", Some(exec)) => drop(self.owners.insert(comm_id, exec)),
            ("comm_close", _) => {
                self.owners.remove(&comm_id);
                self.others.remove(&comm_id);
            }
            _ => {}
        }
    }
}

/// The comm that a message's content is about.
pub(super) fn comm_id(content: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        comm_id: String,
    }
    serde_json::from_str::<Named>(content)
        .ok()
        .map(|named| named.comm_id)
}

impl Session {
    /// Sends a client's comm message to the kernel once it is journaled.
    pub(super) fn comm_from_client(&mut self, client: ClientId, comm: &Comm) {
        if let Err(reason) = self.check_comm(comm) {
            let frame = Frame::CommAck {
                ok: false,
                comm_id: &comm.comm_id,
                message: Some(&reason),
                req_id: comm.req_id.as_ref(),
            };
            return self.frame(client, &frame);
        }
        let owner = self.comms.owners.get(&comm.comm_id).copied();
        let owner = owner.or_else(|| self.current_execution());
        let msg_id = self.comm_msg_id(owner);
        let Some(kernel) = self.kernel.running() else {
            return;
        };
        let message = kernel.signer.comm(&msg_id, comm);
        let seq = self.journal_comm(comm, &message);
        self.comms.unheard.push_back((seq, msg_id));
        self.after_commit(Effect::Comm(Box::new(message)));
        let ack = Frame::CommAck {
            ok: true,
            comm_id: &comm.comm_id,
            message: None,
            req_id: comm.req_id.as_ref(),
        };
        self.after_commit(Effect::Answer(client, Answer::Frame(ack.to_text().into())));
    }

    fn check_comm(&self, comm: &Comm) -> Result<(), String> {
        let running = matches!(&self.kernel, KernelSlot::Running(kernel) if kernel.end.is_none());
        let known = self.widgets.contains(&comm.comm_id)
            || self.comms.others.contains(&comm.comm_id)
            // The kernel ignores what it does not know.
            || self.comms.incomplete;
        match comm.kind {
            _ if !running => Err("the kernel is not running".to_owned()),
            _ if self.stalled.is_some() => Err("the journal cannot be written".to_owned()),
            CommKind::Open if known && !self.comms.incomplete => {
                Err(format!("the comm {} is open already", comm.comm_id))
            }
            CommKind::Message | CommKind::Close if !known => {
                Err(format!("there is no comm {} in this kernel", comm.comm_id))
            }
            _ => Ok(()),
        }
    }

    /// A client's message becomes an event of all clients, marked as one's.
    fn journal_comm(&mut self, comm: &Comm, message: &Message) -> Seq {
        let msg_type = comm.kind.msg_type();
        let content = message.content_text().unwrap_or("{}");
        let accepted = self
            .widgets
            .accepts_and_apply(msg_type, content, &message.buffers);
        self.comms.note(msg_type, content, None, accepted);
        let mut journaled = journaled_content(content, &message.buffers).into_owned();
        journaled.pop();
        journaled.push_str(r#", "tithon_from": "client"}"#);
        self.push(Row {
            seq: 0,
            // Of no execution: only the kernel says which output area a cell writes to.
            exec: None,
            target: None,
            msg_type: msg_type.to_owned(),
            content: journaled.into(),
            ts: now(),
            message: Some(Box::new(message.clone())),
            images: Vec::new(),
        })
    }

    /// Sends a journaled message, or has it wait: messages arrive in the order of their acks.
    pub(super) fn send_comm(&mut self, message: Message) {
        if self.comms.held.is_empty() {
            return self.send(Channel::Shell, message);
        }
        if let Ok(header) = message.header_view() {
            let msg_id = header.msg_id.into_owned();
            self.comms.held.push_back(Held {
                msg_id,
                message,
                of_predecessor: false,
            });
        }
    }

    /// The kernel is busy with a request: what a client said has arrived.
    pub(super) fn comm_heard(&mut self, msg_id: &str) {
        if let Some(seq) = self.comms.heard(msg_id) {
            self.change(Change::Meta {
                key: HEARD,
                value: seq.to_string(),
            });
        }
    }

    /// The kernel has nothing before it. What an earlier worker journaled, and the kernel's spool does not have, was
    /// never sent; of a kernel without a spool nobody knows, and twice would be worse than not at all.
    pub(super) fn repeat_comms(&mut self) {
        let Some(kernel) = self.kernel.running() else {
            return;
        };
        let recorded = kernel.records_everything();
        for held in std::mem::take(&mut self.comms.held) {
            if recorded || !held.of_predecessor {
                kernel
                    .channels
                    .send(Channel::Shell, kernel.signer.signed(held.message));
            }
        }
    }

    /// Asks the kernel of an earlier worker which comms it has.
    pub(super) fn ask_for_comms(&mut self) {
        let Some(kernel) = self.kernel.running() else {
            return;
        };
        let msg_id = format!("{PROBE}{}_comms_0", std::process::id());
        let request = kernel
            .signer
            .request(&msg_id, "comm_info_request", &json!({}));
        kernel.channels.send(kernel.question_channel(), request);
    }

    /// The kernel said which comms it has.
    pub(super) fn comms_told(&mut self, reply: &Message) {
        #[derive(serde::Deserialize)]
        struct Told {
            comms: HashMap<String, serde::de::IgnoredAny>,
        }
        if let Ok(told) = serde_json::from_slice::<Told>(&reply.content) {
            self.comms.others.extend(told.comms.into_keys());
            self.comms.incomplete = false;
        }
    }
}
