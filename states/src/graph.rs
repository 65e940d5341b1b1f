//! Which states there are, what runs, and the bounds of both.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use hyper::StatusCode;

use crate::{
    keeper::Forgetting,
    memory,
    process::{Life, Process},
    refusal::Refusal,
    serve::Limits,
};

/// The name of the state in which nothing has run.
pub(crate) const INITIAL: &str = "initial";

/// A state: a process that never changes, and what is known of it.
#[derive(Debug)]
pub(crate) struct State {
    /// The name that it was made under.
    pub(crate) name: String,
    /// When it was made, as the API shows it.
    pub(crate) timestamp: String,
    pub(crate) process: Rc<Process>,
    /// How many cells ran on the way to it.
    pub(crate) cells: u64,
    /// Why it cannot be forked, and the way to it from a state that can.
    pub(crate) unsafe_since: Option<Unsafe>,
    /// Its place in the order in which states were first named.
    place: u64,
}

/// The way to a state that cannot be forked.
#[derive(Clone, Debug)]
pub(crate) struct Unsafe {
    pub(crate) why: String,
    /// The nearest state before it that can; its process lives as long as somebody may start from it again.
    pub(crate) from: Rc<State>,
    /// What ran since.
    pub(crate) codes: Vec<String>,
}

impl State {
    /// Why it cannot be forked.
    pub(crate) fn fork_unsafe(&self) -> Option<&str> {
        self.unsafe_since.as_ref().map(|it| it.why.as_str())
    }
}

/// Who ended an execution before its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// `/interrupt` or `/reset`.
    Interrupt,
    /// The bound of memory.
    Memory,
}

/// Something that runs in a copy.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) exec_id: Option<String>,
    /// Once it is forked.
    pub(crate) life: RefCell<Option<Rc<Life>>>,
    pub(crate) ended_by: Cell<Option<EndedBy>>,
}

impl Running {
    /// Ends it at once.
    pub(crate) fn kill(&self, by: EndedBy) {
        // Whoever was first is who ended it.
        if self.ended_by.get().is_none() {
            self.ended_by.set(Some(by));
        }
        if let Some(life) = &*self.life.borrow() {
            life.kill();
        }
    }
}

/// All states and executions.
#[derive(Debug)]
pub(crate) struct Graph {
    states: RefCell<HashMap<String, Rc<State>>>,
    running: RefCell<HashMap<u64, Rc<Running>>>,
    next: Cell<u64>,
    /// Counts resets: what began before one leaves no state after it.
    pub(crate) generation: Cell<u64>,
    /// Whether states have come or gone since they were weighed.
    pub(crate) changed: Cell<bool>,
    /// What all states hold, when last weighed; in bytes.
    pub(crate) memory: Cell<u64>,
    pub(crate) root: Rc<Process>,
    keeper: Option<i32>,
    pub(crate) forgetting: Forgetting,
    pub(crate) limits: Limits,
}

impl Graph {
    pub(crate) fn new(
        root: Rc<Process>,
        keeper: Option<i32>,
        forgetting: Forgetting,
        limits: Limits,
    ) -> Self {
        Self {
            states: RefCell::default(),
            running: RefCell::default(),
            next: Cell::new(0),
            generation: Cell::new(0),
            changed: Cell::new(true),
            memory: Cell::new(0),
            root,
            keeper,
            forgetting,
            limits,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Rc<State>> {
        self.states.borrow().get(name).cloned()
    }

    /// All names, the oldest first; one that was used again keeps its place.
    pub(crate) fn names(&self) -> Vec<String> {
        let states = self.states.borrow();
        let mut names: Vec<_> = states
            .iter()
            .map(|(name, state)| (state.place, name.clone()))
            .collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// Stores a state under a name, in place of another of that name.
    pub(crate) fn store(
        &self,
        name: &str,
        process: Process,
        cells: u64,
        unsafe_since: Option<Unsafe>,
    ) {
        let mut states = self.states.borrow_mut();
        let place = states
            .get(name)
            .map_or_else(|| self.number(), |before| before.place);
        let now = jiff::Timestamp::now();
        let state = State {
            name: name.to_owned(),
            timestamp: now.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string(),
            process: Rc::new(process),
            cells,
            unsafe_since,
            place,
        };
        states.insert(name.to_owned(), Rc::new(state));
        self.changed.set(true);
    }

    pub(crate) fn remove(&self, name: &str) -> bool {
        self.changed.set(true);
        self.states.borrow_mut().remove(name).is_some()
    }

    /// Forgets all states and ends all that runs.
    pub(crate) fn clear(&self) {
        self.generation.set(self.generation.get() + 1);
        self.changed.set(true);
        self.states.borrow_mut().clear();
        for running in self.running.borrow().values() {
            running.kill(EndedBy::Interrupt);
        }
    }

    /// Lets something run until the answer is dropped, if there is room for it.
    pub(crate) fn admit(self: &Rc<Self>, exec_id: Option<String>) -> Result<Admitted, Refusal> {
        let most = self.limits.executions;
        if self.running.borrow().len() >= most {
            let words = format!("{most} executions and questions run already; try again later.");
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, words));
        }
        let number = self.number();
        let running = Rc::new(Running {
            exec_id,
            life: RefCell::default(),
            ended_by: Cell::new(None),
        });
        self.running.borrow_mut().insert(number, running.clone());
        Ok(Admitted {
            graph: self.clone(),
            number,
            running,
        })
    }

    /// Refuses a state more than there may be, or more memory.
    pub(crate) async fn require_room(&self, name: Option<&str>) -> Result<(), Refusal> {
        let (count, most) = (self.states.borrow().len(), self.limits.states);
        let replaces = name.is_some_and(|name| self.states.borrow().contains_key(name));
        // Each execution may leave one, and this one is among them.
        if !replaces && count + self.running.borrow().len() > most {
            return Err(Refusal::conflict(format!(
                "There are {count} states, of {most} that may be; delete some, or use a name again."
            )));
        }
        if self.memory.get() > self.limits.memory {
            // Something may have been deleted since.
            memory::bound(self).await;
        }
        if self.memory.get() > self.limits.memory {
            return Err(Refusal::conflict(format!(
                "The states hold {} MiB of memory, of {} that they may; delete some.",
                self.memory.get() >> 20,
                self.limits.memory >> 20
            )));
        }
        Ok(())
    }

    /// What runs under an id that a client gave.
    pub(crate) fn running_as(&self, exec_id: &str) -> Vec<Rc<Running>> {
        let running = self.running.borrow();
        let named = |it: &&Rc<Running>| it.exec_id.as_deref() == Some(exec_id);
        running.values().filter(named).cloned().collect()
    }

    /// All that runs.
    pub(crate) fn all_running(&self) -> Vec<Rc<Running>> {
        self.running.borrow().values().cloned().collect()
    }

    /// Whether anything runs.
    pub(crate) fn is_busy(&self) -> bool {
        !self.running.borrow().is_empty()
    }

    /// The processes of all states, and the one that they descend from.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let states = self.states.borrow();
        let pids = states.values().filter_map(|it| it.process.pid());
        pids.chain(self.keeper).collect()
    }

    fn number(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
}

/// A place among what runs.
#[derive(Debug)]
pub(crate) struct Admitted {
    graph: Rc<Graph>,
    number: u64,
    pub(crate) running: Rc<Running>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.graph.running.borrow_mut().remove(&self.number);
    }
}
