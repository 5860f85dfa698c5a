//! Stub.

pub mod source;
