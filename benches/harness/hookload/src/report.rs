//! What is counted, and the line of JSON that it becomes.

use std::fmt;

use crate::events::Kind;

/// 2xx, 3xx, 4xx, 5xx, anything else, no answer.
const CLASSES: usize = 6;
const LOST: usize = 5;

#[derive(Default)]
pub struct Report {
    latencies_ms: Vec<f64>,
    answers: [[u64; CLASSES]; 5],
    errors: u64,
    first_error: String,
    pub handshakes: u64,
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// Events that a fixed rate demanded and that could not be sent.
    pub unsent: u64,
}

impl Report {
    pub fn answered(&mut self, kind: Kind, status: u16, seconds: f64) {
        let class = match status {
            200..300 => 0,
            300..400 => 1,
            400..500 => 2,
            500..600 => 3,
            _ => 4,
        };
        self.answers[kind as usize][class] += 1;
        self.latencies_ms.push(seconds * 1e3);
    }

    pub fn lost(&mut self, kind: Kind, why: &str) {
        self.answers[kind as usize][LOST] += 1;
        self.failed(why);
    }

    pub fn failed(&mut self, why: &str) {
        self.errors += 1;
        if self.first_error.is_empty() {
            self.first_error = why.replace(['"', '\\'], "'");
        }
    }

    /// Puts the latencies in order; percentiles are read afterwards.
    pub fn sort(&mut self) {
        self.latencies_ms.sort_by(f64::total_cmp);
    }

    fn percentile(&self, share: f64) -> f64 {
        let count = self.latencies_ms.len();
        let rank = (count as f64 * share).ceil() as usize;
        self.latencies_ms.get(rank.clamp(1, count.max(1)) - 1).copied().unwrap_or(0.0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.latencies_ms.len();
        write!(f, r#"{{"n":{count},"secs":{:.3},"#, self.seconds)?;
        write!(f, r#""rps":{:.1},"#, count as f64 / self.seconds)?;
        for (name, share) in
            [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)]
        {
            write!(f, r#""{name}":{:.3},"#, self.percentile(share))?;
        }
        for (name, answers) in ["F", "D", "B", "S", "M"].iter().zip(&self.answers) {
            write!(f, r#""{name}":{answers:?},"#)?;
        }
        write!(f, r#""full":{},"gen_cpu":{:.3},"#, self.handshakes, self.cpu_seconds)?;
        write!(f, r#""unsent":{},"errors":{},"#, self.unsent, self.errors)?;
        write!(f, r#""err":"{}"}}"#, self.first_error)
    }
}
