//! Attaches at TC by clsact to the interface it is given, says so, and waits to be killed.
#![expect(clippy::print_stdout, reason = "the test waits for the line")]

use std::thread::park;

use anyhow::{Context as _, Result};
use leuko::source::kernel::attach::{EgressChoice, XdpChoice};
use leuko::source::kernel::interface::Interface;
use leuko::source::kernel::{KernelSource, LoadOptions};

fn main() -> Result<()> {
    let name = std::env::args().nth(1).context("which interface?")?;
    let mut source = KernelSource::load(LoadOptions { flows: 64, seed: 1, ..LoadOptions::default() })?;
    source.attach(&Interface::find(&name)?, XdpChoice::Off, EgressChoice::Clsact)?;
    println!("attached");
    loop {
        park();
    }
}
