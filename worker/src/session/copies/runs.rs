//! What is run in states: executions of the session that its kernel knows nothing of, and the states that
//! come of them.
//!
//! A run is journaled as a cell is, with `executions.state`, once its copy waits to begin; from then on it goes
//! on whoever leaves or dies. The copy writes a spool, of which the journal knows in the same transaction how
//! far it was read.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tithon_ipc::{
    client::{Frame, StateRun},
    ids::{ExecId, Seq},
    json,
    jupyter::Message,
    process::ProcessIdentity,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Copies, CopyEvent, Running, Source, Wish,
    freeze::Keep,
    out::Out,
    work::{Found, Origin, Work},
};
use crate::{
    client::{Answer, ClientId},
    journal::{Change, Loaded, NewExecution, RUNS, StoredExecution, now},
    kernel::spool::SpoolPosition,
    session::{
        Session,
        checkpoints::{StateOf, widgets_at},
        launch::LaunchEvent,
        reply::ExecuteReply,
        store::Effect,
    },
    widgets::WidgetMirror,
};

/// Code that is run in a state; what is journaled of it is what another worker needs to go on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) exec: ExecId,
    /// The number of its copy.
    pub(super) number: u64,
    /// What its outcome will be.
    pub(super) state: StateOf,
    /// The last seq of the history that led to where it is run.
    pub(super) through: Seq,
    /// The widgets there.
    #[serde(skip)]
    pub(super) widgets: Option<String>,
    /// What it has made of them, if it did anything to some.
    #[serde(skip)]
    mirror: Option<WidgetMirror>,
    /// Displays that it has shown something by.
    #[serde(skip)]
    pub(super) displays: HashSet<String>,
    /// When it began, in unix seconds.
    pub(super) began: f64,
    pub(super) reply: Option<ExecuteReply>,
    /// Its copy.
    process: ProcessIdentity,
    /// How far the copy's spool was read.
    pub(super) position: SpoolPosition,
    /// The code, of one that is to be taken up again.
    #[serde(skip)]
    code: Option<String>,
    /// Why nothing is wanted of it any more.
    #[serde(skip)]
    pub(super) given_up: Option<&'static str>,
}

/// Code whose copy is being made: if nothing comes of that, the client is told, and nothing was run.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) number: u64,
    pub(super) client: ClientId,
    run: StateRun,
    through: Seq,
    base: u64,
    widgets: Option<String>,
}

/// `executions.state`.
#[derive(Serialize)]
struct Stored<'a> {
    name: &'a str,
    from: Option<&'a str>,
}

impl Run {
    /// Takes note of what is done to widgets. Clients are not told before the state is a kernel's: nobody
    /// could answer.
    pub(super) fn note_comm(&mut self, msg_type: &str, message: &Message) {
        let Some(content) = message.content_text() else {
            return;
        };
        let mirror = self.mirror.get_or_insert_with(|| {
            let base = self.widgets.as_deref();
            base.and_then(|base| WidgetMirror::restore(base).ok())
                .unwrap_or_default()
        });
        let _ = mirror.accepts_and_apply(msg_type, content, &message.buffers);
    }

    /// The widgets that it leaves, if they are others than it found.
    pub(super) fn own_widgets(&self) -> Option<String> {
        self.mirror.as_ref().map(WidgetMirror::snapshot_json)
    }
}

impl Copies {
    /// The execution that is to make the state of that name.
    pub(in crate::session) fn makes(&self, name: &str) -> Option<ExecId> {
        let mut runs = self.runs.iter();
        runs.find(|run| run.state.name == name).map(|run| run.exec)
    }

    /// What an earlier worker began to run, as the journal has it.
    pub(in crate::session) fn load(loaded: &Loaded) -> Self {
        let stored = loaded.meta.get(RUNS);
        let runs = stored.and_then(|text| serde_json::from_str::<Vec<Run>>(text).ok());
        let mut copies = Self {
            runs: runs.unwrap_or_default(),
            ..Self::default()
        };
        let widgets = copies.runs.iter_mut();
        widgets_at(
            loaded,
            widgets.map(|run| (run.through, &mut run.widgets)).collect(),
        );
        copies
    }

    pub(super) fn run_mut(&mut self, number: u64) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.number == number)
    }

    /// The processes that run in states, which outlive their worker.
    pub(in crate::session) fn processes(&self) -> impl Iterator<Item = &ProcessIdentity> {
        self.runs.iter().map(|run| &run.process)
    }

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
    /// Begins to make the copy that code is to run in.
    pub(super) fn begin_run(
        &mut self,
        client: ClientId,
        number: u64,
        run: StateRun,
        source: Source,
        wishes: mpsc::UnboundedReceiver<Wish>,
    ) -> JoinHandle<()> {
        let code = run.code.clone();
        self.copies.beginning.push(Beginning {
            number,
            client,
            run,
            through: source.through,
            base: source.base,
            widgets: source.widgets.clone(),
        });
        // How its state stays is said once it is an execution.
        self.attend_run(number, Origin::Forked(source), code, None, wishes)
    }

    fn attend_run(
        &self,
        number: u64,
        origin: Origin,
        code: String,
        keep: Option<Keep>,
        wishes: mpsc::UnboundedReceiver<Wish>,
    ) -> JoinHandle<()> {
        let work = Work {
            code,
            allow_stdin: false,
            keep,
        };
        let events = self.launch_sender.clone();
        let out = Out::Session {
            number,
            events: events.clone(),
        };
        let mut task = self.copy_task(origin, number, work, out, wishes);
        tokio::task::spawn_local(async move {
            let ended = task.run().await;
            let (taken, when_taken) = oneshot::channel();
            let over = CopyEvent::RunOver {
                number,
                ended,
                taken,
            };
            drop(events.send(LaunchEvent::Copy(over)));
            // What it left as a state is in the journal before it is ended itself.
            when_taken.await.ok();
            task.end().await;
            drop(events.send(LaunchEvent::Copy(CopyEvent::Ended { number })));
        })
    }

    fn how_to_keep(&self, exec: ExecId) -> Keep {
        Keep {
            socket: self.checkpoint_socket(exec),
            title: format!("tithon {exec}"),
            mark: self.place.dir.clone(),
            group: self.place.leaf().map(|leaf| leaf.entrance()),
        }
    }

    /// A run's copy waits: it is an execution from now on, and known to whoever takes over.
    pub(super) fn run_made(
        &mut self,
        number: u64,
        process: ProcessIdentity,
        keep: oneshot::Sender<Keep>,
        taken: oneshot::Sender<()>,
    ) {
        let beginning = &mut self.copies.beginning;
        let Some(at) = beginning.iter().position(|it| it.number == number) else {
            // Nobody waits for it any more; without an answer it ends.
            return;
        };
        let Beginning {
            client,
            run,
            through,
            base,
            widgets,
            ..
        } = beginning.remove(at);
        let exec = self.new_execution();
        let id = exec.to_string();
        let state = StateOf {
            name: run
                .name
                .map_or_else(|| id.clone(), |name| name.as_str().to_owned()),
            from: run.from,
            base,
            widgets: None,
        };
        let stored = Stored {
            name: &state.name,
            from: state.from.as_deref(),
        };
        let began = now();
        let mut queued = json!({"code": run.code, "origin": run.origin, "state": &stored});
        if let Some(who) = &run.submitted_by {
            queued["submitted_by"] = who.as_str().into();
        }
        self.change(Change::Submitted(NewExecution {
            state: Some(json::to_string(&stored)),
            ..NewExecution::of(exec, run.code, run.submitted_by)
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
        self.copies.runs.push(Run {
            exec,
            number,
            state,
            through,
            widgets,
            mirror: None,
            displays: HashSet::new(),
            began,
            reply: None,
            process,
            position: SpoolPosition::default(),
            code: None,
            given_up: None,
        });
        self.journal_runs();
        self.store_checkpoints();
        self.durably();
        let ack = Frame::ExecuteAck {
            exec_id: Some(&id),
            exec_ids: None,
        }
        .to_text();
        self.after_commit(Effect::Answer(client, Answer::Frame(ack.into())));
        keep.send(self.how_to_keep(exec)).ok();
        self.after_commit(Effect::Taken(taken));
    }

    pub(super) fn journal_runs(&mut self) {
        let value = serde_json::to_string(&self.copies.runs).unwrap_or_default();
        self.change(Change::Meta { key: RUNS, value });
    }

    /// A run's copy died.
    pub(super) fn run_died(&mut self, number: u64, error: &Value) {
        if let Some(run) = self.copies.run_mut(number) {
            let exec = run.exec;
            self.row(Some(exec), "error", error);
        }
    }

    /// Ends a run before its time; its copy's end is the end of it.
    pub(super) fn give_up_run(&mut self, number: u64, why: &'static str) {
        if let Some(run) = self.copies.run_mut(number) {
            run.given_up = Some(why);
        }
        if let Some(running) = self.copies.running.get_mut(&number) {
            running.give_up();
        }
    }

    /// The kernel is given up, and with it whatever comes of it.
    pub(in crate::session) fn give_up_runs(&mut self, why: &'static str) {
        let beginning = self.copies.beginning.iter().map(|it| it.number);
        let all: Vec<_> = beginning
            .chain(self.copies.runs.iter().map(|run| run.number))
            .collect();
        for number in all {
            self.give_up_run(number, why);
        }
    }

    /// The copies are gone.
    pub(super) fn lose_runs(&mut self, why: &str) {
        for run in std::mem::take(&mut self.copies.runs) {
            let why = run.given_up.unwrap_or(why);
            self.fail_run(run.exec, Some(&run.state), why);
        }
    }

    /// Leaves the runs to the worker that follows. Nothing may be journaled of them, nor of checkpoints,
    /// from here on.
    pub(in crate::session) fn leave_runs(&mut self) {
        for run in std::mem::take(&mut self.copies.runs) {
            if let Some(running) = self.copies.running.remove(&run.number) {
                running.task.abort();
            }
        }
    }

    /// Takes note of a run that an earlier worker did not see end.
    pub(in crate::session) fn restore_run(&mut self, execution: &StoredExecution) {
        let mut runs = self.copies.runs.iter_mut();
        match runs.find(|run| run.exec == execution.exec) {
            Some(run) => run.code = Some(execution.code.clone()),
            // It was begun in the same transaction: somebody has written to the journal.
            None => self.fail_run(execution.exec, None, "nothing is known of its copy"),
        }
    }

    /// Goes on with what an earlier worker began to run.
    pub(in crate::session) fn resume_runs(&mut self) {
        let runs = &mut self.copies.runs;
        // What is not open any more was ended in the moment in which that worker was.
        runs.retain(|run| run.code.is_some());
        let found: Vec<_> = runs
            .iter_mut()
            .filter_map(|run| {
                let found = Found {
                    process: run.process.clone(),
                    position: run.position.clone(),
                    reply: run.reply.clone(),
                };
                Some((run.number, run.exec, found, run.code.take()?))
            })
            .collect();
        for (number, exec, found, code) in found {
            tracing::info!(number, pid = found.process.pid, "goes on with a run");
            self.copies.last = self.copies.last.max(number);
            let (wishes, inbox) = mpsc::unbounded_channel();
            let keep = Some(self.how_to_keep(exec));
            let task = self.attend_run(number, Origin::Found(found), code, keep, inbox);
            let running = Running {
                client: None,
                wishes,
                task,
            };
            self.copies.running.insert(number, running);
        }
    }
}
