//! Vectors with named columns and units, the input of the models.

pub mod flow;
pub mod host;
