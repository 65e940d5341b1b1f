//! Compares what clients saw, what the journal holds and what the cells say they printed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    rc::Rc,
};

use serde_json::Value;
use tithon_worker::fold::Fold;

use crate::{
    clients::{Seen, Submitted},
    rig::Home,
    workload::{is_childs, outlives},
};

/// What happened that excuses something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Excuses {
    /// The kernel was killed: its cell ends in an error, those behind it did not run.
    pub(crate) kernel_died: bool,
    /// And its last record was torn.
    pub(crate) torn: bool,
    /// A child of the kernel was killed.
    pub(crate) child_died: bool,
}

/// How much was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checked {
    pub(crate) marks: u64,
    pub(crate) events: u64,
    pub(crate) cells: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
}

#[derive(Debug)]
struct Execution {
    id: String,
    label: String,
    status: String,
    count: Option<i64>,
}

#[derive(Debug)]
struct Row {
    seq: i64,
    exec: Option<String>,
    kind: String,
    content: String,
}

/// The verdict on a round: what was compared, and every difference.
pub(crate) struct Verdict {
    pub(crate) checked: Checked,
    pub(crate) wrong: Vec<String>,
}

/// What was written down in the side log: marks by source, and the counts of the cells.
#[derive(Default)]
struct Truth {
    marks: BTreeMap<(String, String), u64>,
    counts: HashMap<String, i64>,
}

impl Truth {
    fn read(path: &Path) -> Self {
        let mut truth = Self::default();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for line in text.lines() {
            if let Some(count) = line.strip_prefix("count ") {
                let (label, count) = count.split_once(' ').unwrap();
                truth
                    .counts
                    .insert(label.to_owned(), count.parse().unwrap());
            } else {
                for (label, source, _) in marks(line) {
                    *truth.marks.entry((label, source)).or_default() += 1;
                }
            }
        }
        truth
    }
}

/// Every `<label.source.number>` in a text.
fn marks(text: &str) -> impl Iterator<Item = (String, String, u64)> {
    text.split('<').skip(1).filter_map(|rest| {
        let (mark, _) = rest.split_once('>')?;
        let mut parts = mark.split('.');
        let (label, source) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let number = parts.next()?.parse().ok()?;
        parts
            .next()
            .is_none()
            .then_some((label, source, number))
            .filter(|(label, _, _)| label.starts_with('c'))
    })
}

pub(crate) fn verdict(
    home: &Home,
    truth: &Path,
    submitted: &[Submitted],
    snapshot: &Value,
    replay: &BTreeMap<i64, String>,
    clients: &[Rc<RefCell<Seen>>],
    excuses: Excuses,
) -> Verdict {
    let mut verdict = Verdict {
        checked: Checked::default(),
        wrong: Vec::new(),
    };
    let journal = home.journal().unwrap();
    let sound: String = journal
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    verdict.require(sound == "ok", || format!("integrity_check: {sound}"));
    let executions: Vec<Execution> = journal
        .prepare("SELECT exec_id, code, status, execution_count FROM executions ORDER BY seq")
        .unwrap()
        .query_map([], |row| {
            let code: String = row.get(1)?;
            let label = code.split('"').nth(1).unwrap_or_default().to_owned();
            Ok(Execution {
                id: row.get(0)?,
                label,
                status: row.get(2)?,
                count: row.get(3)?,
            })
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let rows: Vec<Row> = journal
        .prepare("SELECT msg_seq, COALESCE(target_exec, exec_id), msg_type, content_json FROM messages ORDER BY msg_seq")
        .unwrap()
        .query_map([], |row| {
            Ok(Row { seq: row.get(0)?, exec: row.get(1)?, kind: row.get(2)?, content: row.get(3)? })
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let truth = Truth::read(truth);
    verdict.cells(submitted, &executions, &truth, excuses);
    verdict.lifecycle(&executions, &rows);
    verdict.output(&executions, &rows, &truth, excuses);
    verdict.folds(&rows, snapshot);
    verdict.clients(&rows, replay, clients);
    verdict
}

impl Verdict {
    fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }

    /// Each acknowledged cell is there once, with the end and the count it had.
    fn cells(
        &mut self,
        submitted: &[Submitted],
        executions: &[Execution],
        truth: &Truth,
        excuses: Excuses,
    ) {
        for batch in submitted {
            let mut failed = false;
            for cell in &batch.cells {
                self.checked.cells += 1;
                let found: Vec<_> = executions
                    .iter()
                    .filter(|known| known.label == cell.label)
                    .collect();
                let most = found.len() == 1 || (found.is_empty() && !batch.acknowledged);
                self.require(most, || {
                    format!("{} is there {} times", cell.label, found.len())
                });
                let Some(found) = found.first() else { continue };
                let expected = if failed { "skipped" } else { cell.expected };
                failed |= cell.expected == "error";
                let died = excuses.kernel_died
                    && matches!(found.status.as_str(), "error" | "orphaned" | "skipped");
                self.require(found.status == expected || died, || {
                    format!(
                        "{} ({}) is {}, not {expected}",
                        cell.label, found.id, found.status
                    )
                });
                let count = truth.counts.get(&cell.label).copied();
                let counted = matches!(found.status.as_str(), "done" | "error");
                let died = died && found.count.is_none();
                self.require(!counted || found.count == count || died, || {
                    format!(
                        "{} counts {:?}, the kernel says {count:?}",
                        cell.label, found.count
                    )
                });
            }
        }
    }

    fn lifecycle(&mut self, executions: &[Execution], rows: &[Row]) {
        for execution in executions {
            let times = |kind| {
                rows.iter()
                    .filter(|row| row.exec.as_ref() == Some(&execution.id) && row.kind == kind)
                    .count()
            };
            let all = (
                times("tithon.queued"),
                times("tithon.started"),
                times("tithon.done"),
            );
            self.require(matches!(all, (1, 0 | 1, 1)), || {
                format!("{} was queued, started, done {all:?} times", execution.id)
            });
        }
    }

    /// Each mark is there once, in order and under the cell that printed it.
    fn output(&mut self, executions: &[Execution], rows: &[Row], truth: &Truth, excuses: Excuses) {
        let labels: HashMap<&str, &str> = executions
            .iter()
            .map(|execution| (execution.id.as_str(), execution.label.as_str()))
            .collect();
        // Text is cut into rows anywhere; what belongs to one stream of one cell is one text.
        let mut streams: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut texts: Vec<(String, String)> = Vec::new();
        let mut late = Vec::new();
        for row in rows.iter().filter(|row| !row.kind.starts_with("tithon.")) {
            let exec = row.exec.clone().unwrap_or_default();
            if row.kind == "stream" {
                let content: Value = serde_json::from_str(&row.content).unwrap();
                let text = content["text"].as_str().unwrap_or_default();
                self.require(excuses.torn || !text.starts_with("[tithon: "), || {
                    format!("a gap: {text}")
                });
                let name = content["name"].as_str().unwrap_or_default().to_owned();
                late.push(text.to_owned());
                streams.entry((exec, name)).or_default().push_str(text);
            } else {
                texts.push((exec, row.content.clone()));
            }
        }
        texts.extend(streams.into_iter().map(|((exec, _), text)| (exec, text)));
        let mut found: BTreeMap<(String, String), BTreeSet<u64>> = BTreeMap::new();
        let in_its_cell = texts
            .iter()
            .flat_map(|(exec, text)| marks(text).map(move |mark| (Some(exec), mark)))
            .filter(|(_, (_, source, _))| !outlives(source));
        let anywhere = late
            .iter()
            .flat_map(|text| marks(text).map(|mark| (None, mark)))
            .filter(|(_, (_, source, _))| outlives(source));
        for (exec, (label, source, number)) in in_its_cell.chain(anywhere) {
            self.checked.marks += 1;
            if let Some(exec) = exec {
                self.require(labels.get(exec.as_str()) == Some(&label.as_str()), || {
                    format!("<{label}.{source}.{number}> stands under {exec}")
                });
            }
            let name = format!("<{label}.{source}.{number}>");
            let seen = found.entry((label, source.clone())).or_default();
            let due = seen.last().map_or(0, |last| last + 1);
            if !seen.insert(number) {
                self.checked.doubled += 1;
                self.wrong.push(format!("{name} came again"));
            } else if number != due && !is_childs(&source) {
                self.wrong.push(format!("{name} came where {due} was due"));
            }
        }
        for (key @ (label, source), &written) in &truth.marks {
            let found = found.remove(key).unwrap_or_default().len() as u64;
            let torn = if excuses.torn { 2 } else { 0 };
            let excused = (excuses.child_died || excuses.kernel_died) && is_childs(source);
            if found + torn < written && !excused {
                self.checked.lost += written - found;
                self.wrong.push(format!(
                    "<{label}.{source}>: {found} of {written} marks are there"
                ));
            }
            // Printed, and killed before that could be written down.
            let one_more = u64::from(excuses.kernel_died || excuses.child_died);
            self.require(found <= written + one_more, || {
                format!("<{label}.{source}>: {found} marks, only {written} were printed")
            });
            self.require(source != "wrong", || {
                format!("a prompt of {label} got another's answer")
            });
        }
        for ((label, source), seen) in found {
            self.require(seen.len() <= 1 && excuses.kernel_died, || {
                format!(
                    "<{label}.{source}>: {} marks that nobody printed",
                    seen.len()
                )
            });
        }
    }

    /// What a late client is shown is what the rows amount to.
    fn folds(&mut self, rows: &[Row], snapshot: &Value) {
        let mut folds: HashMap<&str, Fold> = HashMap::new();
        for row in rows.iter().filter(|row| row.kind != "status") {
            if let Some(exec) = &row.exec {
                let fold = folds.entry(exec).or_default();
                fold.apply(&row.kind, &row.content).ok();
            }
        }
        for shown in snapshot["executions"].as_array().into_iter().flatten() {
            let exec = shown["exec_id"].as_str().unwrap_or_default();
            let replayed = folds
                .get(exec)
                .map_or_else(|| "[]".to_owned(), Fold::outputs_json);
            let replayed: Value = serde_json::from_str(&replayed).unwrap();
            self.require(replayed == shown["outputs"], || {
                let short =
                    |outputs: &Value| outputs.to_string().chars().take(300).collect::<String>();
                format!(
                    "{exec} is shown as\n  {}\nand replayed as\n  {}",
                    short(&shown["outputs"]),
                    short(&replayed)
                )
            });
        }
    }

    /// Live clients saw each event once and in order, as one that replays sees it.
    fn clients(
        &mut self,
        rows: &[Row],
        replay: &BTreeMap<i64, String>,
        clients: &[Rc<RefCell<Seen>>],
    ) {
        let newest = rows.last().map_or(0, |row| row.seq);
        self.require(replay.len() as i64 == newest - 1, || {
            format!("a replay has {} of {} events", replay.len(), newest - 1)
        });
        for (which, seen) in clients.iter().enumerate() {
            let seen = seen.borrow();
            self.wrong.extend(
                seen.wrong
                    .iter()
                    .map(|what| format!("client {which}: {what}")),
            );
            self.require(seen.last == newest, || {
                format!("client {which} stands at {} of {newest}", seen.last)
            });
            for (seq, text) in &seen.events {
                self.checked.events += 1;
                self.require(replay.get(seq).is_none_or(|known| known == text), || {
                    format!("client {which} saw another event {seq} than a replay: {text}")
                });
            }
        }
    }
}
