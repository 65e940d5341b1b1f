//! `tithon log --exec e12 --full`: everything a cell put out, from the journal, as it came.
//!
//! What a fold leaves out of a long output is in the journal's rows, which are read as any client reads
//! them: in order, bounded in memory, and from another machine too.

use jiff::Zoned;
use serde_json::json;

use crate::{
    error::CliError,
    frames::{Execution, Output, Received},
    link::{Bound, Link},
    render::{
        log::{self, Palette},
        output::Printer,
        words,
    },
};

/// Prints the execution.
///
/// # Errors
/// When the session cannot be reached, or the output cannot be written.
pub(super) async fn show(
    link: &Link,
    bound: &Bound,
    execution: &Execution,
    now: &Zoned,
) -> Result<(), CliError> {
    let palette = Palette::of_stdout();
    let mut printer = Printer::onto_stdout();
    let heading = log::heading(execution, now, palette);
    let code = log::code(&execution.code, palette);
    printer
        .write_out(&format!("{heading}\n{code}"))
        .map_err(CliError::Output)?;
    let mut connection = link.open().await?;
    // Behind the first row, which is no output: from 0 there would be a snapshot.
    let attach = json!({"op": "attach", "last_seen_seq": 1, "start_kernel": false});
    connection.send(&bound.bind(attach)).await?;
    while let Some(text) = connection.next().await? {
        match Received::parse(&text)? {
            Received::Event(event) if event.exec_id.as_ref() == Some(&execution.exec_id) => {
                match &*event.kind {
                    "output" => {
                        let output: Output = event.payload()?;
                        printer
                            .output(&output.msg_type, &output.content)
                            .map_err(CliError::Output)?;
                    }
                    "done" => break,
                    _ => {}
                }
            }
            // Older rows are gone: retention keeps what cells show, and no more.
            Received::Snapshot => {
                for item in &execution.outputs {
                    printer
                        .output(&item.output_type, &item.content)
                        .map_err(CliError::Output)?;
                }
                printer.flush().map_err(CliError::Output)?;
                words::say("the journal keeps no more of it: older output was compacted");
                break;
            }
            Received::Sync(_) if execution.is_open() => {
                printer.flush().map_err(CliError::Output)?;
                let tail = link.suggested(&format!("tail {}", execution.exec_id), bound.session());
                words::say(&format!(
                    "{} has not ended yet\nhint: {tail}",
                    execution.exec_id
                ));
                break;
            }
            Received::Sync(_) => break,
            Received::Error(message) => return Err(CliError::Server(message)),
            Received::Overflow => return Err(CliError::Unanswered("attach")),
            _ => {}
        }
    }
    printer.flush().map_err(CliError::Output)?;
    connection.close().await;
    Ok(())
}
