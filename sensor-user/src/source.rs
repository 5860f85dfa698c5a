//! Where packets come from: the kernel program of a live host, or a capture.

pub mod kernel;
