//! What other systems read from the sensor.

pub mod prometheus;
