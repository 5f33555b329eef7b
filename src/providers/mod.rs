//! The catalogue of providers: one YAML file each, embedded in the binary, in the language that users write for a sender
//! of their own. Knowledge about a provider is data; a preset is never magic and can be printed, copied and changed.

mod compile;
mod containers;
mod schemes;
pub mod shape;

use std::sync::LazyLock;

pub use compile::{Compiled, Options, Problem, compile};
pub use shape::Preset;

/// Files of the presets, by name.
const SOURCES: [(&str, &str); 10] = [
    ("github", include_str!("github.yaml")),
    ("gitlab", include_str!("gitlab.yaml")),
    ("linear", include_str!("linear.yaml")),
    ("paddle", include_str!("paddle.yaml")),
    ("shopify", include_str!("shopify.yaml")),
    ("slack", include_str!("slack.yaml")),
    ("square", include_str!("square.yaml")),
    ("standard-webhooks", include_str!("standard-webhooks.yaml")),
    ("stripe", include_str!("stripe.yaml")),
    ("svix", include_str!("svix.yaml")),
];

static CATALOGUE: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the files are in this binary, and a test parses them")]
    let parse = |(_, text): &(_, &str)| serde_yaml::from_str(text).expect("a preset");
    SOURCES.iter().map(parse).collect()
});

/// The preset called `name`, such as `stripe`.
pub fn preset(name: &str) -> Option<&'static Preset> {
    catalogue().iter().find(|preset| preset.name == name)
}

/// All presets, by name.
pub fn catalogue() -> &'static [Preset] {
    &CATALOGUE
}

/// The YAML file of a preset, as it is printed by `gatepost providers show`.
pub fn source_of(name: &str) -> Option<&'static str> {
    SOURCES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
