//! Where packets come from: the only code that knows how a capture file or a kernel map looks.

pub mod pcap;
