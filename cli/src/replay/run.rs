//! Running cells again one after another, and saying what came of each.

use serde_json::json;
use tithon_ipc::ids::session_flag;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use super::{compare::Comparison, plan};
use crate::{
    commands::{print, replay::refresh},
    error::CliError,
    exit::Exit,
    follow::{Follow, Mode, Stdin, Submission, Until},
    frames::{Execution, Item},
    history,
    link::{Bound, Link},
    render::{log::Palette, units, words},
};

/// Columns of code shown of a cell.
const CODE: usize = 48;

/// One replay.
pub(crate) struct Run<'a> {
    pub(crate) link: &'a Link,
    pub(crate) target: &'a Bound,
    /// The session whose cells they are.
    pub(crate) source: &'a str,
    pub(crate) keep_going: bool,
    pub(crate) verbose: bool,
    pub(crate) json: bool,
    pub(crate) stdin: Stdin,
    /// Whether the session gets a fresh kernel first.
    pub(crate) is_fresh: bool,
}

/// What came of a cell.
struct Came {
    result: Outcome,
    exec_id: Option<String>,
    seconds: f64,
    difference: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Same,
    Differs,
    /// The recorded output was cleared: there is nothing to compare.
    Cleared,
    Failed,
    Interrupted,
    Died,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Same => "ok",
            Self::Differs => "differs",
            Self::Cleared => "cleared",
            Self::Failed => "failed",
            Self::Interrupted => "stopped",
            Self::Died => "died",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Same => "32",
            Self::Differs | Self::Cleared => "33",
            _ => "31",
        }
    }
}

impl Run<'_> {
    /// Runs the cells in their order.
    ///
    /// # Errors
    /// When the kernel does not start, or what comes of a cell can no longer be learnt.
    pub(crate) async fn run(&self, cells: &[&Execution]) -> Result<Exit, CliError> {
        // Also between two cells, where nothing else listens for it.
        let mut ctrl_c = signal(SignalKind::interrupt()).map_err(|source| CliError::System {
            doing: "listen for Ctrl-C",
            source,
        })?;
        let began = Instant::now();
        if self.is_fresh {
            tokio::select! {
                Some(()) = ctrl_c.recv() => {
                    words::say("stopped before the first cell");
                    return Ok(Exit::Interrupted);
                }
                refreshed = refresh(self.link, self.target) => refreshed?,
            }
        }
        let comparison = Comparison::new();
        let mut ran = Vec::new();
        let mut stopped = None;
        for (at, cell) in cells.iter().enumerate() {
            let mut came = self.cell(cell, (at, cells.len()), &comparison).await?;
            if was_pressed(&mut ctrl_c).await && came.result != Outcome::Died {
                came.result = match came.result {
                    Outcome::Failed => Outcome::Interrupted,
                    ended => ended,
                };
                stopped = Some(Exit::Interrupted);
            }
            self.show(cell, &came)?;
            ran.push(came.result);
            stopped = match came.result {
                Outcome::Died => Some(Exit::KernelLost),
                Outcome::Interrupted => stopped.or(Some(Exit::Interrupted)),
                Outcome::Failed if !self.keep_going => stopped.or(Some(Exit::Failure)),
                _ => stopped,
            };
            if stopped.is_some() {
                break;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        words::say(&self.summary(cells, &ran, stopped, seconds));
        let has = |outcome| ran.contains(&outcome);
        Ok(match stopped {
            Some(exit) => exit,
            None if has(Outcome::Failed) => Exit::Failure,
            None if has(Outcome::Differs) => Exit::Differs,
            None => Exit::Success,
        })
    }

    async fn cell(
        &self,
        cell: &Execution,
        (at, of): (usize, usize),
        comparison: &Comparison,
    ) -> Result<Came, CliError> {
        let submission = Submission {
            code: cell.code.clone(),
            submitted_by: plan::submitter(&cell.exec_id, self.elsewhere()),
            origin: cell.origin.clone(),
            stdin: self.stdin,
            until: Until::Ended,
            state: None,
        };
        let mode = if self.verbose {
            Mode::Text
        } else {
            Mode::Silent
        };
        let label = format!(
            "{} of {of}: {}  {}",
            at + 1,
            cell.exec_id,
            excerpt(&cell.code)
        );
        let began = Instant::now();
        let mut follow = Follow::new(self.link, self.target, submission, mode)
            .keeping()
            .labelled(label);
        let exit = follow.run().await?;
        let seconds = began.elapsed().as_secs_f64();
        let exec_id = follow.exec_id().map(str::to_owned);
        let outputs = match (follow.kept(), &exec_id) {
            (Some(outputs), _) => outputs,
            (None, Some(exec_id)) => self.shown(exec_id).await?,
            (None, None) => Vec::new(),
        };
        drop(follow);
        let recorded = (&*cell.outputs, cell.started_at.unwrap_or(0.0));
        let now = jiff::Timestamp::now().as_duration().as_secs_f64();
        let difference = comparison.difference(recorded, (&outputs, now));
        let failed_before = cell.status == "error";
        let result = match exit {
            Exit::Success if failed_before => Outcome::Differs,
            Exit::Success | Exit::Failure
                if difference.is_some()
                    && failed_before == (exit == Exit::Failure)
                    && self.was_cleared(cell).await? =>
            {
                Outcome::Cleared
            }
            // It failed the first time as well, and for the same reason.
            Exit::Success | Exit::Failure if difference.is_none() => Outcome::Same,
            Exit::Success => Outcome::Differs,
            Exit::Interrupted => Outcome::Interrupted,
            Exit::KernelLost => Outcome::Died,
            _ => Outcome::Failed,
        };
        Ok(Came {
            result,
            exec_id,
            seconds,
            difference: difference.filter(|_| result != Outcome::Cleared),
        })
    }

    async fn was_cleared(&self, cell: &Execution) -> Result<bool, CliError> {
        if !cell.outputs.is_empty() {
            return Ok(false);
        }
        let source = self.link.bound(self.source, None, None);
        let cleared = history::cleared(self.link, &source).await?;
        Ok(cleared.contains(&cell.exec_id))
    }

    /// The session whose cells they are, if they run in another.
    fn elsewhere(&self) -> Option<&str> {
        (self.source != self.target.session()).then_some(self.source)
    }

    /// What an execution shows, by the journal.
    async fn shown(&self, exec_id: &str) -> Result<Vec<Item>, CliError> {
        let history = history::read(self.link, self.target).await?;
        let mut executions = history.executions.into_iter().map(|it| it.execution);
        let found = executions.find(|it| it.exec_id == exec_id);
        Ok(found.map(|it| it.outputs).unwrap_or_default())
    }

    fn show(&self, cell: &Execution, came: &Came) -> Result<(), CliError> {
        if self.json {
            let told = json!({
                "exec_id": cell.exec_id,
                "replayed_as": came.exec_id,
                "result": came.result.word(),
                "seconds": (came.seconds * 1000.0).round() / 1000.0,
                "difference": came.difference,
            });
            return print(&told.to_string());
        }
        let palette = Palette::of_stdout();
        let word = palette.paint(came.result.colour(), &format!("{:7}", came.result.word()));
        print(&line(
            &word,
            cell,
            came.exec_id.as_deref(),
            Some(came.seconds),
        ))?;
        if came.result == Outcome::Cleared {
            let why = "its output was cleared: there is nothing to compare with";
            print(&format!("    {}", palette.paint("2", why)))?;
        }
        // With --verbose an error has been read already; what differs is seen best side by side.
        if let Some(difference) = &came.difference
            && came.result != Outcome::Interrupted
        {
            for line in difference.lines() {
                let style = match line.as_bytes().first() {
                    Some(b'+') => "32",
                    Some(b'-') => "31",
                    _ => "2",
                };
                print(&format!("    {}", palette.paint(style, line)))?;
            }
        }
        Ok(())
    }

    fn summary(
        &self,
        cells: &[&Execution],
        ran: &[Outcome],
        stopped: Option<Exit>,
        seconds: f64,
    ) -> String {
        let count = |outcome| ran.iter().filter(|ran| **ran == outcome).count();
        let mut parts = vec![format!("{} ok", count(Outcome::Same))];
        for outcome in [Outcome::Differs, Outcome::Cleared, Outcome::Failed] {
            if count(outcome) > 0 {
                parts.push(format!("{} {}", count(outcome), outcome.word()));
            }
        }
        let mut words = format!(
            "{} of {} cells ran in {}: {}",
            ran.len(),
            cells.len(),
            units::cpu(seconds),
            parts.join(", ")
        );
        let Some((at, last)) = ran.len().checked_sub(1).map(|at| (at, ran[at])) else {
            return words;
        };
        if stopped.is_none() {
            return words;
        }
        let is_done = matches!(last, Outcome::Same | Outcome::Differs | Outcome::Cleared);
        words.push_str(&match last {
            Outcome::Died => format!("; the kernel was lost in {}", cells[at].exec_id),
            Outcome::Failed => format!("; stopped at {}, which failed", cells[at].exec_id),
            _ if is_done => format!("; stopped after {}", cells[at].exec_id),
            _ => format!("; stopped in {}", cells[at].exec_id),
        });
        let next = cells.get(at + usize::from(is_done));
        if let Some(next) = next.filter(|_| last != Outcome::Died)
            && self.elsewhere().is_none()
        {
            let named = session_flag(self.source);
            words.push_str(&format!(
                "\nhint: tithon replay{named} --from {}{} --keep-kernel goes on",
                next.exec_id,
                match cells.last() {
                    Some(last) => format!(" --to {}", last.exec_id),
                    None => String::new(),
                }
            ));
        }
        words
    }
}

/// `ok      e3   → e23     0.3s  df = load()`.
pub(crate) fn line(
    word: &str,
    cell: &Execution,
    again: Option<&str>,
    seconds: Option<f64>,
) -> String {
    let again = again.map(|again| format!("→ {again}")).unwrap_or_default();
    let seconds = seconds.map(units::cpu).unwrap_or_default();
    let line = format!(
        "{:5} {again:7} {seconds:>6}  {}",
        cell.exec_id,
        excerpt(&cell.code)
    );
    match word {
        "" => line,
        word => format!("{word} {line}"),
    }
}

/// A cell's first line that says something, without what would move the cursor.
fn excerpt(code: &str) -> String {
    let mut lines = code.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default().trim_end();
    let mut shown: String = first
        .chars()
        .take(CODE)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if lines.next().is_some() || first.chars().count() > CODE {
        shown.push_str(" …");
    }
    shown
}

/// Whether Ctrl-C was pressed since this was last asked.
async fn was_pressed(ctrl_c: &mut Signal) -> bool {
    tokio::select! {
        biased;
        pressed = ctrl_c.recv() => pressed.is_some(),
        () = std::future::ready(()) => false,
    }
}
