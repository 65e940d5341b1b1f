//! Which execution a kernel's message belongs to: told by the request that it answers.
//!
//! Requests of ours name the execution in their `msg_id`, so that a later worker knows it too; those
//! of other Jupyter programs are found in the journal's `executions.kernel_msg_id`.

use std::collections::{HashMap, VecDeque};

use tithon_ipc::ids::ExecId;

use super::Session;

/// Requests of other programs that are remembered; output of older ones counts as the newest cell's.
const REMEMBERED: usize = 1024;

/// The requests of other programs.
#[derive(Debug, Default)]
pub(super) struct Requests {
    execs: HashMap<String, ExecId>,
    oldest_first: VecDeque<String>,
    /// Requests that are to leave no trace: `silent` ones publish no `execute_input`.
    silent: VecDeque<String>,
    /// The execution that started last.
    last_started: Option<ExecId>,
}

impl Requests {
    pub(super) fn restore(&mut self, execs: Vec<(String, ExecId)>, last_started: Option<ExecId>) {
        for (msg_id, exec) in execs {
            self.remember(&msg_id, exec);
        }
        self.last_started = last_started;
    }

    /// Another program's request became an execution.
    pub(super) fn remember(&mut self, msg_id: &str, exec: ExecId) {
        self.silent.retain(|silent| silent != msg_id);
        self.oldest_first.push_back(msg_id.to_owned());
        self.execs.insert(msg_id.to_owned(), exec);
        if self.oldest_first.len() > REMEMBERED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.execs.remove(&oldest);
        }
    }

    /// Another program's request began, and may yet say what code it runs.
    pub(super) fn began(&mut self, msg_id: &str) {
        if self.silent.len() >= REMEMBERED {
            self.silent.pop_front();
        }
        self.silent.push_back(msg_id.to_owned());
    }

    pub(super) fn started(&mut self, exec: ExecId) {
        self.last_started = Some(exec);
    }
}

impl Session {
    /// The `msg_id` of an execution's request.
    pub(super) fn execute_msg_id(&self, exec: ExecId) -> String {
        format!("tithon-{}_{exec}", self.place.key)
    }

    /// The `msg_id` of a comm message whose handlers' output is shown under an execution.
    pub(super) fn comm_msg_id(&mut self, exec: Option<ExecId>) -> String {
        let number = self.comms.next_number();
        let (key, pid) = (&self.place.key, std::process::id());
        match exec {
            Some(exec) => format!("tithon-{key}_{exec}.comm_{pid}_{number}"),
            None => format!("tithon-{key}_comm_{pid}_{number}"),
        }
    }

    /// The execution whose `execute_request` this is.
    pub(super) fn execution_of(&self, msg_id: &str) -> Option<ExecId> {
        match self.own_request(msg_id) {
            Some(rest) => self.known(ExecId::parse(rest)?),
            None => self.requests.execs.get(msg_id).copied(),
        }
    }

    /// Where output of a request is shown. What is no execution's own, such as a widget handler's or a
    /// thread's whose cell is not known, is shown where the user looks: under the cell that runs or ran
    /// last.
    pub(super) fn shown_for(&self, msg_id: &str, msg_type: &str) -> Option<ExecId> {
        if let Some(exec) = self.execution_of(msg_id) {
            return Some(exec);
        }
        let of_comm = self
            .own_request(msg_id)
            .and_then(|rest| self.known(ExecId::parse(rest.split_once(".comm_")?.0)?));
        let no_trace = msg_type == "execute_request"
            || self.requests.silent.iter().any(|silent| silent == msg_id);
        of_comm.or_else(|| self.current_execution().filter(|_| !no_trace))
    }

    /// The execution that runs, else the one that ran last.
    pub(super) fn current_execution(&self) -> Option<ExecId> {
        let foreign = || self.foreign.last().map(|foreign| foreign.exec);
        self.running
            .as_ref()
            .map(|running| running.exec)
            .or_else(foreign)
            .or(self.requests.last_started)
    }

    /// What follows the session's key; of a session that branched off another also that one's, whose
    /// executions it has: nobody else asks its kernel with such an id.
    fn own_request<'a>(&self, msg_id: &'a str) -> Option<&'a str> {
        let (key, rest) = msg_id.strip_prefix("tithon-")?.split_once('_')?;
        (key.len() == self.place.key.as_str().len()).then_some(rest)
    }

    fn known(&self, exec: ExecId) -> Option<ExecId> {
        Some(exec).filter(|exec| exec.0 <= self.last_exec)
    }
}
