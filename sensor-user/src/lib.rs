//! Stub.

pub mod export;
pub mod notify;
pub mod secret;
pub mod web;
