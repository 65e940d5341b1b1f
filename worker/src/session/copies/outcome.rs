//! What comes of a run: a state that the session keeps, or the reason why there is none.

use serde_json::{Value, json};
use tithon_ipc::{client::Frame, ids::ExecId, process::ProcessIdentity};
use tokio::{sync::oneshot, time::Instant};

use super::{
    runs::Run,
    work::{Done, Stop},
};
use crate::{
    journal::{Change, now},
    kernel::checkpoint,
    session::{
        Session,
        checkpoints::{Checkpoint, StateOf},
        reply::ExecuteReply,
        store::Effect,
    },
};

impl Session {
    /// A run is over: its state is kept, if there is one.
    pub(super) fn run_over(
        &mut self,
        number: u64,
        ended: Result<Done, Stop>,
        taken: oneshot::Sender<()>,
    ) {
        let runs = &mut self.copies.runs;
        let run = runs
            .iter()
            .position(|run| run.number == number)
            .map(|at| runs.remove(at));
        match (run, ended) {
            (Some(run), Ok(done)) => self.end_run(run, done),
            (Some(run), Err(Stop::Left)) => {
                let why = run.given_up.unwrap_or("nobody waits for it any more");
                self.fail_run(run.exec, Some(&run.state), why);
            }
            (Some(run), Err(Stop::Failed(why))) => {
                self.fail_run(run.exec, Some(&run.state), &why);
            }
            (None, Err(Stop::Failed(why))) => self.beginning_failed(number, &why),
            (None, _) => self.beginning_failed(number, "the kernel was given up"),
        }
        self.after_commit(Effect::Taken(taken));
    }

    fn beginning_failed(&mut self, number: u64, why: &str) {
        let mut failed = self
            .copies
            .beginning
            .extract_if(.., |it| it.number == number);
        if let Some(client) = failed.next().map(|failed| failed.client) {
            drop(failed);
            self.frame(client, &Frame::Error { message: why });
        }
    }

    fn end_run(&mut self, run: Run, done: Done) {
        let (exec, name, from) = (run.exec, run.state.name.clone(), run.state.from.clone());
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
        self.journal_end(exec, &done.reply, &state, from.as_deref());
    }

    fn keep_state(&mut self, mut run: Run, process: ProcessIdentity) -> Result<(), String> {
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
        run.state.widgets = run.own_widgets();
        self.checkpoints.add(Checkpoint {
            exec: run.exec.0,
            seq: run.through,
            made: now(),
            process,
            widgets: run.widgets,
            state: Some(run.state),
            memory: 0,
        });
        Ok(())
    }

    /// Ends a run of which nothing came.
    pub(super) fn fail_run(&mut self, exec: ExecId, of: Option<&StateOf>, why: &str) {
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
        let name = of.map_or_else(|| exec.to_string(), |of| of.name.clone());
        let state = json!({"name": name, "kept": false, "reason": why});
        self.journal_end(exec, &reply, &state, of.and_then(|of| of.from.as_deref()));
    }

    fn journal_end(
        &mut self,
        exec: ExecId,
        reply: &ExecuteReply,
        state: &Value,
        from: Option<&str>,
    ) {
        let ts = now();
        let stored = json!({"name": state["name"], "from": from, "kept": state["kept"]});
        self.change(Change::State {
            exec,
            state: stored.to_string(),
        });
        self.journal_runs();
        self.store_checkpoints();
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
}
