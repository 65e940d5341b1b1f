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
                    self.run_published(exec, message);
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

    fn run_published(&mut self, exec: ExecId, message: Message) {
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
                let owner = display
                    .as_ref()
                    .and_then(|display| self.displays.get(display))
                    .copied();
                match (display, owner) {
                    (Some(display_id), None) => {
                        self.change(Change::Display {
                            display_id: display_id.clone(),
                            exec,
                        });
                        self.displays.insert(display_id, exec);
                        msg_type
                    }
                    // What a cell of the kernel shows stays as it is: this is shown here.
                    (Some(_), Some(owner)) if owner != exec => "display_data".to_owned(),
                    _ => msg_type,
                }
            }
            // Whether the kernel is busy is not this one's to say; nobody could answer its widgets.
            _ => return,
        };
        self.event(Some(exec), None, &msg_type, message);
    }
}
