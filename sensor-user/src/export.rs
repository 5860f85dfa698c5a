//! What other systems read from the sensor.

pub mod eve;
pub mod flows;
pub mod parquet;
pub mod prometheus;
pub mod unsw;
