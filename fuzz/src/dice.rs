//! Numbers that look random and are the same for the same input.

/// A stream of them.
#[derive(Clone, Debug)]
pub struct Dice(u64);

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

    /// One of `sides` numbers from 0; 0 where there is none.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides.max(1) as u64) as usize
    }
}
