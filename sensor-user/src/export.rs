//! What other systems read from the sensor.

pub mod flows;
pub mod prometheus;
