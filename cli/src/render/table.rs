//! The table of sessions: aligned, without borders, and as wide as the terminal at most.
//!
//! A narrow terminal loses the least telling columns first, then the middle of long names.

use std::path::Path;

use anstream::adapter::strip_str;
use comfy_table::{Cell, CellAlignment, Color, Table, presets};
use serde::Deserialize;
use tithon_ipc::naming::percent_decoded;

use super::units;

/// A session's status as far as the table shows it; older servers leave out what they do not know.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Session {
    session: String,
    state: Option<String>,
    kernel_status: Option<String>,
    language: Option<String>,
    kernel_name: Option<String>,
    kernel_python: Option<String>,
    kernel_pid: Option<i64>,
    worker_pid: Option<i64>,
    worker_version: Option<String>,
    launch_why: Option<String>,
    workdir: Option<String>,
    memory_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
    queue_len: Option<u64>,
    clients: Option<u64>,
    idle_seconds: Option<f64>,
    created_at: Option<f64>,
    connection_file: Option<String>,
    unit: Option<String>,
    detached_because: Option<String>,
    running: Option<Running>,
}

impl Session {
    /// The session's name, as every command takes it.
    pub(crate) fn name(&self) -> &str {
        &self.session
    }
}

/// The execution in progress.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Running {
    exec_id: String,
    started_at: Option<f64>,
}

/// Where and how the table is shown.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    /// Columns of the terminal; `None` where nothing limits a line.
    pub(crate) width: Option<usize>,
    /// Whether the reader shows colours.
    pub(crate) colour: bool,
    /// Every column, and names in full.
    pub(crate) wide: bool,
    /// Now, in seconds since 1970.
    pub(crate) now: f64,
    /// The user's home, shown as `~`.
    pub(crate) home: Option<&'a Path>,
}

/// A name shorter than this no longer tells sessions apart.
const NAME_MIN: usize = 16;
/// A longer name is shortened even where nothing limits a line: every other would be padded to it.
const NAME_MAX: usize = 60;

struct Column {
    title: &'static str,
    align: CellAlignment,
    /// The highest goes first when the terminal is narrow; 0 stays.
    expendable: u8,
    wide_only: bool,
    text: fn(&Session, &Look<'_>) -> String,
}

const fn left(
    title: &'static str,
    expendable: u8,
    text: fn(&Session, &Look<'_>) -> String,
) -> Column {
    Column {
        title,
        align: CellAlignment::Left,
        expendable,
        wide_only: false,
        text,
    }
}

const fn right(
    title: &'static str,
    expendable: u8,
    text: fn(&Session, &Look<'_>) -> String,
) -> Column {
    Column {
        align: CellAlignment::Right,
        ..left(title, expendable, text)
    }
}

const fn wide(title: &'static str, text: fn(&Session, &Look<'_>) -> String) -> Column {
    Column {
        wide_only: true,
        ..left(title, 0, text)
    }
}

const NAME: usize = 0;
const STATE: usize = 1;

const COLUMNS: &[Column] = &[
    left("SESSION", 0, name),
    left("STATE", 0, |s, _| state(s).to_owned()),
    left("KERNEL", 1, |s, _| kernel(s)),
    right("WORKER", 7, |s, _| or_dash(s.worker_pid)),
    right("MEMORY", 2, |s, _| {
        or_dash(s.memory_bytes.map(units::bytes))
    }),
    right("CPU", 3, |s, _| or_dash(s.cpu_seconds.map(units::cpu))),
    right("QUEUE", 4, |s, _| or_dash(s.queue_len)),
    right("CLIENTS", 6, |s, _| or_dash(s.clients)),
    right("IDLE", 5, |s, _| idle(s)),
    right("AGE", 8, |s, look| {
        or_dash(s.created_at.map(|at| units::span(look.now - at)))
    }),
    wide("RUNNING", running),
    wide("SPEC", |s, _| or_dash(s.kernel_name.as_deref())),
    wide("WHY", |s, _| or_dash(s.launch_why.as_deref())),
    wide("UNIT", |s, _| unit(s)),
    wide("VERSION", |s, _| or_dash(s.worker_version.as_deref())),
    wide("DIRECTORY", |s, look| {
        or_dash(s.workdir.as_deref().map(|dir| tilde(dir, look.home)))
    }),
    // In full: it is there to be copied behind `jupyter console --existing`.
    wide("CONNECTION FILE", |s, _| {
        or_dash(s.connection_file.as_deref())
    }),
];

/// Lays out the table, without a newline behind its last line.
pub(crate) fn sessions(sessions: &[Session], look: &Look<'_>) -> String {
    let mut columns: Vec<usize> = (0..COLUMNS.len())
        .filter(|&at| look.wide || !COLUMNS[at].wide_only)
        .collect();
    loop {
        let unlimited = match look.wide {
            true => usize::MAX,
            false => NAME_MAX,
        };
        let table = draw(sessions, &columns, look, unlimited);
        let excess = match look.width {
            Some(width) if !look.wide => line_width(&table).saturating_sub(width),
            _ => 0,
        };
        if excess == 0 {
            return table;
        }
        let last = columns
            .iter()
            .copied()
            .max_by_key(|&at| COLUMNS[at].expendable);
        match last.filter(|&at| COLUMNS[at].expendable > 0) {
            // A shortened name says more than a column lost, as long as it tells sessions apart.
            Some(at) if shortest_names(sessions, look, excess) < NAME_MIN => {
                columns.retain(|&kept| kept != at);
            }
            _ => {
                let limit = shortest_names(sessions, look, excess).max(NAME_MIN);
                return draw(sessions, &columns, look, limit);
            }
        }
    }
}

/// How long names may be so that the table loses `excess` columns.
fn shortest_names(sessions: &[Session], look: &Look<'_>, excess: usize) -> usize {
    let longest = sessions.iter().map(|s| name(s, look).chars().count()).max();
    longest.unwrap_or(0).min(NAME_MAX).saturating_sub(excess)
}

fn draw(sessions: &[Session], columns: &[usize], look: &Look<'_>, name_max: usize) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if look.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(columns.iter().map(|&at| COLUMNS[at].title));
    for session in sessions {
        table.add_row(columns.iter().map(|&at| {
            let text = (COLUMNS[at].text)(session, look);
            match at {
                NAME => Cell::new(shortened(&text, name_max)),
                STATE => match colour(&text) {
                    Some(colour) => Cell::new(text).fg(colour),
                    None => Cell::new(text),
                },
                _ => Cell::new(text),
            }
        }));
    }
    let alignments = columns.iter().map(|&at| COLUMNS[at].align);
    lay_out(table, alignments)
}

/// A table of text without borders, as wide as it comes; without a newline behind its last line.
pub(crate) fn of_text<const N: usize>(
    header: [&str; N],
    alignments: [CellAlignment; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.force_no_tty();
    table.set_header(header);
    table.add_rows(rows);
    lay_out(table, alignments.into_iter())
}

fn lay_out(mut table: Table, alignments: impl Iterator<Item = CellAlignment>) -> String {
    for (at, (column, alignment)) in table.column_iter_mut().zip(alignments).enumerate() {
        column.set_cell_alignment(alignment);
        column.set_padding(if at == 0 { (0, 1) } else { (1, 1) });
    }
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

fn line_width(table: &str) -> usize {
    let plain = strip_str(table).to_string();
    plain
        .lines()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A file URI as the path it means; other names as they are.
fn name(session: &Session, look: &Look<'_>) -> String {
    let id = &session.session;
    let shown = match id.strip_prefix("file://") {
        Some(path) if !look.wide => tilde(&percent_decoded(path), look.home),
        _ => id.clone(),
    };
    shown
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn tilde(path: &str, home: Option<&Path>) -> String {
    match home.map(|home| Path::new(path).strip_prefix(home)) {
        Some(Ok(below)) if below.as_os_str().is_empty() => "~".to_owned(),
        Some(Ok(below)) => format!("~/{}", below.display()),
        _ => path.to_owned(),
    }
}

/// The name with its middle left out; its end, the file's name, tells most.
fn shortened(name: &str, max: usize) -> String {
    let length = name.chars().count();
    if length <= max {
        return name.to_owned();
    }
    let start = max / 4;
    let end = max.saturating_sub(start + 1);
    name.chars()
        .take(start)
        .chain(['…'])
        .chain(name.chars().skip(length - end))
        .collect()
}

fn state(session: &Session) -> &str {
    let known = session
        .state
        .as_deref()
        .or(session.kernel_status.as_deref());
    known.unwrap_or("unknown")
}

fn colour(state: &str) -> Option<Color> {
    match state {
        "idle" => Some(Color::Green),
        "busy" => Some(Color::Yellow),
        "starting" => Some(Color::Cyan),
        "dead" | "failed" => Some(Color::Red),
        "stopped" => Some(Color::DarkGrey),
        _ => None,
    }
}

/// Language, its version and the process: `python 3.12.4 (4711)`.
fn kernel(session: &Session) -> String {
    let version = session.kernel_python.as_deref();
    let language = session.language.as_deref().or(version.map(|_| "python"));
    let pid = session.kernel_pid.map(|pid| format!("({pid})"));
    let parts = [language, version, pid.as_deref()];
    let known: Vec<_> = parts.into_iter().flatten().collect();
    if known.is_empty() {
        "-".to_owned()
    } else {
        known.join(" ")
    }
}

/// The unit of the service manager, or why there is none.
fn unit(session: &Session) -> String {
    match (&session.unit, &session.detached_because) {
        (Some(unit), _) => unit.clone(),
        (None, Some(why)) => format!("detached: {why}"),
        (None, None) => "-".to_owned(),
    }
}

fn idle(session: &Session) -> String {
    match state(session) {
        "busy" | "stopped" => "-".to_owned(),
        _ => or_dash(session.idle_seconds.map(units::span)),
    }
}

fn running(session: &Session, look: &Look<'_>) -> String {
    or_dash(
        session
            .running
            .as_ref()
            .map(|running| match running.started_at {
                Some(at) => format!("{} for {}", running.exec_id, units::span(look.now - at)),
                None => running.exec_id.clone(),
            }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(width: Option<usize>) -> Look<'static> {
        Look {
            width,
            colour: false,
            wide: false,
            now: 1000.0,
            home: Some(Path::new("/home/ada")),
        }
    }

    fn three() -> Vec<Session> {
        serde_json::from_str(
            r#"[
            {"session": "default", "state": "idle", "language": "python", "kernel_python": "3.12.4",
             "kernel_pid": 4711, "worker_pid": 4700, "memory_bytes": 117440512, "cpu_seconds": 3.21,
             "queue_len": 0, "clients": 1, "idle_seconds": 7.4, "created_at": 100.0, "running": null},
            {"session": "file:///home/ada/papers/2026/long/train%20it.py", "state": "busy",
             "language": "julia", "kernel_python": "1.11", "kernel_pid": 4800, "worker_pid": 4790,
             "memory_bytes": 5368709120, "cpu_seconds": 7500, "queue_len": 3, "clients": 0,
             "idle_seconds": 0.0, "created_at": 0, "running": {"exec_id": "e9", "started_at": 940.0},
             "workdir": "/home/ada/papers", "kernel_name": "julia", "launch_why": "asked for"},
            {"session": "old", "kernel_status": "dead", "kernel_pid": 5, "queue_len": 0, "from_the_future": 1}
            ]"#,
        )
        .unwrap()
    }

    #[test]
    fn one_long_name_does_not_widen_the_others() {
        let mut long = three();
        long[2].session = "x".repeat(4000);
        for width in [None, Some(300), Some(80)] {
            let shown = sessions(&long, &look(width));
            let most = width.unwrap_or(160).min(160);
            assert!(line_width(&shown) <= most, "{width:?}\n{shown}");
            assert!(
                shown.contains("train it.py") && shown.contains("xxx…xxx"),
                "{shown}"
            );
        }
        let wide = Look {
            wide: true,
            ..look(Some(80))
        };
        assert!(sessions(&long, &wide).contains(&"x".repeat(4000)));
    }

    #[test]
    fn the_table_is_aligned() {
        let expected = "\
SESSION                            STATE  KERNEL                 WORKER   MEMORY    CPU  QUEUE  CLIENTS  IDLE     AGE
default                            idle   python 3.12.4 (4711)     4700  112 MiB   3.2s      0        1    7s  15m00s
~/papers/2026/long/train it.py     busy   julia 1.11 (4800)        4790  5.0 GiB  2h05m      3        0     -  16m40s
old                                dead   (5)                         -        -      -      0        -     -       -";
        let shown = sessions(&three(), &look(None));
        let words = |text: &str| -> Vec<Vec<String>> {
            text.lines()
                .map(|line| {
                    line.split("  ")
                        .filter(|w| !w.is_empty())
                        .map(|w| w.trim().to_owned())
                        .collect()
                })
                .collect()
        };
        assert_eq!(words(&shown), words(expected), "{shown}");
        let widths: Vec<_> = shown
            .lines()
            .map(str::trim_end)
            .map(|l| l.chars().count())
            .collect();
        assert!(
            widths.iter().all(|width| *width == widths[0]),
            "right-aligned to one edge: {shown}"
        );
    }

    #[test]
    fn a_narrow_terminal_keeps_names_states_and_one_line_each() {
        for width in [120, 100, 80, 60, 40, 30] {
            let shown = sessions(&three(), &look(Some(width)));
            assert_eq!(shown.lines().count(), 4, "{shown}");
            assert!(line_width(&shown) <= width, "{width}: {shown}");
            assert!(
                shown.contains("train it.py") && shown.contains("busy"),
                "{shown}"
            );
        }
    }

    #[test]
    fn wide_shows_everything() {
        let shown = sessions(
            &three(),
            &Look {
                wide: true,
                ..look(Some(40))
            },
        );
        for part in [
            "file:///home/ada/papers/2026/long/train%20it.py",
            "e9 for 1m00s",
            "asked for",
            "~/papers",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn colours_are_for_those_who_see_them() {
        let coloured = sessions(
            &three(),
            &Look {
                colour: true,
                ..look(None)
            },
        );
        assert!(coloured.contains('\x1b'));
        assert_eq!(
            strip_str(&coloured).to_string().trim_end(),
            sessions(&three(), &look(None))
        );
    }

    #[test]
    fn hostile_names_stay_on_their_line() {
        let hostile = Session {
            session: "a\n\x1b[2Jb".to_owned(),
            ..Session::default()
        };
        let shown = sessions(&[hostile], &look(None));
        assert_eq!(shown.lines().count(), 2);
        assert!(!shown.contains('\x1b'));
    }
}
