//! A session's history as a person reads it: a heading per execution, its code as at Python's
//! prompt, and what came of it.

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{output, units};
use crate::frames::Execution;

/// Lines of output shown of an execution among others, at its beginning and at its end.
const HEAD: usize = 8;
const TAIL: usize = 8;

/// How much of an output is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Its beginning and its end.
    Excerpt,
    /// Every line.
    Whole,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    /// As on a terminal.
    Colours,
    /// As in a file.
    Plain,
}

impl Palette {
    /// Colours standard output if it shows them.
    pub(crate) fn of_stdout() -> Self {
        match anstream::AutoStream::choice(&std::io::stdout()) {
            anstream::ColorChoice::Never => Self::Plain,
            _ => Self::Colours,
        }
    }

    /// The text in a style, given as the numbers of a select-graphic-rendition sequence.
    pub(crate) fn paint(self, style: &str, text: &str) -> String {
        match self {
            Self::Colours => format!("\x1b[{style}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// One execution with its code and outputs; ends with a newline.
pub(crate) fn execution(it: &Execution, now: &Zoned, palette: Palette, extent: Extent) -> String {
    let mut text = heading(it, now, palette);
    text.push('\n');
    text.push_str(&code(&it.code, palette));
    text.push_str(&outputs(it, palette, extent));
    text
}

/// `e12  done  14:03:22  took 3.2s  by tithon run`.
pub(crate) fn heading(it: &Execution, now: &Zoned, palette: Palette) -> String {
    let style = match it.status.as_str() {
        "done" => "32",
        "running" | "queued" => "33",
        _ => "31",
    };
    let mut parts = vec![
        palette.paint("1", &it.exec_id),
        palette.paint(style, &it.status),
    ];
    let at = it.started_at.or(it.finished_at);
    parts.extend(at.and_then(|at| moment(at, now)));
    parts.extend(match (it.started_at, it.finished_at) {
        (Some(from), Some(to)) => Some(format!("took {}", units::cpu(to - from))),
        (Some(from), None) if it.status == "running" => Some(format!(
            "for {}",
            units::span(now.timestamp().as_duration().as_secs_f64() - from)
        )),
        _ => None,
    });
    parts.extend(it.author().map(|who| format!("by {}", printable(who))));
    parts.extend(it.state.as_ref().map(|state| {
        let from = state.from.as_deref().unwrap_or("the kernel as it was");
        let name = printable(&state.name);
        match state.kept {
            Some(true) => format!("made '{name}' of {}", printable(from)),
            Some(false) => format!("in {}; nothing was kept", printable(from)),
            None => format!("makes '{name}' of {}", printable(from)),
        }
    }));
    parts.join("  ")
}

/// Code as at Python's prompt.
pub(crate) fn code(code: &str, palette: Palette) -> String {
    let mut text = String::new();
    for (number, line) in code.trim_end_matches('\n').split('\n').enumerate() {
        let mark = if number == 0 { ">>>" } else { "..." };
        text.push_str(&palette.paint("2", mark));
        text.push(' ');
        text.push_str(&printable(line));
        text.push('\n');
    }
    text
}

fn outputs(it: &Execution, palette: Palette, extent: Extent) -> String {
    let mut text = output::text(&it.outputs, palette);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    if extent == Extent::Whole || lines.len() <= HEAD + TAIL + 1 {
        return text;
    }
    let between = lines.len() - HEAD - TAIL;
    let gap = format!(
        "… {between} lines; tithon log --exec {} shows them",
        it.exec_id
    );
    let mut short = lines[..HEAD].concat();
    short.push_str(&palette.paint("2", &gap));
    short.push('\n');
    short.push_str(&lines[lines.len() - TAIL..].concat());
    short
}

/// The time of day, with the date if it was another day.
fn moment(seconds: f64, now: &Zoned) -> Option<String> {
    let at = zoned(seconds, now.time_zone())?;
    let form = match at.date() == now.date() {
        true => "%H:%M:%S",
        false => "%Y-%m-%d %H:%M:%S",
    };
    Some(at.strftime(form).to_string())
}

fn zoned(seconds: f64, zone: &TimeZone) -> Option<Zoned> {
    let since = jiff::SignedDuration::try_from_secs_f64(seconds).ok()?;
    Some(Timestamp::from_duration(since).ok()?.to_zoned(zone.clone()))
}

/// Somebody's text without what would move the cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        Timestamp::from_second(1_795_243_200)
            .unwrap()
            .to_zoned(TimeZone::UTC)
    }

    fn past(entry: &str) -> Execution {
        serde_json::from_str(entry).unwrap()
    }

    #[test]
    fn an_execution_reads_like_a_session_at_pythons_prompt() {
        let it = past(
            r#"{"exec_id": "e2", "code": "for i in range(2):\n    print(i)\n", "status": "done",
                "submitted_by": "tithon run", "started_at": 1795243100.0, "finished_at": 1795243103.2,
                "outputs": [{"output_type": "stream", "name": "stdout", "text": "0\n1"}]}"#,
        );
        let shown = execution(&it, &now(), Palette::Plain, Extent::Excerpt);
        assert_eq!(
            shown,
            "e2  done  06:38:20  took 3.2s  by tithon run\n\
             >>> for i in range(2):\n...     print(i)\n0\n1\n"
        );
    }

    #[test]
    fn what_runs_says_for_how_long_and_another_day_its_date() {
        let it = past(
            r#"{"exec_id": "e3", "code": "wait()", "status": "running", "started_at": 1795139520.0,
                "origin": {"uri": "file:///home/ada/train.py"}}"#,
        );
        assert_eq!(
            heading(&it, &now(), Palette::Plain),
            "e3  running  2026-11-20 01:52:00  for 1d04h  by train.py"
        );
        assert!(heading(&it, &now(), Palette::Colours).contains("\x1b[33mrunning"));
    }

    #[test]
    fn long_output_keeps_its_ends() {
        let lines: String = (0..100).map(|n| format!("line {n}\\n")).collect();
        let it = past(&format!(
            r#"{{"exec_id": "e1", "code": "\u001b[2J", "status": "error",
                "outputs": [{{"output_type": "stream", "name": "stdout", "text": "{lines}"}}]}}"#
        ));
        let shown = execution(&it, &now(), Palette::Plain, Extent::Excerpt);
        assert!(shown.contains("line 7\n… 84 lines; tithon log --exec e1 shows them\nline 92\n"));
        assert!(!shown.contains('\x1b'), "code moves no cursor");
        let whole = execution(&it, &now(), Palette::Plain, Extent::Whole);
        assert!(whole.contains("line 50\n") && !whole.contains('…'));
    }
}
