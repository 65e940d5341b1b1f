//! `tithon replay`: runs a session's recorded cells again, where their state is lost and no checkpoint
//! has it.
//!
//! A client like any other: cells go through the queue one by one, so that others see them, and a replay
//! that is stopped leaves nothing behind that would still run.

use clap::Args;
use tithon_ipc::ids::{quoted, session_flag};

use super::{agreed, print, restart};
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    follow::Stdin,
    history::{self, History},
    link::{Bound, Link},
    render::{units, words},
    replay::{
        plan::{Plan, Wanted},
        run::{Run, line},
    },
};

const EXAMPLES: &str = "\
Examples:
  tithon replay --dry-run                 which cells would run, and how long they took
  tithon replay                           after a reboot: the lost state made again, after a question
  tithon replay --from e3 --to e20        these, in a fresh kernel
  tithon replay --into check --yes        in a new session beside it, without a question
  tithon replay --from e9 --keep-kernel   goes on where a replay stopped

Without --from it begins with the kernel whose state is to be made again: cells since the
last restart, without those that `tithon restore` undid. What failed or was interrupted the
first time is left out, unless --with-failed. Cells run as any others do: they write files
and send mails again. input() is asked here.

Each cell is ok if it says the same as the first time, addresses, times and progress aside;
one whose output was cleared is not compared.
Ctrl-C interrupts the cell and stops; others that use the session may run cells in between.

Exit codes:
    0  every cell ran and said the same
    1  a cell failed; the replay stopped there, unless --keep-going
    2  no supervisor, a refusal by one, or nothing to replay
    4  the kernel died, or was killed or restarted meanwhile
    5  every cell ran, and some said something else
  130  it was interrupted";

/// Run a session's recorded cells again in a fresh kernel, and say what differs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session, default_value = "default")]
    session: String,

    /// The first cell; unless given, the first of the state that was lost
    #[arg(long, value_name = "EXEC")]
    from: Option<String>,

    /// The last cell; unless given, the newest
    #[arg(long, value_name = "EXEC")]
    to: Option<String>,

    /// Run them in a new session of this name; this one is left as it is
    #[arg(long, value_name = "NEW", value_parser = session, conflicts_with = "keep_kernel")]
    into: Option<String>,

    /// Run them in the session's kernel as it is, not in a fresh one
    #[arg(long)]
    keep_kernel: bool,

    /// Also run cells that failed or were interrupted the first time
    #[arg(long)]
    with_failed: bool,

    /// Go on after a cell that fails
    #[arg(long)]
    keep_going: bool,

    /// Say what would run, and leave
    #[arg(long)]
    dry_run: bool,

    /// Do not ask, even if a living kernel and its variables are given up
    #[arg(short, long)]
    yes: bool,

    /// Show what the cells print as well
    #[arg(short, long, conflicts_with = "json")]
    verbose: bool,

    /// One JSON object per cell
    #[arg(long)]
    json: bool,

    /// Answer input() with the lines of standard input, even if it is no terminal
    #[arg(long)]
    stdin: bool,

    /// The Python to start the fresh kernel with; unless given, that of the recorded one
    #[arg(long, value_name = "PYTHON", conflicts_with_all = ["kernel", "keep_kernel"])]
    python: Option<String>,

    /// The kernelspec to start the fresh kernel from
    #[arg(long, value_name = "SPEC", conflicts_with = "keep_kernel")]
    kernel: Option<String>,
}

/// Replays, after asking.
///
/// # Errors
/// When there is no such session or execution, nothing to replay, or the kernel does not start.
pub(crate) async fn run(args: &ReplayArgs, link: &Link) -> Result<Exit, CliError> {
    let source = link.bound(
        &args.session,
        args.python.as_deref(),
        args.kernel.as_deref(),
    );
    let source = source.like(&args.session);
    let history = history::read(link, &source).await?;
    let after_loss = history::after_loss(link, &source, &history.kernel).await?;
    let executions: Vec<_> = history.executions.iter().map(|it| &it.execution).collect();
    let wanted = Wanted {
        from: args.from.as_deref(),
        to: args.to.as_deref(),
        failed_too: args.with_failed,
        after_loss: after_loss.as_deref(),
    };
    let plan = Plan::of(&executions, wanted).map_err(|exec_id| CliError::NoExecution {
        session: args.session.clone(),
        exec_id,
    })?;
    if plan.cells.is_empty() {
        return Err(CliError::Usage(format!(
            "there is nothing to replay in session '{}'{}",
            args.session,
            left_out(&plan)
        )));
    }
    if args.dry_run {
        for execution in &plan.cells {
            print(&line("", execution, None, took(execution)))?;
        }
        words::say(&format!("{}{}", summary(&plan), left_out(&plan)));
        return Ok(Exit::Success);
    }
    let target = target(args, link, source, &history).await?;
    if !args.yes {
        words::say(&format!("{}{}", summary(&plan), left_out(&plan)));
        let question = question(args, &history);
        if !agreed(
            &question,
            "--yes replays without a question, --dry-run shows what would run",
        )? {
            words::say("nothing was run");
            return Ok(Exit::Failure);
        }
    }
    let again = Run {
        link,
        target: &target,
        source: &args.session,
        keep_going: args.keep_going,
        verbose: args.verbose,
        json: args.json,
        stdin: Stdin::choose(args.stdin),
        is_fresh: args.into.is_none() && !args.keep_kernel,
    };
    again.run(&plan.cells).await
}

/// The session to run in, which nobody may be using.
async fn target(
    args: &ReplayArgs,
    link: &Link,
    source: Bound,
    history: &History,
) -> Result<Bound, CliError> {
    if let Some(into) = &args.into {
        return match history::entry(link, into).await {
            Ok(_) => Err(CliError::Usage(format!(
                "there is a session '{into}' already\nhint: another name, or tithon rm --session {}",
                quoted(into)
            ))),
            Err(CliError::NoSession { .. }) => {
                let bound = link.bound(into, args.python.as_deref(), args.kernel.as_deref());
                Ok(bound.at(history.workdir.as_deref()).like(&args.session))
            }
            Err(err) => Err(err),
        };
    }
    let open = history.executions.iter().map(|it| &it.execution);
    let open = open
        .filter(|it| it.is_open())
        .find(|_| history.is_inhabited);
    let Some(open) = open else {
        return Ok(source);
    };
    let (exec_id, status) = (&open.exec_id, &open.status);
    let named = session_flag(&args.session);
    Err(CliError::Usage(format!(
        "session '{}' is in use: {exec_id} is {status}\n\
         hint: tithon wait {exec_id}{named}, or tithon interrupt{named}",
        args.session
    )))
}

fn question(args: &ReplayArgs, history: &History) -> String {
    match (&args.into, history.kernel.is_living()) {
        (Some(into), _) => format!("Run them in a new session '{into}'?"),
        (None, true) if args.keep_kernel => {
            format!(
                "Run them in the kernel of session '{}' as it is?",
                args.session
            )
        }
        (None, true) => format!(
            "Replace the kernel of session '{}', whose variables go, and run them?",
            args.session
        ),
        (None, false) => format!("Run them in a fresh kernel of session '{}'?", args.session),
    }
}

fn summary(plan: &Plan<'_>) -> String {
    let seconds: f64 = plan.cells.iter().filter_map(|it| took(it)).sum();
    let ids = match &*plan.cells {
        [only] => only.exec_id.clone(),
        cells => format!("{} to {}", cells[0].exec_id, cells[cells.len() - 1].exec_id),
    };
    let cells = match plan.cells.len() {
        1 => "1 cell".to_owned(),
        many => format!("{many} cells"),
    };
    format!(
        "{cells} to run, {ids}; the first time took {}",
        units::cpu(seconds)
    )
}

/// What is left out, on a line of its own.
fn left_out(plan: &Plan<'_>) -> String {
    const SHOWN: usize = 8;
    let named = plan.left_out.iter().take(SHOWN);
    let named: Vec<_> = named
        .map(|(it, why)| format!("{} ({why})", it.exec_id))
        .collect();
    match plan.left_out.len() {
        0 => String::new(),
        many if many > SHOWN => {
            format!("\nleft out: {} and {} more", named.join(", "), many - SHOWN)
        }
        _ => format!("\nleft out: {}", named.join(", ")),
    }
}

/// How long it took, in seconds.
fn took(execution: &crate::frames::Execution) -> Option<f64> {
    Some(execution.finished_at? - execution.started_at?)
}

/// Gives the session a fresh kernel.
///
/// # Errors
/// When none starts.
pub(crate) async fn refresh(link: &Link, target: &Bound) -> Result<(), CliError> {
    restart::fresh(link, target).await.map(drop)
}
