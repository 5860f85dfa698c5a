//! The contract between the kernel program and userspace: one definition of layout, parsing and accounting.
//!
//! The kernel program (`main.rs`) and every userspace reader compile this same code, so a capture replayed on the host
//! counts exactly what the kernel would have counted.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod account;
pub mod packet;
