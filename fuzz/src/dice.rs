//! Numbers that look random and are the same for the same input.

#[path = "../../tests/support/dice.rs"]
mod numbers;

pub use numbers::Dice;

impl Dice {
    /// Seeded with a number.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded with the bytes of an input (FNV-1a).
    pub fn of(data: &[u8]) -> Self {
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(data.iter().fold(0xcbf2_9ce4_8422_2325, mix))
    }
}
