//! The live source: loads the kernel program, attaches it, and reads its flow table without a system call per flow.

pub mod attach;
pub mod interface;
pub mod namespace;
pub mod rtnetlink;
mod shared;
pub mod watch;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Map, PerCpuArray};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use sensor_core::flow::SlotId;
use sensor_ebpf::abi::{BUCKET_SLOTS, Counters, FlowSlot, Hook, Settings, tag};

use tracing::warn;

use attach::InterfaceLinks;
use interface::InterfaceId;
use shared::{GracePeriod, SharedWords};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LEUKO_BPF_OBJECT"));

/// Names of the programs in the object.
pub const PROGRAMS: [&str; 6] =
    ["leuko_xdp", "leuko_xdp_linear", "leuko_xdp_generic", "leuko_xdp_generic_linear", "leuko_ingress", "leuko_egress"];

/// The XDP programs for this kernel, native and generic: multi-buffer frames are known since 5.18.
#[must_use]
pub fn xdp_programs() -> [&'static str; 2] {
    match KernelVersion::current() {
        Ok(version) if version < KernelVersion::new(5, 18, 0) => ["leuko_xdp_linear", "leuko_xdp_generic_linear"],
        _ => ["leuko_xdp", "leuko_xdp_generic"],
    }
}

/// Load-time choices.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Flow table entries; rounded up to whole buckets of eight.
    pub flows: u32,
    /// Secret seed of the flow hash.
    pub seed: u64,
    /// When set, the time of every packet in nanoseconds; for tests.
    pub fixed_ns: Option<u64>,
}

/// The loaded program and its maps. Dropping it detaches everything.
pub struct KernelSource {
    ebpf: Ebpf,
    links: BTreeMap<InterfaceId, InterfaceLinks>,
    tags: SharedWords,
    slots: SharedWords,
    counters: PerCpuArray<aya::maps::MapData, Counters>,
    grace: GracePeriod,
    /// Packets of each slot at the last poll, to skip slots in which nothing has moved.
    seen: Vec<u64>,
}

impl KernelSource {
    /// Loads the object into the kernel and maps its tables; attaches nothing.
    ///
    /// # Errors
    /// When the kernel refuses a map or a program: too old, no permission, not enough memory.
    pub fn load(options: LoadOptions) -> Result<Self> {
        let buckets = options.flows.div_ceil(BUCKET_SLOTS).max(1);
        let flows = buckets * BUCKET_SLOTS;
        let settings = Settings { seed: options.seed, fixed_ns: options.fixed_ns.unwrap_or(0), buckets, zero: 0 };
        let mut ebpf = EbpfLoader::new()
            .override_global("SETTINGS", &settings, true)
            .map_max_entries("FLOW_TAGS", buckets)
            .map_max_entries("FLOW_SLOTS", flows)
            .load(OBJECT)
            .context("load the kernel program's maps")
            .map_err(with_permission_hint)?;
        let tags = map_words(&ebpf, "FLOW_TAGS", flows as usize)?;
        let slots = map_words(&ebpf, "FLOW_SLOTS", flows as usize * SLOT_WORDS)?;
        let counters = PerCpuArray::try_from(take_map(&mut ebpf, "COUNTERS")?).context("open map COUNTERS")?;
        let grace = GracePeriod::new().context("create the map of maps that waits for running programs")?;
        Ok(Self { ebpf, links: BTreeMap::new(), tags, slots, counters, grace, seen: vec![0; flows as usize] })
    }

    /// An XDP program (see [`xdp_programs`]), loaded.
    ///
    /// # Errors
    /// When the verifier refuses it.
    pub fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(name).with_context(|| format!("program {name}"))?;
        let program: &mut Xdp = program.try_into()?;
        loaded(program.load()).with_context(|| format!("load program {name}"))?;
        Ok(program)
    }

    /// A TC program (`leuko_ingress` or `leuko_egress`), loaded.
    ///
    /// # Errors
    /// When the verifier refuses it.
    pub fn classifier(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        let program = self.ebpf.program_mut(name).with_context(|| format!("program {name}"))?;
        let program: &mut SchedClassifier = program.try_into()?;
        loaded(program.load()).with_context(|| format!("load program {name}"))?;
        Ok(program)
    }

    /// Detaches every program. The tables stay, and nothing writes them once a grace period has passed.
    pub fn detach(&mut self) {
        self.links.clear();
        for (name, program) in self.ebpf.programs_mut() {
            let result = if let Program::Xdp(xdp) = program {
                xdp.unload()
            } else if let Program::SchedClassifier(classifier) = program {
                classifier.unload()
            } else {
                Ok(())
            };
            match result {
                Ok(()) | Err(ProgramError::NotLoaded) => {}
                Err(error) => warn!(program = name, %error, "cannot unload"),
            }
        }
    }

    /// The object as aya sees it: programs, maps, log ring.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Entries of the flow table.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.seen.len()
    }

    /// Hands over every live slot in which a packet was counted since the last poll.
    pub fn poll(&mut self, mut each: impl FnMut(SlotId, &FlowSlot)) {
        for index in 0..self.seen.len() {
            if self.tags.load(index) & tag::STATE != tag::LIVE {
                continue;
            }
            let base = index * SLOT_WORDS;
            let packets = self.slots.load(base + PACKETS[0]).wrapping_add(self.slots.load(base + PACKETS[1]));
            if packets != self.seen[index] {
                self.seen[index] = packets;
                each(slot_id(index), &self.slots.copy_slot(base));
            }
        }
    }

    /// Takes slots out of the table and hands over their final counters. Waits until no running program can hold one,
    /// so nothing counted is lost; a packet that arrives meanwhile starts a new slot.
    ///
    /// # Errors
    /// When the kernel refuses the update that waits; the slots then stay out of use.
    pub fn release(&mut self, slots: &[SlotId], mut each: impl FnMut(SlotId, &FlowSlot)) -> io::Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        for &SlotId(id) in slots {
            let index = id as usize;
            self.tags.store(index, self.tags.load(index) | tag::DEAD);
        }
        self.grace.wait()?;
        for &SlotId(id) in slots {
            let index = id as usize;
            let base = index * SLOT_WORDS;
            each(SlotId(id), &self.slots.copy_slot(base));
            self.slots.zero(base, SLOT_WORDS);
            self.seen[index] = 0;
            self.tags.store(index, tag::FREE);
        }
        Ok(())
    }

    /// Conservation counters by hook, summed over CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<[Counters; 2]> {
        let mut totals = [Counters::default(); 2];
        for hook in Hook::ALL {
            let per_cpu = self.counters.get(&(hook as u32), 0).context("read map COUNTERS")?;
            for counters in per_cpu.iter() {
                totals[hook as usize].merge(counters);
            }
        }
        Ok(totals)
    }

    /// Run count and run time of each loaded program, when the kernel keeps them (`kernel.bpf_stats_enabled=1`).
    pub fn run_stats(&self) -> Vec<(&'static str, u64, std::time::Duration)> {
        PROGRAMS
            .into_iter()
            .filter_map(|name| {
                let program = self.ebpf.program(name)?;
                let info = if let Program::Xdp(xdp) = program {
                    xdp.info()
                } else if let Program::SchedClassifier(classifier) = program {
                    classifier.info()
                } else {
                    return None;
                };
                let info = info.ok()?;
                Some((name, info.run_count(), info.run_time()))
            })
            .collect()
    }
}

const SLOT_WORDS: usize = size_of::<FlowSlot>() / 8;

/// Word offsets of `half[way].packets`.
const PACKETS: [usize; 2] = [
    std::mem::offset_of!(FlowSlot, half) / 8,
    (std::mem::offset_of!(FlowSlot, half) + size_of::<sensor_ebpf::abi::Half>()) / 8,
];

fn slot_id(index: usize) -> SlotId {
    SlotId(u32::try_from(index).expect("the table has at most 2^32 slots"))
}

fn loaded(result: Result<(), ProgramError>) -> Result<()> {
    match result {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(error) => Err(with_permission_hint(error.into())),
    }
}

/// Adds what to do when the kernel said no for lack of rights.
fn with_permission_hint(error: anyhow::Error) -> anyhow::Error {
    let denied = error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied));
    if denied { error.context("run as root, or grant CAP_BPF and CAP_NET_ADMIN") } else { error }
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the kernel object lacks map {name}"))
}

/// The map stays with `ebpf`: the programs, not loaded yet, refer to it by file descriptor.
fn map_words(ebpf: &Ebpf, name: &str, words: usize) -> Result<SharedWords> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        return Err(anyhow!("the kernel object lacks array {name}"));
    };
    SharedWords::map(data.fd().as_fd(), words).with_context(|| format!("map {name} into memory"))
}
