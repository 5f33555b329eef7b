//! Taking a log up again. An input says how a log that was being written is damaged: its segment, the last records of which no
//! checkpoint covers yet, and its checkpoints.
//!
//! However it is damaged: records in front of the damage stay, byte for byte; what a checkpoint covers is never cut; a log
//! that was taken up is taken up a second time without cutting anything; damage is on record only where the verifier finds it,
//! too. And damage behind what is covered never stops the log, and leaves one that verifies.

use std::sync::LazyLock;

use gatepost::audit::verify::verify;

use super::{
    Finding, ensure,
    logs::{Files, Home, damage, lines, whole},
};

/// A log whose process was killed.
#[derive(Debug)]
struct Base {
    files: Files,
    segment: String,
    lines: Vec<Vec<u8>>,
    /// How many of them a checkpoint covers, and how many bytes that is.
    sealed: usize,
    sealed_bytes: usize,
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let home = Home::new();
    home.record(0, &[0..2, 2..4], true);
    home.record(1, &[4..5, 5..7, 7..8], false);
    let files = home.read();
    let segment = files.keys().find(|name| name.starts_with("segment-")).expect("segments").clone();
    let lines = lines(&files).expect("readable");
    home.put(&files);
    let report = verify(&home.params.dir, None, None).expect("readable");
    let sealed =
        report.sealed.as_ref().map_or(0, |(size, _)| usize::try_from(*size).expect("small"));
    assert!(report.is_good() && sealed < lines.len(), "the last records are not covered yet");
    let sealed_bytes = lines.iter().take(sealed).map(Vec::len).sum();
    Base { files, segment, lines, sealed, sealed_bytes }
});

/// Takes a log up, so and so many seconds after the first time, and leaves it.
pub type Recover<'r> = &'r dyn Fn(&Home, i64) -> Result<(), String>;

/// Tries the product.
pub fn check(data: &[u8]) -> Finding {
    judge(data, &by_product)
}

/// What the product does.
pub fn by_product(home: &Home, second: i64) -> Result<(), String> {
    home.open(second).map(drop)
}

/// Tries anything that recovers.
pub fn judge(data: &[u8], recover: Recover<'_>) -> Finding {
    thread_local! {
        static HOME: Home = Home::new();
    }
    let mut files = BASE.files.clone();
    let names = [BASE.segment.clone(), BASE.segment.clone(), "checkpoints".to_owned()];
    damage(&mut files, &names, data);
    let (was, found) = (&BASE.files[&BASE.segment], files.get(&BASE.segment).cloned());
    let Some(found) = found else { return Ok(()) };
    let seals_stand = files.get("checkpoints") == BASE.files.get("checkpoints");
    HOME.with(|home| {
        home.put(&files);
        let first = recover(home, 2).map(|()| Taken::of(home));
        let told = |what: &str| {
            let (found, first) = (found.escape_ascii(), &first);
            format!("{what}\n{found}\nbecomes {first:?}")
        };
        let same = found.iter().zip(was).take_while(|(is, was)| is == was).count();
        let Ok(taken) = &first else {
            let may = !seals_stand || same < BASE.sealed_bytes;
            return ensure(may, || told("a tail stops the log"));
        };
        let kept: usize = whole(&found[..same]).map(<[u8]>::len).sum();
        let keeps = taken.segment.starts_with(&found[..kept]);
        ensure(keeps, || told("records in front of the damage are gone"))?;
        if seals_stand {
            let sealed = &BASE.lines[..BASE.sealed];
            let mut there = whole(&found).filter(|line| sealed.iter().any(|known| known == line));
            let stays = there.all(|line| whole(&taken.segment).any(|kept| kept == line));
            ensure(stays, || told("what a checkpoint covers was cut"))?;
        }
        if seals_stand && same >= BASE.sealed_bytes {
            let is_well = taken.is_good && !taken.says("damage_found");
            ensure(is_well, || told("a tail leaves a log that does not verify"))?;
        }
        ensure(!(taken.is_good && taken.says("damage_found")), || told("no damage is on record"))?;
        again(home, taken, recover).map_err(|what| told(&what))
    })
}

/// Takes it up once more.
fn again(home: &Home, taken: &Taken, recover: Recover<'_>) -> Finding {
    recover(home, 3).map_err(|why| format!("it is taken up only once: {why}"))?;
    let twice = Taken::of(home);
    let told = |what| move || format!("{what} the second time");
    ensure(twice.segment.starts_with(&taken.segment), told("something is cut"))?;
    let more: Vec<&[u8]> = whole(&twice.segment[taken.segment.len()..]).collect();
    ensure(!more.iter().any(|line| says(line, "torn_tail_cut")), told("a tail was found"))?;
    ensure(taken.is_good == twice.is_good, told("it verifies otherwise"))
}

/// A log that was taken up.
#[derive(Debug)]
struct Taken {
    /// Its segment without zeros behind it.
    segment: Vec<u8>,
    is_good: bool,
}

impl Taken {
    fn of(home: &Home) -> Self {
        let mut files = home.read();
        home.put(&files); // without the zeros that are laid out ahead, which take long to read
        let mut segment = files.remove(&BASE.segment).unwrap_or_default();
        while segment.pop_if(|last| *last == 0).is_some() {}
        let report = verify(&home.params.dir, None, None);
        Self { segment, is_good: report.is_ok_and(|report| report.is_good()) }
    }

    fn says(&self, what: &str) -> bool {
        whole(&self.segment).any(|line| says(line, what))
    }
}

/// Whether a line is our record of this.
fn says(line: &[u8], what: &str) -> bool {
    let said = format!("\"what\":\"{what}\"");
    line.windows(said.len()).any(|part| part == said.as_bytes())
}
