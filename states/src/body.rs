//! The fields of a request's body, each looked at before it is used.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// Longest name of a state, execution or variable, in bytes.
const NAME_MAX: usize = 255;
/// Most names in one list.
const NAMES_MAX: usize = 10_000;
/// Most states that one execution reads from.
const ALIASES_MAX: usize = 32;

/// A JSON object.
#[derive(Debug)]
pub(crate) struct Body(Map<String, Value>);

impl Body {
    /// Reads a body. Nothing counts as an object without fields.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Refusal::bad("Request body must be a JSON object.")),
            Err(err) => Err(Refusal::bad(format!("Request body must be JSON: {err}."))),
        }
    }

    /// Refuses a body in which one of these is missing.
    pub(crate) fn require(&self, names: &[&str]) -> Result<(), Refusal> {
        if names.iter().all(|name| self.get(name).is_some()) {
            return Ok(());
        }
        let verb = if names.len() == 1 { "is" } else { "are" };
        Err(Refusal::bad(format!(
            "{} {verb} required.",
            names.join(" and ")
        )))
    }

    /// A field; null counts as missing.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text of any length; the empty one if it is missing.
    pub(crate) fn text(&self, name: &str) -> Result<String, Refusal> {
        match self.0.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Refusal::bad(format!("{name} must be a string."))),
        }
    }

    /// Yes or no; no if it is missing.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Refusal::bad(format!("{name} must be true or false."))),
        }
    }

    /// A name that may be missing.
    pub(crate) fn optional_name(&self, name: &str) -> Result<Option<String>, Refusal> {
        self.get(name)
            .map(|value| checked_name(name, value))
            .transpose()
    }

    /// A name.
    pub(crate) fn name(&self, name: &str) -> Result<String, Refusal> {
        self.require(&[name])?;
        self.optional_name(name).map(Option::unwrap_or_default)
    }

    /// The name of a state to be made: one by which a path can reach it.
    pub(crate) fn new_name(&self, name: &str) -> Result<Option<String>, Refusal> {
        let found = self.optional_name(name)?;
        match found.as_deref() {
            Some("") => Err(Refusal::bad(format!("{name} must not be empty."))),
            Some("." | "..") => Err(Refusal::bad(format!(
                "{name} must not be '.' or '..': no path leads there."
            ))),
            Some(text) if text.chars().any(char::is_control) => Err(Refusal::bad(format!(
                "{name} must not have control characters."
            ))),
            _ => Ok(found),
        }
    }

    /// A list of names.
    pub(crate) fn names(&self, name: &str) -> Result<Vec<String>, Refusal> {
        let Some(Value::Array(list)) = self.get(name) else {
            return Err(Refusal::bad(format!("{name} must be a JSON list.")));
        };
        if list.len() > NAMES_MAX {
            return Err(Refusal::bad(format!(
                "{name} has more than {NAMES_MAX} names."
            )));
        }
        list.iter()
            .map(|value| checked_name(&format!("Each of {name}"), value))
            .collect()
    }

    /// Names by names.
    pub(crate) fn mapping(&self, name: &str) -> Result<BTreeMap<String, String>, Refusal> {
        let Some(Value::Object(mapping)) = self.get(name) else {
            return Err(Refusal::bad(format!("{name} must be a JSON object.")));
        };
        if mapping.len() > ALIASES_MAX {
            return Err(Refusal::bad(format!(
                "{name} has more than {ALIASES_MAX} states."
            )));
        }
        mapping
            .iter()
            .map(|(alias, state)| {
                let alias = checked_name(&format!("Each name in {name}"), &Value::from(&**alias))?;
                let state = checked_name(&format!("{name}.{alias}"), state)?;
                Ok((alias, state))
            })
            .collect()
    }
}

fn checked_name(what: &str, value: &Value) -> Result<String, Refusal> {
    match value {
        Value::String(text) if text.len() <= NAME_MAX => Ok(text.clone()),
        Value::String(_) => Err(Refusal::bad(format!(
            "{what} must have at most {NAME_MAX} bytes."
        ))),
        _ => Err(Refusal::bad(format!("{what} must be a string."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Body {
        Body::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn wrong_bodies_are_refused_in_words() {
        for (text, words) in [
            ("{bad", "must be JSON"),
            ("[1]", "must be a JSON object"),
            ("\u{feff}{}", "must be JSON"),
        ] {
            let refused = Body::parse(text.as_bytes()).unwrap_err();
            assert!(refused.words.contains(words), "{}", refused.words);
        }
        let deep = "[".repeat(100_000);
        assert!(Body::parse(deep.as_bytes()).is_err());
        let none = body(" ").require(&["exec_id", "state_name"]).unwrap_err();
        assert_eq!(none.words, "exec_id and state_name are required.");
        let long = format!(r#"{{"a": "{}"}}"#, "x".repeat(256));
        assert!(body(&long).name("a").is_err());
        assert!(body(r#"{"a": 5}"#).text("a").is_err());
        assert!(body(r#"{"a": [1]}"#).names("a").is_err());
        assert!(body(r#"{"a": {"b": 1}}"#).mapping("a").is_err());
        for name in ["", ".", "..", "a\\u0000b", "a\\nb"] {
            let text = format!(r#"{{"a": "{name}"}}"#);
            assert!(body(&text).new_name("a").is_err(), "{name}");
        }
        assert_eq!(
            body(r#"{"a": "a/../b c"}"#).new_name("a").unwrap().unwrap(),
            "a/../b c"
        );
    }
}
