//! What the sensor remembers: one SQLite file in the state directory.

pub mod flows;
