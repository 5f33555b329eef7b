//! The memory store.
/// Memory.
#[derive(Debug)]
pub struct Memory;
