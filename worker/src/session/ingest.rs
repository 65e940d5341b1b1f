//! What the kernel says: sorted into events of executions, answers, and traffic that is only kept.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tithon_ipc::{
    ids::ExecId,
    jupyter::{Message, without_lone_surrogates},
};

use super::{
    Session,
    kernel::Kernel,
    queue::{Prompt, SignOfLife},
    store::content_of,
};
use crate::{
    journal::{Change, Channel, Row, date_of, now},
    widgets::journaled_content,
};

impl Session {
    /// Takes in a message that came over zmq. What the spool records too is taken from there: only
    /// there it is read once and in order.
    pub(super) fn zmq_message(&mut self, channel: Channel, frames: Vec<Bytes>) {
        const SPOOLED: [&str; 3] = ["execute_reply", "input_request", "shutdown_reply"];
        let recorded = self
            .kernel
            .running()
            .is_some_and(Kernel::records_everything);
        match Message::from_frames(frames) {
            Ok(message)
                if recorded
                    && message
                        .header_view()
                        .is_ok_and(|header| SPOOLED.contains(&&*header.msg_type)) => {}
            Ok(message) => self.message(channel, message),
            Err(err) => tracing::debug!("ignored frames on {}: {err}", channel.name()),
        }
    }

    /// Takes in one message.
    pub(super) fn kernel_messages(&mut self, channel: Channel, frames: Vec<Bytes>) {
        match Message::from_frames(frames) {
            Ok(message) => self.message(channel, message),
            // ipykernel's XPUB may deliver a bare subscription frame; it says nothing to us.
            Err(err) => tracing::debug!("ignored frames on {}: {err}", channel.name()),
        }
    }

    fn message(&mut self, channel: Channel, message: Message) {
        let (msg_type, parent) = match message.header_view() {
            Ok(header) => (
                header.msg_type.into_owned(),
                message.parent_id().map(std::borrow::Cow::into_owned),
            ),
            Err(err) => {
                tracing::warn!(
                    "a message on {} has no readable header: {err}",
                    channel.name()
                );
                return self.keep(channel, message);
            }
        };
        let parent = parent.as_deref();
        match channel {
            Channel::Iopub => self.published(&msg_type, parent, message),
            Channel::Stdin if msg_type == "input_request" => self.prompted(parent, message),
            Channel::Shell if msg_type == "execute_reply" => {
                let ours = self
                    .running
                    .as_ref()
                    .is_some_and(|running| parent == Some(running.msg_id.as_str()));
                let content = message.content.clone();
                self.keep(channel, message);
                if ours {
                    self.execute_replied(&content);
                }
            }
            Channel::Shell | Channel::Control if msg_type == "kernel_info_reply" => {
                self.kernel_answered(channel, parent, &message);
                self.keep(channel, message);
            }
            _ => self.keep(channel, message),
        }
    }

    fn published(&mut self, msg_type: &str, parent: Option<&str>, message: Message) {
        let exec = parent.and_then(|parent| self.exec_of(parent));
        if let Some(running) = self
            .running
            .as_mut()
            .filter(|running| Some(running.exec) == exec)
        {
            running.adopted = running.adopted.and(Some(SignOfLife::Seen));
        }
        match msg_type {
            "status" => self.status_published(exec, parent, message),
            "stream"
            | "execute_result"
            | "error"
            | "clear_output"
            | "display_data"
            | "update_display_data" => {
                let speaker = self.speaker(parent);
                self.output(speaker, msg_type, message);
            }
            "comm_open" | "comm_msg" | "comm_close" => self.comm(exec, msg_type, message),
            "execute_input" => {
                self.note_count(exec, &message);
                self.keep(Channel::Iopub, message);
            }
            _ => self.keep(Channel::Iopub, message),
        }
        self.kernel_published();
    }

    fn status_published(&mut self, exec: Option<ExecId>, parent: Option<&str>, message: Message) {
        #[derive(Deserialize)]
        struct Status {
            execution_state: String,
        }
        if let Ok(status) = serde_json::from_slice::<Status>(&message.content)
            && !Kernel::is_probe(parent)
            && let Some(kernel) = self.kernel.running_mut()
        {
            kernel.execution_state = status.execution_state;
        }
        match exec {
            Some(_) => self.event(exec, None, "status", message),
            None => self.keep(Channel::Iopub, message),
        }
    }

    /// Output of an execution, wherever it is shown.
    fn output(&mut self, exec: Option<ExecId>, msg_type: &str, message: Message) {
        if exec.is_none() {
            return self.keep(Channel::Iopub, message);
        }
        let display = matches!(msg_type, "display_data" | "update_display_data")
            .then(|| display_id(&message))
            .flatten();
        match (msg_type, display, exec) {
            ("display_data", Some(display_id), Some(owner)) => {
                self.event(exec, None, msg_type, message);
                self.change(Change::Display {
                    display_id: display_id.clone(),
                    exec: owner,
                });
                self.displays.insert(display_id, owner);
            }
            ("update_display_data", Some(display_id), _) => {
                let owner = self
                    .displays
                    .get(&display_id)
                    .copied()
                    .filter(|owner| Some(*owner) != exec);
                self.event(exec, owner, msg_type, message);
            }
            _ => self.event(exec, None, msg_type, message),
        }
    }

    fn comm(&mut self, exec: Option<ExecId>, msg_type: &str, message: Message) {
        let accepted = message.content_text().is_some_and(|content| {
            self.widgets
                .accepts_and_apply(msg_type, content, &message.buffers)
        });
        if accepted {
            self.event(exec, None, msg_type, message);
        } else {
            self.keep(Channel::Iopub, message);
        }
    }

    /// Journals a kernel message as an event.
    fn event(
        &mut self,
        exec: Option<ExecId>,
        target: Option<ExecId>,
        msg_type: &str,
        message: Message,
    ) {
        let content = if message.buffers.is_empty() || !msg_type.starts_with("comm_") {
            content_of(&message)
        } else {
            message.content_text().map(|content| {
                journaled_content(content, &message.buffers)
                    .into_owned()
                    .into()
            })
        };
        let Some(content) = content else {
            tracing::warn!("a {msg_type} message is not UTF-8: kept, not shown");
            return self.keep(Channel::Iopub, message);
        };
        let ts = date_of(&message.header).unwrap_or_else(now);
        let (content, images) = match (msg_type, exec) {
            ("display_data" | "update_display_data" | "execute_result", Some(exec)) => {
                self.take_images(exec, content)
            }
            _ => (content, Vec::new()),
        };
        let msg_type = msg_type.to_owned();
        self.push(Row {
            seq: 0,
            exec,
            target,
            msg_type,
            content,
            ts,
            message: Some(Box::new(message)),
            images,
        });
    }

    fn prompted(&mut self, parent: Option<&str>, message: Message) {
        #[derive(Deserialize)]
        struct Request {
            #[serde(default)]
            prompt: String,
            #[serde(default)]
            password: bool,
        }
        let ours = self
            .running
            .as_ref()
            .is_some_and(|running| parent == Some(running.msg_id.as_str()));
        let request = message
            .content_text()
            .and_then(|text| serde_json::from_str::<Request>(&without_lone_surrogates(text)).ok());
        let header = message.header.clone();
        self.keep(Channel::Stdin, message);
        let Some((request, running)) = request.zip(self.running.as_mut().filter(|_| ours)) else {
            return;
        };
        let Request { prompt, password } = request;
        let exec = running.exec;
        running.unanswered = None;
        self.prompt_open(Some(exec));
        self.show_prompt(
            exec,
            Prompt {
                prompt,
                password,
                header,
            },
        );
    }

    /// The prompt of the running cell is over without an answer of ours: another client's, or none.
    pub(super) fn prompt_ended(&mut self) {
        let resolved = self
            .running
            .as_mut()
            .and_then(|running| running.prompt.take().map(|_| running.exec));
        if let Some(exec) = resolved {
            self.row(
                Some(exec),
                "tithon.input_resolved",
                &json!({"exec_id": exec.to_string()}),
            );
        }
    }

    fn note_count(&mut self, exec: Option<ExecId>, message: &Message) {
        #[derive(Deserialize)]
        struct Input {
            execution_count: Option<i64>,
        }
        if let Some(running) = self
            .running
            .as_mut()
            .filter(|running| Some(running.exec) == exec)
            && let Ok(input) = serde_json::from_slice::<Input>(&message.content)
        {
            running.execution_count = input.execution_count;
        }
    }

    /// The execution that output belongs to. What answers nobody, or only a question of Tithon's own,
    /// comes from what the last cell left behind: threads, children.
    pub(super) fn speaker(&self, parent: Option<&str>) -> Option<ExecId> {
        match parent.filter(|parent| !parent.is_empty() && !Kernel::is_probe(Some(parent))) {
            Some(parent) => self.exec_of(parent),
            None => self.last_started,
        }
    }

    /// The execution whose request had this `msg_id`: it ends in the execution's name.
    pub(super) fn exec_of(&self, msg_id: &str) -> Option<ExecId> {
        let rest = msg_id
            .strip_prefix("tithon-")?
            .strip_prefix(self.place.key.as_str())?;
        ExecId::parse(rest.strip_prefix('_')?).filter(|exec| exec.0 <= self.last_exec)
    }
}

fn display_id(message: &Message) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        transient: Option<Transient>,
    }
    #[derive(Deserialize)]
    struct Transient {
        display_id: Option<String>,
    }
    let text = message.content_text()?;
    serde_json::from_str::<Content>(&without_lone_surrogates(text))
        .ok()?
        .transient?
        .display_id
}
