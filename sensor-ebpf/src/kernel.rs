//! What the kernel programs are made of. Only for the BPF target.

mod aggregates;
pub mod atomic;
pub mod blocks;
mod frame;
mod handshakes;
pub mod hooks;
mod maps;
mod table;
