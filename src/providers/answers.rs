//! Answers that a provider wants (`ack`, `invalid`, `drop_forever`), and which statuses no provider gets.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::{
    AnswerShape,
    compile::{Problem, Problems, Reported},
};
use crate::answer::{Manners, Said};

/// Compiles the answers of a source, or says what is wrong with them.
pub fn manners(
    ack: &AnswerShape,
    invalid: &AnswerShape,
    drop_forever: &AnswerShape,
) -> Result<Manners, Vec<Problem>> {
    let mut problems = Problems::default();
    let is_success = |status: u16| (200..300).contains(&status);
    let taken = said("ack", ack, &mut problems, is_success);
    // 404 and 410 make senders remove an endpoint, 409 means "known" to some, and the others ask for a retry.
    let is_refusal = |status: u16| {
        (400..500).contains(&status) && ![404, 405, 408, 409, 410, 425, 429].contains(&status)
    };
    let refused = said("invalid", invalid, &mut problems, is_refusal);
    let is_final = |status: u16| is_success(status) || is_refusal(status);
    let dropped = said("drop_forever", drop_forever, &mut problems, is_final);
    match (taken, refused, dropped) {
        (Ok(ack), Ok(invalid), Ok(drop_forever)) => Ok(Manners { ack, invalid, drop_forever }),
        _ => Err(problems.all()),
    }
}

fn said(
    path: &str,
    shape: &AnswerShape,
    problems: &mut Problems,
    is_meant: impl Fn(u16) -> bool,
) -> Result<Said, Reported> {
    let status = shape.status.map(|status| {
        let meant = StatusCode::from_u16(status).ok().filter(|_| is_meant(status));
        let help = "it would make the sender give up, or go on for ever";
        meant.ok_or_else(|| {
            problems.add(format!("{path}.status"), format!("cannot be {status}"), help)
        })
    });
    let content_type = shape.content_type.as_ref().map(|text| {
        HeaderValue::from_str(text).map_err(|_| {
            let help = "write it like `text/plain`";
            problems.add(format!("{path}.content_type"), "not a header value", help)
        })
    });
    if shape.set_error && (path != "invalid" || shape.body.is_some()) {
        let help = "write it under `invalid`, without a body";
        return Err(problems.add(
            format!("{path}.set_error"),
            "says what is wrong with a token",
            help,
        ));
    }
    Ok(Said {
        set_error: shape.set_error,
        status: status.transpose()?,
        content_type: content_type.transpose()?,
        body: shape.body.clone().map(Bytes::from),
    })
}
