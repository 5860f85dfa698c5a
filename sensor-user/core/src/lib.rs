//! The sans-IO heart of Leuko: flows, features, detectors and incidents.
//!
//! Nothing here reads a clock, a file or a socket, or draws an unseeded random number: the time is an argument, and
//! the same input gives the same incidents, byte for byte. A source (the kernel or a capture) is outside; it hands in
//! flow snapshots and is told which flows to let go.

pub mod arp;
mod bounded;
pub mod canary;
pub mod contract;
pub mod coverage;
pub mod detect;
pub mod engine;
pub mod features;
pub mod flow;
pub mod incident;
pub mod learn;
pub mod net;
pub mod respond;
pub mod roles;
pub mod service;
pub mod sketch;
pub mod text;
pub mod time;
