//! Owns every task; start, reload, stop.
