//! `tithon import`: a notebook becomes a Python file, here and now: nobody else is needed.

use std::{
    env, io,
    path::{self, Path, PathBuf},
};

use clap::Args;
use serde::Deserialize;
use tithon_ipc::{client::Frame, ids::quoted};
use tithon_notebook::{Conversion, Converted};

use super::answer::Telling;
use crate::{error::CliError, exit::Exit, render::notice::Progress};

/// Turn a notebook into a Python file whose cells begin with # %%
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tithon import lesson.ipynb lesson.py")]
pub(crate) struct ImportArgs {
    /// The notebook
    #[arg(value_name = "SRC.ipynb")]
    source: PathBuf,

    /// The file to write; it must not exist
    #[arg(value_name = "DST.py")]
    destination: PathBuf,

    /// The project that the file belongs to: outputs go to .tithon in it
    #[arg(long, value_name = "DIR")]
    workdir: Option<PathBuf>,

    #[command(flatten)]
    telling: Telling,
}

/// Converts and says what was written.
///
/// # Errors
/// When the notebook cannot be converted.
pub(crate) fn run(args: &ImportArgs) -> Result<Exit, CliError> {
    require_names(&IMPORT, &args.source, &args.destination)?;
    let workdir = args.workdir.as_deref();
    let conversion = conversion(&args.source, &args.destination, &args.destination, workdir)?;
    let converted = {
        let _progress = Progress::of("converting");
        tithon_notebook::import(&conversion)?
    };
    tell(&args.telling, &as_frame(&converted))
}

/// What a conversion makes of what.
pub(super) struct Direction {
    command: &'static str,
    takes: &'static str,
    from: &'static str,
    to: &'static str,
    back: &'static str,
}

pub(super) const IMPORT: Direction = Direction {
    command: "import",
    takes: "a notebook and the Python file to write",
    from: ".ipynb",
    to: ".py",
    back: "export",
};

pub(super) const EXPORT: Direction = Direction {
    command: "export",
    takes: "a Python file and the notebook to write",
    from: ".py",
    to: ".ipynb",
    back: "import",
};

/// Requires the names that the command takes; who gave them in the other order is told what to type.
///
/// # Errors
/// [`CliError::Usage`] when a name ends in something else.
pub(super) fn require_names(
    way: &Direction,
    source: &Path,
    destination: &Path,
) -> Result<(), CliError> {
    let ends = |path: &Path, end: &str| path.to_string_lossy().ends_with(end);
    let (first, second) = (source.display(), destination.display());
    let wrong = match (ends(source, way.from), ends(destination, way.to)) {
        (true, true) => return Ok(()),
        (false, _) => format!("'{first}' does not end in {}", way.from),
        (true, false) => format!("'{second}' does not end in {}", way.to),
    };
    let typed = |path: &Path| quoted(&path.to_string_lossy());
    let hint = if !ends(source, way.to) || !ends(destination, way.from) {
        format!("tithon {} SRC{} DST{}", way.command, way.from, way.to)
    } else if destination.exists() && !source.exists() {
        let (from, to) = (typed(destination), typed(source));
        format!("the other way round: tithon {} {from} {to}", way.command)
    } else {
        let (from, to) = (typed(source), typed(destination));
        format!("did you mean tithon {} {from} {to}", way.back)
    };
    Err(CliError::Usage(format!(
        "`tithon {}` takes {}: {wrong}\nhint: {hint}",
        way.command, way.takes
    )))
}

/// What to convert, by absolute paths. A project that is not named is where we are, or where its
/// Python file is if that is elsewhere.
pub(super) fn conversion(
    source: &Path,
    destination: &Path,
    python: &Path,
    workdir: Option<&Path>,
) -> Result<Conversion, CliError> {
    let absolute = |path: &Path| path::absolute(path).map_err(here);
    let python = absolute(python)?;
    let folder = python.parent().unwrap_or(&python);
    let workdir = match workdir {
        Some(named) => absolute(named)?,
        None => {
            let current = env::current_dir().map_err(here)?;
            let is_inside = folder
                .canonicalize()
                .is_ok_and(|folder| folder.starts_with(&current));
            if is_inside {
                current
            } else {
                folder.to_owned()
            }
        }
    };
    Ok(Conversion {
        source: absolute(source)?,
        destination: absolute(destination)?,
        workdir,
    })
}

fn here(source: io::Error) -> CliError {
    CliError::System {
        doing: "find out where this command runs",
        source,
    }
}

/// The result as the supervisor would put it.
pub(super) fn as_frame(converted: &Converted) -> String {
    let frame = Frame::NotebookConverted {
        cells: converted.cells,
        destination: &converted.destination.to_string_lossy(),
        missing_images: converted.missing_images,
    };
    frame.to_text()
}

/// What a result frame says.
#[derive(Deserialize)]
struct Written {
    cells: u64,
    destination: String,
    #[serde(default)]
    missing_images: u64,
}

/// Tells a result frame's own fields.
pub(super) fn tell(telling: &Telling, frame: &str) -> Result<Exit, CliError> {
    let result: Written = serde_json::from_str(frame)?;
    let cells = match result.cells {
        1 => "1 cell".to_owned(),
        many => format!("{many} cells"),
    };
    let missing = match result.missing_images {
        0 => "",
        1 => "; one picture is not there any more",
        _ => "; some pictures are not there any more",
    };
    let sentence = format!("{} was written: {cells}{missing}", result.destination);
    // Its name is the connection's business.
    let fields = frame.replacen(r#""op": "notebook_converted", "#, "", 1);
    telling.tell(&fields, &sentence)?;
    Ok(Exit::Success)
}
