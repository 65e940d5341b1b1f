//! What a service manager is told. Without one all of this does nothing.

use sd_notify::NotifyState;
use tokio::time::sleep;

/// The sessions found are served.
pub(crate) fn ready(sessions: usize) {
    let status = format!("{sessions} sessions");
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// A reload begins; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The end begins.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Says again and again that the event loop turns, if a watchdog wants to hear it.
pub(crate) async fn beat() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        notify(&[NotifyState::Watchdog]);
        // Twice in time: one beat may be late.
        sleep(limit / 3).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(state) {
        tracing::warn!(%err, "the service manager cannot be told");
    }
}
