//! What states hold: weighed off the event loop, and bounded.

use std::rc::Rc;

use tithon_worker::kernel::checkpoint::Rollup;

use crate::graph::{EndedBy, Graph, Running};

/// Weighs all states and what runs; what runs and holds most is ended where they hold too much.
pub(crate) async fn bound(graph: &Graph) {
    let running = running(graph);
    // What waits and does not change needs no look at it.
    if running.is_empty() && !graph.changed.take() {
        return;
    }
    graph.changed.set(!running.is_empty());
    let mut pids: Vec<_> = running.iter().map(|(_, pid)| *pid).collect();
    pids.extend(graph.pids());
    let weighed = tokio::task::spawn_blocking(move || weigh(&pids)).await;
    let Ok((together, each)) = weighed else {
        return;
    };
    graph.memory.set(together);
    if together > graph.limits.memory {
        let largest = running.iter().zip(each).max_by_key(|(_, private)| *private);
        if let Some(((running, pid), private)) = largest {
            tracing::warn!(pid, private, together, "an execution is ended for memory");
            running.kill(EndedBy::Memory);
        }
    }
}

fn running(graph: &Graph) -> Vec<(Rc<Running>, i32)> {
    let all = graph.all_running().into_iter();
    all.filter_map(|it| {
        let pid = it.life.borrow().as_ref()?.pid();
        Some((it, pid))
    })
    .collect()
}

/// What processes hold together, in bytes: a page that `n` of them share counts 1/n in each. And the dirty
/// pages of each alone, in the order of the processes; of one that has ended there are none.
fn weigh(pids: &[i32]) -> (u64, Vec<u64>) {
    let each: Vec<_> = pids
        .iter()
        .map(|pid| Rollup::of(*pid).unwrap_or_default())
        .collect();
    let together = each.iter().map(|found| found.share).sum();
    (together, each.iter().map(|found| found.private).collect())
}
