//! The stored form of a fold (PROTOCOL.md §7): the list of output items, and `fold_state`, which says what the items
//! alone do not. Together they restore the fold exactly.
//!
//! Beyond the protocol `fold_state` may hold `elided_text` (`line` of stream `item` is a notice that stands for
//! `lines` line ends and `bytes` bytes) and `elided_outputs` (`item` is a notice that stands for `outputs` items of
//! `bytes` bytes). Clients that do not know them show the notices as the text they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::areas::{Area, Areas};
use super::item::{Body, Bundle, stream_name};
use super::items::Items;
use super::json::{Array, Object, Text, push_escaped};
use super::limits::Limits;
use super::notice::not_shown;
use super::stream::{StreamText, TextGap};
use super::{Fold, FoldError};

pub(super) fn outputs_json(items: &Items) -> String {
    let mut out = String::new();
    let mut list = Array::open(&mut out);
    for item in items.iter() {
        push_item(list.next(), &item.body);
    }
    list.close();
    out
}

fn push_item(out: &mut String, body: &Body) {
    let mut item = Object::open(out);
    match body {
        Body::Stream { name, text } => {
            item.string("output_type", "stream");
            item.string("name", name);
            let out = item.key("text");
            out.push('"');
            text.for_each_piece(|piece| push_escaped(out, piece));
            out.push('"');
        }
        Body::Display { bundle, display_id } => {
            item.string("output_type", "display_data");
            item.raw("data", &bundle.data);
            item.raw("metadata", &bundle.metadata);
            if let Some(display_id) = display_id {
                item.string("display_id", display_id);
            }
        }
        Body::Result {
            bundle,
            execution_count,
        } => {
            item.string("output_type", "execute_result");
            item.raw("data", &bundle.data);
            item.raw("metadata", &bundle.metadata);
            item.raw("execution_count", execution_count);
        }
        Body::Error {
            ename,
            evalue,
            traceback,
        } => {
            item.string("output_type", "error");
            item.raw("ename", ename);
            item.raw("evalue", evalue);
            item.raw("traceback", traceback);
        }
        Body::Elided { outputs, bytes } => {
            item.string("output_type", "display_data");
            let mut data = Object::open(item.key("data"));
            data.string("text/plain", &not_shown(*outputs, "output", *bytes));
            data.close();
            item.raw("metadata", "{}");
        }
    }
    item.close();
}

pub(super) fn state_json(items: &Items, areas: &Areas) -> String {
    let mut out = String::new();
    let mut state = Object::open(&mut out);
    let mut owners = Array::open(state.key("owners"));
    for item in items.iter() {
        match &item.area {
            Area::Cell => owners.raw("null"),
            Area::Output(comm_id) => owners.string(comm_id),
        }
    }
    owners.close();
    let mut cursors = Array::open(state.key("stream_cursors"));
    for item in items.iter() {
        match &item.body {
            Body::Stream { text, .. } => cursors.raw(text.cursor()),
            _ => cursors.raw("null"),
        }
    }
    cursors.close();
    push_strings(state.key("claims"), areas.claims());
    state.raw("pending_clear", areas.is_cell_clear_pending());
    push_strings(state.key("pending_owner_clear"), areas.clear_pending());
    push_elided(&mut state, items);
    state.close();
    out
}

fn push_strings<'a>(out: &mut String, strings: impl Iterator<Item = &'a str>) {
    let mut array = Array::open(out);
    strings.for_each(|string| array.string(string));
    array.close();
}

fn push_elided(state: &mut Object<'_>, items: &Items) {
    let texts = items
        .iter()
        .enumerate()
        .filter_map(|(at, item)| match &item.body {
            Body::Stream { text, .. } => text.gap().map(|(line, gap)| (at, line, gap)),
            _ => None,
        });
    let mut texts = texts.peekable();
    if texts.peek().is_some() {
        let mut elided = Array::open(state.key("elided_text"));
        for (at, line, gap) in texts {
            let mut text = Object::open(elided.next());
            text.raw("item", at);
            text.raw("line", line);
            text.raw("lines", gap.lines);
            text.raw("bytes", gap.bytes);
            text.close();
        }
        elided.close();
    }
    for (at, item) in items.iter().enumerate() {
        if let Body::Elided { outputs, bytes } = item.body {
            let mut elided = Object::open(state.key("elided_outputs"));
            elided.raw("item", at);
            elided.raw("outputs", outputs);
            elided.raw("bytes", bytes);
            elided.close();
        }
    }
}

/// An output item as stored, here or by whoever wrote a shared sidecar.
#[derive(Deserialize)]
struct StoredItem<'a> {
    #[serde(borrow)]
    output_type: Text<'a>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    display_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    execution_count: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ename: Option<&'a RawValue>,
    #[serde(borrow, default)]
    evalue: Option<&'a RawValue>,
    #[serde(borrow, default)]
    traceback: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredState<'a> {
    #[serde(borrow)]
    owners: Vec<Option<Text<'a>>>,
    stream_cursors: Vec<Option<usize>>,
    #[serde(borrow)]
    claims: Vec<Text<'a>>,
    pending_clear: bool,
    #[serde(borrow)]
    pending_owner_clear: Vec<Text<'a>>,
    elided_text: Vec<ElidedText>,
    elided_outputs: Option<ElidedOutputs>,
}

#[derive(Deserialize)]
struct ElidedText {
    item: usize,
    line: usize,
    lines: u64,
    bytes: u64,
}

#[derive(Deserialize)]
struct ElidedOutputs {
    item: usize,
    outputs: u64,
    bytes: u64,
}

impl ElidedText {
    fn gap(&self) -> (usize, TextGap) {
        let Self {
            line, lines, bytes, ..
        } = *self;
        (line, TextGap { lines, bytes })
    }
}

impl StoredState<'_> {
    fn area(&self, at: usize, limits: &Limits) -> Area {
        match self.owners.get(at) {
            Some(Some(Text(id))) if id.len() <= limits.id_bytes => {
                Area::Output(Arc::from(id.as_ref()))
            }
            _ => Area::Cell,
        }
    }
}

pub(super) fn restore(
    limits: &'static Limits,
    outputs: &str,
    state: Option<&str>,
) -> Result<Fold, FoldError> {
    let stored: Vec<StoredItem<'_>> =
        serde_json::from_str(outputs).map_err(FoldError::StoredOutputs)?;
    let state = state
        .map(serde_json::from_str::<Option<StoredState<'_>>>)
        .transpose();
    let state = state
        .map_err(FoldError::StoredState)?
        .flatten()
        .unwrap_or_default();
    let gaps: BTreeMap<_, _> = state
        .elided_text
        .iter()
        .map(|gap| (gap.item, gap.gap()))
        .collect();

    let mut items = Items::new(limits);
    for (at, item) in stored.iter().enumerate() {
        let notice = state
            .elided_outputs
            .as_ref()
            .filter(|elided| elided.item == at);
        let body = match (item.output_type.0.as_ref(), notice) {
            ("display_data", Some(&ElidedOutputs { outputs, bytes, .. })) => {
                Body::Elided { outputs, bytes }
            }
            ("stream", _) => {
                let text = item.text.as_ref().map_or("", |text| &text.0);
                let mut text = StreamText::restore(limits, text, gaps.get(&at).copied());
                if let Some(&Some(cursor)) = state.stream_cursors.get(at) {
                    text.move_to(cursor);
                }
                Body::Stream {
                    name: stream_name(limits, item.name.as_ref()).into(),
                    text,
                }
            }
            _ => item.body(limits)?,
        };
        items.push_stored(state.area(at, limits), body);
    }
    items.make_room();

    let claims = state.claims.iter().map(|Text(comm_id)| comm_id.as_ref());
    let clear_pending = state
        .pending_owner_clear
        .iter()
        .map(|Text(comm_id)| comm_id.as_ref());
    let areas = Areas::restore(limits, claims, state.pending_clear, clear_pending);
    Ok(Fold {
        limits,
        items,
        areas,
    })
}

impl StoredItem<'_> {
    /// The body of an item that is no stream.
    fn body(&self, limits: &Limits) -> Result<Body, FoldError> {
        let bundle = || Bundle::new(limits, self.data, self.metadata);
        match self.output_type.0.as_ref() {
            "display_data" => {
                let display_id = self
                    .display_id
                    .as_ref()
                    .map(|Text(display_id)| display_id.as_ref());
                Ok(Body::display(limits, bundle(), display_id))
            }
            "execute_result" => Ok(Body::result(limits, bundle(), self.execution_count)),
            "error" => Ok(Body::error(limits, self.ename, self.evalue, self.traceback)),
            output_type => Err(FoldError::StoredOutputType(
                output_type.chars().take(40).collect(),
            )),
        }
    }
}
