//! Where packets come from: the kernel program of a live host, or a capture. The only code that knows how either looks.

pub mod kernel;
pub mod pcap;
