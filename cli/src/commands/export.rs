//! `tithon export`: a Python file becomes a notebook, with the outputs of the session that runs it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    answer::Telling,
    import::{EXPORT, as_frame, conversion, require_names, tell},
};
use crate::{
    error::CliError,
    exit::Exit,
    link::{Link, ask_once},
    render::{notice::Progress, words},
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

    #[command(flatten)]
    telling: Telling,
}

/// Asks the supervisor, who knows which session runs the file; without one the sidecar has what the
/// file printed last.
///
/// # Errors
/// When the file cannot be converted.
pub(crate) async fn run(args: &ExportArgs, link: &Link) -> Result<Exit, CliError> {
    require_names(&EXPORT, &args.source, &args.destination)?;
    let workdir = args.workdir.as_deref();
    let conversion = conversion(&args.source, &args.destination, &args.source, workdir)?;
    let connection = match link.open_running().await {
        Ok(connection) => connection,
        Err(CliError::NoneRuns(_)) => {
            let converted = {
                let _progress = Progress::of("converting");
                tithon_notebook::export(&conversion, None)?
            };
            return told(args, &as_frame(&converted));
        }
        Err(err) => return Err(err),
    };
    let op = json!({
        "op": "export_notebook",
        "source": conversion.source,
        "destination": conversion.destination,
        "workdir": conversion.workdir,
    });
    let reply = ask_once(connection, &op, "notebook_converted", "converting").await?;
    told(args, &reply)
}

fn told(args: &ExportArgs, frame: &str) -> Result<Exit, CliError> {
    let exit = tell(&args.telling, frame)?;
    if has_no_outputs(&args.destination) {
        words::say(&format!(
            "no cell has output: no session has run {} as it is now",
            args.source.display()
        ));
    }
    Ok(exit)
}

/// Whether a notebook that was just written shows nothing; what cannot be read here is not judged.
fn has_no_outputs(notebook: &Path) -> bool {
    let Ok(bytes) = fs::read(notebook) else {
        return false;
    };
    let notebook: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut outputs = notebook["cells"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|cell| cell["outputs"].as_array())
        .peekable();
    outputs.peek().is_some() && outputs.all(Vec::is_empty)
}
