//! `tithon doctor`: what could bite, and how to mend it.

use clap::Args;
use serde_json::json;

use super::print;
use crate::{
    doctor::{self, Severity},
    error::CliError,
    exit::Exit,
    link::Link,
    render::json::indented,
};

const EXAMPLES: &str = "\
Examples:
  tithon doctor

Changes nothing, starts nothing, and needs no supervisor.

Exit codes:
    0  nothing worse than a note
    1  a warning: it will hurt one day
    2  an error: it hurts now";

/// Check what kernels and their histories depend on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// The findings as a JSON list
    #[arg(long)]
    json: bool,

    /// Only what is not as it should be
    #[arg(short, long)]
    quiet: bool,
}

/// Prints the findings; the exit code is that of the worst.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) async fn run(args: &DoctorArgs, link: &Link) -> Result<Exit, CliError> {
    let mut findings = doctor::examine(link.home()).await;
    let worst = findings.iter().map(|finding| finding.severity).max();
    if args.quiet {
        findings.retain(|finding| finding.severity > Severity::Ok);
    }
    if args.json {
        print(&indented(&json!(findings).to_string()))?;
    } else {
        for finding in &findings {
            print(&format!(
                "{:<8} {:<11} {}",
                word(finding.severity),
                finding.check,
                finding.message
            ))?;
            if let Some(hint) = &finding.hint {
                print(&format!("{:20} -> {hint}", ""))?;
            }
        }
    }
    Ok(match worst {
        Some(Severity::Error) => Exit::Trouble,
        Some(Severity::Warning) => Exit::Failure,
        _ => Exit::Success,
    })
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Note => "note",
        Severity::Warning => "WARNING",
        Severity::Error => "ERROR",
    }
}
