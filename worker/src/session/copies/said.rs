//! What a copy says that runs in a state: events of its execution.

use tithon_ipc::{ids::ExecId, jupyter::Message};
use tokio::sync::oneshot;

use super::task::answers_request;
use crate::{
    journal::Change,
    kernel::spool::{Record, SpoolPosition},
    session::{Session, ingest::display_id, spool::stream_row, store::Effect},
};

impl Session {
    /// Journals what a run says.
    pub(super) fn run_said(
        &mut self,
        number: u64,
        records: Vec<Record>,
        position: SpoolPosition,
        taken: oneshot::Sender<()>,
    ) {
        let Some(run) = self.copies.run_mut(number) else {
            return;
        };
        run.position = position;
        let exec = run.exec;
        for record in records {
            self.run_record(number, exec, record);
        }
        self.journal_runs();
        self.after_commit(Effect::Taken(taken));
    }

    fn run_record(&mut self, number: u64, exec: ExecId, record: Record) {
        match record {
            Record::Stream(stream) => drop(self.push(stream_row(exec, &stream))),
            Record::Iopub(frames) | Record::IopubFor(_, frames) => {
                if let Ok(message) = Message::from_frames(frames) {
                    self.run_published(number, exec, message);
                }
            }
            Record::Reply(frames) => {
                if let Some(message) = answers_request(&frames) {
                    let reply = self.outcome_of(exec, &message.content);
                    if let Some(run) = self.copies.run_mut(number) {
                        run.reply = Some(reply);
                    }
                }
            }
            Record::Gap { writes, bytes } => {
                self.gap(Some(exec), Some(writes), bytes, "the disk was full");
            }
            Record::Hole { from, to, writes } => {
                self.gap(Some(exec), writes, to - from, "the copy died while writing");
            }
            Record::StdinRequest(_)
            | Record::StdinEnd(_)
            | Record::Hello(_)
            | Record::Control(_)
            | Record::Bye => {}
        }
    }

    /// What a cell, or another run, shows by a display of the same name stays as it is: the first that this
    /// one says of it is shown here, and further words change that.
    fn run_displayed(
        &mut self,
        number: u64,
        exec: ExecId,
        display: Option<String>,
        msg_type: String,
    ) -> String {
        let Some(display) = display else {
            return msg_type;
        };
        let owner = self.displays.get(&display).copied();
        if owner.is_none() {
            self.change(Change::Display {
                display_id: display.clone(),
                exec,
            });
            self.displays.insert(display.clone(), exec);
        }
        let Some(run) = self.copies.run_mut(number) else {
            return msg_type;
        };
        let is_first = run.displays.insert(display);
        match owner {
            Some(owner) if owner != exec && is_first => "display_data".to_owned(),
            _ => msg_type,
        }
    }

    fn run_published(&mut self, number: u64, exec: ExecId, message: Message) {
        let Ok(msg_type) = message
            .header_view()
            .map(|header| header.msg_type.into_owned())
        else {
            return;
        };
        let msg_type = match msg_type.as_str() {
            "stream" | "execute_result" | "error" | "clear_output" => msg_type,
            "display_data" | "update_display_data" => {
                let display = display_id(&message);
                self.run_displayed(number, exec, display, msg_type)
            }
            "comm_open" | "comm_msg" | "comm_close" => {
                if let Some(run) = self.copies.run_mut(number) {
                    run.note_comm(&msg_type, &message);
                }
                return;
            }
            // Whether the kernel is busy is not this one's to say.
            _ => return,
        };
        self.event(Some(exec), None, &msg_type, message);
    }
}
