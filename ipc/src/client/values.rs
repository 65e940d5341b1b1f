//! Reading fields the way the protocol's first implementation did, with errors that name the field.

use serde_json::{Map, Value};

/// A field of the wrong type, phrased for the client's author.
pub(super) type FieldError = String;

pub(super) fn text<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a str>, FieldError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("\"{name}\" must be text, not {}", kind(other))),
    }
}

pub(super) fn list<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
) -> Result<&'a [Value], FieldError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(format!("\"{name}\" must be a list, not {}", kind(other))),
    }
}

pub(super) fn object<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, FieldError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(format!("\"{name}\" must be an object, not {}", kind(other))),
    }
}

/// Whatever Python's `int()` takes: integers, floats, booleans and numeric text (PROTOCOL §21.9).
pub(super) fn integer(fields: &Map<String, Value>, name: &str) -> Result<Option<i64>, FieldError> {
    let wrong = |value: &Value| format!("\"{name}\" must be a whole number, not {value}");
    match fields.get(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(i64::from(*flag))),
        Some(value @ Value::Number(number)) => number
            .as_i64()
            .or_else(|| number.as_f64().and_then(truncated))
            .map(Some)
            .ok_or_else(|| wrong(value)),
        Some(value @ Value::String(text)) => {
            text.trim().parse().map(Some).map_err(|_| wrong(value))
        }
        Some(other) => Err(wrong(other)),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the range is checked; int() truncates towards zero as well"
)]
fn truncated(number: f64) -> Option<i64> {
    // 2^63 itself is not an i64.
    (number.is_finite() && number.abs() < 9_223_372_036_854_775_808.0).then_some(number as i64)
}

/// Python's truth value; absent counts as `default`.
pub(super) fn truth(fields: &Map<String, Value>, name: &str, default: bool) -> bool {
    match fields.get(name) {
        None => default,
        Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(object)) => !object.is_empty(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
