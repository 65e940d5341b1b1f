//! PROTOCOL.md §9 and §11 word for word, on characters and JSON values, without bounds. It is also what a client does
//! that is seeded from outputs and `fold_state` alone.

use serde_json::{Value, json};

use super::Message;

#[derive(Default)]
pub(super) struct Naive {
    items: Vec<NaiveItem>,
    claims: Vec<String>,
    pending_clear: bool,
    pending_owner_clear: Vec<String>,
}

struct NaiveItem {
    owner: Option<String>,
    item: Value,
    finished: Vec<String>,
    current: Vec<char>,
    cursor: usize,
}

impl NaiveItem {
    fn new(owner: Option<String>, item: Value) -> Self {
        Self {
            owner,
            item,
            finished: Vec::new(),
            current: Vec::new(),
            cursor: 0,
        }
    }

    fn write(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '\n' => {
                    self.finished.push(self.current.drain(..).collect());
                    self.cursor = 0;
                }
                '\r' => self.cursor = 0,
                '\u{8}' => self.cursor = self.cursor.saturating_sub(1),
                _ => {
                    if self.cursor < self.current.len() {
                        self.current[self.cursor] = character;
                    } else {
                        self.current.push(character);
                    }
                    self.cursor += 1;
                }
            }
        }
        let lines: String = self
            .finished
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        self.item["text"] = json!(lines + &self.current.iter().collect::<String>());
    }
}

impl Naive {
    pub(super) fn seeded(outputs: &Value, state: &Value) -> Self {
        let mut naive = Self {
            pending_clear: state["pending_clear"].as_bool().unwrap(),
            claims: serde_json::from_value(state["claims"].clone()).unwrap(),
            pending_owner_clear: serde_json::from_value(state["pending_owner_clear"].clone())
                .unwrap(),
            ..Self::default()
        };
        for (at, output) in outputs.as_array().unwrap().iter().enumerate() {
            let mut item = NaiveItem::new(
                state["owners"][at].as_str().map(str::to_owned),
                output.clone(),
            );
            if let Some(cursor) = state["stream_cursors"][at].as_u64() {
                item.write(output["text"].as_str().unwrap());
                item.cursor = usize::try_from(cursor).unwrap();
            }
            naive.items.push(item);
        }
        naive
    }

    pub(super) fn outputs(&self) -> Value {
        self.items.iter().map(|item| item.item.clone()).collect()
    }

    pub(super) fn state(&self) -> Value {
        let is_stream = |item: &NaiveItem| item.item["output_type"] == "stream";
        let mut pending = self.pending_owner_clear.clone();
        pending.sort();
        json!({
            "owners": self.items.iter().map(|item| json!(item.owner)).collect::<Vec<_>>(),
            "stream_cursors": self.items.iter().map(|item| is_stream(item).then_some(item.cursor)).collect::<Vec<_>>(),
            "claims": self.claims,
            "pending_clear": self.pending_clear,
            "pending_owner_clear": pending,
        })
    }

    pub(super) fn apply(&mut self, (msg_type, content): &Message) {
        if msg_type.starts_with("comm") {
            return self.apply_comm(msg_type, content);
        }
        let scoped = content["tithon_scope"] == "cell";
        let area = if scoped {
            None
        } else {
            self.claims.last().cloned()
        };
        let transient_id = content["transient"]["display_id"]
            .as_str()
            .filter(|id| !id.is_empty());
        match *msg_type {
            "clear_output" => {
                let wait = content["wait"] == true;
                match area {
                    None if wait => self.pending_clear = true,
                    None => {
                        self.items.clear();
                        self.pending_owner_clear.clear();
                    }
                    Some(owner) if wait => {
                        self.pending_owner_clear.retain(|pending| *pending != owner);
                        self.pending_owner_clear.push(owner);
                    }
                    Some(owner) => self
                        .items
                        .retain(|item| item.owner.as_ref() != Some(&owner)),
                }
                return;
            }
            "update_display_data" => {
                let is_shown =
                    |item: &&mut NaiveItem| item.item["display_id"] == json!(transient_id);
                for item in self
                    .items
                    .iter_mut()
                    .filter(is_shown)
                    .filter(|_| transient_id.is_some())
                {
                    item.item["data"] = content["data"].clone();
                    item.item["metadata"] = content["metadata"].clone();
                }
                return;
            }
            _ => {}
        }
        match &area {
            None if self.pending_clear => {
                self.pending_clear = false;
                self.items.clear();
            }
            Some(owner) if self.pending_owner_clear.contains(owner) => {
                self.pending_owner_clear.retain(|pending| pending != owner);
                self.items.retain(|item| item.owner.as_ref() != Some(owner));
            }
            _ => {}
        }
        if *msg_type == "stream" {
            let text = content["text"].as_str().unwrap();
            let last = self.items.iter_mut().rev().find(|item| item.owner == area);
            match last {
                Some(item) if item.item["name"] == content["name"] => item.write(text),
                _ => {
                    let mut item = NaiveItem::new(
                        area,
                        json!({"output_type": "stream", "name": content["name"]}),
                    );
                    item.write(text);
                    self.items.push(item);
                }
            }
            return;
        }
        let mut item = json!({"output_type": msg_type});
        let kept: &[&str] = match *msg_type {
            "error" => &["ename", "evalue", "traceback"],
            "execute_result" => &["data", "metadata", "execution_count"],
            _ => &["data", "metadata"],
        };
        for key in kept {
            item[*key] = content[*key].clone();
        }
        if let (&"display_data", Some(display_id)) = (msg_type, transient_id) {
            item["display_id"] = json!(display_id);
        }
        self.items.push(NaiveItem::new(area, item));
    }

    fn apply_comm(&mut self, msg_type: &str, content: &Value) {
        let comm_id = content["comm_id"].as_str().unwrap();
        if msg_type == "comm_close" {
            self.claims.retain(|claim| claim != comm_id);
            self.pending_owner_clear
                .retain(|pending| pending != comm_id);
        } else if content["data"]["state"]["msg_id"] == "" {
            self.claims.retain(|claim| claim != comm_id);
        } else if !self.claims.iter().any(|claim| claim == comm_id) {
            self.claims.push(comm_id.to_owned());
        }
    }
}
