//! Leuko, a network anomaly sensor for Linux servers.

pub mod source;
