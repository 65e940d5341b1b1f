//! Runs code in a copy of a state; what came of it, and the state that the copy has become.

use std::{os::fd::AsFd as _, pin::pin, rc::Rc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tithon_worker::kernel::process::describe;
use tokio::{net::unix::pipe, time::timeout};

use crate::{
    graph::{Admitted, EndedBy, Graph, State, Unsafe},
    process::{Copy, ForkError, Life, Process, receive},
};

/// How long an interrupted execution may go on before it is killed; the state it started from is another process.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(1);
/// How long the answer of a process that has ended may still be under way.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Most that is kept of one stream, in bytes.
const STREAM_MAX: usize = 10_000_000;
/// Most cells, and bytes of code, that are kept for being run again.
const REPLAY_CELLS_MAX: usize = 1000;
const REPLAY_BYTES_MAX: usize = 16 << 20;

/// An answer to `/execute` and `/multistate_execute`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Answer {
    pub(crate) output: Vec<Box<RawValue>>,
    pub(crate) state_name: Option<String>,
    pub(crate) error: Option<Box<RawValue>>,
    pub(crate) accessed_symbols: Vec<String>,
    pub(crate) modified_symbols: Vec<String>,
    pub(crate) deleted_symbols: Vec<String>,
    /// Why the new state cannot be forked; or, with an error, the one that was to be run in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fork_unsafe: Option<String>,
    /// How many cells were run again before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replayed: Option<usize>,
}

impl Answer {
    /// Nothing but an error.
    pub(crate) fn failed(ename: &str, evalue: &str) -> Self {
        Self {
            error: error(ename, evalue),
            ..Self::default()
        }
    }

    pub(crate) fn no_state(name: &str) -> Self {
        let mut answer = Self::failed("StateNotFound", name);
        answer.error = raw(&json!({"ename": "StateNotFound", "evalue": name, "traceback": []}));
        answer
    }

    fn refused(state: &State, unsafe_since: &Unsafe) -> Self {
        let Unsafe { why, from, codes } = unsafe_since;
        let words = format!(
            "state '{}' cannot be forked: {why}\nhint: \"replay\": true runs its {} cells again, and then this one, from state '{}'",
            state.name,
            codes.len(),
            from.name
        );
        Self {
            fork_unsafe: Some(why.clone()),
            ..Self::failed("ForkUnsafe", &words)
        }
    }
}

fn raw(value: &impl Serialize) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}

fn error(ename: &str, evalue: &str) -> Option<Box<RawValue>> {
    let traceback = [format!("{ename}: {evalue}")];
    raw(&json!({"ename": ename, "evalue": evalue, "traceback": traceback}))
}

/// What is to run, and where.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) code: String,
    pub(crate) replay: bool,
    /// The name of the new state.
    pub(crate) name: String,
}

/// Runs code in a state and stores the state that it makes.
pub(crate) async fn execute(
    graph: &Rc<Graph>,
    admitted: Admitted,
    state: Rc<State>,
    cell: Cell,
) -> Answer {
    let generation = graph.generation.get();
    let (from, codes) = match &state.unsafe_since {
        None => (state.clone(), vec![cell.code]),
        Some(unsafe_since) if !cell.replay => return Answer::refused(&state, unsafe_since),
        Some(unsafe_since) => {
            let mut codes = unsafe_since.codes.clone();
            codes.push(cell.code);
            (unsafe_since.from.clone(), codes)
        }
    };
    let size: usize = codes.iter().map(String::len).sum();
    if codes.len() > REPLAY_CELLS_MAX
        || size > REPLAY_BYTES_MAX.max(codes.last().map_or(0, String::len))
    {
        let words = format!(
            "more than {REPLAY_CELLS_MAX} cells or {REPLAY_BYTES_MAX} bytes of code would have to run again"
        );
        return Answer::failed("ForkUnsafe", &words);
    }
    let copy = match from.process.fork(&graph.forgetting).await {
        Ok(copy) => copy,
        Err(err) => return not_forked(&from.name, &err),
    };
    let order = Order {
        run: &codes,
        number: from.cells,
        aliases: &[],
    };
    let replayed = (codes.len() > 1).then(|| codes.len() - 1);
    let (mut answer, copy) = run(copy, &admitted, &order, Vec::new()).await;
    answer.replayed = replayed;
    let Some(copy) = copy else { return answer };
    if generation != graph.generation.get() {
        return interrupted(answer);
    }
    let cells = from.cells + codes.len() as u64;
    let unsafe_since = answer
        .fork_unsafe
        .clone()
        .map(|why| Unsafe { why, from, codes });
    match Process::of(copy) {
        Ok(process) => graph.store(&cell.name, process, cells, unsafe_since),
        Err(err) => return Answer::failed("StateLost", &err.to_string()),
    }
    answer.state_name = Some(cell.name);
    answer
}

/// Runs code that reads from several states; no state comes of it.
pub(crate) async fn execute_over(
    graph: &Rc<Graph>,
    admitted: Admitted,
    default: Option<Rc<State>>,
    states: Vec<(String, Rc<State>)>,
    code: String,
) -> Answer {
    for state in default.iter().chain(states.iter().map(|(_, state)| state)) {
        if let Some(unsafe_since) = &state.unsafe_since {
            return Answer::refused(state, unsafe_since);
        }
    }
    let mut serving = Vec::new();
    for (_, state) in &states {
        let forked = async {
            let mut copy = state.process.fork(&graph.forgetting).await?;
            copy.perform(&json!({"serve": true})).await?;
            Ok(copy)
        };
        match forked.await {
            Ok(copy) => serving.push(copy),
            Err(err) => return not_forked(&state.name, &err),
        }
    }
    let (process, name, cells) = match &default {
        Some(state) => (&state.process, state.name.as_str(), state.cells),
        None => (&graph.root, "(none)", 0),
    };
    let copy = match process.fork(&graph.forgetting).await {
        Ok(copy) => copy,
        Err(err) => return not_forked(name, &err),
    };
    let aliases: Vec<_> = states.into_iter().map(|(alias, _)| alias).collect();
    let order = Order {
        run: &[code],
        number: cells,
        aliases: &aliases,
    };
    run(copy, &admitted, &order, serving).await.0
}

/// Makes the state in which nothing has run.
pub(crate) async fn make_initial(graph: &Rc<Graph>, name: &str) -> Result<(), String> {
    let failed = |err: &dyn std::fmt::Display| format!("the state '{name}' cannot be made: {err}");
    let mut copy = graph
        .root
        .fork(&graph.forgetting)
        .await
        .map_err(|err| failed(&err))?;
    let order = Order {
        run: &[],
        number: 0,
        aliases: &[],
    };
    copy.perform(&order).await.map_err(|err| failed(&err))?;
    receive(&mut copy.channel)
        .await
        .map_err(|err| failed(&err))?;
    let process = Process::of(copy).map_err(|err| failed(&err))?;
    graph.store(name, process, 0, None);
    Ok(())
}

/// Interrupts what runs under an id: asked first, killed afterwards. Whether there was anything.
pub(crate) fn interrupt(graph: &Graph, exec_id: &str) -> bool {
    let running = graph.running_as(exec_id);
    for running in &running {
        running.ended_by.set(Some(EndedBy::Interrupt));
        let life = running.life.borrow().clone();
        if let Some(life) = life {
            life.interrupt();
            tokio::task::spawn_local(kill_later(Rc::downgrade(&life), running.clone()));
        }
    }
    !running.is_empty()
}

async fn kill_later(life: std::rc::Weak<Life>, running: Rc<crate::graph::Running>) {
    tokio::time::sleep(INTERRUPT_PATIENCE).await;
    // Once its code is done it is a state, and its life is no longer there.
    if running.life.borrow().is_some()
        && let Some(life) = life.upgrade()
    {
        life.kill();
    }
}

#[derive(Serialize)]
struct Order<'a> {
    run: &'a [String],
    number: u64,
    aliases: &'a [String],
}

/// What a copy says of the code that ran in it.
#[derive(Deserialize)]
struct Told {
    outputs: Vec<Box<RawValue>>,
    error: Option<Box<RawValue>>,
    accessed_symbols: Vec<String>,
    modified_symbols: Vec<String>,
    deleted_symbols: Vec<String>,
    fork_unsafe: Option<String>,
}

/// Runs an order in a copy; the copy, if it is a state now. `serving` are the states that it reads from.
async fn run(
    mut copy: Copy,
    admitted: &Admitted,
    order: &Order<'_>,
    serving: Vec<Copy>,
) -> (Answer, Option<Copy>) {
    let running = &admitted.running;
    *running.life.borrow_mut() = Some(copy.life.clone());
    if running.ended_by.get().is_some() {
        return (interrupted(Answer::default()), None);
    }
    let mut streams = [Captured::default(), Captured::default()];
    let mut lives = Vec::new();
    let begun = async {
        copy.perform(order).await?;
        for Copy { channel, life, .. } in serving {
            copy.give(channel.into_stream().into_std()?.as_fd()).await?;
            lives.push(life);
        }
        std::io::Result::Ok(())
    };
    // What it does not read it does not want; that it has ended shows below.
    begun.await.ok();
    let told = follow(&mut copy, &mut streams).await;
    running.life.borrow_mut().take();
    let mut answer = match told {
        Some(told) => Answer {
            output: told.outputs,
            error: told.error,
            accessed_symbols: told.accessed_symbols,
            modified_symbols: told.modified_symbols,
            deleted_symbols: told.deleted_symbols,
            fork_unsafe: told.fork_unsafe,
            ..Answer::default()
        },
        None => died(&copy, running.ended_by.get()),
    };
    let names = ["stdout", "stderr"];
    let shown = names.iter().zip(streams).filter_map(|(name, stream)| {
        let text = stream.text()?;
        raw(&json!({"output_type": "stream", "name": name, "text": text}))
    });
    answer.output.splice(0..0, shown.collect::<Vec<_>>());
    let is_state = answer.error.is_none() && order.aliases.is_empty();
    (answer, is_state.then_some(copy))
}

/// Reads all that a copy says until its answer; none if it ended without one.
async fn follow(copy: &mut Copy, streams: &mut [Captured; 2]) -> Option<Told> {
    let Copy {
        channel,
        stdout,
        stderr,
        life,
    } = copy;
    let [out, err] = streams;
    let mut answer = pin!(receive(channel));
    let frame = loop {
        tokio::select! {
            frame = &mut answer => break frame.ok(),
            () = out.read(stdout), if !out.ended => {}
            () = err.read(stderr), if !err.ended => {}
            () = life.ended() => break timeout(LAST_WORDS, &mut answer).await.ok().and_then(Result::ok),
        }
    };
    if frame.is_none() {
        // Its socket closes a moment before it has ended.
        timeout(LAST_WORDS, life.ended()).await.ok();
    }
    // What it wrote before it answered is here; what others write afterwards is not the cell's.
    out.drain(stdout);
    err.drain(stderr);
    let told = frame.map(|frame| serde_json::from_slice(&frame));
    match told? {
        Ok(told) => Some(told),
        Err(err) => {
            tracing::warn!(%err, "a state's answer cannot be understood");
            None
        }
    }
}

/// What to say of a process that ended before its code did.
fn died(copy: &Copy, ended_by: Option<EndedBy>) -> Answer {
    match ended_by {
        Some(EndedBy::Interrupt) => interrupted(Answer::default()),
        Some(EndedBy::Memory) => Answer::failed(
            "MemoryError",
            "the states together would hold more memory than they may; the state it started from is unchanged",
        ),
        None => {
            let how = copy.life.exit_status().map(describe);
            let how = how.unwrap_or_else(|| "ended".to_owned());
            let words = format!(
                "the process ended during execution: {how}; the state it started from is unchanged"
            );
            Answer::failed("StateDied", &words)
        }
    }
}

fn interrupted(answer: Answer) -> Answer {
    Answer {
        state_name: None,
        error: raw(&json!({
            "ename": "KeyboardInterrupt", "evalue": "", "traceback": ["KeyboardInterrupt"],
        })),
        ..answer
    }
}

fn not_forked(name: &str, err: &ForkError) -> Answer {
    let ename = match err {
        ForkError::Gone => "StateLost",
        _ => "ForkUnsafe",
    };
    Answer::failed(ename, &format!("state '{name}': {err}"))
}

/// What is kept of a stream.
#[derive(Default)]
struct Captured {
    kept: Vec<u8>,
    cut: bool,
    ended: bool,
}

impl Captured {
    /// Waits for more and takes it.
    async fn read(&mut self, pipe: &pipe::Receiver) {
        match pipe.readable().await {
            Ok(()) => self.take(pipe),
            Err(_) => self.ended = true,
        }
    }

    /// Takes a part of what is there, so that nobody who only prints is all that is looked at.
    fn take(&mut self, pipe: &pipe::Receiver) {
        let mut buffer = [0; 65536];
        match pipe.try_read(&mut buffer) {
            Ok(length) => self.keep(&buffer[..length]),
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.ended = true,
        }
    }

    /// Takes what is there, at most what a pipe holds at a time. Reads the pipe itself: the event loop may not
    /// have heard yet of what was written just before the answer, and would say that nothing is there.
    fn drain(&mut self, pipe: &pipe::Receiver) {
        let mut buffer = [0; 65536];
        for _ in 0..32 {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(length) if length > 0 => self.keep(&buffer[..length]),
                _ => break,
            }
        }
    }

    /// Keeps what was read, as much as there is room for; nothing is the end.
    fn keep(&mut self, read: &[u8]) {
        let room = STREAM_MAX - self.kept.len();
        self.kept.extend_from_slice(&read[..read.len().min(room)]);
        self.cut |= read.len() > room;
        self.ended |= read.is_empty();
    }

    fn text(self) -> Option<String> {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.cut {
            text.push_str("\n... [truncated]");
        }
        (!text.is_empty()).then_some(text)
    }
}
