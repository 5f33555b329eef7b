//! The process's own figures (`process_*`), read from `/proc` when somebody asks. Where there is no `/proc`, there are
//! none.

use std::{fmt, fs};

/// `metrics` in `OpenMetrics` text, and our own figures before its end. They have no prefix: every dashboard knows them by
/// these names.
pub(super) fn with_own_figures(metrics: &str) -> String {
    let mut text = metrics.strip_suffix(END).unwrap_or(metrics).to_owned();
    for figure in figures() {
        text.push_str(&figure.to_string());
    }
    text.push_str(END);
    text
}

struct Figure {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: Option<f64>,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, help, value: Some(value) } = self else { return Ok(()) };
        let suffix = if *kind == "counter" { "_total" } else { "" };
        writeln!(f, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name}{suffix} {value}")
    }
}

fn figures() -> [Figure; 6] {
    let stat = read("/proc/self/stat");
    let status = read("/proc/self/status");
    let gauge = |name, help, value| Figure { name, kind: "gauge", help, value };
    [
        Figure {
            name: "process_cpu_seconds",
            kind: "counter",
            help: "User and system time",
            value: cpu_seconds(&stat),
        },
        gauge("process_resident_memory_bytes", "Resident memory", kib(&status, "VmRSS:")),
        gauge("process_virtual_memory_bytes", "Virtual memory", kib(&status, "VmSize:")),
        gauge("process_open_fds", "Open file descriptors", open_fds()),
        gauge("process_max_fds", "File descriptors allowed", max_fds(&read("/proc/self/limits"))),
        gauge(
            "process_start_time_seconds",
            "Start, in seconds since the epoch",
            start_seconds(&stat, &read("/proc/stat")),
        ),
    ]
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Field `number` of `/proc/PID/stat`. The name of the process, field 2, may hold spaces and brackets.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, system: &str) -> Option<f64> {
    let boot: f64 = system.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + field(stat, 22)? / TICKS_PER_SECOND)
}

fn kib(status: &str, label: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(label))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0)
}

fn open_fds() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    u32::try_from(count).ok().map(f64::from)
}

fn max_fds(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

const END: &str = "# EOF\n";
/// `USER_HZ`, the same on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_linux_writes() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1200 9 9";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(start_seconds(stat, "cpu 1\nbtime 1000\n"), Some(1012.0));
        assert_eq!(kib("VmSize:\t  9 kB\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12288.0));
        assert_eq!(
            max_fds("Max open files            1024                 4096  files\n"),
            Some(1024.0)
        );
    }

    #[test]
    fn they_come_before_the_end() {
        let text = with_own_figures("gatepost_x 1\n# EOF\n");
        assert!(text.starts_with("gatepost_x 1\n# HELP process_cpu_seconds "));
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(text.matches("# EOF").count(), 1);
        for line in ["process_cpu_seconds_total ", "process_open_fds ", "process_max_fds "] {
            assert!(text.contains(&format!("\n{line}")), "{line}");
        }
    }
}
