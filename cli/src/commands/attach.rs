//! `tithon attach`: a session's frames as they are on the wire.

use std::{
    future::pending,
    io::{self, BufWriter, Write},
    os::fd::{AsFd, OwnedFd},
};

use clap::Args;
use serde_json::json;
use tithon_ipc::{
    client::{Connection, FrameText},
    ids::Seq,
    readiness::ending,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    follow::Attempts,
    frames::Received,
    link::{Bound, Link},
    render::notice::Notices,
};

const EXAMPLES: &str = "\
Examples:
  tithon attach --since 0 --once          the session's whole state, and leave
  tithon attach --since 35                every event after seq 35, then live ones
  tithon attach --since -1 --until-done   live events until a cell ends

Every line is one JSON object. Resume with the last \"seq\" you have seen.";

/// Print a session's state and events, one JSON object per line
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AttachArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    /// The last seq already seen; 0 for a snapshot, -1 for live events only
    #[arg(
        long,
        value_name = "SEQ",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    since: Seq,

    /// Leave when the backlog is printed
    #[arg(long)]
    once: bool,

    /// Leave after the first cell that ends, in the backlog or live
    #[arg(long)]
    until_done: bool,
}

/// Prints frames until the server closes the connection or the flags say so.
///
/// # Errors
/// When the session cannot be reached, or its connection breaks.
pub(crate) async fn run(args: &AttachArgs, link: &Link) -> Result<Exit, CliError> {
    let bound = link.bound(&args.session, None, None);
    let mut since = args.since;
    let mut connection = attach(link.open().await?, &bound, since).await?;
    let mut attempts = Attempts::over(link);
    let mut notices = Notices::default();
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout());
    let reader = Reader::of_stdout();
    loop {
        let next = tokio::select! {
            // Flushed whenever nothing more is there to read, so never late and never needlessly.
            biased;
            next = connection.next() => next,
            () = std::future::ready(()), if !out.buffer().is_empty() => {
                out.flush().map_err(CliError::Output)?;
                continue;
            }
            () = reader.left() => {
                return Err(CliError::Output(io::ErrorKind::BrokenPipe.into()));
            }
        };
        let text = match next {
            Ok(Some(text)) => text,
            // A network that was away is no end: what comes next is what comes after this seq.
            Err(_) if link.remote().is_some() => {
                sleep(attempts.next().unwrap_or_default()).await;
                match link.open().await {
                    Ok(opened) => {
                        if let Ok(attached) = attach(opened, &bound, since).await {
                            connection = attached;
                        }
                    }
                    Err(err) if err.is_final() => return Err(err),
                    Err(_) => {}
                }
                continue;
            }
            Ok(None) => break,
            Err(err) => return Err(err.into()),
        };
        match Received::parse(&text)? {
            Received::Notice(message) => {
                notices.show(&message);
                continue;
            }
            Received::Event(event) => since = since.max(event.seq),
            Received::Sync(seq) => since = since.max(seq),
            _ => {}
        }
        attempts.reset();
        notices.clear();
        writeln!(out, "{text}").map_err(CliError::Output)?;
        if is_last(args, &text)? {
            out.flush().map_err(CliError::Output)?;
            connection.close().await;
            return Ok(Exit::Success);
        }
    }
    out.flush().map_err(CliError::Output)?;
    Ok(Exit::Success)
}

/// Whoever reads our output.
struct Reader(Option<AsyncFd<OwnedFd>>);

impl Reader {
    fn of_stdout() -> Self {
        let stdout = io::stdout().as_fd().try_clone_to_owned();
        // A file has no reader that could leave.
        Self(stdout.and_then(ending).ok())
    }

    /// Returns when there is nobody any more.
    async fn left(&self) {
        match &self.0 {
            Some(stdout) => drop(stdout.ready(Interest::ERROR).await),
            None => pending().await,
        }
    }
}

async fn attach(
    mut connection: Connection,
    bound: &Bound,
    since: Seq,
) -> Result<Connection, CliError> {
    let attach = json!({"op": "attach", "last_seen_seq": since});
    connection.send(&bound.bind(attach)).await?;
    Ok(connection)
}

fn is_last(args: &AttachArgs, text: &FrameText) -> Result<bool, CliError> {
    Ok(match Received::parse(text)? {
        Received::Sync(_) => args.once,
        Received::Event(event) => args.until_done && event.kind == "done",
        _ => false,
    })
}
