//! Secrets that providers send: the operator opens a window, and what comes in it is put on record, kept and used.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::App;
use crate::{
    admin::Capture,
    audit::Draft,
    config::{Source, captured},
    event::Name,
    handshake::{Captured, State},
};

/// How long a window may be open.
const TIME_MAX: Duration = Duration::from_hours(1);

impl App {
    /// Opens a window, where a time is asked for, and says how it is.
    pub(super) async fn capture(&self, asked: Capture) -> Result<Value, String> {
        let config = self.config();
        let source = config.sources.iter().find(|source| source.name.as_str() == asked.source);
        let source = source.ok_or_else(|| format!("there is no source `{}`", asked.source))?;
        if let Some(time) = asked.time {
            self.open_window(source, time, asked.replace).await?;
        }
        let (state, fingerprint) = match self.shared.captures.state(&source.name) {
            State::Closed => ("closed", None),
            State::Open | State::Taking => ("open", None),
            State::Done(fingerprint) => ("captured", Some(fingerprint)),
        };
        let file = captured::file(&config.storage.dir, &asked.source);
        let url = &source.public_url;
        Ok(
            json!({ "source": asked.source, "state": state, "fingerprint": fingerprint, "file": file, "url": url }),
        )
    }

    async fn open_window(
        &self,
        source: &Source,
        time: Duration,
        replace: bool,
    ) -> Result<(), String> {
        let name = &source.name;
        if !source.captured {
            return Err(format!("source `{name}` does not say `secret: {{ captured: true }}`"));
        }
        if !source.language.handshakes.iter().any(crate::handshake::Rule::captures) {
            return Err(format!("provider `{}` sends no secret to capture", source.provider));
        }
        if time.is_zero() || time > TIME_MAX {
            return Err("a window is open for at most an hour".into());
        }
        // What was captured is used by loading the configuration again.
        if let Some(loader) = &self.loader {
            loader().map_err(|why| format!("the configuration cannot be loaded again:\n{why}"))?;
        }
        let record = Draft::control("capture_opened").with("source", name.as_str());
        let record = record.with("seconds", time.as_secs()).with("replace", replace);
        self.shared.log.append(record).await.map_err(|error| error.to_string())?;
        self.shared.captures.open(name, time, replace);
        tracing::warn!(
            kind = "capture",
            source = name.as_str(),
            seconds = time.as_secs(),
            "waiting for a secret"
        );
        Ok(())
    }

    /// Keeps what is captured, until the end.
    pub(super) fn keep_captured(self: &Arc<Self>, mut captured: mpsc::Receiver<Captured>) {
        let app = Arc::clone(self);
        drop(self.background.spawn(async move {
            while let Some(Some(captured)) = app.stop.run_until_cancelled(captured.recv()).await {
                let source = captured.source.clone();
                match app.keep(captured).await {
                    Ok(fingerprint) => tracing::warn!(
                        kind = "capture",
                        source = source.as_str(),
                        fingerprint,
                        "a secret was captured"
                    ),
                    Err(error) => tracing::error!(
                        kind = "capture",
                        source = source.as_str(),
                        error,
                        "a secret was not captured"
                    ),
                }
            }
        }));
    }

    /// On record first, then kept, then used; only then the provider hears of it.
    async fn keep(&self, captured: Captured) -> Result<String, String> {
        let Captured { source, secret, receipt, replace, .. } = &captured;
        let fingerprint = secret.fingerprint();
        let record = Draft::control("secret_captured").with("source", source.as_str());
        let record = record.with("receipt", receipt.short().to_string());
        let record = record.with("fingerprint", fingerprint.as_str()).with("replace", *replace);
        self.shared.log.append(record).await.map_err(|error| error.to_string())?;
        crate::crash::point("capture_recorded");
        let (dir, name): (_, Name) = (self.config().storage.dir.clone(), source.clone());
        let (own, replace) = (secret.clone(), *replace);
        let kept = move || captured::keep(&dir, &name, &own, replace);
        let kept = tokio::task::spawn_blocking(kept).await.map_err(|error| error.to_string())?;
        kept.map_err(|error| error.to_string())?;
        crate::crash::point("capture_kept");
        // Says itself what is wrong where it fails; then the secret is used once that is mended.
        drop(self.reload().await);
        captured.kept();
        Ok(fingerprint)
    }
}
