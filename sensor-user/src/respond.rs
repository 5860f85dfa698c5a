//! What is done about attackers: lists of addresses from elsewhere, and who else enforces blocks.

pub mod hook;
pub mod lists;
pub mod nftables;
pub mod plain;
mod reconcile;
#[cfg(test)]
mod testing;

pub use self::reconcile::{Blocks, Enforcer, Health};
