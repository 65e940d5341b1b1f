//! What clients ask of the session's states: which there are, what is in them, and to give them up.

use serde_json::{Value, json};
use tithon_ipc::{
    client::{Frame, StateOp, StateRun},
    ids::ExecId,
};

use super::{Purpose, Wish, runs::Run};
use crate::{
    client::{Answer, ClientId},
    kernel::checkpoint,
    session::{Session, checkpoints::Checkpoint, store::Effect},
};

/// Most states of a session, those included that are being made.
const STATES_MAX: usize = 100;
/// Most variables that are shown of one.
const VARIABLES_MAX: u32 = 1000;

impl Session {
    pub(in crate::session) fn state_op(&mut self, client: ClientId, op: StateOp) {
        match op {
            StateOp::List => self.list_states(client),
            StateOp::Run(run) => self.want_copy(client, Purpose::Run(Box::new(run))),
            StateOp::Show { name } => self.show_state(client, &name),
            StateOp::Remove { names } => self.remove_states(client, &names),
            StateOp::Interrupt { exec_id } => {
                let ok = self.interrupt_run(&exec_id);
                self.frame(client, &Frame::Interrupted { ok });
            }
        }
    }

    fn list_states(&mut self, client: ClientId) {
        self.forget_ended_checkpoints();
        let states: Vec<_> = self.checkpoints.states().map(described).collect();
        let running: Vec<_> = self
            .copies
            .runs
            .iter()
            .map(|run| {
                json!({
                    "name": run.state.name,
                    "exec_id": run.exec.to_string(),
                    "from": run.state.from,
                    "ts": run.began,
                })
            })
            .collect();
        let (memory_bytes, memory_max) = self.checkpoints.memory();
        let frame = Frame::States {
            memory_bytes,
            memory_max,
            states: &states,
            running: &running,
        };
        let text = frame.to_text();
        self.answer(client, Answer::Frame(text.into()));
    }

    /// Answers once a copy has said what its variables are.
    fn show_state(&mut self, client: ClientId, name: &str) {
        let found = match self.choose_checkpoint(Some(name)) {
            Ok(exec) => self
                .checkpoints
                .get(exec)
                .map(|known| (self.checkpoint_socket(exec), known.clone())),
            Err(message) => return self.frame(client, &Frame::Error { message: &message }),
        };
        let (Some((socket, known)), Some(link)) = (found, self.clients.get(&client).cloned())
        else {
            return;
        };
        let name = name.to_owned();
        tokio::task::spawn_local(async move {
            let told = checkpoint::variables(&socket, &known.process, VARIABLES_MAX).await;
            let text = match told {
                Ok(told) => Frame::State {
                    state: &described(&known),
                    variables: &told.variables.into(),
                    left_out: told.left_out,
                }
                .to_text(),
                Err(err) => Frame::Error {
                    message: &format!("the variables of '{name}' cannot be told: {err}"),
                }
                .to_text(),
            };
            // Nobody may be there any more.
            link.answers.send(Answer::Frame(text.into())).await.ok();
        });
    }

    fn remove_states(&mut self, client: ClientId, names: &[String]) {
        enum Found {
            State(ExecId),
            Run(u64),
        }
        let find = |name: &String| {
            let exec = ExecId::parse(name);
            let is_state = |known: &&Checkpoint| {
                let state = known.state.as_ref();
                exec == Some(ExecId(known.exec)) || state.is_some_and(|state| state.name == *name)
            };
            let states = self.checkpoints.states().filter(is_state);
            let is_run = |run: &&Run| exec == Some(run.exec) || run.state.name == *name;
            let runs = self.copies.runs.iter().filter(is_run);
            let states = states.map(|known| Found::State(ExecId(known.exec)));
            let found: Vec<_> = states
                .chain(runs.map(|run| Found::Run(run.number)))
                .collect();
            if found.is_empty() {
                return Err(format!(
                    "there is no state '{name}', and nothing was given up\nhint: `tithon states ls` lists those there are"
                ));
            }
            Ok(found)
        };
        let found: Result<Vec<_>, String> = names.iter().map(find).collect();
        let found = match found {
            Ok(found) => found,
            Err(message) => return self.frame(client, &Frame::Error { message: &message }),
        };
        for found in found.into_iter().flatten() {
            match found {
                Found::State(exec) => drop(self.give_up(exec)),
                Found::Run(number) => {
                    self.give_up_run(number, "it was given up before it had ended");
                }
            }
        }
        self.store_checkpoints();
        let frame = Frame::StatesRemoved { names }.to_text();
        self.after_commit(Effect::Answer(client, Answer::Frame(frame.into())));
    }

    fn interrupt_run(&mut self, exec_id: &str) -> bool {
        let run = ExecId::parse(exec_id)
            .and_then(|exec| self.copies.runs.iter().find(|run| run.exec == exec));
        run.and_then(|run| self.copies.running.get(&run.number))
            .is_some_and(|running| running.wishes.send(Wish::Interrupt).is_ok())
    }

    /// Whether one more state may be made, and its run be written down.
    pub(super) fn check_room_for_states(&self, run: &StateRun) -> Result<(), String> {
        if let Some(reason) = &self.stalled {
            return Err(format!(
                "nothing was run: the journal cannot be written ({reason})"
            ));
        }
        let some = "`tithon states rm` gives some up";
        let replaced = run.name.as_ref();
        if replaced.is_some_and(|name| self.checkpoints.named(name.as_str()).is_some()) {
            return Ok(());
        }
        let made = self.copies.beginning.len() + self.copies.runs.len();
        if self.checkpoints.states().count() + made >= STATES_MAX {
            return Err(format!(
                "the session has {STATES_MAX} states, which is as many as there may be\nhint: {some}"
            ));
        }
        let (held, most) = self.checkpoints.memory();
        // Checkpoints make way by themselves.
        if held > most && self.checkpoints.states().next().is_some() {
            return Err(format!(
                "the session's states hold {} MiB of memory, and may hold {}\nhint: {some}; TITHON_CHECKPOINT_MEMORY is the limit, in per cent of the machine's",
                held >> 20,
                most >> 20
            ));
        }
        Ok(())
    }
}

fn described(known: &Checkpoint) -> Value {
    let exec_id = ExecId(known.exec).to_string();
    let (name, from) = match &known.state {
        Some(state) => (state.name.as_str(), state.from.as_deref()),
        None => (exec_id.as_str(), None),
    };
    json!({
        "name": name,
        "exec_id": exec_id,
        "from": from,
        "ts": known.made,
        "pid": known.process.pid,
        // Not weighed yet: none has less than a page.
        "private_bytes": (known.memory > 0).then_some(known.memory),
    })
}
