//! Message headers, taken apart into what repeats and what does not.

use std::{fmt::Write as _, ops::Range};

use jiff::{Timestamp, civil, tz::TimeZone};

/// Where in a template the counter and the date go. Neither byte occurs in JSON text.
const COUNTER: u8 = 0x01;
const DATE: u8 = 0x02;

/// Splits a header into its template, the counter that ends its `msg_id`, and its date in
/// microseconds; `None` unless putting them together gives the very same bytes.
pub(super) fn split(header: &[u8]) -> Option<(Vec<u8>, u64, i64)> {
    let id = value(header, b"\"msg_id\": \"").or_else(|| value(header, b"\"msg_id\":\""))?;
    let digits = header[id.clone()]
        .iter()
        .rev()
        .take_while(|b| b.is_ascii_digit())
        .count();
    let counter_at = id.end - digits..id.end;
    let written = &header[counter_at.clone()];
    let counter = std::str::from_utf8(written).ok()?.parse().ok()?;
    let date_at = date_place(header)?;
    let date_us = parse_iso(&header[date_at.clone()])?;
    // Everything else is copied: these three are all that could come back otherwise.
    let zero_led = written.len() > 1 && written[0] == b'0';
    if zero_led || header.iter().any(|b| matches!(*b, COUNTER | DATE)) {
        return None;
    }
    let (first, second, marks) = if counter_at.start < date_at.start {
        (counter_at, date_at, [COUNTER, DATE])
    } else {
        (date_at, counter_at, [DATE, COUNTER])
    };
    let mut template = Vec::with_capacity(header.len());
    template.extend_from_slice(&header[..first.start]);
    template.push(marks[0]);
    template.extend_from_slice(&header[first.end..second.start]);
    template.push(marks[1]);
    template.extend_from_slice(&header[second.end..]);
    Some((template, counter, date_us))
}

/// A header's date in microseconds since the epoch; `None` where it has none.
pub(super) fn date(header: &[u8]) -> Option<i64> {
    let text = &header[date_place(header)?];
    parse_iso(text).or_else(|| {
        let date: Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
        Some(date.as_microsecond())
    })
}

pub(super) fn join(template: &[u8], counter: u64, date_us: i64) -> Vec<u8> {
    let mut header = Vec::with_capacity(template.len() + 40);
    for byte in template {
        match *byte {
            COUNTER => header.extend(counter.to_string().bytes()),
            DATE => header.extend(iso(date_us).bytes()),
            byte => header.push(byte),
        }
    }
    header
}

/// Python's `isoformat` of a UTC date, as jupyter_client writes it.
fn iso(date_us: i64) -> String {
    let Ok(date) = Timestamp::from_microsecond(date_us) else {
        return String::new();
    };
    let date = TimeZone::UTC.to_datetime(date);
    let mut text = date.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    if date_us % 1_000_000 != 0 {
        let micros = date.subsec_nanosecond() / 1_000;
        write!(text, ".{micros:06}").ok();
    }
    text.push('Z');
    text
}

/// The microseconds of a date if it is written exactly as [`iso`] writes it. Every message has a date and
/// is asked for it twice, so it is taken apart here by its fixed places.
fn parse_iso(text: &[u8]) -> Option<i64> {
    let micros = match text.len() {
        20 => 0,
        // Python leaves the fraction out where it is nothing.
        27 if text[19] == b'.' => Some(number(&text[20..26])?).filter(|micros| *micros != 0)?,
        _ => return None,
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if text.last() != Some(&b'Z') || marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let part = |range: Range<usize>| i8::try_from(number(&text[range])?).ok();
    let date = civil::DateTime::new(
        i16::try_from(number(&text[..4])?).ok()?,
        part(5..7)?,
        part(8..10)?,
        part(11..13)?,
        part(14..16)?,
        part(17..19)?,
        micros * 1_000,
    );
    let date = TimeZone::UTC.to_timestamp(date.ok()?).ok()?;
    Some(date.as_microsecond())
}

/// The value of some decimal digits, at most nine.
fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + i32::from(digit - b'0'))
    })
}

fn date_place(header: &[u8]) -> Option<Range<usize>> {
    value(header, b"\"date\": \"").or_else(|| value(header, b"\"date\":\""))
}

fn value(json: &[u8], key: &[u8]) -> Option<std::ops::Range<usize>> {
    let start = json.windows(key.len()).position(|window| window == key)? + key.len();
    let length = json[start..]
        .iter()
        .position(|b| matches!(b, b'"' | b'\\'))?;
    Some(start..start + length)
}
