//! The log's way out: nobody who logs waits, every line comes whole and once, and those that do not come are counted.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use gatepost::telemetry::Lines;

const LONG: Duration = Duration::from_secs(20);

/// What reads the log: each write is allowed one by one, takes so many bytes at most, or fails.
struct Reader {
    asked: Sender<()>,
    allowed: Receiver<io::Result<usize>>,
    read: Arc<Mutex<Vec<u8>>>,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.asked.send(()).ok();
        let taken = bytes.len().min(self.allowed.recv().unwrap_or(Ok(usize::MAX))?);
        self.read.lock().unwrap().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log of so many bytes, what allows a write, and what was read. What is lost is said in the log itself.
struct Log {
    lines: Arc<Lines>,
    /// Each time that something is written.
    asked: Receiver<()>,
    allow: Option<Sender<io::Result<usize>>>,
    read: Arc<Mutex<Vec<u8>>>,
}

impl Log {
    fn of(room: usize) -> Self {
        let ((allow, allowed), (asking, asked)) = (mpsc::channel(), mpsc::channel());
        let (lines, read) = (Arc::new(Lines::new(room)), Arc::<Mutex<Vec<u8>>>::default());
        let reader = Reader { asked: asking, allowed, read: Arc::clone(&read) };
        let (own, said) = (Arc::clone(&lines), Arc::clone(&lines));
        thread::spawn(move || -> () {
            own.carry(reader, |lost| said.push(format!("lost {lost}\n").as_bytes()))
        });
        Self { lines, asked, allow: Some(allow), read }
    }

    fn push(&self, line: &str) {
        self.lines.push(line.as_bytes());
    }

    fn allow(&self, write: io::Result<usize>) {
        self.allow.as_ref().unwrap().send(write).unwrap();
    }

    /// From now on everything is read.
    fn go_on(&mut self) {
        self.allow = None;
        assert!(self.lines.drained(LONG));
    }

    fn read(&self) -> MutexGuard<'_, Vec<u8>> {
        self.read.lock().unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.read().clone()).unwrap()
    }
}

#[test]
fn what_is_read_is_every_line_in_order_however_it_is_taken() {
    for taken in [1, 3, 7, 4096] {
        let log = Log::of(4096);
        let all: String = (0..50).map(|n| format!("line {n}\n")).collect();
        all.split_inclusive('\n').for_each(|line| log.push(line));
        log.allow(Err(io::ErrorKind::WouldBlock.into()));
        (0..all.len()).for_each(|_| log.allow(Ok(taken)));
        assert!(log.lines.drained(LONG), "{taken}");
        assert_eq!((log.text(), log.lines.lost().get()), (all, 0), "{taken}");
    }
}

#[test]
fn nobody_waits_for_a_reader_that_stands_still_and_what_is_lost_is_counted_and_said_once() {
    let mut log = Log::of(100);
    let line = |n: usize| format!("{n:09}\n");
    log.push(&line(0));
    log.asked.recv().unwrap(); // the writer stands still with the first line
    (1..1000).for_each(|n| log.push(&line(n)));
    assert!(!log.lines.drained(Duration::ZERO), "nothing was read");
    assert_eq!(log.lines.lost().get(), 989, "ten lines wait");
    log.go_on();
    let kept: String = (0..11).map(line).collect();
    assert_eq!(log.text(), kept.clone() + "lost 989\n");
    log.push("after\n");
    assert!(log.lines.drained(LONG));
    assert_eq!(log.text(), kept + "lost 989\nafter\n");
    assert_eq!(log.lines.lost().get(), 989);
}

#[test]
fn a_line_that_is_too_long_for_all_the_room_is_lost_alone() {
    let mut log = Log::of(10);
    log.push("12345678901\n");
    log.go_on();
    log.push("123456789\n");
    assert!(log.lines.drained(LONG));
    assert_eq!((log.text().as_str(), log.lines.lost().get()), ("lost 1\n123456789\n", 1));
}

/// Whoever read it has gone, or its disk is full: lines are lost, and it is said as soon as one is taken again.
#[test]
fn lines_that_cannot_be_written_are_lost_and_said_once_one_can() {
    let mut log = Log::of(4096);
    log.push("one\ntwo\n");
    log.allow(Err(io::ErrorKind::Interrupted.into()));
    log.allow(Ok(5)); // a part of the second
    log.allow(Err(io::ErrorKind::BrokenPipe.into()));
    assert!(log.lines.drained(LONG), "nothing waits for a reader that is gone");
    log.push("three\n");
    log.allow(Ok(0));
    assert!(log.lines.drained(LONG));
    assert_eq!((log.text().as_str(), log.lines.lost().get()), ("one\nt", 2));
    log.push("four\n");
    log.go_on(); // on a line of its own
    assert_eq!(log.text(), "one\nt\nfour\nlost 2\n");
}
