//! The catalogue of providers: one YAML file each, embedded in the binary, in the language that users write for a sender
//! of their own. Knowledge about a provider is data; a preset is never magic and can be printed, copied and changed.

mod compile;
mod schemes;
pub mod shape;

use std::sync::LazyLock;

use serde::Serialize;

pub use compile::{Compiled, Options, Problem, compile};
pub use schemes::duration;
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

/// What of a preset a source of its own kind would say: the source's keys, ready to be pasted and changed.
#[derive(Serialize)]
struct Custom<'a> {
    provider: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_body: Option<&'a str>,
    verify: &'a shape::Verify,
    event: &'a shape::EventFields,
}

/// A preset as a source with `provider: custom`, which verifies and names events the same way. Challenges are answered for
/// presets only, and it says so.
pub fn as_custom(preset: &Preset) -> Result<String, serde_yaml::Error> {
    let mut text = serde_yaml::to_string(&Custom {
        provider: "custom",
        max_body: preset.max_body.as_deref(),
        verify: &preset.verify,
        event: &preset.event,
    })?;
    if !preset.handshake.is_empty() {
        text.insert_str(0, &format!("# only `provider: {}` answers its challenges\n", preset.name));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
