//! Questions about states, answered by copies that are thrown away: a `__repr__` changes nothing.

use std::{os::fd::AsFd as _, rc::Rc, time::Duration};

use hyper::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    graph::{Admitted, Graph, State, Unsafe},
    process::{Copy, Process, receive},
    refusal::Refusal,
};

/// How long an answer may take; hashing some gigabytes needs a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks a state something.
pub(crate) async fn ask<A: DeserializeOwned>(
    graph: &Rc<Graph>,
    admitted: &Admitted,
    state: &State,
    question: &impl Serialize,
) -> Result<A, Refusal> {
    let lost = |err: &dyn std::fmt::Display| {
        Refusal::conflict(format!("State '{}' does not answer: {err}.", state.name))
    };
    let asked = async {
        if state.fork_unsafe().is_some() {
            let told = state.process.ask_itself(question).await;
            return told.map_err(|err| lost(&err));
        }
        let copy = state.process.fork(&graph.forgetting).await;
        let mut copy = copy.map_err(|err| lost(&err))?;
        *admitted.running.life.borrow_mut() = Some(copy.life.clone());
        let told = told(&mut copy, question).await;
        admitted.running.life.borrow_mut().take();
        told.map_err(|err| lost(&err))
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        let words = format!(
            "State '{}' did not answer within {} s.",
            state.name,
            PATIENCE.as_secs()
        );
        Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, words))
    })
}

async fn told<A: DeserializeOwned>(
    copy: &mut Copy,
    question: &impl Serialize,
) -> std::io::Result<A> {
    copy.perform(question).await?;
    let answer = tokio::select! {
        answer = receive(&mut copy.channel) => answer?,
        () = swallow(&copy.stdout) => return Err(std::io::ErrorKind::BrokenPipe.into()),
        () = swallow(&copy.stderr) => return Err(std::io::ErrorKind::BrokenPipe.into()),
    };
    Ok(serde_json::from_slice(&answer)?)
}

/// Reads what a `__repr__` prints, for ever.
async fn swallow(pipe: &tokio::net::unix::pipe::Receiver) {
    let mut buffer = [0; 4096];
    while pipe.readable().await.is_ok() {
        if matches!(pipe.try_read(&mut buffer), Ok(0)) {
            // Closed; that is not the answer's end.
            std::future::pending::<()>().await;
        }
    }
}

/// What a state is to be put together from.
#[derive(Debug)]
pub(crate) struct Rebuild {
    pub(crate) input: Rc<State>,
    pub(crate) source: Rc<State>,
    pub(crate) input_vars: Vec<String>,
    pub(crate) source_vars: Vec<String>,
    pub(crate) name: String,
}

/// Puts a state together from two. One side is forked, so keeps whatever it is; the other's values are carried over.
pub(crate) async fn rebuild(
    graph: &Rc<Graph>,
    admitted: &Admitted,
    rebuild: &Rebuild,
) -> Result<(), Refusal> {
    for state in [&rebuild.input, &rebuild.source] {
        if let Some(Unsafe { why, .. }) = &state.unsafe_since {
            return Err(Refusal::conflict(format!(
                "State '{}' cannot be forked: {why}.",
                state.name
            )));
        }
    }
    let Rebuild {
        input,
        source,
        input_vars,
        source_vars,
        ..
    } = rebuild;
    let generation = graph.generation.get();
    let first = assemble(
        graph,
        admitted,
        (input, input_vars),
        (source, source_vars),
        true,
    )
    .await;
    // What cannot be carried one way may not have to be, the other way round.
    let copy = match first {
        Ok(made) => made,
        Err(first) => assemble(
            graph,
            admitted,
            (source, source_vars),
            (input, input_vars),
            false,
        )
        .await
        .map_err(|second| {
            Refusal::conflict(format!(
                "The state cannot be put together: {first}; {second}."
            ))
        })?,
    };
    if generation != graph.generation.get() {
        return Err(Refusal::conflict("All states were reset meanwhile."));
    }
    let process = Process::of(copy).map_err(|err| Refusal::broken(err.to_string()))?;
    graph.store(&rebuild.name, process, input.cells.max(source.cells), None);
    Ok(())
}

/// Forks one side and gives the copy what it takes from the other.
async fn assemble(
    graph: &Rc<Graph>,
    admitted: &Admitted,
    (kept, keep): (&State, &[String]),
    (taken, take): (&State, &[String]),
    taken_first: bool,
) -> Result<Copy, String> {
    let made = async {
        let failed = |name: &str, err: &dyn std::fmt::Display| format!("state '{name}': {err}");
        let serving = taken.process.fork(&graph.forgetting).await;
        let mut serving = serving.map_err(|err| failed(&taken.name, &err))?;
        let copy = kept.process.fork(&graph.forgetting).await;
        let mut copy = copy.map_err(|err| failed(&kept.name, &err))?;
        *admitted.running.life.borrow_mut() = Some(copy.life.clone());
        let answer = async {
            serving.perform(&json!({"serve": true})).await?;
            let order = json!({"keep": keep, "take": take, "taken_first": taken_first});
            copy.perform(&json!({"rebuild": order})).await?;
            let Copy {
                channel,
                life: _serving,
                ..
            } = serving;
            copy.give(channel.into_stream().into_std()?.as_fd()).await?;
            receive(&mut copy.channel).await
        };
        let answer = answer.await;
        admitted.running.life.borrow_mut().take();
        let answer = answer.map_err(|err| failed(&kept.name, &err))?;
        match serde_json::from_slice(&answer).map_err(|err| failed(&kept.name, &err))? {
            Rebuilt {
                refused: Some(why), ..
            } => Err(failed(&taken.name, &why)),
            // There is no code by which it could be made again.
            Rebuilt {
                fork_unsafe: Some(why),
                ..
            } => Err(failed(&kept.name, &why)),
            Rebuilt { .. } => Ok(copy),
        }
    };
    timeout(PATIENCE, made)
        .await
        .unwrap_or_else(|_| Err(format!("it took more than {} s", PATIENCE.as_secs())))
}

#[derive(Deserialize)]
struct Rebuilt {
    refused: Option<String>,
    fork_unsafe: Option<String>,
}
