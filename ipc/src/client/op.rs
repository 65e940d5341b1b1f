//! What clients ask (PROTOCOL §4), parsed once at the edge.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    services::{Comm, CommKind, Question, QuestionKind},
    states::StateOp,
    values::{self, FieldError},
};
use crate::ids::SessionId;

/// One message from a client, understood or not.
#[derive(Debug)]
pub enum Parsed {
    /// An operation.
    Call(Box<Call>),
    /// Not JSON, or an operation nobody knows: ignored, as older servers do with newer clients.
    Ignored,
    /// Not an object, or a field of the wrong type: the connection ends with this reason.
    Malformed(String),
}

/// An operation and the session fields that came with it.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub op: Op,
    /// Which session it names; only the first operation of a connection that needs one counts.
    pub binding: Binding,
}

/// The session fields of an operation.
#[derive(Clone, Debug)]
pub struct Binding {
    /// `session`, else `default`.
    pub session: SessionId,
    /// Where a new session's kernel is to run.
    pub workdir: Option<PathBuf>,
    /// How a new session's kernel is to be started; Tithon's own addition.
    pub launch: Option<LaunchWish>,
}

/// What a client wants of a kernel that is not started yet, and the environment it stands in.
///
/// A supervisor started by a service manager has a bare environment: the user's comes from here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchWish {
    /// An interpreter's path or command name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// A kernelspec's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// A session whose kernel's Python, or kernelspec, it is to be where neither is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
    /// How much memory the session may use, in bytes; `u64::MAX` lifts an earlier limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// The client's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// The operations.
#[derive(Debug)]
pub enum Op {
    /// Backlog after a seq, then live events.
    Attach { last_seen_seq: i64 },
    /// The same, but a session without a kernel is shown as it is: `attach` with
    /// `"start_kernel": false`, Tithon's own addition.
    Observe { last_seen_seq: i64 },
    /// Queue cells.
    Submit(Submission),
    /// Answer the pending prompt.
    InputReply { value: String },
    /// Empty the outputs of executions.
    ClearOutput(Clear),
    /// A fresh kernel for the session.
    RestartKernel,
    /// Go back to a state, or the checkpoint after an execution, else the newest; Tithon's own addition.
    RestoreKernel { to: Option<String> },
    /// Which checkpoints there are, and how many there should be; Tithon's own addition.
    Checkpoints(CheckpointWish),
    /// Run code on a copy of the kernel that is thrown away; Tithon's own addition.
    Try(Trial),
    /// Make a second session with this one's history and a copy of its kernel; Tithon's own addition.
    Branch(BranchWish),
    /// Something about the session's states; Tithon's own addition.
    States(Box<StateOp>),
    /// Answer the prompt of this connection's copy; Tithon's own addition.
    CopyInput { value: String },
    /// Interrupt this connection's copy; Tithon's own addition.
    CopyInterrupt,
    /// The bytes of an image that left its message.
    GetArtifact {
        artifact_id: String,
        req_id: Option<Value>,
    },
    /// Say something on a comm; Tithon's own addition.
    Comm(Box<Comm>),
    /// Ask the kernel something that changes nothing; Tithon's own addition.
    Ask(Question),
    /// The session's status.
    SessionStatus,
    /// The status of every session that has a worker.
    Status {
        /// Sessions without a living worker too; Tithon's own addition.
        all: bool,
    },
    /// Interrupt the named session's cell.
    Interrupt,
    /// End the named session's kernel for good.
    KillKernel { target: Option<SessionId> },
    /// End the supervisor.
    Shutdown { kill_kernels: bool },
    /// Convert a notebook to a Python file, or the other way round; or why that cannot be: bad paths
    /// fail a conversion, not the connection.
    Convert(Result<NotebookWish, String>),
}

impl Op {
    /// Whether the connection belongs to the session from this operation on.
    pub fn binds(&self) -> bool {
        match self {
            Self::Attach { .. }
            | Self::Observe { .. }
            | Self::Submit(_)
            | Self::InputReply { .. }
            | Self::ClearOutput(_)
            | Self::RestartKernel
            | Self::RestoreKernel { .. }
            | Self::Checkpoints(_)
            | Self::Try(_)
            | Self::Branch(_)
            | Self::States(_)
            | Self::CopyInput { .. }
            | Self::CopyInterrupt
            | Self::GetArtifact { .. }
            | Self::Comm(_)
            | Self::Ask(_)
            | Self::SessionStatus => true,
            Self::Status { .. }
            | Self::Interrupt
            | Self::KillKernel { .. }
            | Self::Shutdown { .. }
            | Self::Convert(_) => false,
        }
    }
}

/// What a client wishes of a session's checkpoints; what it does not say stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointWish {
    /// How many to keep; 0 is none.
    pub keep: Option<u32>,
    /// Whether a kernel that died goes on from the newest by itself.
    pub auto_restore: Option<bool>,
}

/// Code for a copy of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The code, verbatim.
    pub code: String,
    /// The state, or the execution whose checkpoint, is copied; the live kernel unless given.
    pub from: Option<String>,
    /// Whether `input()` may ask.
    pub allow_stdin: bool,
}

/// A session that is to branch off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchWish {
    /// Its name, which no session has.
    pub name: SessionId,
    /// The state, or the execution whose checkpoint, it begins with; the live kernel unless given.
    pub from: Option<String>,
}

/// Two files and the project they belong to; the supervisor's own directory means nothing to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotebookWish {
    /// Which becomes which.
    pub direction: Direction,
    /// The file to read.
    pub source: PathBuf,
    /// The file to write.
    pub destination: PathBuf,
    /// The project's folder.
    pub workdir: PathBuf,
}

/// Which becomes which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A notebook becomes a Python file.
    Import,
    /// A Python file becomes a notebook.
    Export,
}

/// Cells to run one after the other.
#[derive(Debug)]
pub struct Submission {
    /// In order.
    pub cells: Vec<Cell>,
    /// Skip the rest after an error.
    pub stop_on_error: bool,
    /// Who asks, for the history.
    pub submitted_by: Option<String>,
    /// Whether `input()` may ask.
    pub allow_stdin: bool,
    /// `execute` rather than `execute_batch`: the acknowledgement names one execution.
    pub single: bool,
}

/// One piece of code.
#[derive(Debug)]
pub struct Cell {
    /// The code, verbatim.
    pub code: String,
    /// Where it stands in the client's document.
    pub origin: Option<Origin>,
}

/// Where a cell stands in a document: the client's object verbatim, and the parts the journal keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The object as it came, echoed in the `queued` event.
    pub raw: Value,
    /// The document.
    pub uri: Option<String>,
    /// The lines, as the client's object.
    pub range: Option<Value>,
    /// The cell's number in the document.
    pub index: Option<i64>,
}

/// Which executions to clear.
#[derive(Debug, PartialEq, Eq)]
pub enum Clear {
    /// Every one.
    All,
    /// Those named; unknown ones are skipped.
    Only(Vec<String>),
}

impl Parsed {
    /// Understands one message.
    pub fn from_text(text: &str) -> Self {
        let fields = match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Self::Malformed("a message must be a JSON object".to_owned()),
            Err(_) => return Self::Ignored,
        };
        match call(&fields) {
            Ok(Some(call)) => Self::Call(Box::new(call)),
            Ok(None) => Self::Ignored,
            Err(reason) => Self::Malformed(reason),
        }
    }
}

fn call(fields: &Map<String, Value>) -> Result<Option<Call>, FieldError> {
    let Some(name) = values::text(fields, "op")? else {
        return Ok(None);
    };
    let op = match name {
        "attach" => {
            let last_seen_seq = values::integer(fields, "last_seen_seq")?.unwrap_or(0);
            match values::truth(fields, "start_kernel", true) {
                true => Op::Attach { last_seen_seq },
                false => Op::Observe { last_seen_seq },
            }
        }
        "execute" => Op::Submit(Submission {
            cells: vec![cell(fields)?],
            stop_on_error: false,
            submitted_by: values::text(fields, "submitted_by")?.map(str::to_owned),
            allow_stdin: values::truth(fields, "allow_stdin", false),
            single: true,
        }),
        "execute_batch" => Op::Submit(Submission {
            cells: values::list(fields, "cells")?
                .iter()
                .map(|value| match value {
                    Value::Object(fields) => cell(fields),
                    _ => Err("every one of \"cells\" must be an object".to_owned()),
                })
                .collect::<Result<_, _>>()?,
            stop_on_error: values::truth(fields, "stop_on_error", true),
            submitted_by: values::text(fields, "submitted_by")?.map(str::to_owned),
            allow_stdin: values::truth(fields, "allow_stdin", false),
            single: false,
        }),
        "input_reply" => Op::InputReply {
            value: any_text(fields, "value"),
        },
        "try" => Op::Try(Trial {
            code: values::text(fields, "code")?.unwrap_or_default().to_owned(),
            from: values::text(fields, "from")?.map(str::to_owned),
            allow_stdin: values::truth(fields, "allow_stdin", false),
        }),
        "branch" => Op::Branch(BranchWish {
            name: values::text(fields, "name")?
                .ok_or_else(|| "\"name\" is missing".to_owned())
                .and_then(|name| SessionId::parse(name).map_err(|err| err.to_string()))?,
            from: values::text(fields, "from")?.map(str::to_owned),
        }),
        "copy_input" => Op::CopyInput {
            value: any_text(fields, "value"),
        },
        "copy_interrupt" => Op::CopyInterrupt,
        "clear_output" if values::truth(fields, "all", false) => Op::ClearOutput(Clear::All),
        "clear_output" => Op::ClearOutput(Clear::Only(
            values::list(fields, "exec_ids")?
                .iter()
                .map(|id| id.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or("every one of \"exec_ids\" must be text")?,
        )),
        "restart_kernel" => Op::RestartKernel,
        "restore_kernel" => Op::RestoreKernel {
            to: values::text(fields, "to")?.map(str::to_owned),
        },
        "checkpoints" => Op::Checkpoints(CheckpointWish {
            keep: match values::integer(fields, "keep")? {
                None => None,
                Some(keep) => {
                    Some(u32::try_from(keep).map_err(|_| "\"keep\" must be a count".to_owned())?)
                }
            },
            auto_restore: fields
                .contains_key("auto_restore")
                .then(|| values::truth(fields, "auto_restore", false)),
        }),
        "get_artifact" => Op::GetArtifact {
            artifact_id: values::text(fields, "artifact_id")?
                .unwrap_or_default()
                .to_owned(),
            req_id: fields.get("req_id").cloned(),
        },
        "comm_open" => comm(CommKind::Open, fields)?,
        "comm_msg" => comm(CommKind::Message, fields)?,
        "comm_close" => comm(CommKind::Close, fields)?,
        "status" if fields.contains_key("session") => Op::SessionStatus,
        "status" => Op::Status {
            all: values::truth(fields, "all", false),
        },
        "interrupt" => Op::Interrupt,
        "kill_kernel" => Op::KillKernel {
            // Any value that cannot be a session is answered `ok: false`, as an unknown one is.
            target: fields
                .get("target")
                .and_then(Value::as_str)
                .and_then(|target| SessionId::parse(target).ok()),
        },
        "shutdown" => Op::Shutdown {
            kill_kernels: values::truth(fields, "kill_kernels", false),
        },
        "import_notebook" => Op::Convert(notebook(fields, Direction::Import)),
        "export_notebook" => Op::Convert(notebook(fields, Direction::Export)),
        name => match (
            QuestionKind::named(name),
            StateOp::from_fields(name, fields)?,
        ) {
            (Some(kind), _) => Op::Ask(Question::from_fields(kind, fields)?),
            (None, Some(op)) => Op::States(Box::new(op)),
            (None, None) => return Ok(None),
        },
    };
    Ok(Some(Call {
        op,
        binding: binding(fields)?,
    }))
}

/// Text, or the JSON of whatever else somebody typed.
fn any_text(fields: &Map<String, Value>, name: &str) -> String {
    match fields.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn comm(kind: CommKind, fields: &Map<String, Value>) -> Result<Op, FieldError> {
    Ok(Op::Comm(Box::new(Comm::from_fields(kind, fields)?)))
}

fn binding(fields: &Map<String, Value>) -> Result<Binding, FieldError> {
    let session = match values::text(fields, "session")? {
        None => SessionId::default(),
        Some(text) => SessionId::parse(text).map_err(|err| err.to_string())?,
    };
    let workdir = match values::text(fields, "workdir")? {
        Some(path) if path.contains('\0') => {
            return Err("\"workdir\" holds a NUL character".to_owned());
        }
        path => path.map(PathBuf::from),
    };
    let launch = match fields.get("launch") {
        None | Some(Value::Null) => None,
        Some(wish) => Some(
            LaunchWish::deserialize(wish)
                .map_err(|err| format!("\"launch\" is malformed: {err}"))?,
        ),
    };
    Ok(Binding {
        session,
        workdir,
        launch,
    })
}

fn notebook(fields: &Map<String, Value>, direction: Direction) -> Result<NotebookWish, FieldError> {
    let path = |name| match values::text(fields, name)? {
        Some(path) if path.starts_with('/') && !path.contains('\0') => Ok(PathBuf::from(path)),
        _ => Err(format!("\"{name}\" must be an absolute path")),
    };
    Ok(NotebookWish {
        direction,
        source: path("source")?,
        destination: path("destination")?,
        workdir: path("workdir")?,
    })
}

fn cell(fields: &Map<String, Value>) -> Result<Cell, FieldError> {
    let origin = values::object(fields, "origin")?
        .map(|origin| {
            Ok::<_, FieldError>(Origin {
                uri: values::text(origin, "uri")?.map(str::to_owned),
                range: values::object(origin, "range")?.cloned().map(Value::Object),
                index: values::integer(origin, "index").ok().flatten(),
                raw: Value::Object(origin.clone()),
            })
        })
        .transpose()?;
    Ok(Cell {
        code: values::text(fields, "code")?.unwrap_or_default().to_owned(),
        origin,
    })
}

#[cfg(test)]
mod tests;
