//! Where packets come from: the kernel program of a live host, a capture, or a log of connections. The only code that
//! knows how each looks.

pub mod input;
pub mod kernel;
pub mod pcap;
pub mod zeek;
