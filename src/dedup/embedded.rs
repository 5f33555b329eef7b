//! The embedded store.
/// SQLite.
#[derive(Debug)]
pub struct Embedded;
