//! What each request of the API means. docs/states-api.md is its description, for people.

use std::rc::Rc;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use uuid::Uuid;

use crate::{
    body::Body,
    graph::{Graph, INITIAL, State},
    questions::{Rebuild, ask, rebuild},
    refusal::Refusal,
    run::{Answer, Cell, execute, execute_over, interrupt, make_initial},
};

/// The description of the API, for programs.
const OPENAPI: &str = include_str!("../../docs/states-api.openapi.json");

/// What a path and method ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    OpenApi,
    Execute,
    MultistateExecute,
    States,
    State(String),
    Delete(String),
    Reset,
    Interrupt,
    SymbolHashes,
    AliasGroups,
    RebuildState,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoOperation {
    NotFound,
    /// The methods that there are.
    NotAllowed(&'static str),
}

impl Operation {
    /// The operation that a request names. Path parts are decoded each for itself, so a name may have slashes.
    pub(crate) fn of(method: &Method, path: &str) -> Result<Self, NoOperation> {
        let post = |operation| match method {
            &Method::POST => Ok(operation),
            _ => Err(NoOperation::NotAllowed("POST")),
        };
        let get = |operation| match method {
            &Method::GET | &Method::HEAD => Ok(operation),
            _ => Err(NoOperation::NotAllowed("GET, HEAD")),
        };
        match path {
            "/openapi.json" => get(Self::OpenApi),
            "/states" => get(Self::States),
            "/execute" => post(Self::Execute),
            "/multistate_execute" => post(Self::MultistateExecute),
            "/reset" => post(Self::Reset),
            "/interrupt" => post(Self::Interrupt),
            "/symbol_hashes" => post(Self::SymbolHashes),
            "/alias_groups" => post(Self::AliasGroups),
            "/rebuild_state" => post(Self::RebuildState),
            _ => {
                let part = path.strip_prefix("/states/").ok_or(NoOperation::NotFound)?;
                if part.is_empty() || part.contains('/') {
                    return Err(NoOperation::NotFound);
                }
                let name = percent_encoding::percent_decode_str(part)
                    .decode_utf8()
                    .map_err(|_| NoOperation::NotFound)?
                    .into_owned();
                match *method {
                    Method::GET | Method::HEAD => Ok(Self::State(name)),
                    Method::DELETE => Ok(Self::Delete(name)),
                    _ => Err(NoOperation::NotAllowed("GET, HEAD, DELETE")),
                }
            }
        }
    }

    /// Does it; the JSON of the answer.
    pub(crate) async fn perform(self, graph: &Rc<Graph>, bytes: &[u8]) -> Result<String, Refusal> {
        let body = match self {
            Self::Execute
            | Self::MultistateExecute
            | Self::Interrupt
            | Self::SymbolHashes
            | Self::AliasGroups
            | Self::RebuildState => Body::parse(bytes)?,
            _ => Body::parse(b"")?,
        };
        match self {
            Self::OpenApi => Ok(OPENAPI.to_owned()),
            Self::States => to_json(&json!({"states": graph.names()})),
            Self::State(name) => variables(graph, &name).await,
            Self::Delete(name) => match graph.remove(&name) {
                true => to_json(&json!({"deleted": name})),
                false => Err(Refusal::no_state()),
            },
            Self::Reset => {
                graph.clear();
                make_initial(graph, INITIAL)
                    .await
                    .map_err(Refusal::broken)?;
                to_json(&json!({"status": "ok"}))
            }
            Self::Interrupt => {
                let interrupted = interrupt(graph, &body.name("exec_id")?);
                to_json(&json!({"interrupted": interrupted}))
            }
            Self::Execute => execute_cell(graph, &body).await,
            Self::MultistateExecute => execute_over_states(graph, &body).await,
            Self::SymbolHashes => symbol_hashes(graph, &body).await,
            Self::AliasGroups => {
                let state = known(graph, &body.name("state_name")?)?;
                to_json(&alias_groups(graph, &state).await?)
            }
            Self::RebuildState => rebuild_state(graph, &body).await,
        }
    }
}

fn to_json(answer: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(answer).map_err(|err| Refusal::broken(err.to_string()))
}

fn known(graph: &Graph, name: &str) -> Result<Rc<State>, Refusal> {
    graph.get(name).ok_or_else(Refusal::no_state)
}

/// The name that was asked for, or one that nobody has thought of.
fn new_name(asked: Option<String>) -> String {
    asked.unwrap_or_else(|| Uuid::now_v7().simple().to_string())
}

async fn execute_cell(graph: &Rc<Graph>, body: &Body) -> Result<String, Refusal> {
    body.require(&["exec_id", "state_name"])?;
    let (exec_id, state) = (body.name("exec_id")?, body.name("state_name")?);
    let asked = body.new_name("new_state_name")?;
    let cell = Cell {
        code: body.text("code")?,
        replay: body.flag("replay")?,
        name: new_name(asked.clone()),
    };
    let Some(state) = graph.get(&state) else {
        return to_json(&Answer::no_state(&state));
    };
    let admitted = graph.admit(Some(exec_id))?;
    graph.require_room(asked.as_deref()).await?;
    to_json(&execute(graph, admitted, state, cell).await)
}

async fn execute_over_states(graph: &Rc<Graph>, body: &Body) -> Result<String, Refusal> {
    body.require(&["exec_id", "state_mapping"])?;
    let exec_id = body.name("exec_id")?;
    let mapping = body.mapping("state_mapping")?;
    let default = body.optional_name("default_state")?;
    let code = body.text("code")?;
    let mut states = Vec::new();
    for (alias, name) in mapping {
        match graph.get(&name) {
            Some(state) => states.push((alias, state)),
            None => return to_json(&Answer::no_state(&name)),
        }
    }
    let default = match default {
        None => None,
        Some(name) => match graph.get(&name) {
            Some(state) => Some(state),
            None => return to_json(&Answer::no_state(&name)),
        },
    };
    let admitted = graph.admit(Some(exec_id))?;
    to_json(&execute_over(graph, admitted, default, states, code).await)
}

async fn variables(graph: &Rc<Graph>, name: &str) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Told {
        variables: Box<RawValue>,
    }
    #[derive(Serialize)]
    struct Shown<'a> {
        name: &'a str,
        timestamp: &'a str,
        variables: Box<RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        fork_unsafe: Option<&'a str>,
    }
    let state = known(graph, name)?;
    let admitted = graph.admit(None)?;
    let told: Told = ask(graph, &admitted, &state, &json!({"variables": true})).await?;
    to_json(&Shown {
        name: &state.name,
        timestamp: &state.timestamp,
        variables: told.variables,
        fork_unsafe: state.fork_unsafe(),
    })
}

async fn symbol_hashes(graph: &Rc<Graph>, body: &Body) -> Result<String, Refusal> {
    body.require(&["state_name", "symbols"])?;
    let (state, symbols) = (body.name("state_name")?, body.names("symbols")?);
    match body.optional_name("hash_algo")?.as_deref() {
        None | Some("full") => {}
        Some(other) => {
            return Err(Refusal::bad(format!("Unsupported hash_algo: {other}")));
        }
    }
    let state = known(graph, &state)?;
    let admitted = graph.admit(None)?;
    let hashes: Box<RawValue> = ask(graph, &admitted, &state, &json!({"hashes": symbols})).await?;
    to_json(&hashes)
}

/// Groups of variables that share something, and a hash of each group.
#[derive(Deserialize, Serialize)]
struct AliasGroups {
    groups: Vec<Vec<String>>,
    fingerprints: Vec<String>,
}

async fn alias_groups(graph: &Rc<Graph>, state: &State) -> Result<AliasGroups, Refusal> {
    let admitted = graph.admit(None)?;
    ask(graph, &admitted, state, &json!({"alias_groups": true})).await
}

async fn rebuild_state(graph: &Rc<Graph>, body: &Body) -> Result<String, Refusal> {
    #[derive(Serialize)]
    struct Made {
        state_name: String,
        #[serde(flatten)]
        aliases: AliasGroups,
    }
    body.require(&["input_state", "source_state"])?;
    let (input, source) = (body.name("input_state")?, body.name("source_state")?);
    let (source_vars, input_vars) = (body.names("source_vars")?, body.names("input_vars")?);
    let asked = body.new_name("new_state_name")?;
    let order = Rebuild {
        input: known(graph, &input)?,
        source: known(graph, &source)?,
        input_vars,
        source_vars,
        name: new_name(asked.clone()),
    };
    let admitted = graph.admit(None)?;
    graph.require_room(asked.as_deref()).await?;
    rebuild(graph, &admitted, &order).await?;
    drop(admitted);
    let state = known(graph, &order.name)?;
    to_json(&Made {
        state_name: order.name,
        aliases: alias_groups(graph, &state).await?,
    })
}

/// The status of a request that names no operation, and its words.
pub(crate) fn refusal(no_operation: &NoOperation, method: &Method, path: &str) -> Refusal {
    match no_operation {
        NoOperation::NotFound => Refusal::new(
            StatusCode::NOT_FOUND,
            "Not found. GET /openapi.json describes what there is.",
        ),
        NoOperation::NotAllowed(methods) => Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is not allowed for {path}; {methods} is."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_operations_and_nowhere_else() {
        let of = |method: &Method, path: &str| Operation::of(method, path);
        let state = |name: &str| Ok(Operation::State(name.to_owned()));
        assert_eq!(of(&Method::GET, "/states/a%2Fb%20c"), state("a/b c"));
        assert_eq!(of(&Method::GET, "/states/a%252Fb"), state("a%2Fb"));
        assert_eq!(of(&Method::GET, "/states/.."), state(".."));
        assert_eq!(
            of(&Method::POST, "/states"),
            Err(NoOperation::NotAllowed("GET, HEAD"))
        );
        for path in [
            "/",
            "//states",
            "/states/",
            "/states/a/b",
            "/states/%ff",
            "/Execute",
            "",
        ] {
            assert_eq!(of(&Method::GET, path), Err(NoOperation::NotFound), "{path}");
        }
    }
}
