//! One log as a source of entries: its lines read, dated, and told apart from what is only a note for
//! the reader.

use std::{collections::HashMap, fs, io, path::PathBuf, rc::Rc};

use jiff::{Timestamp, tz::TimeZone};
use tithon_ipc::logs;

use super::{
    Entry, Source,
    tail::{Found, Tail},
};
use crate::logging::line::{Line, Words};

/// Whose log it is.
pub(super) enum Speaker {
    Supervisor,
    /// A worker, and its kernel, whose words it dates.
    Worker(Box<Origin>),
    Kernel,
}

pub(super) struct Origin {
    speaker: Speaker,
    session: Rc<str>,
    path: PathBuf,
    tail: Tail,
    /// The latest time so far.
    latest: Timestamp,
    /// For a kernel: by inode, until which byte words were written and when.
    dates: HashMap<u64, Vec<(u64, Timestamp)>>,
}

impl Origin {
    pub(super) fn new(speaker: Speaker, path: PathBuf) -> Self {
        // The space of a kernel's older words was given back.
        let newest = match speaker {
            Speaker::Kernel => logs::size().saturating_mul(2),
            _ => u64::MAX,
        };
        Self {
            speaker,
            session: "".into(),
            tail: Tail::new(path.clone(), newest),
            path,
            latest: Timestamp::UNIX_EPOCH,
            dates: HashMap::new(),
        }
    }

    /// Says which session it belongs to.
    pub(super) fn of(mut self, session: Rc<str>) -> Self {
        if let Speaker::Worker(kernel) = &mut self.speaker {
            kernel.session = Rc::clone(&session);
        }
        self.session = session;
        self
    }

    /// Appends what is new.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) fn read(&mut self, zone: &TimeZone, entries: &mut Vec<Entry>) -> io::Result<()> {
        let source = match self.speaker {
            Speaker::Supervisor => Source::Supervisor,
            Speaker::Worker(_) => Source::Worker(Rc::clone(&self.session)),
            Speaker::Kernel => return self.read_kernel(entries),
        };
        let latest = &mut self.latest;
        let speaker = &mut self.speaker;
        self.tail.read(&mut |found| {
            if found.text.is_empty() {
                // What follows a line that a full disk cut short.
                return;
            }
            let text = String::from_utf8_lossy(found.text);
            let mut entry = Entry {
                order: *latest,
                time: *latest,
                source: source.clone(),
                level: None,
                logger: None,
                words: Words::default(),
            };
            match Line::parse(&text) {
                Some(line) => {
                    let words = line.words();
                    if let Speaker::Worker(kernel) = speaker
                        && words.message == logs::KERNEL_WROTE
                    {
                        return kernel.date(&words);
                    }
                    entry.time = line
                        .time
                        .to_zoned(zone.clone())
                        .map_or(*latest, |time| time.timestamp());
                    *latest = entry.time.max(*latest);
                    entry.order = *latest;
                    entry.level = Some(line.level.to_owned());
                    entry.logger = Some(line.logger.to_owned());
                    entry.words = words;
                }
                // A panic's words, or those of a library's C code: right after what came before.
                None => entry.words.message = text.into_owned(),
            }
            entries.push(entry);
        })?;
        match &mut self.speaker {
            Speaker::Worker(kernel) => kernel.read_kernel(entries),
            _ => Ok(()),
        }
    }

    /// Notes when words were written.
    fn date(&mut self, words: &Words) {
        let number = |name| words.field(name)?.parse::<u64>().ok();
        let at = words.field("at").and_then(|at| at.parse::<f64>().ok());
        let time = at.and_then(|at| {
            let span = jiff::SignedDuration::try_from_secs_f64(at).ok()?;
            Timestamp::from_duration(span).ok()
        });
        if let (Some(inode), Some(to), Some(time)) = (number("inode"), number("to"), time) {
            self.dates.entry(inode).or_default().push((to, time));
        }
    }

    fn read_kernel(&mut self, entries: &mut Vec<Entry>) -> io::Result<()> {
        let written = fs::metadata(&self.path)
            .and_then(|found| found.modified())
            .ok()
            .and_then(|time| Timestamp::try_from(time).ok())
            .unwrap_or_else(Timestamp::now);
        let (latest, dates) = (&mut self.latest, &self.dates);
        let source = Source::Kernel(Rc::clone(&self.session));
        self.tail.read(&mut |Found {
                                 text,
                                 inode,
                                 offset,
                             }| {
            // Where the space was given back the file reads as zeros.
            let begin = text.iter().position(|byte| *byte != 0);
            let Some(begin) = begin else { return };
            let said = String::from_utf8_lossy(&text[begin..]);
            let said = said.trim_end_matches('\r');
            let at = offset + begin as u64;
            let time = dates
                .get(&inode)
                .and_then(|dates| dates.iter().find(|(to, _)| *to > at))
                .map_or(written, |(_, time)| *time);
            *latest = time.max(*latest);
            entries.push(Entry {
                order: *latest,
                time,
                source: source.clone(),
                level: None,
                logger: None,
                words: Words {
                    message: anstream::adapter::strip_str(said).to_string(),
                    fields: Vec::new(),
                },
            });
        })
    }
}
