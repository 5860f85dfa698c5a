//! Leuko, a network anomaly sensor for Linux servers.

pub mod export;
pub mod live;
pub mod notify;
pub mod replay;
pub mod secret;
pub mod source;
pub mod web;
