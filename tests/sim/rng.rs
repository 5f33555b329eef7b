//! Chance, from the number of a run.

use crate::dice::Dice;

#[derive(Debug)]
pub struct Rng(Dice);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next()
    }
}
