//! The process's own figures (`process_*`), read from `/proc` when somebody asks. Where there is no `/proc`, there are
//! none.

use std::{fmt::Write as _, fs};

/// `metrics` in `OpenMetrics` text, and our own figures before its end. They have no prefix: every dashboard knows them by
/// these names.
pub(super) fn with_own_figures(metrics: &str) -> String {
    let mut text = metrics.strip_suffix(END).unwrap_or(metrics).to_owned();
    let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
    let figures = [
        ("process_cpu_seconds", "counter", "User and system time", cpu_seconds(&stat)),
        ("process_resident_memory_bytes", "gauge", "Resident memory", kib(&status, "VmRSS:")),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory", kib(&status, "VmSize:")),
        ("process_open_fds", "gauge", "Open file descriptors", open_fds()),
        ("process_max_fds", "gauge", "File descriptors allowed", max_fds()),
        ("process_start_time_seconds", "gauge", "Start, since the epoch", start_seconds(&stat)),
    ];
    for (name, kind, help, value) in figures {
        let Some(value) = value else { continue };
        let total = if kind == "counter" { "_total" } else { "" };
        // A String takes everything.
        writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name}{total} {value}").ok();
    }
    text + END
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// A field of `/proc/self/stat` by its number in proc(5). The name before them may hold spaces and parentheses.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str) -> Option<f64> {
    let system = read("/proc/stat");
    let boot: f64 = system.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + field(stat, 22)? / TICKS_PER_SECOND)
}

fn kib(status: &str, label: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(label))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0)
}

fn open_fds() -> Option<f64> {
    u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok().map(f64::from)
}

fn max_fds() -> Option<f64> {
    let limits = read("/proc/self/limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

const END: &str = "# EOF\n";
/// `USER_HZ`, the same on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;
