//! The fold as a whole: every rule as a table; properties are checked against a naive second implementation.

mod naive;
mod properties;
mod rules;
mod stored;

use serde_json::{Value, json};

use super::limits::Limits;
use super::{Fold, FoldError};

type Message = (&'static str, Value);

fn folded<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Fold {
    let mut fold = Fold::new();
    apply_all(&mut fold, messages);
    fold
}

fn apply_all<'a>(fold: &mut Fold, messages: impl IntoIterator<Item = &'a Message>) {
    for (msg_type, content) in messages {
        fold.apply(msg_type, &content.to_string()).unwrap();
    }
}

fn outputs(fold: &Fold) -> Value {
    serde_json::from_str(&fold.outputs_json()).unwrap()
}

fn state(fold: &Fold) -> Value {
    serde_json::from_str(&fold.state_json()).unwrap()
}

fn stream(name: &str, text: &str) -> Message {
    ("stream", json!({"name": name, "text": text}))
}

fn display(msg_type: &'static str, text: &str, display_id: &str) -> Message {
    let transient = json!({"display_id": display_id});
    let metadata = json!({"of": text});
    (
        msg_type,
        json!({"data": {"text/plain": text}, "metadata": metadata, "transient": transient}),
    )
}

fn comm(comm_id: &str, msg_id: &str) -> Message {
    (
        "comm_msg",
        json!({"comm_id": comm_id, "data": {"method": "update", "state": {"msg_id": msg_id}}}),
    )
}

fn cell_scoped((msg_type, mut content): Message) -> Message {
    content["tithon_scope"] = json!("cell");
    (msg_type, content)
}

/// A message in shorthand: `out:text`, `err:text`, `[text=display_id]`, `update:text=display_id`, `result:text`,
/// `error:name`, `clear`, `clear-wait`; of output area `o`: `+o` claims, `-o` releases, `xo` closes; `cell/…` has the
/// scope of the cell.
fn message(shorthand: &str) -> Message {
    let with_id = |text: &'_ str| -> (String, String) {
        let (text, display_id) = text.split_once('=').unwrap_or((text, ""));
        (text.to_owned(), display_id.to_owned())
    };
    if let Some(shorthand) = shorthand.strip_prefix("cell/") {
        return cell_scoped(message(shorthand));
    }
    if let Some(text) = shorthand.strip_prefix('[') {
        let (text, display_id) = with_id(text.trim_end_matches(']'));
        return display("display_data", &text, &display_id);
    }
    match shorthand.split_once(':') {
        Some(("out", text)) => stream("stdout", text),
        Some(("err", text)) => stream("stderr", text),
        Some(("error", ename)) => (
            "error",
            json!({"ename": ename, "evalue": "v", "traceback": ["t"]}),
        ),
        Some((kind, text)) => {
            let (text, display_id) = with_id(text);
            let msg_type = if kind == "update" {
                "update_display_data"
            } else {
                "execute_result"
            };
            display(msg_type, &text, &display_id)
        }
        None => match shorthand.split_at(1) {
            ("+", comm_id) => comm(comm_id, "6d01"),
            ("-", comm_id) => comm(comm_id, ""),
            ("x", comm_id) => ("comm_close", json!({"comm_id": comm_id, "data": {}})),
            _ => ("clear_output", json!({"wait": shorthand == "clear-wait"})),
        },
    }
}

/// What a fold shows, in the shorthand of [`message`], with `@area`.
fn shown(fold: &Fold) -> String {
    let (items, state) = (outputs(fold), state(fold));
    let owners = state["owners"].as_array().unwrap();
    let show = |(item, owner): (&Value, &Value)| {
        let text = |key: &str| item[key].as_str().unwrap_or_default();
        let shown = match text("output_type") {
            "stream" => format!("{}:{}", &text("name")[3..], text("text")),
            "error" => format!("error:{}", text("ename")),
            _ => {
                let display_id = item["display_id"].as_str().map(|id| format!("={id}"));
                let text = item["data"]["text/plain"].as_str().unwrap_or_default();
                format!("[{text}{}]", display_id.unwrap_or_default())
            }
        };
        owner
            .as_str()
            .map(|owner| format!("{shown}@{owner}"))
            .unwrap_or(shown)
    };
    let shown: Vec<_> = items
        .as_array()
        .unwrap()
        .iter()
        .zip(owners)
        .map(show)
        .collect();
    shown.join(" ")
}
