//! Signals and the service manager: TERM and INT drain, a second one ends at once, HUP reloads.

use std::{pin::pin, process::ExitCode, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{App, StartError, Stopped};

/// Says `ready` once signals are listened to, and runs until told to stop; then drains, and gives `app` up.
pub(crate) async fn run_until_signalled(
    app: Arc<App>,
    ready: impl FnOnce(&App),
) -> Result<ExitCode, StartError> {
    let mut signals = Signals::new()?;
    ready(&app);
    notify(&[sd_notify::NotifyState::Ready]);
    while signals.reload().await {
        reload(&app).await;
    }
    tracing::info!(kind = "stop", "draining; a second signal ends at once");
    notify(&[sd_notify::NotifyState::Stopping]);
    let rest = Arc::downgrade(&app);
    let mut ending = pin!(app.end());
    let stopped = tokio::select! {
        stopped = &mut ending => Some(stopped),
        () = signals.stop() => None,
    };
    // Whoever has it still: dropped, it would wait for a disk that hangs.
    std::mem::forget(rest.upgrade());
    let Some(stopped) = stopped else {
        tracing::warn!(kind = "stop", "second signal: ending at once");
        return Ok(ExitCode::from(130));
    };
    tracing::info!(kind = "stop", clean = stopped == Stopped::Clean, "stopped");
    Ok(if stopped == Stopped::Clean { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn reload(app: &Arc<App>) {
    let reloading = sd_notify::NotifyState::monotonic_usec_now();
    if let Ok(now) = reloading {
        notify(&[sd_notify::NotifyState::Reloading, now]);
    }
    // Whatever happened was logged; the service manager only needs to know that it is over.
    drop(app.reload().await);
    notify(&[sd_notify::NotifyState::Ready]);
}

/// Not running under a service manager is fine.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "no service manager was told");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, StartError> {
        let listen = |kind| signal(kind).map_err(StartError::of);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one; whether it asks for a reload, not for the end.
    async fn reload(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
            _ = self.hangup.recv() => true,
        }
    }

    /// Waits until told to stop; a reload comes too late.
    async fn stop(&mut self) {
        while self.reload().await {}
    }
}
