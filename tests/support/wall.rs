//! Wall clocks that are wrong: a library that is preloaded answers for the system's. (Debian's `libfaketime` does not start
//! under Redis's allocator.)

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

/// The wall clock of a process, which tests can set.
#[derive(Debug)]
pub(crate) struct WallClock {
    file: File,
    path: PathBuf,
    library: PathBuf,
}

impl WallClock {
    /// A clock that is right, kept in `dir`.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        let (path, library) = (dir.join("wall"), dir.join("wall.so"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/wall.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library);
        let compiled = compiler.arg(source).status();
        assert!(compiled.expect("cc: tests/setup installs it").success());
        fs::write(&path, [0; 24]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let clock = Self { file, path, library };
        clock.set("+0");
        clock
    }

    /// How far it is off, in seconds or days (`-3650d`), and how many times as fast it goes (`+0 x100`) from now on.
    pub(crate) fn set(&self, shift: &str) {
        let (off, rate) = shift.split_once(" x").unwrap_or((shift, "1"));
        let (off, unit) = off.strip_suffix('d').map_or((off, 1), |days| (days, 24 * 3600));
        let off = unit * off.parse::<i64>().unwrap();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let words = [off, rate.parse().unwrap(), i64::try_from(since).unwrap()];
        self.file.write_all_at(&words.map(i64::to_ne_bytes).concat(), 0).unwrap();
    }

    /// What a process is started by that has this clock.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let (library, file) = (self.library.display(), self.path.display());
        vec!["env".into(), format!("LD_PRELOAD={library}"), format!("WALL_CLOCK={file}")]
    }
}
