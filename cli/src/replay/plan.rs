//! Which of a session's recorded cells make its state again.

use crate::frames::Execution;

/// Begins `submitted_by` of a cell that repeats an earlier one; that one's id follows.
const BY: &str = "tithon replay of ";

/// Why what was run in a state is left out.
const OF_A_STATE: &str = "made a state of its own";

/// Who submits the repetition of a cell, given the session if that is another one.
pub(crate) fn submitter(exec_id: &str, session: Option<&str>) -> String {
    match session {
        Some(session) => format!("{BY}{exec_id} in {session}"),
        None => format!("{BY}{exec_id}"),
    }
}

/// Which cell of the same session this one repeated, if it was submitted by a replay.
fn repeated(execution: &Execution) -> Option<&str> {
    let named = execution.submitted_by.as_deref()?.strip_prefix(BY)?;
    (!named.contains(' ')).then_some(named)
}

/// What a person asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// The first execution; unless given, the beginning of the state.
    pub(crate) from: Option<&'a str>,
    /// The last execution; unless given, the newest.
    pub(crate) to: Option<&'a str>,
    /// Whether those are run again that did not succeed the first time.
    pub(crate) failed_too: bool,
    /// The first execution of a kernel that took the place of one which was lost against anybody's wish:
    /// what the lost one ran is wanted too.
    pub(crate) after_loss: Option<&'a str>,
}

/// What is run again, and what is not.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) cells: Vec<&'a Execution>,
    /// Those that lie among the others and are left out, and why.
    pub(crate) left_out: Vec<(&'a Execution, &'static str)>,
}

impl<'a> Plan<'a> {
    /// Chooses among a history.
    ///
    /// # Errors
    /// The id that is not in it.
    pub(crate) fn of(history: &[&'a Execution], wanted: Wanted<'_>) -> Result<Self, String> {
        let place = |exec_id: Option<&str>, otherwise| match exec_id {
            Some(exec_id) => history
                .iter()
                .position(|it| it.exec_id == exec_id)
                .ok_or_else(|| exec_id.to_owned()),
            None => Ok(otherwise),
        };
        let last = place(wanted.to, history.len().saturating_sub(1))?;
        let until = history.get(..=last).unwrap_or_default();
        let chosen = match wanted.from {
            Some(_) => until[place(wanted.from, 0)?.min(until.len())..].to_vec(),
            None => line(until, wanted.after_loss),
        };
        let mut plan = Self {
            cells: Vec::new(),
            left_out: Vec::new(),
        };
        for execution in &chosen {
            let again = repeated(execution)
                .is_some_and(|original| chosen.iter().any(|it| it.exec_id == original));
            if again || is_blank(execution) {
                continue;
            }
            match shortcoming(execution) {
                Some(Shortcoming::Unsuccessful(why)) if !wanted.failed_too => {
                    plan.left_out.push((execution, why));
                }
                Some(Shortcoming::Unrun(why)) => plan.left_out.push((execution, why)),
                _ => plan.cells.push(execution),
            }
        }
        if wanted.from.is_none()
            && let (Some(first), Some(last)) = (plan.cells.first(), plan.cells.last())
        {
            let place =
                |it: &Execution| history.iter().position(|other| other.exec_id == it.exec_id);
            let among = place(first).unwrap_or(0)..=place(last).unwrap_or(0);
            let in_states = history[among].iter().filter(|it| it.state.is_some());
            plan.left_out.extend(in_states.map(|it| (*it, OF_A_STATE)));
        }
        Ok(plan)
    }
}

/// The executions that made the state which the newest kernel had: those since it was started, without
/// what a restore undid. A kernel counts its executions from 1, a restored one from where it was; so the
/// counts tell. A kernel that was started to replay goes on with the state of the one before it, and what
/// it repeated belongs to that.
fn line<'a>(history: &[&'a Execution], after_loss: Option<&str>) -> Vec<&'a Execution> {
    // Places in the history, in its order.
    let mut line: Vec<usize> = Vec::new();
    let (mut beginning, mut last) = (0, 0);
    let cells = history.iter().enumerate();
    for (at, execution) in cells.filter(|(_, it)| !is_blank(it) && it.state.is_none()) {
        if let Some(count) = execution.execution_count {
            if count == 1 {
                let goes_on =
                    repeated(execution).is_some() || after_loss == Some(&*execution.exec_id);
                if !goes_on {
                    line.clear();
                }
                beginning = line.len();
            } else if count <= last {
                let undone = |at: &usize| {
                    let counted = history[*at].execution_count;
                    counted.is_some_and(|counted| counted >= count)
                };
                let kept = line[beginning..].iter().position(undone);
                line.truncate(kept.map_or(line.len(), |kept| beginning + kept));
            }
            last = count;
        }
        match repeated(execution) {
            None => line.push(at),
            Some(original) => {
                let original = history.iter().position(|it| it.exec_id == original);
                if let Some(original) = original
                    && let Err(place) = line.binary_search(&original)
                {
                    line.insert(place, original);
                    beginning += 1;
                }
            }
        }
    }
    line.into_iter().map(|at| history[at]).collect()
}

fn is_blank(execution: &Execution) -> bool {
    execution.code.trim().is_empty()
}

/// Why an execution is no part of the state.
enum Shortcoming {
    /// It ran, and did not succeed.
    Unsuccessful(&'static str),
    /// It did not run here.
    Unrun(&'static str),
}

fn shortcoming(execution: &Execution) -> Option<Shortcoming> {
    let has_begun = execution.started_at.is_some();
    match execution.status.as_str() {
        _ if execution.state.is_some() => Some(Shortcoming::Unrun(OF_A_STATE)),
        "done" if execution.fold_state.is_none() => {
            Some(Shortcoming::Unrun("came with the project"))
        }
        "done" => None,
        _ if !has_begun => Some(Shortcoming::Unrun("never ran")),
        "error" if was_interrupted(execution) => Some(Shortcoming::Unsuccessful("interrupted")),
        "error" => Some(Shortcoming::Unsuccessful("failed")),
        _ => Some(Shortcoming::Unsuccessful("lost with its kernel")),
    }
}

fn was_interrupted(execution: &Execution) -> bool {
    let mut errors = execution.outputs.iter();
    errors.any(|it| it.output_type == "error" && it.content.ename == "KeyboardInterrupt")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A cell that succeeded, as a snapshot has it.
    fn cell(exec_id: &str, count: u64) -> Value {
        json!({"exec_id": exec_id, "code": exec_id, "status": "done", "execution_count": count,
            "started_at": 1.0, "fold_state": {}})
    }

    fn with(mut cell: Value, changes: &Value) -> Value {
        for (name, value) in changes.as_object().unwrap() {
            cell[name] = value.clone();
        }
        cell
    }

    fn planned(history: &[Value], wanted: Wanted<'_>) -> (Vec<String>, Vec<String>) {
        let history: Vec<Execution> = history
            .iter()
            .map(|it| serde_json::from_value(it.clone()).unwrap())
            .collect();
        let plan = Plan::of(&history.iter().collect::<Vec<_>>(), wanted).unwrap();
        let left_out = plan.left_out.iter();
        (
            plan.cells.iter().map(|it| it.exec_id.clone()).collect(),
            left_out
                .map(|(it, why)| format!("{} {why}", it.exec_id))
                .collect(),
        )
    }

    #[test]
    fn what_made_the_newest_state_is_wanted() {
        let history = [
            cell("e1", 1),
            cell("e2", 2),
            // Another kernel.
            cell("e3", 1),
            cell("e4", 2),
            cell("e5", 3),
            // Restored to the state after e3.
            cell("e6", 2),
            with(cell("e7", 2), &json!({"code": " \n"})),
            cell("e8", 3),
        ];
        let newest = planned(&history, Wanted::default());
        assert_eq!(newest.0, ["e3", "e6", "e8"]);
        let to = Wanted {
            to: Some("e5"),
            ..Wanted::default()
        };
        assert_eq!(planned(&history, to).0, ["e3", "e4", "e5"]);
        let all = Wanted {
            from: Some("e2"),
            to: Some("e4"),
            ..Wanted::default()
        };
        assert_eq!(planned(&history, all).0, ["e2", "e3", "e4"]);
        let lost = Wanted {
            after_loss: Some("e3"),
            ..Wanted::default()
        };
        assert_eq!(planned(&history, lost).0, ["e1", "e2", "e3", "e6", "e8"]);
        let backwards = Wanted {
            from: Some("e4"),
            to: Some("e2"),
            ..Wanted::default()
        };
        assert_eq!(planned(&history, backwards).0.len(), 0);
        assert_eq!(planned(&[], Wanted::default()).0.len(), 0);
    }

    #[test]
    fn what_made_a_state_is_no_part_of_the_kernels() {
        let in_state = json!({"state": {"name": "tuned", "from": "e1"}});
        let history = [
            cell("e1", 1),
            with(cell("e2", 2), &in_state),
            cell("e3", 2),
            with(cell("e4", 1), &in_state),
        ];
        let (cells, left_out) = planned(&history, Wanted::default());
        assert_eq!(cells, ["e1", "e3"]);
        // Perhaps the kernel was restored to it: that is said.
        assert_eq!(left_out, ["e2 made a state of its own"]);
        let all = Wanted {
            from: Some("e1"),
            ..Wanted::default()
        };
        let (cells, left_out) = planned(&history, all);
        assert_eq!(cells, ["e1", "e3"]);
        assert_eq!(
            left_out,
            ["e2 made a state of its own", "e4 made a state of its own"]
        );
    }

    #[test]
    fn repetitions_are_not_repeated() {
        let by = |of: &str| json!({"submitted_by": submitter(of, None)});
        let history = [
            cell("e1", 1),
            cell("e2", 2),
            with(cell("e3", 1), &by("e1")),
            with(with(cell("e4", 2), &by("e2")), &json!({"status": "error"})),
            cell("e5", 3),
        ];
        assert_eq!(planned(&history, Wanted::default()).0, ["e1", "e2", "e5"]);
        // Unless what they repeated is not asked for.
        let from = Wanted {
            from: Some("e3"),
            ..Wanted::default()
        };
        assert_eq!(planned(&history, from).0, ["e3", "e5"]);
        // What ran in a kernel after the loss and before the replay belongs to the state too.
        let history = [
            cell("e1", 1),
            cell("e2", 2),
            cell("e3", 1),
            with(cell("e4", 1), &by("e1")),
            with(cell("e5", 2), &by("e2")),
        ];
        assert_eq!(planned(&history, Wanted::default()).0, ["e1", "e2", "e3"]);
        // In another session they are its own cells.
        let other = json!({"submitted_by": submitter("e2", Some("lab"))});
        let history = [with(cell("e1", 1), &other), with(cell("e2", 2), &other)];
        assert_eq!(planned(&history, Wanted::default()).0, ["e1", "e2"]);
    }

    #[test]
    fn what_did_not_succeed_is_left_out_unless_asked_for() {
        let error = |name: &str| json!({"status": "error", "outputs": [{"output_type": "error", "ename": name}]});
        let history = [
            cell("e1", 1),
            with(cell("e2", 2), &error("ValueError")),
            with(cell("e3", 3), &error("KeyboardInterrupt")),
            json!({"exec_id": "e4", "code": "x", "status": "orphaned", "started_at": 1.0}),
            json!({"exec_id": "e5", "code": "x", "status": "skipped"}),
            with(cell("e6", 4), &json!({"fold_state": null})),
        ];
        let (cells, left_out) = planned(&history, Wanted::default());
        assert_eq!(cells, ["e1"]);
        assert_eq!(
            left_out,
            [
                "e2 failed",
                "e3 interrupted",
                "e4 lost with its kernel",
                "e5 never ran",
                "e6 came with the project"
            ]
        );
        let failed_too = Wanted {
            failed_too: true,
            ..Wanted::default()
        };
        let (cells, left_out) = planned(&history, failed_too);
        assert_eq!(cells, ["e1", "e2", "e3", "e4"]);
        assert_eq!(left_out.len(), 2);
        let unknown = Wanted {
            from: Some("e9"),
            ..Wanted::default()
        };
        assert_eq!(Plan::of(&[], unknown).unwrap_err(), "e9");
    }
}
