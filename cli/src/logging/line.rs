//! One line of a log: how it is written, and how it is read back.
//!
//! `YYYY-mm-dd HH:MM:SS,mmm logger LEVEL message key=value …`, in local time. A value with a space in
//! it is quoted as in JSON, and nothing in a line ends it: what was one event is one line.

use std::fmt::{self, Write as _};

use jiff::{Zoned, civil::DateTime};
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// Bytes of `YYYY-mm-dd HH:MM:SS,mmm`.
const STAMP: usize = 23;

/// What an event says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// The sentence.
    pub(crate) message: String,
    /// What it is about, in the order of the program's text.
    pub(crate) fields: Vec<(String, String)>,
}

impl Words {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut words = Self::default();
        event.record(&mut words);
        words
    }

    /// A field's value.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(key, _)| key == name)?;
        Some(value)
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.fields.push((name.to_owned(), value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Message and fields, as a line ends.
impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.message.chars() {
            match c {
                '\n' => f.write_str("\\n")?,
                c if c.is_control() && c != '\t' => write!(f, "{}", c.escape_default())?,
                c => f.write_char(c)?,
            }
        }
        for (key, value) in &self.fields {
            let bare = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
            if !value.is_empty() && value.chars().all(bare) {
                write!(f, " {key}={value}")?;
            } else {
                let quoted = serde_json::Value::from(value.as_str());
                write!(f, " {key}={quoted}")?;
            }
        }
        Ok(())
    }
}

/// The line of an event, with its end.
pub(super) fn compose(now: &Zoned, target: &str, level: Level, words: &Words) -> String {
    format!(
        "{},{:03} {} {} {words}\n",
        now.strftime("%Y-%m-%d %H:%M:%S"),
        now.millisecond(),
        logger(target),
        name(level)
    )
}

/// `tithon.supervisor.listen` for the module `tithon_supervisor::listen`.
pub(super) fn logger(target: &str) -> String {
    target.replace("::", ".").replacen("tithon_", "tithon.", 1)
}

fn name(level: Level) -> &'static str {
    match level {
        Level::WARN => "WARNING",
        other => other.as_str(),
    }
}

/// A line that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// In local time.
    pub(crate) time: DateTime,
    pub(crate) logger: &'a str,
    pub(crate) level: &'a str,
    /// Message and fields as they stand.
    pub(crate) text: &'a str,
}

impl<'a> Line<'a> {
    /// Reads a line; `None` for one of another form, such as a panic's.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let (stamp, rest) = line.split_at_checked(STAMP)?;
        let (date, time) = stamp.split_once(' ')?;
        let time = format!("{date}T{}", time.replace(',', ".")).parse().ok()?;
        let (logger, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
        let (level, text) = rest.split_once(' ')?;
        Some(Self {
            time,
            logger,
            level,
            text,
        })
    }

    /// The message and its fields.
    pub(crate) fn words(&self) -> Words {
        // The fields are whatever reads as nothing but fields up to the end.
        let begins = self.text.match_indices(' ').map(|(at, _)| at);
        for at in begins {
            if let Some(fields) = fields(&self.text[at..]) {
                return Words {
                    message: self.text[..at].to_owned(),
                    fields,
                };
            }
        }
        Words {
            message: self.text.to_owned(),
            fields: Vec::new(),
        }
    }
}

fn fields(mut text: &str) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    while !text.is_empty() {
        let (key, rest) = text.strip_prefix(' ')?.split_once('=')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if key.is_empty() || !key.chars().all(is_name) {
            return None;
        }
        let (value, rest) = if rest.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let value = values.next()?.ok()?;
            (value, &rest[values.byte_offset()..])
        } else {
            let end = rest.find(' ').unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        fields.push((key.to_owned(), value));
        text = rest;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(message: &str, fields: &[(&str, &str)]) -> Words {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Words {
            message: message.to_owned(),
            fields: fields.iter().map(own).collect(),
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let now: Zoned = "2026-11-25T16:30:01.042[UTC]".parse().unwrap();
        for (written, text) in [
            (words("ready", &[]), "ready"),
            (
                words("a worker serves", &[("session", "my lab"), ("pid", "7")]),
                "a worker serves session=\"my lab\" pid=7",
            ),
            (
                words(
                    "x",
                    &[("err", "two\nlines \"q\""), ("none", ""), ("u", "a=b")],
                ),
                "x err=\"two\\nlines \\\"q\\\"\" none=\"\" u=a=b",
            ),
        ] {
            let line = compose(&now, "tithon_worker::run", Level::WARN, &written);
            assert_eq!(
                line,
                format!("2026-11-25 16:30:01,042 tithon.worker.run WARNING {text}\n")
            );
            let read = Line::parse(line.trim_end()).unwrap();
            assert_eq!(read.time, now.datetime());
            assert_eq!((read.logger, read.level), ("tithon.worker.run", "WARNING"));
            assert_eq!(read.words(), written);
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let said = words("a\nb\r\u{1b}[2Jc", &[]).to_string();
        assert_eq!(said, "a\\nb\\r\\u{1b}[2Jc");
    }

    #[test]
    fn other_lines_are_told_apart() {
        for line in [
            "",
            "thread 'main' panicked at worker/src/run.rs:1:1:",
            "2026-11-25 16:30:01,042",
            "2026-13-25 16:30:01,042 a INFO x",
            "éééééééééééééééééééééé",
        ] {
            assert_eq!(Line::parse(line), None, "{line}");
        }
    }
}
