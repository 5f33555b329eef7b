//! The catalogue of providers: one YAML file each, embedded in the binary, in the language that users write for a sender
//! of their own. Knowledge about a provider is data; a preset is never magic and can be printed, copied and changed.

mod answers;
mod challenge;
mod challenges;
mod compile;
mod containers;
mod files;
mod foreign;
mod preset;
mod schemes;
pub mod shape;
mod text;

use std::{borrow::Cow, sync::OnceLock};

pub use answers::manners;
pub use compile::{Compiled, Options, Problem, compile};
pub use preset::{
    AnswerShape, Covers, Evidence, Fact, Field, MARKS, Param, Preset, Profile, SecretHints,
};

use files::FILES;

/// A preset file, parsed when somebody asks for it.
struct File {
    name: &'static str,
    text: &'static str,
    preset: OnceLock<Preset>,
}

impl File {
    const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, preset: OnceLock::new() }
    }

    fn of(name: &str) -> Option<&'static Self> {
        let at = FILES.binary_search_by(|file| file.name.cmp(name)).ok()?;
        FILES.get(at)
    }

    /// The file's text, with what it leaves out to another.
    fn whole(&self) -> Cow<'static, str> {
        let base = text::value(self.text, "like").and_then(Self::of);
        base.map_or(self.text.into(), |base| text::merged(self.text, base.text).into())
    }

    fn preset(&self) -> &Preset {
        #[expect(clippy::panic, reason = "the files are in this binary, and a test parses them")]
        self.preset.get_or_init(|| {
            serde_yaml::from_str(&self.whole()).unwrap_or_else(|e| panic!("{}: {e}", self.name))
        })
    }
}

/// The preset called `name`, such as `stripe`.
pub fn preset(name: &str) -> Option<&'static Preset> {
    File::of(name).map(File::preset)
}

/// Names of all presets, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.name)
}

/// All presets, by name.
pub fn catalogue() -> impl Iterator<Item = &'static Preset> {
    FILES.iter().map(File::preset)
}

/// The YAML of a preset as keys of a source, four spaces in.
pub fn source_of(name: &str) -> Option<String> {
    File::of(name).map(|file| text::of_a_source(&file.whole()))
}
