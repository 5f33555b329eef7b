//! The stages alone, over a log in a temporary directory.
