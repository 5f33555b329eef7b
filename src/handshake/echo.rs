//! What of a request may be put into a reply: characters and lengths that mean nothing anywhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may be put into a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Echo {
    /// Characters of a value.
    pub charset: Charset,
    /// Its length, at most.
    pub max: u16,
}

impl Default for Echo {
    fn default() -> Self {
        Self { charset: Charset::Plain, max: 256 }
    }
}

/// Characters of what is put into a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Charset {
    /// `A-Za-z0-9._~-`: characters that mean nothing anywhere, and that no JSON writer escapes.
    #[default]
    Plain,
    /// Hexadecimal digits.
    Hex,
    /// `plain`, and `+/=`.
    Base64,
    /// Printable ASCII without quotes, `<`, `>`, `&`, and `\`.
    Text,
}

impl Charset {
    pub(crate) fn has(self, byte: u8) -> bool {
        let plain = byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        match self {
            Self::Plain => plain,
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Base64 => plain || b"+/=".contains(&byte),
            Self::Text => matches!(byte, b' '..=b'~') && !b"\"'`<>&\\".contains(&byte),
        }
    }
}

impl Echo {
    /// Whether a text may be put in.
    pub(super) fn allows(self, text: &[u8]) -> bool {
        (1..=usize::from(self.max)).contains(&text.len())
            && text.iter().all(|byte| self.charset.has(*byte))
    }
}
