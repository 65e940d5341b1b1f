//! `tithon log --exec e12 --full`: everything a cell put out, from the journal, as it came.
//!
//! What a fold leaves out of a long output is in the journal's rows, which are read as any client reads
//! them: in order, bounded in memory, and from another machine too.

use jiff::Zoned;
use serde_json::json;
use tithon_ipc::{
    client::{Connection, FrameText},
    ids::Seq,
};

use crate::{
    error::CliError,
    frames::{Execution, Output, Received, Snapshot},
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
    let written = printer.write_out(&format!("{heading}\n{code}"));
    written.map_err(CliError::Output)?;
    let (mut connection, mut next) = earliest(link, bound).await?;
    let mut begun = false;
    let mut words = None;
    while let Some(text) = next {
        match Received::parse(&text)? {
            Received::Event(event) if event.exec_id.as_ref() == Some(&execution.exec_id) => {
                match &*event.kind {
                    "queued" | "started" => begun = true,
                    // Its beginning is gone: retention keeps what cells show, and no more.
                    _ if !begun => break,
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
            Received::Sync(_) => {
                if begun && execution.is_open() {
                    let tail = format!("tail {}", execution.exec_id);
                    let tail = link.suggested(&tail, bound.session());
                    words = Some(format!(
                        "{} has not ended yet\nhint: {tail}",
                        execution.exec_id
                    ));
                }
                break;
            }
            Received::Error(message) => return Err(CliError::Server(message)),
            Received::Overflow => return Err(CliError::Unanswered("attach")),
            _ => {}
        }
        next = connection.next().await?;
    }
    if !begun {
        for item in &execution.outputs {
            printer
                .output(&item.output_type, &item.content)
                .map_err(CliError::Output)?;
        }
        words = Some("the journal keeps no more of it: older output was compacted".to_owned());
    }
    printer.flush().map_err(CliError::Output)?;
    if let Some(words) = words {
        words::say(&words);
    }
    connection.close().await;
    Ok(())
}

/// A connection that tells every row the journal still has, and its first frame.
async fn earliest(link: &Link, bound: &Bound) -> Result<(Connection, Option<FrameText>), CliError> {
    // Behind the first row, which is no output: from 0 there would be a snapshot.
    let mut gone = 1;
    let (connection, first) = from(link, bound, gone).await?;
    let Some(snapshot) = first.as_ref().filter(|text| is_snapshot(text)) else {
        return Ok((connection, first));
    };
    // Of rows that are gone nothing is told but what they came to. Where that ends is found by halves.
    let mut there = Snapshot::parse(snapshot)?.max_seq;
    while there - gone > 1 {
        let middle = gone + (there - gone) / 2;
        let (connection, first) = from(link, bound, middle).await?;
        match first.is_some_and(|text| is_snapshot(&text)) {
            true => gone = middle,
            false => there = middle,
        }
        connection.close().await;
    }
    from(link, bound, there).await
}

async fn from(
    link: &Link,
    bound: &Bound,
    seq: Seq,
) -> Result<(Connection, Option<FrameText>), CliError> {
    let mut connection = link.open().await?;
    let attach = json!({"op": "attach", "last_seen_seq": seq, "start_kernel": false});
    connection.send(&bound.bind(attach)).await?;
    let first = connection.next().await?;
    Ok((connection, first))
}

fn is_snapshot(text: &str) -> bool {
    matches!(Received::parse(text), Ok(Received::Snapshot))
}
