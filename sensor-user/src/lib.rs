//! Leuko, a network anomaly sensor for Linux servers.

pub mod app;
pub mod atomic;
pub mod attribution;
pub mod canary;
pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
pub mod export;
pub mod harden;
pub mod live;
pub mod log;
mod memory;
pub mod notify;
pub mod printer;
pub mod replay;
pub mod respond;
pub mod secret;
pub mod source;
pub mod store;
pub mod terminal;
pub mod train;
pub mod web;
