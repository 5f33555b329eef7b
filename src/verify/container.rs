//! Signature containers.
