//! Packets by the million: generators that run on live frames and send them out of one end of a veth pair, so that the
//! other end receives them as from a wire.

use std::env;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::netns::Namespace;
use crate::wait::now;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRAFFIC_OBJECT"));

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Made, and dropped before they leave.
    None,
    /// The frame as it is.
    Same,
    /// The frame from a random address and port each time.
    RandomSources,
    /// Eight packets of a TCP conversation, then those of the next.
    Conversations,
}

impl Pattern {
    const fn program(self) -> &'static str {
        match self {
            Self::None => "traffic_none",
            Self::Same => "traffic_same",
            Self::RandomSources => "traffic_random_sources",
            Self::Conversations => "traffic_conversations",
        }
    }
}

/// A generator at `eth0` of a namespace.
pub struct Traffic<'a> {
    ebpf: Ebpf,
    ifindex: u32,
    namespace: &'a Namespace,
}

impl<'a> Traffic<'a> {
    /// Frames in a burst; the ring of a veth has room for 256.
    pub const BATCH: u32 = 64;

    /// Loads the generators and makes `eth0` take their frames.
    ///
    /// # Errors
    /// Without root.
    pub fn at(namespace: &'a Namespace) -> Result<Self> {
        Self::in_mode(namespace, XdpMode::Driver)
    }

    /// As [`Traffic::at`], with a program in another mode; nothing can be sent from a namespace then.
    ///
    /// # Errors
    /// As [`Traffic::at`].
    pub fn in_mode(namespace: &'a Namespace, mode: XdpMode) -> Result<Self> {
        let mut ebpf = Ebpf::load(OBJECT).context("load the traffic generators")?;
        let ifindex = namespace.inside(|| -> Result<u32> {
            let pass: &mut Xdp = program(&mut ebpf, "traffic_pass")?;
            pass.attach("eth0", mode).context("attach to eth0")?;
            Ok(if_nametoindex("eth0")?)
        })??;
        for pattern in [Pattern::None, Pattern::Same, Pattern::RandomSources, Pattern::Conversations] {
            program(&mut ebpf, pattern.program())?;
        }
        Ok(Self { ebpf, ifindex, namespace })
    }

    /// Sends so many frames and returns when they are sent. Frames for which the ring has no room are lost, as on a wire
    /// that is too slow. `cpu` is where both ends do their work.
    ///
    /// # Errors
    /// When the kernel does not run the generator.
    pub fn send(&self, pattern: Pattern, frame: &[u8], count: u32, cpu: usize) -> Result<()> {
        let name = pattern.program();
        let Some(aya::programs::Program::Xdp(program)) = self.ebpf.program(name) else {
            anyhow::bail!("no generator {name}");
        };
        let context = self.context(u32::try_from(frame.len())?);
        self.namespace.inside(|| -> Result<()> {
            let mut cpus = CpuSet::new();
            cpus.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &cpus).context("stay on one processor")?;
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            options.ctx_in = Some(&context);
            options.repeat = count;
            options.attrs = TestRunAttrs::new().xdp_live_frames(Self::BATCH);
            program.test_run(options).with_context(|| format!("run {name}"))?;
            Ok(())
        })?
    }

    /// As [`Traffic::send`], evenly over one second.
    ///
    /// # Errors
    /// As [`Traffic::send`].
    pub fn send_paced(&self, pattern: Pattern, frame: &[u8], count: u32, cpu: usize) -> Result<()> {
        const PARTS: u32 = 50;
        let begun = now();
        for part in 0..PARTS {
            self.send(pattern, frame, count / PARTS, cpu)?;
            sleep((Duration::from_secs(1) * (part + 1) / PARTS).saturating_sub(begun.elapsed()));
        }
        Ok(())
    }

    /// `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    fn context(&self, length: u32) -> [u8; 24] {
        let mut context = [0; 24];
        context[4..8].copy_from_slice(&length.to_ne_bytes());
        context[12..16].copy_from_slice(&self.ifindex.to_ne_bytes());
        context
    }
}

/// How many times as much a stress test is to do: `LEUKO_STRESS`.
#[must_use]
pub fn stress_factor() -> u32 {
    env::var("LEUKO_STRESS").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program: &mut Xdp = ebpf.program_mut(name).with_context(|| format!("no generator {name}"))?.try_into()?;
    program.load().with_context(|| format!("load {name}"))?;
    Ok(program)
}

/// An Ethernet frame with IPv4 and TCP, from one endpoint to another, to the hardware address `to`; the payload is zeros. It
/// has no checksum, so that no host answers it.
#[must_use]
pub fn tcp_frame(to: [u8; 6], src: ([u8; 4], u16), dst: ([u8; 4], u16), flags: u8, payload: u16) -> Vec<u8> {
    let segment =
        [&src.1.to_be_bytes()[..], &dst.1.to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]]
            .concat();
    frame(to, 6, src.0, dst.0, &segment, payload)
}

/// As [`tcp_frame`], a connection request that is answered.
#[must_use]
pub fn syn_frame(to: [u8; 6], src: ([u8; 4], u16), dst: ([u8; 4], u16)) -> Vec<u8> {
    const SYN: u8 = 2;
    let mut frame = tcp_frame(to, src, dst, SYN, 0);
    let pseudo_header = [&src.0[..], &dst.0, &[0, 6, 0, 20], &frame[34..]].concat();
    frame[50..52].copy_from_slice(&checksum(&pseudo_header).to_be_bytes());
    frame
}

/// As [`tcp_frame`], with UDP.
#[must_use]
pub fn udp_frame(to: [u8; 6], src: ([u8; 4], u16), dst: ([u8; 4], u16), payload: u16) -> Vec<u8> {
    let header = [src.1.to_be_bytes(), dst.1.to_be_bytes(), (8 + payload).to_be_bytes(), [0, 0]].concat();
    frame(to, 17, src.0, dst.0, &header, payload)
}

fn frame(to: [u8; 6], proto: u8, src: [u8; 4], dst: [u8; 4], header: &[u8], payload: u16) -> Vec<u8> {
    let mut frame = [&to[..], &[2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]].concat();
    let length = 20 + u16::try_from(header.len()).expect("a short header") + payload;
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, proto, 0, 0]);
    frame.extend(src);
    frame.extend(dst);
    let checksum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(header);
    frame.resize(frame.len() + usize::from(payload), 0);
    frame
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}
