//! JSON text as the fold needs it: written in Python's default style (`", "` and `": "`, which people grep for), and
//! read so that a string Python can send but Rust cannot hold does not cost the message it is in.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::value::RawValue;

/// Appends `text` as a JSON string.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends the inside of a JSON string. Only what must be escaped is: other text stays UTF-8.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0x00..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        plain = at + 1;
        if short.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(short);
        }
    }
    out.push_str(&text[plain..]);
}

/// A JSON object being appended to a text. Write each value right after its key.
pub(crate) struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn open(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    /// Writes a key and returns the text that now takes its value.
    pub(crate) fn key(&mut self, key: &str) -> &mut String {
        if !std::mem::take(&mut self.empty) {
            self.out.push_str(", ");
        }
        push_string(self.out, key);
        self.out.push_str(": ");
        self.out
    }

    pub(crate) fn string(&mut self, key: &str, value: &str) {
        push_string(self.key(key), value);
    }

    /// Writes a value that is JSON already, or a number.
    pub(crate) fn raw(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = write!(self.key(key), "{value}");
    }

    pub(crate) fn close(self) {
        self.out.push('}');
    }
}

/// A JSON array being appended to a text.
pub(crate) struct Array<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> Array<'a> {
    pub(crate) fn open(out: &'a mut String) -> Self {
        out.push('[');
        Self { out, empty: true }
    }

    /// Returns the text that now takes the next element.
    pub(crate) fn next(&mut self) -> &mut String {
        if !std::mem::take(&mut self.empty) {
            self.out.push_str(", ");
        }
        self.out
    }

    pub(crate) fn string(&mut self, value: &str) {
        push_string(self.next(), value);
    }

    /// Writes an element that is JSON already, or a number.
    pub(crate) fn raw(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.next(), "{value}");
    }

    pub(crate) fn close(self) {
        self.out.push(']');
    }
}

/// A JSON string, borrowed where it holds no escapes.
///
/// Python strings may hold lone surrogates (undecodable file names, half an emoji), which arrive as escapes such as
/// `\ud800`. Each becomes U+FFFD: one code point for one, so columns do not shift.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        string(raw.get()).map(Self).map_err(D::Error::custom)
    }
}

/// Reads a JSON object into a struct. (serde alone would also take an array for one, field by field.)
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, serde_json::Error> {
    if json.trim_start().starts_with('[') {
        return Err(serde_json::Error::custom(
            "expected an object, found an array",
        ));
    }
    serde_json::from_str(json)
}

/// Reads one JSON string; see [`Text`].
pub(crate) fn string(raw: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    /// `Cow` alone would always be read as an owned string.
    #[derive(serde::Deserialize)]
    struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

    let error = match serde_json::from_str::<Borrowed<'_>>(raw) {
        Ok(text) => return Ok(text.0),
        Err(error) => error,
    };
    match repair(raw) {
        Cow::Owned(repaired) => serde_json::from_str(&repaired).map(Cow::Owned),
        Cow::Borrowed(_) => Err(error),
    }
}

/// Replaces every lone surrogate escape in a JSON text by the escape of U+FFFD.
pub(crate) fn repair(json: &str) -> Cow<'_, str> {
    let mut repaired = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        at += found;
        at += match escaped_unit(json, at) {
            Some(0xd800..=0xdbff)
                if matches!(escaped_unit(json, at + 6), Some(0xdc00..=0xdfff)) =>
            {
                12
            }
            Some(0xd800..=0xdfff) => {
                repaired.push_str(&json[copied..at]);
                repaired.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            Some(_) => 6,
            // The escaped character may be the first of several bytes only in text that is no JSON.
            None => 1 + json[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    repaired.push_str(&json[copied..]);
    Cow::Owned(repaired)
}

/// The UTF-16 code unit whose `\uXXXX` escape starts at `at`.
fn escaped_unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

/// Whether Python would take this JSON value for true.
pub(crate) fn is_truthy(value: &RawValue) -> bool {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'n' | b'f') => false,
        Some(b'"') => text.len() > 2,
        Some(b'[' | b'{') => !text[1..text.len() - 1].trim().is_empty(),
        Some(b't') => true,
        _ => text.parse::<f64>().is_ok_and(|number| number != 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_and_arrays_look_like_pythons() {
        let mut out = String::new();
        let mut object = Object::open(&mut out);
        object.string("a", "x\n\"\u{1}é");
        object.raw("b", 1.5);
        let mut array = Array::open(object.key("c"));
        array.string("y");
        array.raw(2);
        Array::open(array.next()).close();
        array.close();
        object.close();
        assert_eq!(out, r#"{"a": "x\n\"\u0001é", "b": 1.5, "c": ["y", 2, []]}"#);
    }

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        for (json, text) in [
            (r#""plain""#, "plain"),
            (r#""\ud83d\ude00""#, "😀"),
            (r#""a\ud800b""#, "a\u{fffd}b"),
            (r#""\udc80""#, "\u{fffd}"),
            (r#""\ud800\ud83d\ude00\udfff""#, "\u{fffd}😀\u{fffd}"),
            (r#""\\ud800 \ud800""#, "\\ud800 \u{fffd}"),
            (r#""\ud800\n\u0041""#, "\u{fffd}\nA"),
        ] {
            assert_eq!(string(json).unwrap(), text, "{json}");
        }
        assert!(string("1").is_err());
        assert!(string(r#""\ud800\x""#).is_err());
        assert!(matches!(
            string(r#""borrowed""#),
            Ok(Cow::Borrowed("borrowed"))
        ));
    }

    #[test]
    fn truth_is_pythons() {
        for json in [
            "null", "false", "\"\"", "0", "-0", "0.0", "0e9", "[]", "{ }", "[ \n]",
        ] {
            assert!(!is_truthy(serde_json::from_str(json).unwrap()), "{json}");
        }
        for json in ["true", "\"0\"", "1", "-0.5", "[0]", "{\"a\": 0}", "1e999"] {
            assert!(is_truthy(serde_json::from_str(json).unwrap()), "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_string_is_read_back(text in any::<String>()) {
            let mut json = String::new();
            push_string(&mut json, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text.clone());
            prop_assert_eq!(string(&json).unwrap(), text);
        }

        #[test]
        fn repair_never_panics_and_leaves_sound_text_alone(text in any::<String>(), junk in r#"(\\u?[dD8cefF0-9"]{0,5}|é|\\){0,12}"#) {
            prop_assert!(matches!(repair(&serde_json::to_string(&text).unwrap()), Cow::Borrowed(_)));
            let repaired = repair(&junk).into_owned();
            prop_assert!(matches!(repair(&repaired), Cow::Borrowed(_)));
        }
    }
}
