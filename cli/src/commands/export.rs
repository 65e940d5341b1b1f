//! `tithon export`: a Python file becomes a notebook, with the outputs of the session that runs it.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::import::{conversion, print_result, tell};
use crate::{
    error::CliError,
    exit::Exit,
    link::{Link, ask},
};

/// Turn a Python file and its outputs into a notebook
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tithon export lesson.py lesson.ipynb")]
pub(crate) struct ExportArgs {
    /// The Python file, its cells marked by # %%
    #[arg(value_name = "SRC.py")]
    source: PathBuf,

    /// The notebook to write; it must not exist
    #[arg(value_name = "DST.ipynb")]
    destination: PathBuf,

    /// The project that the file belongs to: the folder with .tithon in it
    #[arg(long, value_name = "DIR")]
    workdir: Option<PathBuf>,
}

/// Asks the supervisor, who knows which session runs the file; without one the sidecar has what the
/// file printed last.
///
/// # Errors
/// When the file cannot be converted.
pub(crate) async fn run(args: &ExportArgs, link: &Link) -> Result<Exit, CliError> {
    let workdir = args.workdir.as_deref();
    let conversion = conversion(&args.source, &args.destination, &args.source, workdir)?;
    let mut connection = match link.open_running().await {
        Ok(connection) => connection,
        Err(CliError::NoneRuns(_)) => return tell(&tithon_notebook::export(&conversion, None)?),
        Err(err) => return Err(err),
    };
    let op = json!({
        "op": "export_notebook",
        "source": conversion.source,
        "destination": conversion.destination,
        "workdir": conversion.workdir,
    });
    let reply = ask(&mut connection, &op, "notebook_converted").await?;
    connection.close().await;
    print_result(&reply)
}
