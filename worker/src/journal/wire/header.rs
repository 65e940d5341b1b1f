//! Message headers, taken apart into what repeats and what does not.

use jiff::Timestamp;

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
    let counter = std::str::from_utf8(&header[counter_at.clone()])
        .ok()?
        .parse()
        .ok()?;
    let date_at = value(header, b"\"date\": \"").or_else(|| value(header, b"\"date\":\""))?;
    let date: Timestamp = std::str::from_utf8(&header[date_at.clone()])
        .ok()?
        .parse()
        .ok()?;
    let date_us = date.as_microsecond();
    let mut template = header.to_vec();
    // The later one first, so that the earlier one's place still holds.
    let mut places = [(counter_at, COUNTER), (date_at, DATE)];
    places.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
    for (place, mark) in places {
        template.splice(place, [mark]);
    }
    (join(&template, counter, date_us) == header).then_some((template, counter, date_us))
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
    let date = date.strftime(if date_us % 1_000_000 == 0 {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    });
    date.to_string()
}

fn value(json: &[u8], key: &[u8]) -> Option<std::ops::Range<usize>> {
    let start = json.windows(key.len()).position(|window| window == key)? + key.len();
    let length = json[start..]
        .iter()
        .position(|b| matches!(b, b'"' | b'\\'))?;
    Some(start..start + length)
}
