//! How an image stood in its message, so that the message comes back byte for byte from the file.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::fold::json::push_string;

/// A line break as JSON text has it.
const BREAK: &str = "\\n";

/// The JSON text an image was sent as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// The file's text as a JSON string, escaped as Python does.
    Text,
    /// Standard base64 in lines of so many characters, or on one line where that is 0.
    Base64 {
        /// Characters per line.
        line: u32,
        /// Whether the last line is ended too.
        ended: bool,
    },
    /// Neither: the text itself.
    Verbatim(Vec<u8>),
}

impl Encoding {
    /// Says how `json`, the text of a JSON string, encodes `bytes`.
    pub fn of(json: &str, bytes: &[u8]) -> Self {
        let inside = json.len().saturating_sub(2);
        // After the opening quote; a break at the very end leaves the text on one line.
        let line = json
            .find(BREAK)
            .map(|at| at - 1)
            .filter(|at| at + BREAK.len() < inside)
            .and_then(|line| u32::try_from(line).ok());
        let ended = json.ends_with("\\n\"");
        let base64 = Self::Base64 {
            line: line.unwrap_or(0),
            ended,
        };
        [Self::Text, base64]
            .into_iter()
            .find(|encoding| encoding.render(bytes).as_deref() == Some(json.as_bytes()))
            .unwrap_or_else(|| Self::Verbatim(json.as_bytes().to_vec()))
    }

    /// The JSON text of the image in these bytes; `None` where they cannot be that image.
    pub fn render(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Verbatim(json) => Some(json.clone()),
            Self::Text => {
                let mut json = String::new();
                push_string(&mut json, std::str::from_utf8(bytes).ok()?);
                Some(json.into())
            }
            Self::Base64 { line, ended } => {
                let text = BASE64_STANDARD.encode(bytes);
                let line = match usize::try_from(*line).ok()? {
                    0 => text.len().max(1),
                    line => line,
                };
                let lines = text.as_bytes().chunks(line).collect::<Vec<_>>();
                let mut json = b"\"".to_vec();
                json.extend(lines.join(BREAK.as_bytes()));
                json.extend_from_slice(if *ended { b"\\n\"" } else { b"\"" });
                Some(json)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_image_comes_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = BASE64_STANDARD.encode(&bytes);
        let wrapped = |width: usize, end: &str| {
            let lines: Vec<_> = text
                .as_bytes()
                .chunks(width)
                .map(|line| std::str::from_utf8(line).unwrap())
                .collect();
            format!("\"{}{end}\"", lines.join("\\n"))
        };
        let at = |line, ended| Encoding::Base64 { line, ended };
        for (json, expected) in [
            (wrapped(1000, ""), at(0, false)),
            (wrapped(1000, "\\n"), at(0, true)),
            (wrapped(76, "\\n"), at(76, true)),
            (wrapped(76, ""), at(76, false)),
            (wrapped(1, "\\n"), at(1, true)),
            ("\"\"".to_owned(), Encoding::Verbatim(b"\"\"".to_vec())),
        ] {
            let encoding = Encoding::of(&json, &bytes);
            assert_eq!(encoding, expected, "{json}");
            assert_eq!(encoding.render(&bytes).unwrap(), json.as_bytes());
        }
        let unusual = wrapped(76, "\\n").replace('/', "\\/");
        assert_eq!(
            Encoding::of(&unusual, &bytes),
            Encoding::Verbatim(unusual.clone().into())
        );
    }

    #[test]
    fn text_is_written_as_python_writes_it() {
        let svg = "<svg>\n\u{1f980} \"ü\" \u{7f}\u{1}</svg>";
        let json = "\"<svg>\\n\u{1f980} \\\"ü\\\" \u{7f}\\u0001</svg>\"";
        assert_eq!(Encoding::of(json, svg.as_bytes()), Encoding::Text);
        let escaped = json.replace('ü', "\\u00fc");
        assert!(matches!(
            Encoding::of(&escaped, svg.as_bytes()),
            Encoding::Verbatim(_)
        ));
    }
}
