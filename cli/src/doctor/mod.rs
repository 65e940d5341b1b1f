//! What `tithon doctor` looks at, one file per subject. Looks only: nothing is mended, started or
//! signalled by it.

mod clock;
mod disk;
mod host;
mod places;
mod processes;

use serde::Serialize;
use tithon_ipc::paths::Home;

use crate::service::systemd::{Systemd, SystemdError};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// Will hurt one day.
    Warning,
    /// Hurts now.
    Error,
}

/// What one check found.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// The check's name, stable for scripts.
    pub(crate) check: &'static str,
    pub(crate) severity: Severity,
    /// What is so.
    pub(crate) message: String,
    /// How to mend it, where there is something to mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self {
            check,
            severity: Severity::Ok,
            message: message.into(),
            hint: None,
        }
    }

    fn bad(
        check: &'static str,
        severity: Severity,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            check,
            severity,
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// Runs every check, in the order in which they are shown.
pub(crate) async fn examine(home: &Home) -> Vec<Finding> {
    let systemd = Systemd::find().await;
    let mut findings = places::all(home);
    findings.extend(disk::all(home));
    findings.push(clock::examine(home));
    findings.extend(host::all(home, systemd.as_ref()).await);
    findings.extend(processes::all(home));
    findings
}

/// What the checks of the host know of the user's manager.
type Manager<'a> = Result<&'a Systemd, &'a SystemdError>;
