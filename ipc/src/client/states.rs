//! States of a session: what clients ask of them (Tithon's own addition).

use serde_json::{Map, Value};

use super::values::{self, FieldError};
use crate::ids::ExecId;

/// Most characters of a name.
const NAME_MAX: usize = 100;

/// An operation on a session's states.
#[derive(Clone, Debug, PartialEq)]
pub enum StateOp {
    /// Which there are, and which are being made.
    List,
    /// Run code in one, which stays as it is; what comes of it is kept as another.
    Run(StateRun),
    /// The variables of one.
    Show { name: String },
    /// Give some up; a run that has not ended is ended.
    Remove { names: Vec<String> },
    /// Interrupt a run.
    Interrupt { exec_id: String },
}

/// Code to run in a state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateRun {
    /// The code, verbatim.
    pub code: String,
    /// What to keep the outcome as, in place of what has that name; as the execution's id unless given.
    pub name: Option<StateName>,
    /// The state, or the execution whose checkpoint, it is run in; the live kernel's unless given.
    pub from: Option<String>,
    /// Who asks, for the history.
    pub submitted_by: Option<String>,
    /// Echoed in the `queued` event.
    pub origin: Option<Map<String, Value>>,
}

/// What a state is called: a line of text that is no execution's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateName(String);

impl StateName {
    /// Takes a name.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.trim() != text || text.is_empty() {
            return Err("a state's name must not be empty, nor begin or end with a space");
        }
        if text.chars().count() > NAME_MAX {
            return Err("a state's name must not have more than 100 characters");
        }
        if text.chars().any(is_unseen) {
            return Err(
                "a state's name must not have control characters, or others that are not seen",
            );
        }
        if ExecId::parse(text).is_some() {
            return Err("a state must not be called like an execution, such as e12");
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a character would move the cursor, or turn what is behind it around.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl StateOp {
    /// The operation of that name; `None` if it is none on states.
    pub(super) fn from_fields(
        op: &str,
        fields: &Map<String, Value>,
    ) -> Result<Option<Self>, FieldError> {
        Ok(Some(match op {
            "states" => Self::List,
            "state_exec" => Self::Run(StateRun {
                code: values::text(fields, "code")?.unwrap_or_default().to_owned(),
                name: values::text(fields, "name")?
                    .map(StateName::parse)
                    .transpose()?,
                from: values::text(fields, "from")?.map(str::to_owned),
                submitted_by: values::text(fields, "submitted_by")?.map(str::to_owned),
                origin: values::object(fields, "origin")?.cloned(),
            }),
            "state_show" => Self::Show {
                name: required(fields, "name")?,
            },
            "state_rm" => Self::Remove {
                names: values::list(fields, "names")?
                    .iter()
                    .map(|name| name.as_str().map(str::to_owned))
                    .collect::<Option<_>>()
                    .ok_or("every one of \"names\" must be text")?,
            },
            "state_interrupt" => Self::Interrupt {
                exec_id: required(fields, "exec_id")?,
            },
            _ => return Ok(None),
        }))
    }
}

fn required(fields: &Map<String, Value>, name: &str) -> Result<String, FieldError> {
    values::text(fields, name)?
        .map(str::to_owned)
        .ok_or_else(|| format!("\"{name}\" is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lines_that_mean_nothing_else() {
        for fine in [
            "tuned",
            "before lunch",
            "étude",
            "a/b",
            "e12x",
            "x".repeat(100).as_str(),
        ] {
            assert!(StateName::parse(fine).is_ok(), "{fine}");
        }
        for bad in [
            "",
            " x",
            "x ",
            "a\nb",
            "e12",
            "a\u{202e}b",
            "x".repeat(101).as_str(),
        ] {
            assert!(StateName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
