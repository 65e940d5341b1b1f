//! Text out of bytes that were cut anywhere.

use serde::{Deserialize, Serialize};

/// How far one of the fd files was taken over.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct FdProgress {
    /// Offset in the file behind the last byte taken.
    pub end: u64,
    /// The beginning of a character whose rest was not written yet; at most 3 bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<u8>,
}

/// Appends `bytes` to `out`, with U+FFFD for what is not UTF-8 (one for a lone surrogate). Returns the
/// beginning of a character that is cut off at the end.
pub(super) fn decode<'a>(mut bytes: &'a [u8], out: &mut String) -> &'a [u8] {
    loop {
        let error = match std::str::from_utf8(bytes) {
            Ok(text) => {
                out.push_str(text);
                return &[];
            }
            Err(error) => error,
        };
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        out.push_str(&String::from_utf8_lossy(valid));
        let Some(invalid) = error.error_len() else {
            return rest;
        };
        out.push(char::REPLACEMENT_CHARACTER);
        bytes = match rest {
            [0xED, 0xA0..=0xBF, 0x80..=0xBF, after @ ..] => after,
            _ => &rest[invalid..],
        };
    }
}

impl FdProgress {
    /// Like [`decode`], with what was cut off before in front and what is cut off now kept.
    pub(super) fn decode(&mut self, bytes: &[u8], out: &mut String) {
        let mut joined = std::mem::take(&mut self.tail);
        if joined.is_empty() {
            self.tail = decode(bytes, out).to_vec();
        } else {
            joined.extend_from_slice(bytes);
            self.tail = decode(&joined, out).to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_utf8_becomes_replacement_characters() {
        for (bytes, text) in [
            (&b"a\xffb"[..], "a\u{fffd}b"),
            (b"\xed\xa0\x80x", "\u{fffd}x"),
            (b"\xed\xa0\x80\xed\xbf\xbf", "\u{fffd}\u{fffd}"),
            (b"\xf0\x9f\x98", ""),
            (b"\xf0\x9fx", "\u{fffd}x"),
        ] {
            let mut out = String::new();
            decode(bytes, &mut out);
            assert_eq!(out, text, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn cutting_valid_text_anywhere_changes_nothing(text in "\\PC{0,20}", cuts in proptest::collection::vec(0_usize..80, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().filter(|&cut| cut < bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let (mut progress, mut out) = (FdProgress::default(), String::new());
            for pair in cuts.windows(2) {
                progress.decode(&bytes[pair[0]..pair[1]], &mut out);
            }
            prop_assert_eq!(out, text);
            prop_assert!(progress.tail.is_empty());
        }
    }
}
