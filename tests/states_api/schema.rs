//! Compares answers with the API's own description: as much of JSON Schema as that uses.

use serde_json::Value;

use super::server::Answer;

fn document() -> Value {
    serde_json::from_str(include_str!("../../docs/states-api.openapi.json")).unwrap()
}

/// Panics where an answer is not what the description has for it.
pub(crate) fn check(method: &str, path: &str, answer: &Answer) {
    let document = document();
    let path = if path.starts_with("/states/") {
        "/states/{name}"
    } else {
        path
    };
    let method = method.to_ascii_lowercase();
    let operation = &document["paths"][path][&method];
    if !operation.is_object() {
        assert!(
            matches!(answer.status, 404 | 405),
            "{method} {path} is not described"
        );
        return;
    }
    let response = &operation["responses"][answer.status.to_string()];
    assert!(
        response.is_object(),
        "{method} {path}: no status {}",
        answer.status
    );
    let schema = &response["content"]["application/json"]["schema"];
    if let Err(why) = matches(&document, schema, &answer.json) {
        panic!("{method} {path}: {why}: {}", answer.json);
    }
}

fn matches(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').unwrap();
        return matches(document, document.pointer(pointer).unwrap(), value);
    }
    if value.is_null() && schema["nullable"] == true {
        return Ok(());
    }
    let list = |name: &str| schema[name].as_array().cloned().unwrap_or_default();
    for each in list("allOf") {
        matches(document, &each, value)?;
    }
    let choices = list("oneOf");
    if !choices.is_empty() {
        let fitting = choices
            .iter()
            .filter(|it| matches(document, it, value).is_ok());
        return match fitting.count() {
            1 => Ok(()),
            count => Err(format!("{count} of the choices fit {value}")),
        };
    }
    let allowed = list("enum");
    if !allowed.is_empty() && !allowed.contains(value) {
        return Err(format!("{value} is none of {allowed:?}"));
    }
    match (schema["type"].as_str(), value) {
        (None, _) => Ok(()),
        (Some("string"), Value::String(_))
        | (Some("boolean"), Value::Bool(_))
        | (Some("integer"), Value::Number(_)) => Ok(()),
        (Some("array"), Value::Array(items)) => items
            .iter()
            .try_for_each(|item| matches(document, &schema["items"], item)),
        (Some("object"), Value::Object(fields)) => {
            if let Some(name) = list("required")
                .iter()
                .find(|it| !fields.contains_key(it.as_str().unwrap()))
            {
                return Err(format!("{name} is missing"));
            }
            fields.iter().try_for_each(|(name, field)| {
                let known = &schema["properties"][name];
                let other = &schema["additionalProperties"];
                match (known.is_object(), other.is_object()) {
                    (true, _) => matches(document, known, field),
                    (_, true) => matches(document, other, field),
                    // An object of which nothing is said may hold anything.
                    _ if schema["properties"].is_null() => Ok(()),
                    _ => Err(format!("'{name}' is not described")),
                }
            })
        }
        (Some(kind), _) => Err(format!("{value} is no {kind}")),
    }
}
