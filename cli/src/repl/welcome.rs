//! What somebody who comes to a session sees first: where they are, and what happened meanwhile.

use jiff::Zoned;
use tithon_ipc::ids::session_flag;

use super::screen::Screen;
use crate::{
    frames::Snapshot,
    render::log::{self, Extent},
};

/// Shows the session: the last result, and what runs.
pub(super) fn show(screen: &mut Screen, session: &str, snapshot: &Snapshot) {
    let palette = screen.palette();
    let now = Zoned::now();
    let kernel = &snapshot.kernel;
    let mut first = format!("Tithon {}  session '{session}'", env!("CARGO_PKG_VERSION"));
    if let Some(version) = &kernel.python {
        first.push_str(&format!("  Python {version}"));
    }
    if let Some(pid) = kernel.pid {
        first.push_str(&format!("  kernel {pid}"));
    }
    screen.line(&palette.paint("1", &first));
    screen.aside("Ctrl-D leaves, and everything goes on.");
    if kernel.lost_state {
        let words = format!(
            "The kernel was lost and replaced: variables are gone, the history stays (tithon replay{}).",
            session_flag(session)
        );
        screen.line(&palette.paint("33", &words));
    }
    let (open, ended): (Vec<_>, Vec<_>) = snapshot.executions.iter().partition(|it| it.is_open());
    if let Some(last) = ended.last() {
        if ended.len() > 1 {
            let cells = match ended.len() - 1 {
                1 => "1 cell".to_owned(),
                many => format!("{many} cells"),
            };
            screen.aside(&format!(
                "{cells} before it: tithon log{}",
                session_flag(session)
            ));
        }
        screen.write(&log::execution(last, &now, palette, Extent::Excerpt));
    }
    for execution in open {
        screen.line(&log::heading(execution, &now, palette));
        screen.write(&log::code(&execution.code, palette));
        screen.so_far(execution);
    }
}
