//! `tithon log`: what a session has run, as a person reads it.

use clap::Args;
use jiff::Zoned;

use super::{full, print};
use crate::{
    arguments::{Moment, moment, session},
    error::CliError,
    exit::Exit,
    frames::Execution,
    history,
    link::Link,
    pager,
    render::{
        json::indented,
        log::{self, Extent, Palette},
        output, words,
    },
};

const EXAMPLES: &str = "\
Examples:
  tithon log                      everything, newest last, in a pager
  tithon log -n 3                 the last three cells
  tithon log --exec e12           one cell with its output, a very long one shortened
  tithon log --exec e12 --full    all of it, as it came
  tithon log --since 2h --grep loss
  tithon log --json | jq -r '.[] | select(.status == \"error\").exec_id'

The kernel is not needed and not started. --grep looks at code and output, and
minds upper and lower case if the pattern has upper case. Long text goes through
$TITHON_PAGER, $PAGER or less.";

/// Show what a session has run: code, times, author and output
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    /// This execution alone, with its output; one beyond a MB is shown by its two ends
    #[arg(long, value_name = "EXEC")]
    exec: Option<String>,

    /// With --exec: everything that it put out, from the journal, also what was cleared since
    #[arg(long, requires = "exec", conflicts_with = "json")]
    full: bool,

    /// Executions whose code or output has this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,

    /// Executions that ended after this: 90s, 10m, 2h, 3d, or a date
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Moment>,

    /// The last N of them
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,

    /// The executions as a JSON list, as a snapshot has them
    #[arg(long)]
    json: bool,
}

/// Prints the history.
///
/// # Errors
/// When there is no such session or execution, or it cannot be read.
pub(crate) async fn run(args: &LogArgs, link: &Link) -> Result<Exit, CliError> {
    let bound = link.bound(&args.session, None, None);
    let history = history::read(link, &bound).await?;
    let now = Zoned::now();
    if let Some(exec_id) = &args.exec {
        let execution = history.choose(&args.session, Some(exec_id))?;
        if args.full {
            full::show(link, &bound, execution, &now).await?;
            return Ok(Exit::Success);
        }
    }
    let since = args.since.as_ref().map(|since| since.before(&now));
    let mut chosen = history.executions;
    chosen.retain(|past| matches(args, &past.execution, since));
    let surplus = chosen.len().saturating_sub(args.last.unwrap_or(usize::MAX));
    chosen.drain(..surplus);
    if args.json {
        let entries: Vec<_> = chosen.iter().map(|past| past.text.get()).collect();
        print(&indented(&format!("[{}]", entries.join(","))))?;
        return Ok(Exit::Success);
    }
    if !history.is_inhabited {
        for past in &mut chosen {
            // Nobody is there to end what was open when its worker went.
            if past.execution.is_open() {
                "lost".clone_into(&mut past.execution.status);
            }
        }
    }
    let extent = match args.exec {
        Some(_) => Extent::Whole,
        None => Extent::Excerpt,
    };
    let palette = Palette::of_stdout();
    let shown: Vec<_> = chosen
        .iter()
        .map(|past| log::execution(&past.execution, &now, palette, extent))
        .collect();
    let shown = shown.join("\n");
    pager::show(&shown)?;
    if let Some(exec_id) = args.exec.as_ref().filter(|_| shown.contains(LEFT_OUT)) {
        let full = link.suggested(&format!("log --exec {exec_id} --full"), &args.session);
        words::say(&format!("some of its output is left out\nhint: {full}"));
    }
    Ok(Exit::Success)
}

/// What a fold says where it leaves something out.
const LEFT_OUT: &str = " not shown here; the journal has all of ";

fn matches(args: &LogArgs, execution: &Execution, since: Option<f64>) -> bool {
    let by_id = args.exec.as_ref().is_none_or(|id| *id == execution.exec_id);
    // What has not ended yet is always recent.
    let ended = execution.finished_at.unwrap_or(f64::MAX);
    by_id
        && since.is_none_or(|since| ended >= since)
        && args.grep.as_deref().is_none_or(|pattern| {
            contains(&execution.code, pattern)
                || contains(&output::text(&execution.outputs, Palette::Plain), pattern)
        })
}

/// Whether the text has the pattern; a pattern in lower case stands for any case.
fn contains(text: &str, pattern: &str) -> bool {
    if pattern.chars().any(char::is_uppercase) {
        text.contains(pattern)
    } else {
        text.to_lowercase().contains(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_in_lower_case_stand_for_any_case() {
        for (text, pattern, found) in [
            ("ValueError: no", "valueerror", true),
            ("ValueError: no", "ValueError", true),
            ("valueerror", "ValueError", false),
            ("", "x", false),
        ] {
            assert_eq!(contains(text, pattern), found, "{text} {pattern}");
        }
    }
}
