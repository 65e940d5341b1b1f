//! A session's past and present as the journal has it, read without starting a kernel, or a session
//! that is not there.

use std::{collections::HashSet, path::PathBuf};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    error::CliError,
    frames::{self, Execution, Kernel, Output, Received},
    link::{Bound, Link, ask},
};

/// What a session has run.
pub(crate) struct History {
    /// In the order of submission.
    pub(crate) executions: Vec<Past>,
    /// Whether somebody works on what is open: a worker was there before we asked.
    pub(crate) is_inhabited: bool,
    /// Its kernel.
    pub(crate) kernel: Kernel,
    /// Where it runs, if that is known.
    pub(crate) workdir: Option<PathBuf>,
}

/// One execution, read and as the server wrote it.
pub(crate) struct Past {
    pub(crate) execution: Execution,
    pub(crate) text: Box<RawValue>,
}

#[derive(Deserialize)]
struct Snapshot {
    #[serde(default)]
    executions: Vec<Box<RawValue>>,
    #[serde(default)]
    kernel: Kernel,
}

#[derive(Deserialize)]
struct Status {
    sessions: Vec<Entry>,
}

/// A session as a global `status` names it.
#[derive(Deserialize)]
pub(crate) struct Entry {
    pub(crate) session: String,
    pub(crate) worker_pid: Option<i64>,
    pub(crate) workdir: Option<PathBuf>,
}

/// The session's entry among all sessions, living or not.
///
/// # Errors
/// [`CliError::NoSession`] when nothing goes by that name; those of the connection.
pub(crate) async fn entry(link: &Link, session: &str) -> Result<Entry, CliError> {
    let mut connection = link.open().await?;
    let reply = ask(&mut connection, &everything(), "status_reply").await?;
    connection.close().await;
    find(&reply, session)
}

/// The same where a supervisor runs already.
///
/// # Errors
/// As [`entry`], and [`CliError::NoneRuns`].
pub(crate) async fn running_entry(link: &Link, session: &str) -> Result<Entry, CliError> {
    find(&link.inquire(&everything(), "status_reply").await?, session)
}

fn everything() -> Value {
    json!({"op": "status", "all": true})
}

fn find(reply: &str, session: &str) -> Result<Entry, CliError> {
    let mut status: Status = serde_json::from_str(reply)?;
    match status.sessions.iter().position(|it| it.session == session) {
        Some(at) => Ok(status.sessions.swap_remove(at)),
        None => Err(CliError::NoSession {
            session: session.to_owned(),
            near: nearest(
                session,
                status.sessions.iter().map(|it| it.session.as_str()),
            ),
        }),
    }
}

/// Reads what a session has run.
///
/// # Errors
/// As [`entry`].
pub(crate) async fn read(link: &Link, bound: &Bound) -> Result<History, CliError> {
    let entry = entry(link, bound.session()).await?;
    link.repeated(async || read_once(link, bound, &entry).await)
        .await
}

async fn read_once(link: &Link, bound: &Bound, entry: &Entry) -> Result<History, CliError> {
    let mut connection = link.open().await?;
    let op = json!({"op": "attach", "last_seen_seq": 0, "start_kernel": false});
    connection.send(&bound.bind(op)).await?;
    while let Some(text) = connection.next().await? {
        match Received::parse(&text)? {
            Received::Snapshot => {
                connection.close().await;
                let snapshot: Snapshot = serde_json::from_str(&text)?;
                let executions = snapshot.executions.into_iter().map(|text| {
                    let execution = frames::parse(text.get())?;
                    Ok(Past { execution, text })
                });
                return Ok(History {
                    executions: executions.collect::<Result<_, CliError>>()?,
                    is_inhabited: entry.worker_pid.is_some(),
                    kernel: snapshot.kernel,
                    workdir: entry.workdir.clone(),
                });
            }
            Received::Error(message) => return Err(CliError::Server(message)),
            _ => {}
        }
    }
    Err(CliError::Unanswered("attach"))
}

/// The first execution of a kernel that took the place of one which was lost against anybody's wish; `None`
/// if that is not so, or it has run nothing.
///
/// # Errors
/// Those of the connection.
pub(crate) async fn after_loss(
    link: &Link,
    bound: &Bound,
    kernel: &Kernel,
) -> Result<Option<String>, CliError> {
    if !kernel.is_living() || !kernel.lost_state || kernel.generation == 0 {
        return Ok(None);
    }
    let mut connection = link.open().await?;
    // Its generation is the seq at which its life began; whatever it ran comes after.
    let op = json!({"op": "attach", "last_seen_seq": kernel.generation, "start_kernel": false});
    connection.send(&bound.bind(op)).await?;
    let mut first = None;
    while let Some(text) = connection.next().await? {
        match Received::parse(&text)? {
            Received::Event(event) if event.kind == "started" => {
                first = event.exec_id;
                break;
            }
            // So old that its rows are compacted: what came before it is not looked for.
            Received::Snapshot | Received::Sync(_) => break,
            Received::Error(message) => return Err(CliError::Server(message)),
            _ => {}
        }
    }
    connection.close().await;
    Ok(first)
}

/// Executions whose output somebody cleared, as far back as the journal's rows go.
///
/// # Errors
/// When the session cannot be reached.
pub(crate) async fn cleared(link: &Link, bound: &Bound) -> Result<HashSet<String>, CliError> {
    let mut connection = link.open().await?;
    // Behind the first row, which clears nothing: from 0 there would be a snapshot instead of rows.
    let op = json!({"op": "attach", "last_seen_seq": 1, "start_kernel": false});
    connection.send(&bound.bind(op)).await?;
    let mut cleared = HashSet::new();
    while let Some(text) = connection.next().await? {
        match Received::parse(&text)? {
            Received::Event(event) if event.kind == "output" => {
                let output: Output = event.payload()?;
                // Programs clear what they have shown themselves; only a client clears a whole cell.
                if output.msg_type == "clear_output" && output.content.tithon_scope == "cell" {
                    cleared.extend(event.exec_id);
                }
            }
            Received::Sync(_) => break,
            Received::Error(message) => return Err(CliError::Server(message)),
            _ => {}
        }
    }
    connection.close().await;
    Ok(cleared)
}

impl History {
    /// The execution with this id; without one, the one that runs, else the newest.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn choose(
        &self,
        session: &str,
        exec_id: Option<&str>,
    ) -> Result<&Execution, CliError> {
        let all = || self.executions.iter().map(|past| &past.execution);
        let session = session.to_owned();
        match exec_id {
            Some(exec_id) => {
                all()
                    .find(|it| it.exec_id == exec_id)
                    .ok_or_else(|| CliError::NoExecution {
                        session,
                        exec_id: exec_id.to_owned(),
                    })
            }
            None => all()
                .find(|it| it.status == "running")
                .or_else(|| all().next_back())
                .ok_or(CliError::NothingRan { session }),
        }
    }
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    names
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, name)| {
            *distance <= 1 + wanted.chars().count() / 4
                || (wanted.len() > 2 && name.contains(wanted))
        })
        .min()
        .map(|(_, name)| name.to_owned())
}

/// How many letters must be put in, left out or changed to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (at, counterpart) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *counterpart);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_found() {
        let names = ["default", "train", "file:///home/ada/model.py"];
        for (wanted, meant) in [
            ("defualt", Some("default")),
            ("trian", Some("train")),
            ("model.py", Some("file:///home/ada/model.py")),
            ("zebra", None),
            ("x", None),
        ] {
            assert_eq!(
                nearest(wanted, names.into_iter()).as_deref(),
                meant,
                "{wanted}"
            );
        }
    }

    #[test]
    fn distances_count_letters() {
        for (one, other, letters) in [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3)] {
            assert_eq!(distance(one, other), letters);
        }
    }
}
