//! `gatepost dev --demo`: the promise, shown on one machine in one second. Real TLS, real signatures, a real record.

use std::{path::Path, process::ExitCode, sync::Arc};

use super::{app::DemoApp, setup::Setup};
use crate::{
    app::{App, StartError, Stopped},
    audit::verify,
    cli::{
        NO, out,
        payload::Payload,
        send::{Prepared, Signature, many, new_id, url},
        sender::{Ended, Sender, tally},
    },
    config::Source,
};

/// Copies of one event, sent at once.
const COPIES: u32 = 50;

/// Sends 50 copies of a signed event at once and a forged one, stops the gateway, verifies its record, and says how all of
/// that went. The exit code says whether it went as promised.
pub(super) async fn show(
    app: &Arc<App>,
    setup: &Setup,
    demo_app: &DemoApp,
) -> Result<ExitCode, StartError> {
    let config = app.config();
    let stripe = config.sources.iter().find(|source| source.name.as_str() == "stripe");
    let stripe = stripe.ok_or_else(|| StartError("the demo has no source `stripe`".into()))?;
    let listen = app.addresses().first().ok_or_else(|| StartError("nothing listens".into()))?;
    let to = url(&config, *listen, stripe).map_err(StartError)?;
    let sender = Sender::new(Some(&setup.ca())).map_err(StartError)?;
    let id = new_id(stripe);
    out::line(&format!(
        "sending {COPIES} copies of {id} (invoice.paid) at once, and a forged one, to {to}"
    ));
    let mut ended =
        many(&sender, &to, &event(stripe, &id, Signature::Valid)?, COPIES, COPIES).await;
    ended.extend(
        many(&sender, &to, &event(stripe, &new_id(stripe), Signature::Forged)?, 1, 1).await,
    );
    let counts = tally(&ended);
    let count = |status, outcome: &str| {
        counts.get(&Ended { status, outcome: outcome.to_owned() }).copied().unwrap_or(0)
    };
    let (accepted, duplicate, refused) =
        (count(200, "accepted"), count(200, "duplicate"), count(401, "refused"));
    let received = demo_app.received();
    let stopped = app.stop().await;
    let record = verify_record(&config.audit.dir);
    out::line(&format!("  accepted      {accepted:>3}"));
    out::line(&format!("  duplicate     {duplicate:>3}"));
    out::line(&format!("  refused       {refused:>3}"));
    out::line(&format!("  app received  {received:>3}"));
    out::line(&match &record {
        Ok(summary) => format!("  record verified  ({summary})"),
        Err(why) => format!("  RECORD BROKEN: {why}"),
    });
    let others = ended.len() - accepted - duplicate - refused;
    let kept =
        (accepted, duplicate, refused, received, others) == (1, COPIES as usize - 1, 1, 1, 0);
    if kept && record.is_ok() && stopped == Stopped::Clean {
        out::line("exactly one.");
        return Ok(ExitCode::SUCCESS);
    }
    for (end, count) in &counts {
        out::line(&format!("  {} {}: {count}", end.status, end.outcome));
    }
    Ok(out::fail(NO, "this is not what was promised"))
}

fn event(source: &Source, id: &str, signature: Signature) -> Result<Prepared, StartError> {
    let plan = source.language.identify.parts();
    let payload = Payload::new(&source.provider, plan, id, "invoice.paid").map_err(StartError)?;
    let body = payload.body();
    Prepared::new(source, payload.headers, body, signature, false).map_err(StartError)
}

/// What the record holds, if it is what was written.
fn verify_record(dir: &Path) -> Result<String, String> {
    let request = verify::Request { dir: dir.to_owned(), ..verify::Request::default() };
    let report = verify::verify(&request)?;
    match report.findings.first() {
        None => Ok(format!("{} records, {} checkpoints", report.records, report.checkpoints)),
        Some(finding) => Err(format!("record {}: {}", finding.record, finding.problem)),
    }
}
