//! What is done about attackers: lists of addresses from elsewhere, and who else enforces blocks.

mod act;
mod guards;
pub mod hook;
mod importer;
mod kernel;
pub mod line;
pub mod lists;
pub mod nftables;
pub mod plain;
mod reconcile;
mod responder;
#[cfg(test)]
mod testing;

pub use self::act::Act;
pub use self::guards::Guards;
pub use self::importer::Importer;
pub use self::reconcile::{Blocks, Enforcer, Health};
pub use self::responder::{Instant, Listed, Memory, Responder, Response};
