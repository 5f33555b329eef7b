//! Disks that fail (system calls are made to fail) or fill up (a small file system). What these need comes with
//! `tests/setup`; making a file system needs root.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
};

use super::Gateway;

/// System calls of a process that fail, until this goes.
#[derive(Debug)]
pub struct Failing {
    strace: Child,
    /// Where it tells of each new thread; it ends where it cannot.
    _said: BufReader<ChildStderr>,
    /// What ends it.
    end: &'static str,
}

impl Failing {
    /// Makes `calls` on `file` end as `how` says.
    pub fn start(gateway: &Gateway, calls: &str, how: &str, file: &Path) -> Self {
        let mut strace = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{how}"), "-P"])
            .arg(file)
            .args(["-p", &gateway.pid().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace: tests/setup installs it");
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let attached =
            said.by_ref().lines().map_while(Result::ok).any(|line| line.contains("attached"));
        assert!(attached, "strace needs root, or kernel.yama.ptrace_scope=0");
        Self { strace, _said: said, end: "INT" }
    }

    /// Makes syncs of `file` hang: whoever syncs it stands still until this goes, and even the end of the process waits for that.
    pub fn hanging(gateway: &Gateway, file: &Path) -> Self {
        let mut hanging = Self::start(gateway, "fdatasync", "delay_enter=60000000", file);
        hanging.end = "KILL";
        hanging
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let pid = self.strace.id().to_string();
        let _ = Command::new("kill").args([&format!("-{}", self.end), &pid]).status();
        let _ = self.strace.wait();
    }
}

/// The one file in `dir` whose name begins and ends so.
pub fn file(dir: &Path, begin: &str, end: &str) -> PathBuf {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(begin) && name.ends_with(end)
    };
    entries.into_iter().find(fits).expect("a file")
}

/// A small file system at a place where only those see it who are led there. It goes when this goes.
#[derive(Debug)]
pub struct SmallDisk {
    /// Keeps it mounted until its input ends.
    holder: Child,
    place: PathBuf,
}

impl SmallDisk {
    pub fn at(place: &Path, bytes: u64) -> Self {
        let script = "mount -t tmpfs -o size=$1 none \"$2\" && echo mounted && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh", &bytes.to_string()])
            .arg(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n", "making a file system needs root");
        Self { holder, place: place.to_owned() }
    }

    /// What a process is started by that sees it.
    pub fn wrapper(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--mount=/proc/{}/ns/mnt", self.holder.id())]
    }

    /// Where those see it who are not led there.
    pub fn seen(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), self.place.display()))
    }

    /// Makes it larger, with all that is on it.
    pub fn resize(&self, bytes: u64) {
        let wrapper = self.wrapper();
        let options = format!("remount,size={bytes}");
        let mut mount = Command::new(&wrapper[0]);
        mount.args(&wrapper[1..]).args(["mount", "-o", &options]).arg(&self.place);
        assert!(mount.status().unwrap().success());
    }

    /// Takes all its room, until this file is removed.
    pub fn fill(&self) -> PathBuf {
        let filler = self.seen().join("filler");
        let mut file = File::create(&filler).unwrap();
        let full = std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
