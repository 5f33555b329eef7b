//! The catalogue of providers: one YAML file each, embedded in the binary, in the language that users write for a sender
//! of their own. Knowledge about a provider is data; a preset is never magic and can be printed, copied and changed.

mod compile;
pub mod shape;

pub use compile::{Compiled, Options, Problem, compile};
pub use shape::Preset;

/// The preset called `name`, such as `stripe`.
pub fn preset(name: &str) -> Option<&'static Preset> {
    catalogue().iter().find(|preset| preset.name == name)
}

/// All presets, by name.
pub fn catalogue() -> &'static [Preset] {
    &[]
}

/// The YAML file of a preset, as it is printed by `gatepost providers show`.
pub fn source_of(name: &str) -> Option<&'static str> {
    let _ = name;
    None
}
