//! One widget model: what its comms made of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fold::json::{Array, Object, Text, string};

/// One widget: its traits as JSON text, and the binary ones, which comms carry beside the JSON.
#[derive(Debug, Default)]
pub(super) struct Model {
    state: BTreeMap<Box<str>, Box<str>>,
    buffers: BTreeMap<BufferPath, Box<[u8]>>,
}

/// Where a buffer belongs in a model's state: a trait's name, then keys and indices below it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BufferPath {
    name: Box<str>,
    /// The whole path, as a JSON array.
    json: Box<str>,
}

impl BufferPath {
    /// A path must begin with a trait's name.
    fn new(parts: &[&RawValue]) -> Option<Self> {
        let name = string(parts.first()?.get()).ok()?;
        let mut json = String::new();
        let mut array = Array::open(&mut json);
        parts.iter().for_each(|part| array.raw(part));
        array.close();
        Some(Self {
            name: name.into(),
            json: json.into(),
        })
    }
}

impl Model {
    /// Merges an update trait by trait. A trait's new value takes the place of its old one with all that was binary
    /// in it, or a list that got shorter would keep buffers of elements it no longer has.
    pub(super) fn update(&mut self, data: Data<'_>, buffers: &[&[u8]]) {
        let names = || data.state.keys().map(|Text(name)| name.as_ref());
        if !self.buffers.is_empty() {
            self.buffers
                .retain(|path, _| !names().any(|name| *path.name == *name));
        }
        let paths = data.buffer_paths.iter().map(|path| BufferPath::new(path));
        for (path, buffer) in paths.zip(buffers) {
            let Some(path) = path else { continue };
            self.buffers.insert(path, (*buffer).into());
        }
        for (Text(name), value) in data.state {
            match self.state.get_mut(name.as_ref()) {
                Some(known) => *known = value.get().into(),
                None => {
                    self.state.insert(name.into(), value.get().into());
                }
            }
        }
    }

    pub(super) fn restore(stored: &StoredModel<'_>) -> Self {
        let mut model = Self::default();
        let traits = stored
            .state
            .iter()
            .map(|(Text(name), value)| (name.as_ref().into(), value.get().into()));
        model.state = traits.collect();
        // Notebooks may leave these to the model's own fields.
        for (name, value) in NAMES.iter().zip([
            stored.model_name,
            stored.model_module,
            stored.model_module_version,
        ]) {
            if let Some(value) = value.filter(|value| value.get() != "\"\"") {
                model
                    .state
                    .entry((*name.0).into())
                    .or_insert_with(|| value.get().into());
            }
        }
        for buffer in &stored.buffers {
            let bytes = BASE64.decode(buffer.data.0.as_bytes());
            if let (Some(path), Ok(bytes)) = (BufferPath::new(&buffer.path), bytes) {
                model.buffers.insert(path, bytes.into());
            }
        }
        model
    }

    /// Adds the data and the buffers of a comm that opens with this state.
    pub(super) fn push_open(&self, content: &mut Object<'_>) {
        let mut data = Object::open(content.key("data"));
        let mut state = Object::open(data.key("state"));
        for (name, value) in &self.state {
            state.raw(name, value);
        }
        state.close();
        let mut paths = Array::open(data.key("buffer_paths"));
        for path in self.buffers.keys() {
            paths.next().push_str(&path.json);
        }
        paths.close();
        data.close();
        if !self.buffers.is_empty() {
            let mut buffers = Array::open(content.key("_buffers_b64"));
            for bytes in self.buffers.values() {
                push_base64(buffers.next(), bytes);
            }
            buffers.close();
        }
    }

    pub(super) fn push(&self, out: &mut String) {
        let mut model = Object::open(out);
        for (name, field) in NAMES {
            let value = self.state.get(name).filter(|value| value.starts_with('"'));
            model.raw(field, value.map_or("\"\"", |value| value));
        }
        let mut state = Object::open(model.key("state"));
        for (name, value) in &self.state {
            state.raw(name, value);
        }
        state.close();
        let mut buffers = Array::open(model.key("buffers"));
        for (path, bytes) in &self.buffers {
            let mut buffer = Object::open(buffers.next());
            buffer.string("encoding", "base64");
            buffer.raw("path", &path.json);
            push_base64(buffer.key("data"), bytes);
            buffer.close();
        }
        buffers.close();
        model.close();
    }
}

/// The traits that name a model, and the fields of the snapshot they are repeated in.
const NAMES: [(&str, &str); 3] = [
    ("_model_name", "model_name"),
    ("_model_module", "model_module"),
    ("_model_module_version", "model_module_version"),
];

pub(super) fn push_base64(out: &mut String, bytes: &[u8]) {
    out.push('"');
    BASE64.encode_string(bytes, out);
    out.push('"');
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Data<'a> {
    #[serde(borrow)]
    pub(super) method: Option<&'a RawValue>,
    #[serde(borrow)]
    state: BTreeMap<Text<'a>, &'a RawValue>,
    #[serde(borrow)]
    buffer_paths: Vec<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct StoredModel<'a> {
    #[serde(borrow, default)]
    model_name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model_module: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model_module_version: Option<&'a RawValue>,
    #[serde(borrow, default)]
    state: BTreeMap<Text<'a>, &'a RawValue>,
    #[serde(borrow, default)]
    buffers: Vec<StoredBuffer<'a>>,
}

#[derive(Deserialize)]
struct StoredBuffer<'a> {
    #[serde(borrow)]
    path: Vec<&'a RawValue>,
    #[serde(borrow)]
    data: Text<'a>,
}
