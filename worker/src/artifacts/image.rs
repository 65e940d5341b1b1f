//! Images in the MIME bundles of messages: which there are, where they stand, what bytes they hold.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fold::json::{Text, object, string};

/// A kind of image that becomes a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) mime: &'static str,
    pub(crate) extension: &'static str,
    /// Whether messages carry it as text rather than in base64.
    is_text: bool,
}

const fn kind(mime: &'static str, extension: &'static str, is_text: bool) -> Kind {
    Kind {
        mime,
        extension,
        is_text,
    }
}

/// In the order in which a message's images are numbered.
const KINDS: [Kind; 6] = [
    kind("image/png", "png", false),
    kind("image/jpeg", "jpg", false),
    kind("image/svg+xml", "svg", true),
    kind("image/gif", "gif", false),
    kind("image/webp", "webp", false),
    kind("application/pdf", "pdf", false),
];

/// The kind of a MIME type; `None` for one that stays in its message.
pub(crate) fn kind_of(mime: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.mime == mime)
}

/// An image in the content of a message.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) kind: &'static Kind,
    /// Where its JSON string stands, quotes included.
    pub(crate) place: Range<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// The images in a message's content, by their place. One that cannot be decoded is none.
pub(crate) fn find(content: &str) -> Vec<Found> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        data: BTreeMap<Text<'a>, &'a RawValue>,
    }
    // Most messages have none; do not parse them to find that out.
    if !KINDS.iter().any(|kind| content.contains(kind.mime)) {
        return Vec::new();
    }
    let Ok(Content { data }) = object(content) else {
        return Vec::new();
    };
    let mut found: Vec<_> = KINDS
        .iter()
        .filter_map(|kind| {
            let json = data.get(&Text(Cow::Borrowed(kind.mime)))?.get();
            let text = json.starts_with('"').then(|| string(json).ok())??;
            let bytes = if kind.is_text {
                // What could not be held as text was repaired: a file of that would be another image.
                (!text.contains('\u{fffd}')).then(|| text.as_bytes().to_vec())
            } else {
                decoded(text.as_bytes())
            };
            let start = json.as_ptr().addr() - content.as_ptr().addr();
            bytes.filter(|bytes| !bytes.is_empty()).map(|bytes| Found {
                kind,
                place: start..start + json.len(),
                bytes,
            })
        })
        .collect();
    found.sort_by_key(|found| found.place.start);
    found
}

/// Decodes base64 as Python's `b64decode` does. Kernels send it well formed, which a library decodes ten
/// times faster than whatever else Python would take.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    BASE64_STANDARD
        .decode(text.trim_ascii_end())
        .ok()
        .or_else(|| leniently_decoded(text))
}

/// Foreign characters are skipped, what follows the padding is ignored, and wrong padding makes it
/// undecodable.
fn leniently_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut digits, mut padding) = (0_u32, 0_u8, 0_u8);
    for &byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if digits >= 2 => {
                padding += 1;
                if digits + padding == 4 {
                    return Some(bytes);
                }
                continue;
            }
            _ => continue,
        };
        padding = 0;
        bits = bits << 6 | u32::from(digit);
        digits = (digits + 1) % 4;
        match digits {
            1 => {}
            2 => bytes.push(low_byte(bits >> 4)),
            3 => bytes.push(low_byte(bits >> 2)),
            _ => bytes.push(low_byte(bits)),
        }
    }
    (digits == 0).then_some(bytes)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low byte is what is meant"
)]
fn low_byte(bits: u32) -> u8 {
    bits as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_python_reads_it() {
        for (text, bytes) in [
            ("aGVsbG8=", Some(&b"hello"[..])),
            ("aGVs\nbG8=\n", Some(b"hello")),
            ("aG\u{fc}V s*bG8=", Some(b"hello")),
            ("aGVsbG8=garbage", Some(b"hello")),
            ("=aGVsbG8=", Some(b"hello")),
            ("aGVsbG8", None),
            ("aGVsb", None),
            ("aA==", Some(b"h")),
            ("aA=", None),
            ("", Some(b"")),
        ] {
            assert_eq!(decoded(text.as_bytes()).as_deref(), bytes, "{text}");
        }
    }

    #[test]
    fn images_are_found_where_they_stand() {
        let content = r#"{"metadata": {"image/gif": "aGVsbG8="}, "data": {"image/svg+xml": "<svg>\n</svg>", "text/plain": "image/png",
            "image/png": "aGVs\nbG8=\n", "image/jpeg": "not base64", "image/webp": {"a": 1}, "application/pdf": "aA=="}}"#;
        let found = find(content);
        let shown: Vec<_> = found
            .iter()
            .map(|found| {
                (
                    found.kind.extension,
                    &content[found.place.clone()],
                    &*found.bytes,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("svg", r#""<svg>\n</svg>""#, &b"<svg>\n</svg>"[..]),
                ("png", r#""aGVs\nbG8=\n""#, b"hello"),
                ("pdf", r#""aA==""#, b"h"),
            ]
        );
    }

    #[test]
    fn what_is_no_bundle_has_no_images() {
        for content in [
            "",
            "[]",
            r#"{"data": ["image/png"]}"#,
            r#"{"data": null, "x": "image/png"}"#,
            r#"{"data": {"image/svg+xml": "\ud800"}}"#,
            r#"{"data": {"image/png": ""}}"#,
        ] {
            assert!(find(content).is_empty(), "{content}");
        }
    }
}
