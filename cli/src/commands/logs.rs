//! `tithon logs`: what supervisor, workers and kernels say about themselves.

use std::time::Duration;

use clap::Args;
use jiff::{Zoned, tz::TimeZone};
use serde_json::{Map, Value, json};

use super::print;
use crate::{
    arguments::{Moment, moment, session},
    error::CliError,
    exit::Exit,
    history::nearest,
    link::Link,
    logs::{Entry, Logs, Source},
    pager,
    render::log::Palette,
};

const EXAMPLES: &str = "\
Examples:
  tithon logs                     everything that is kept, in a pager
  tithon logs -f                  the last lines, and what comes
  tithon logs --session lab -n 50
  tithon logs --since 2h --json | jq -r 'select(.level == \"ERROR\").message'

This is about the program: starts, deaths, what failed. What cells printed is in
`tithon log`. Needs no supervisor. Under systemd, `journalctl --user -u tithon`
has the words of supervisor and workers as well.";

/// Between two looks at the logs while they are followed.
const POLL: Duration = Duration::from_millis(200);
/// Looks at the logs between two looks for new sessions.
const POLLS: usize = 10;
/// What is shown before what comes, unless somebody says how much.
const BEFORE: usize = 10;

/// Show the logs of supervisor, workers and kernels together
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,

    /// What concerns this session alone: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session)]
    session: Option<String>,

    /// The last N lines
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,

    /// Lines after this: 90s, 10m, 2h, 3d, or a date
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Moment>,

    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Prints the logs.
///
/// # Errors
/// When there is no such session, or a log cannot be read.
pub(crate) async fn run(args: &LogsArgs, link: &Link) -> Result<Exit, CliError> {
    let read = |source| CliError::Read {
        path: link.home().root().to_owned(),
        source,
    };
    let mut logs = Logs::of(link.home(), args.session.as_deref());
    if !logs.is_there() {
        return Err(unknown(args, link));
    }
    let mut entries = logs.read().map_err(read)?;
    if let Some(since) = &args.since {
        let since = since.before(&Zoned::now());
        entries.retain(|entry| entry.time.as_duration().as_secs_f64() >= since);
    }
    let default = args.follow && args.since.is_none();
    let last = args.last.or(default.then_some(BEFORE));
    let surplus = entries.len().saturating_sub(last.unwrap_or(usize::MAX));
    entries.drain(..surplus);
    let form = Form::of(args);
    if !args.follow {
        let text: String = entries
            .iter()
            .map(|entry| form.line(entry) + "\n")
            .collect();
        pager::show(&text)?;
        return Ok(Exit::Success);
    }
    for round in 1_usize.. {
        for entry in &entries {
            print(&form.line(entry))?;
        }
        tokio::time::sleep(POLL).await;
        if round % POLLS == 0 {
            logs.discover();
        }
        entries = logs.read().map_err(read)?;
    }
    Ok(Exit::Success)
}

fn unknown(args: &LogsArgs, link: &Link) -> CliError {
    let session = args.session.clone().unwrap_or_default();
    let names: Vec<_> = tithon_supervisor::directories(&link.home().sessions())
        .iter()
        .filter_map(|dir| tithon_ipc::files::Meta::read(dir).ok())
        .map(|meta| meta.session_id)
        .collect();
    CliError::NoSession {
        near: nearest(&session, names.iter().map(String::as_str)),
        session,
    }
}

/// How an entry is shown.
struct Form {
    json: bool,
    palette: Palette,
    zone: TimeZone,
}

impl Form {
    fn of(args: &LogsArgs) -> Self {
        Self {
            json: args.json,
            palette: Palette::of_stdout(),
            zone: TimeZone::system(),
        }
    }

    fn line(&self, entry: &Entry) -> String {
        let time = entry.time.to_zoned(self.zone.clone());
        if self.json {
            return object(entry, &time).to_string();
        }
        let stamp = time.strftime("%Y-%m-%d %H:%M:%S");
        let who = match &entry.source {
            Source::Supervisor => "supervisor".to_owned(),
            Source::Worker(session) => format!("worker {session}"),
            Source::Kernel(session) => format!("kernel {session}"),
        };
        let said = match entry.level.as_deref() {
            None => entry.words.to_string(),
            Some(level) => {
                let style = match level {
                    "ERROR" => "31",
                    "WARNING" => "33",
                    _ => "2",
                };
                format!("{} {}", self.palette.paint(style, level), entry.words)
            }
        };
        format!("{stamp},{:03} {who}: {said}", time.millisecond())
    }
}

fn object(entry: &Entry, time: &Zoned) -> Value {
    let source = match entry.source {
        Source::Supervisor => "supervisor",
        Source::Worker(_) => "worker",
        Source::Kernel(_) => "kernel",
    };
    let fields: Map<_, _> = entry
        .words
        .fields
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    json!({
        "time": time.strftime("%Y-%m-%dT%H:%M:%S.%3f%:z").to_string(),
        "source": source,
        "session": entry.session(),
        "level": entry.level,
        "logger": entry.logger,
        "message": entry.words.message,
        "fields": fields,
    })
}
