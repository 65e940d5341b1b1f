//! What activating an environment would have changed for the kernel.
//!
//! A kernel on `.venv/bin/python` sees that environment's packages without this; the programs it
//! starts do not. `!pip install`, `!python` and `subprocess` are expected to mean the kernel's own
//! Python. And IPython puts the packages of whatever `VIRTUAL_ENV` names in front of the kernel's
//! own: a foreign one must not reach it.

use std::collections::BTreeMap;
use std::path::Path;

use super::path::search_path;
use super::probe::Interpreter;

/// Changes to the client's environment.
pub(super) struct Changes {
    pub(super) set: BTreeMap<String, String>,
    pub(super) remove: Vec<String>,
}

/// The changes for this Python; none where its environment is active already.
pub(super) fn changes(python: &Interpreter, env: &BTreeMap<String, String>) -> Changes {
    let mut changes = Changes {
        set: BTreeMap::new(),
        remove: Vec::new(),
    };
    let prefix = &python.answer.prefix;
    let conda = prefix.join("conda-meta").is_dir();
    if python.in_virtual_environment() {
        changes.activate("VIRTUAL_ENV", prefix, env);
        return changes;
    }
    if conda {
        changes.activate("CONDA_PREFIX", prefix, env);
    }
    if env.contains_key("VIRTUAL_ENV") {
        changes.remove.push("VIRTUAL_ENV".to_owned());
    }
    changes
}

impl Changes {
    fn activate(&mut self, variable: &str, prefix: &Path, env: &BTreeMap<String, String>) {
        let Some(prefix) = prefix.to_str() else {
            return;
        };
        if env.get(variable).map(String::as_str) != Some(prefix) {
            self.set.insert(variable.to_owned(), prefix.to_owned());
        }
        let bin = format!("{prefix}/bin");
        let path = search_path(env);
        if path.split(':').next() != Some(bin.as_str()) {
            self.set.insert("PATH".to_owned(), format!("{bin}:{path}"));
        }
    }
}
