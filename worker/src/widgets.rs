//! The widget mirror: the state of every `ipywidgets` model of a session's kernel (PROTOCOL.md §12), so that a client
//! that comes later sees each widget as it is now, and a bar with 50,000 steps as one bar.
//!
//! Holds nothing but what comms said: no journal, no sockets. Comms it does not accept are none of Tithon's business
//! and must be neither journaled nor published. It belongs to one kernel generation.

mod model;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fold::json::{Array, Object, Text, object, repair};
use model::{Data, Model, StoredModel, push_base64};

/// Why stored widgets could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read stored widgets")]
pub struct WidgetsError(#[from] serde_json::Error);

/// All living widget models of one kernel generation, by comm id.
#[derive(Debug, Default)]
pub struct WidgetMirror {
    models: BTreeMap<Box<str>, Model>,
    /// Models that came with shared outputs, which show them: of no kernel, and none's end ends them.
    shared: BTreeMap<Box<str>, Model>,
}

impl WidgetMirror {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up widgets in the form of [`Self::snapshot_json`], which is that of a notebook's widget state.
    pub fn restore(snapshot: &str) -> Result<Self, WidgetsError> {
        let stored: Stored<'_> = object(snapshot)?;
        let models = stored
            .state
            .into_iter()
            .map(|(Text(comm_id), model)| (comm_id.into(), Model::restore(&model)));
        Ok(Self {
            models: models.collect(),
            shared: BTreeMap::new(),
        })
    }

    /// Applies a comm message if it is one of a widget; says whether it was.
    ///
    /// Accepted are a `comm_open` of a widget, an `update` or `echo_update` of a model that is known and the
    /// `comm_close` of one, each well-formed. `content` is the JSON text of the message's content.
    #[must_use]
    pub fn accepts_and_apply<B: AsRef<[u8]>>(
        &mut self,
        msg_type: &str,
        content: &str,
        buffers: &[B],
    ) -> bool {
        let buffers: Vec<&[u8]> = buffers.iter().map(AsRef::as_ref).collect();
        let accepted = match self.apply(msg_type, content, &buffers) {
            // Strings are read leniently one by one; a lone surrogate in a key takes the whole content with it.
            Err(error) => match repair(content) {
                Cow::Owned(repaired) => self.apply(msg_type, &repaired, &buffers),
                Cow::Borrowed(_) => Err(error),
            },
            accepted => accepted,
        };
        accepted.unwrap_or(false)
    }

    /// Applies a journaled row: content as [`journaled_content`] made it. A malformed row changes nothing.
    pub fn replay(&mut self, msg_type: &str, journaled: &str) {
        #[derive(Deserialize)]
        struct Buffers<'a> {
            #[serde(borrow, default, rename = "_buffers_b64")]
            encoded: Option<Vec<Cow<'a, str>>>,
        }

        let Ok(Buffers { encoded }) = object(journaled) else {
            return;
        };
        let buffers: Result<Vec<_>, _> = encoded
            .unwrap_or_default()
            .iter()
            .map(|buffer| BASE64.decode(&**buffer))
            .collect();
        if let Ok(buffers) = buffers {
            // What was journaled had been accepted, by this version or another; there is nobody to tell.
            let _accepted: bool = self.accepts_and_apply(msg_type, journaled, &buffers);
        }
    }

    /// Takes the place of the models that came with shared outputs.
    pub fn share(&mut self, shared: Self) {
        self.shared = shared.models;
    }

    /// Forgets all models of a kernel that is gone.
    pub fn reset(&mut self) {
        self.models.clear();
    }

    /// Whether a comm is a living model's.
    pub fn contains(&self, comm_id: &str) -> bool {
        self.models.contains_key(comm_id)
    }

    /// The comm ids of models that another mirror does not have.
    pub fn unknown_to(&self, other: &Self) -> Vec<String> {
        self.models
            .keys()
            .filter(|comm_id| !other.models.contains_key(*comm_id))
            .map(|comm_id| comm_id.to_string())
            .collect()
    }

    /// Every model as the `comm_open` that would make it as it is, in journaled form.
    pub fn opens(&self) -> Vec<String> {
        self.models
            .iter()
            .map(|(comm_id, model)| {
                let mut out = String::new();
                let mut content = Object::open(&mut out);
                content.string("comm_id", comm_id);
                content.string("target_name", "jupyter.widget");
                model.push_open(&mut content);
                content.close();
                out
            })
            .collect()
    }

    /// Number of models, shared ones included.
    pub fn len(&self) -> usize {
        self.all().count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All models; a kernel's stands before a shared one of the same name.
    fn all(&self) -> impl Iterator<Item = (&str, &Model)> {
        let shared = self
            .shared
            .iter()
            .filter(|(comm_id, _)| !self.models.contains_key(*comm_id));
        self.models
            .iter()
            .chain(shared)
            .map(|(comm_id, model)| (&**comm_id, model))
    }

    /// All models in the form `application/vnd.jupyter.widget-state+json`, version 2.0.
    pub fn snapshot_json(&self) -> String {
        let mut out = String::new();
        let mut widgets = Object::open(&mut out);
        widgets.raw("version_major", 2);
        widgets.raw("version_minor", 0);
        let mut state = Object::open(widgets.key("state"));
        for (comm_id, model) in self.all() {
            model.push(state.key(comm_id));
        }
        state.close();
        widgets.close();
        out
    }

    fn apply(
        &mut self,
        msg_type: &str,
        content: &str,
        buffers: &[&[u8]],
    ) -> Result<bool, serde_json::Error> {
        let comm: Comm<'_> = object(content)?;
        let comm_id = comm.comm_id.0.as_ref();
        let data = || {
            comm.data
                .map_or(Ok(Data::default()), |data| object(data.get()))
        };
        match msg_type {
            "comm_open" => {
                let is_widget = comm
                    .target_name
                    .is_some_and(|target| target.get() == "\"jupyter.widget\"");
                if !is_widget || comm_id.is_empty() {
                    return Ok(false);
                }
                let mut model = Model::default();
                model.update(data()?, buffers);
                self.models.insert(comm_id.into(), model);
            }
            "comm_msg" => {
                let Some(model) = self.models.get_mut(comm_id) else {
                    return Ok(false);
                };
                let data = data()?;
                if !data
                    .method
                    .is_some_and(|method| matches!(method.get(), "\"update\"" | "\"echo_update\""))
                {
                    return Ok(false);
                }
                model.update(data, buffers);
            }
            "comm_close" => return Ok(self.models.remove(comm_id).is_some()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The content of a comm message as it is journaled: the kernel's, and its buffers in `_buffers_b64` if there are any.
///
/// `content` must be the text of a JSON object; it is left as it is otherwise.
pub fn journaled_content<'a, B: AsRef<[u8]>>(content: &'a str, buffers: &[B]) -> Cow<'a, str> {
    let Some(members) = content
        .trim_end()
        .strip_suffix('}')
        .filter(|_| !buffers.is_empty())
    else {
        return Cow::Borrowed(content);
    };
    let mut out = members.to_owned();
    if !members.trim_end().ends_with('{') {
        out.push_str(", ");
    }
    out.push_str("\"_buffers_b64\": ");
    let mut encoded = Array::open(&mut out);
    for buffer in buffers {
        push_base64(encoded.next(), buffer.as_ref());
    }
    encoded.close();
    out.push('}');
    Cow::Owned(out)
}

#[derive(Deserialize)]
struct Comm<'a> {
    #[serde(borrow)]
    comm_id: Text<'a>,
    #[serde(borrow, default)]
    target_name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow, default)]
    state: BTreeMap<Text<'a>, StoredModel<'a>>,
}
