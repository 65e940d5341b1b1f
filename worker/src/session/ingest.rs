//! What the kernel says: sorted into events of executions, answers, and traffic that is only kept.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tithon_ipc::{
    ids::ExecId,
    jupyter::{Message, ParentView, without_lone_surrogates},
};

use super::{
    Session, comms, copies, kernel::Kernel, prompt::Prompt, questions::Questions,
    queue::SignOfLife, store::content_of,
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
        let message = Message::from_frames(frames);
        if let Ok(header) = message.as_ref().map(Message::header_view)
            && let Ok(header) = header
            && !recorded
        {
            self.numbering.note(&header.msg_id, &header.session);
        }
        match message {
            Ok(message)
                if recorded
                    && message
                        .header_view()
                        .is_ok_and(|header| SPOOLED.contains(&&*header.msg_type)) => {}
            Ok(message) => self.message(channel, message, None),
            Err(err) => tracing::debug!("ignored frames on {}: {err}", channel.name()),
        }
    }

    /// Takes in one message; `starter` is the request it is for where that is not the one it names.
    pub(super) fn kernel_messages(
        &mut self,
        channel: Channel,
        frames: Vec<Bytes>,
        starter: Option<&str>,
    ) {
        match Message::from_frames(frames) {
            Ok(message) => self.message(channel, message, starter),
            // ipykernel's XPUB may deliver a bare subscription frame; it says nothing to us.
            Err(err) => tracing::debug!("ignored frames on {}: {err}", channel.name()),
        }
    }

    fn message(&mut self, channel: Channel, message: Message, starter: Option<&str>) {
        let msg_type = match message.header_view() {
            Ok(header) => header.msg_type.into_owned(),
            Err(err) => {
                tracing::warn!(
                    "a message on {} has no readable header: {err}",
                    channel.name()
                );
                return self.keep(channel, message);
            }
        };
        // A copy of few bytes, behind which the message can be moved.
        let parent_header = message.parent_header.clone();
        let parent = match starter {
            // Only its id is known. Of the two kinds of request that run code it is taken for the one whose own
            // messages are not all its execution's.
            Some(starter) => ParentView {
                msg_id: starter.into(),
                msg_type: "comm_msg".into(),
                ..ParentView::default()
            },
            None => ParentView::of(&parent_header),
        };
        if Questions::is_one(&parent.msg_id) {
            return self.about_question(channel, &msg_type, &parent, message);
        }
        match channel {
            Channel::Iopub => self.published(&msg_type, &parent, message),
            Channel::Stdin if msg_type == "input_request" => {
                self.prompted(&parent.msg_id, message);
            }
            Channel::Shell if msg_type == "execute_reply" => {
                let ours = self
                    .running
                    .as_ref()
                    .filter(|running| parent.msg_id == running.msg_id)
                    .map(|running| running.exec);
                let content = message.content.clone();
                self.keep(channel, message);
                match ours {
                    Some(exec) => {
                        let reply = self.outcome_of(exec, &content);
                        self.replied(reply);
                    }
                    None => self.foreign_replied(&parent.msg_id, &content),
                }
            }
            // Of what leaves no trace nothing is kept either.
            Channel::Shell
                if msg_type == "tithon_checkpoint_reply" && copies::is_request(&parent.msg_id) =>
            {
                self.copy_answered(&parent.msg_id, &message.content);
            }
            Channel::Shell if msg_type == "tithon_checkpoint_reply" => {
                let content = message.content.clone();
                self.keep(channel, message);
                self.checkpoint_answered(&parent.msg_id, &content);
            }
            Channel::Shell | Channel::Control if msg_type == "kernel_info_reply" => {
                self.kernel_answered(channel, Some(&parent.msg_id), &message);
                self.keep(channel, message);
            }
            Channel::Shell | Channel::Control
                if msg_type == "comm_info_reply" && Kernel::is_probe(&parent.msg_id) =>
            {
                self.comms_told(&message);
                self.keep(channel, message);
            }
            _ => self.keep(channel, message),
        }
    }

    /// What a question brought about: its answer, and that the kernel was busy with it, which is no
    /// part of the session's history. Anything else is not the question's doing.
    fn about_question(
        &mut self,
        channel: Channel,
        msg_type: &str,
        parent: &ParentView<'_>,
        message: Message,
    ) {
        match channel {
            Channel::Shell | Channel::Control => self.question_answered(&parent.msg_id, &message),
            Channel::Iopub if msg_type == "status" => self.kernel_published(),
            Channel::Iopub => self.published(msg_type, parent, message),
            Channel::Stdin => self.keep(channel, message),
        }
    }

    fn published(&mut self, msg_type: &str, parent: &ParentView<'_>, message: Message) {
        let exec = self.execution_of(&parent.msg_id);
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
                let exec = self.shown_for(&parent.msg_id, &parent.msg_type);
                self.output(exec, msg_type, message);
            }
            "comm_open" | "comm_msg" | "comm_close" => self.comm(exec, parent, msg_type, message),
            "execute_input" => {
                match exec {
                    Some(_) => self.note_count(exec, &message),
                    None if parent.msg_type == "execute_request" => {
                        self.foreign_started(parent, &message);
                    }
                    None => {}
                }
                self.keep(Channel::Iopub, message);
            }
            _ => self.keep(Channel::Iopub, message),
        }
        self.kernel_published();
    }

    fn status_published(
        &mut self,
        exec: Option<ExecId>,
        parent: &ParentView<'_>,
        message: Message,
    ) {
        #[derive(Deserialize)]
        struct Status {
            execution_state: String,
        }
        // Busy with a question or a probe is not what people call busy, and the `idle` after one says
        // nothing of the cell that runs.
        let tells = matches!(
            &*parent.msg_type,
            "" | "execute_request" | "comm_open" | "comm_msg" | "comm_close"
        ) && !Kernel::is_probe(&parent.msg_id);
        if let Ok(status) = serde_json::from_slice::<Status>(&message.content)
            && tells
            // When a kernel is ready is ours to say: this word may arrive after its first answer, and
            // would stand until a cell runs.
            && status.execution_state != "starting"
            && let Some(kernel) = self.kernel.running_mut()
        {
            let busy = status.execution_state == "busy";
            kernel.execution_state = status.execution_state;
            if busy && exec.is_none() {
                match &*parent.msg_type {
                    "execute_request" => self.requests.began(&parent.msg_id),
                    _ => self.comm_heard(&parent.msg_id),
                }
            }
        }
        if message.content.windows(6).any(|word| word == b"\"idle\"")
            && self
                .kernel
                .running()
                .is_some_and(|kernel| kernel.is_shell_probe(&parent.msg_id))
            && let Some(spool) = self.kernel.spool_mut()
        {
            spool.shell_was_free();
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

    fn comm(
        &mut self,
        exec: Option<ExecId>,
        parent: &ParentView<'_>,
        msg_type: &str,
        message: Message,
    ) {
        // A handler's claim of an output area must meet what the handler prints.
        let exec = match &*parent.msg_type {
            "comm_open" | "comm_msg" | "comm_close" => self.shown_for(&parent.msg_id, ""),
            _ => exec,
        };
        let Some(content) = message
            .content_text()
            .filter(|content| comms::comm_id(content).is_some())
        else {
            return self.keep(Channel::Iopub, message);
        };
        let accepted = self
            .widgets
            .accepts_and_apply(msg_type, content, &message.buffers);
        self.comms.note(msg_type, content, exec, accepted);
        // What is no widget's state is of no execution: it must touch no fold, ours or a client's.
        self.event(exec.filter(|_| accepted), None, msg_type, message);
    }

    /// Journals a kernel message as an event.
    pub(super) fn event(
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

    fn prompted(&mut self, parent: &str, message: Message) {
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
            .is_some_and(|running| parent == running.msg_id);
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
}

pub(super) fn display_id(message: &Message) -> Option<String> {
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
