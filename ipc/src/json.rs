//! JSON as Python's `json.dumps` spaces it.
//!
//! No parser cares, but people grep what the CLI prints for `"status": "gc"` (PROTOCOL §2).

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Serialises with `", "` and `": "`; non-ASCII stays as it is.
///
/// A value that has no JSON form (a map with other than text keys) becomes `null`: the types of
/// this workspace have none.
pub fn to_string(value: &impl Serialize) -> String {
    let mut out = Vec::with_capacity(128);
    if value
        .serialize(&mut Serializer::with_formatter(&mut out, Spaced))
        .is_err()
    {
        return "null".to_owned();
    }
    String::from_utf8(out).unwrap_or_else(|_| "null".to_owned())
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spacing_is_pythons() {
        let value = serde_json::json!({"a": [1, 2.5, null], "b": {"ü": "x\n"}});
        assert_eq!(
            super::to_string(&value),
            r#"{"a": [1, 2.5, null], "b": {"ü": "x\n"}}"#
        );
    }
}
