//! What is run in states: executions of the session that its kernel knows nothing of, and the states that
//! come of them.
//!
//! A run is journaled as a cell is, with `executions.state`, and goes on whoever leaves. Its copy does not
//! outlive the worker: then it ends with an error, and nothing is kept.

use serde::Serialize;
use serde_json::{Value, json};
use tithon_ipc::{
    client::{Frame, StateRun},
    ids::{ExecId, Seq, sha256_hex},
    json,
    jupyter::Message,
    process::ProcessIdentity,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Source, Wish,
    freeze::Keep,
    out::Out,
    task::{Done, Stop, Work, answers_request},
};
use crate::{
    client::{Answer, ClientId},
    journal::{Change, NewExecution, StoredExecution, now},
    kernel::{checkpoint, spool::Record},
    session::{
        Session,
        checkpoints::{Checkpoint, StateOf},
        ingest::display_id,
        launch::LaunchEvent,
        reply::ExecuteReply,
        spool::stream_row,
        store::{Effect, LiveFold},
    },
};

/// Code that is run in a state.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) exec: ExecId,
    /// The number of its copy.
    pub(super) number: u64,
    /// What its outcome will be.
    pub(super) state: StateOf,
    /// The last seq of the history that led to where it is run.
    through: Seq,
    /// The widgets there.
    widgets: Option<String>,
    /// When it began, in unix seconds.
    pub(super) began: f64,
    reply: Option<ExecuteReply>,
    /// Why nothing is wanted of it any more.
    given_up: Option<&'static str>,
}

/// `executions.state`.
#[derive(Serialize)]
struct Stored<'a> {
    name: &'a str,
    from: Option<&'a str>,
}

impl super::Copies {
    /// Whether an execution runs in a state.
    pub(in crate::session) fn runs(&self, exec: ExecId) -> bool {
        self.runs.iter().any(|run| run.exec == exec)
    }

    /// The executions that run in states.
    pub(in crate::session) fn executions(&self) -> impl Iterator<Item = ExecId> {
        self.runs.iter().map(|run| run.exec)
    }
}

impl Session {
    /// Begins to run code in a copy: it is an execution from now on.
    pub(super) fn begin_run(
        &mut self,
        client: ClientId,
        number: u64,
        run: StateRun,
        source: Source,
        wishes: mpsc::UnboundedReceiver<Wish>,
    ) -> JoinHandle<()> {
        self.last_exec += 1;
        self.executions += 1;
        let exec = ExecId(self.last_exec);
        let id = exec.to_string();
        let state = StateOf {
            name: run
                .name
                .map_or_else(|| id.clone(), |name| name.as_str().to_owned()),
            from: run.from,
            base: source.base,
        };
        let stored = Stored {
            name: &state.name,
            from: state.from.as_deref(),
        };
        let began = now();
        self.folds.entry(exec).or_default();
        let mut queued = json!({"code": run.code, "origin": run.origin, "state": &stored});
        if let Some(who) = &run.submitted_by {
            queued["submitted_by"] = who.as_str().into();
        }
        self.change(Change::Submitted(NewExecution {
            exec,
            cell_hash: sha256_hex(run.code.as_bytes()),
            code: run.code.clone(),
            origin_uri: None,
            origin_range: None,
            origin_index: None,
            submitted_by: run.submitted_by,
            allow_stdin: false,
            batch: exec,
            stop_on_error: false,
            state: Some(json::to_string(&stored)),
        }));
        self.row(Some(exec), "tithon.queued", &queued);
        self.change(Change::Started {
            exec,
            kernel_msg_id: None,
            ts: began,
        });
        self.row(
            Some(exec),
            "tithon.started",
            &json!({"ts": began, "state": &stored}),
        );
        let ack = Frame::ExecuteAck {
            exec_id: Some(&id),
            exec_ids: None,
        }
        .to_text();
        self.durably();
        self.after_commit(Effect::Answer(client, Answer::Frame(ack.into())));

        let work = Work {
            code: run.code,
            allow_stdin: false,
            keep: Some(Keep {
                socket: self.checkpoint_socket(exec),
                title: format!("tithon {id}"),
                mark: self.place.dir.clone(),
                group: self.place.leaf().map(|leaf| leaf.entrance()),
            }),
        };
        self.copies.runs.push(Run {
            exec,
            number,
            state,
            through: source.through,
            widgets: source.widgets.clone(),
            began,
            reply: None,
            given_up: None,
        });
        let events = self.launch_sender.clone();
        let out = Out::Session {
            exec,
            events: events.clone(),
        };
        let task = self.copy_task(source, number, work, out, wishes);
        tokio::task::spawn_local(async move {
            let ended = super::CopyEvent::RunEnded {
                exec,
                number,
                ended: task.run().await,
            };
            drop(events.send(LaunchEvent::Copy(ended)));
        })
    }

    /// Journals what a run says.
    pub(super) fn run_said(
        &mut self,
        exec: ExecId,
        records: Vec<Record>,
        taken: oneshot::Sender<()>,
    ) {
        for record in records {
            self.run_record(exec, record);
        }
        self.after_commit(Effect::Taken(taken));
    }

    fn run_record(&mut self, exec: ExecId, record: Record) {
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
                    if let Some(run) = self.copies.runs.iter_mut().find(|run| run.exec == exec) {
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

    /// A run is over, and its copy gone: its state is kept, if there is one.
    pub(super) fn run_ended(&mut self, exec: ExecId, ended: Result<Done, Stop>) {
        let mut runs = self.copies.runs.extract_if(.., |run| run.exec == exec);
        let run = runs.next();
        drop(runs);
        match (run, ended) {
            (
                None,
                Ok(Done {
                    kept: Some(Ok(process)),
                    ..
                }),
            ) => {
                checkpoint::end(&process, &self.checkpoint_socket(exec));
            }
            (None, _) => {}
            (Some(run), Ok(done)) => self.end_run(run, done),
            (Some(run), Err(Stop::Left)) => {
                let why = run.given_up.unwrap_or("nobody waits for it any more");
                self.fail_run(exec, why);
            }
            (Some(_), Err(Stop::Failed(why))) => self.fail_run(exec, &why),
        }
    }

    fn end_run(&mut self, mut run: Run, done: Done) {
        let failed = self.folds.get(&run.exec).is_some_and(LiveFold::has_error);
        let reply = run.reply.take().unwrap_or_else(|| match &*done.status {
            "ok" => ExecuteReply::guess(failed, done.execution_count),
            _ => ExecuteReply {
                status: done.status.clone(),
                execution_count: done.execution_count,
            },
        });
        let name = run.state.name.clone();
        let exec = run.exec;
        let kept = match done.kept {
            Some(Ok(process)) => Some(self.keep_state(run, process)),
            Some(Err(why)) => Some(Err(why)),
            None => None,
        };
        let mut state = json!({"name": name, "kept": matches!(kept, Some(Ok(())))});
        if let Some(Err(why)) = kept {
            let text = format!("[tithon: this state cannot be kept: {why}]\n");
            self.row(
                Some(exec),
                "stream",
                &json!({"name": "stderr", "text": text, "tithon_scope": "cell"}),
            );
            state["reason"] = why.into();
        }
        self.run_over(exec, &reply, &state);
    }

    fn keep_state(&mut self, run: Run, process: ProcessIdentity) -> Result<(), String> {
        if let Some(why) = run.given_up {
            checkpoint::end(&process, &self.checkpoint_socket(run.exec));
            return Err(why.to_owned());
        }
        if !matches!(process.open(), Ok(Some(_))) {
            return Err("its process was ended, for memory perhaps".to_owned());
        }
        let before = self.checkpoints.named(&run.state.name);
        if let Some(before) = before.map(|known| ExecId(known.exec)) {
            self.give_up(before);
        }
        self.checkpoints.add(Checkpoint {
            exec: run.exec.0,
            seq: run.through,
            made: now(),
            process,
            state: Some(run.state),
            widgets: run.widgets,
            memory: 0,
        });
        self.store_checkpoints();
        Ok(())
    }

    /// Ends a run of which nothing came.
    fn fail_run(&mut self, exec: ExecId, why: &str) {
        self.row(
            Some(exec),
            "error",
            &json!({
                "tithon_scope": "cell",
                "ename": "StateNotMade",
                "evalue": why,
                "traceback": [format!("StateNotMade: {why}.")],
            }),
        );
        let reply = ExecuteReply::guess(true, None);
        self.run_over(exec, &reply, &json!({"kept": false}));
    }

    fn run_over(&mut self, exec: ExecId, reply: &ExecuteReply, state: &Value) {
        let ts = now();
        self.store_folds();
        self.change(Change::Finished {
            exec,
            status: reply.ended(),
            execution_count: reply.execution_count,
            ts: Some(ts),
        });
        self.row(
            Some(exec),
            "tithon.done",
            &json!({
                "status": reply.status,
                "execution_count": reply.execution_count,
                "ts": ts,
                "state": state,
            }),
        );
        self.last_touch = Instant::now();
    }

    /// Ends a run before its time; its copy's end is the end of it.
    pub(super) fn give_up_run(&mut self, exec: ExecId, why: &'static str) {
        if let Some(run) = self.copies.runs.iter_mut().find(|run| run.exec == exec) {
            run.given_up = Some(why);
            if let Some(running) = self.copies.running.get_mut(&run.number) {
                running.give_up();
            }
        }
    }

    /// The kernel is given up, and with it whatever comes of it.
    pub(in crate::session) fn give_up_runs(&mut self, why: &'static str) {
        let all: Vec<_> = self.copies.executions().collect();
        for exec in all {
            self.give_up_run(exec, why);
        }
    }

    /// The copies are gone.
    pub(super) fn lose_runs(&mut self, why: &str) {
        for run in std::mem::take(&mut self.copies.runs) {
            self.fail_run(run.exec, run.given_up.unwrap_or(why));
        }
    }

    /// Ends a run whose worker died.
    pub(in crate::session) fn restore_run(&mut self, execution: &StoredExecution) {
        self.fail_run(execution.exec, "the session's worker ended meanwhile");
    }
}
