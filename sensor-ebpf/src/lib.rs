//! The contract between the kernel program and userspace: one definition of layout, parsing and accounting.
//!
//! The kernel programs and every userspace reader compile this same code, so a capture replayed on the host counts
//! exactly what the kernel would have counted. What only the kernel can compile is in `kernel`.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(target_arch = "bpf", allow(internal_features, reason = "core has no read-modify-write atomics for BPF"))]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod account;
pub mod block;
pub mod fragment;
pub mod hash;
#[cfg(target_arch = "bpf")]
pub mod kernel;
pub mod overflow;
pub mod packet;
