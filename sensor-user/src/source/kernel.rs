//! The live source: loads the kernel program, attaches it, and reads its flow table without a system call per flow.

pub mod attach;
pub mod blocklist;
pub mod interface;
pub mod namespace;
pub mod pin;
pub mod rtnetlink;
mod shared;
mod table;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::offset_of;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp, loaded_programs};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use sensor_core::flow::{AggregateId, SlotId};
use sensor_ebpf::abi::{
    ABI_VERSION, AGGREGATES, ARP_RING_OCTETS, Aggregate, ArpMessage, BUCKET_SLOTS, Counters, FlowSlot, Hook, Settings,
    TableState,
};
use tracing::warn;

use attach::InterfaceLinks;
use blocklist::Blocklist;
use interface::InterfaceId;
use pin::Pins;
use shared::{GracePeriod, SharedWords, Slot as _};
use table::{SharedTable, map_words};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LEUKO_BPF_OBJECT"));

/// Names of the programs in the object.
pub const PROGRAMS: [&str; 4] = ["leuko_xdp", "leuko_xdp_linear", "leuko_ingress", "leuko_egress"];

/// The XDP program for this kernel: multi-buffer frames are known since 5.18.
#[must_use]
pub fn xdp_program() -> &'static str {
    match KernelVersion::current() {
        Ok(version) if version < KernelVersion::new(5, 18, 0) => "leuko_xdp_linear",
        _ => "leuko_xdp",
    }
}

/// Ids of the XDP programs of sensors; none without the privilege to ask.
fn sensors() -> BTreeSet<u32> {
    let programs = loaded_programs().filter_map(Result::ok);
    let ours = programs.filter(|program| program.name_as_str().is_some_and(|name| name.starts_with("leuko_xdp")));
    ours.map(|program| program.id()).collect()
}

/// Load-time choices.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Flow table entries; rounded up to whole buckets of eight.
    pub flows: u32,
    /// Secret seed of the hashes.
    pub seed: u64,
    /// When set, the time of every packet in nanoseconds; for tests.
    pub fixed_ns: Option<u64>,
    /// One of so many packets is looked at; 0 or 1 for every one.
    pub sampling: u32,
    /// Blocks that the list has room for; 0 for one.
    pub blocks: u32,
    /// Tunnels whose inner packets are counted: bits of [`sensor_ebpf::packet::tunnel`].
    pub tunnels: u32,
    /// Packets that leave are not seen at egress.
    pub mirror: bool,
    /// Folder in a BPF filesystem that keeps maps and links when this process ends; what is there is gone on with.
    pub pin: Option<PathBuf>,
}

/// The loaded program and its maps. Dropping it detaches everything that is not pinned.
pub struct KernelSource {
    ebpf: Ebpf,
    links: BTreeMap<InterfaceId, InterfaceLinks>,
    pins: Option<Pins>,
    /// Packets that an earlier process has taken out of the pinned tables; nothing if there was none.
    resumed: Option<u64>,
    sampling: u32,
    /// XDP programs of other sensors, as of the start: behind them there is nothing to be done.
    sensors: BTreeSet<u32>,
    flows: SharedTable<FlowSlot>,
    aggregates: SharedTable<Aggregate>,
    state: SharedWords,
    counters: PerCpuArray<MapData, Counters>,
    arp: RingBuf<MapData>,
    grace: GracePeriod,
    /// The programs need its maps for as long as they run.
    blocklist: Arc<Mutex<Blocklist>>,
}

impl KernelSource {
    /// Loads the object into the kernel and maps its tables; attaches nothing.
    ///
    /// # Errors
    /// When the kernel refuses a map or a program: too old, no permission, not enough memory.
    pub fn load(options: LoadOptions) -> Result<Self> {
        Self::load_object(OBJECT, options)
    }

    /// As [`Self::load`], of another object with the same maps: for benchmarks.
    ///
    /// # Errors
    /// As [`Self::load`], and when the object is none or lacks a map.
    pub fn load_object(object: &[u8], options: LoadOptions) -> Result<Self> {
        let pins = options.pin.as_deref().map(Pins::open).transpose()?;
        let left = pins.as_ref().map(Pins::state).transpose()?.flatten();
        let buckets = options.flows.div_ceil(BUCKET_SLOTS).max(1);
        let buckets = left.map_or(buckets, |state| state.slots / BUCKET_SLOTS);
        let seed = left.map_or(options.seed, |state| state.seed);
        let slots = buckets * BUCKET_SLOTS;
        if left.is_some() && slots < options.flows {
            warn!(slots, wanted = options.flows, "the pinned flow table keeps its size; `leuko unpin` lets it change");
        }
        let settings = Settings {
            seed,
            fixed_ns: options.fixed_ns.unwrap_or(0),
            buckets,
            sampling: options.sampling,
            tunnels: options.tunnels,
            mirror: u32::from(options.mirror),
        };
        let mut loader = EbpfLoader::new();
        loader
            // The programs know no kernel structures, so none have to be found in the kernel's type information.
            .btf(None)
            .override_global("SETTINGS", &settings, true)
            .map_max_entries("FLOW_TAGS", buckets)
            .map_max_entries("FLOW_SLOTS", slots)
            .map_max_entries("BLOCKS", options.blocks.max(1));
        for (pins, map) in pins.iter().flat_map(|pins| pin::MAPS.map(|map| (pins, map))) {
            loader.map_pin_path(map, pins.map(map));
        }
        let mut ebpf = loader.load(object).context("load the kernel program's maps").map_err(with_permission_hint)?;
        let flows = SharedTable::map(&ebpf, "FLOW_TAGS", "FLOW_SLOTS", slots as usize)?;
        let mut aggregates = SharedTable::map(&ebpf, "AGGREGATE_TAGS", "AGGREGATES", AGGREGATES as usize)?;
        aggregates.reserve(0);
        let state = map_words(&ebpf, "STATE", size_of::<TableState>() / 8)?;
        let counters = PerCpuArray::try_from(take_map(&mut ebpf, "COUNTERS")?).context("open map COUNTERS")?;
        let arp = RingBuf::try_from(take_map(&mut ebpf, "ARP")?).context("open map ARP")?;
        let grace = GracePeriod::new().context("create the map of maps that waits for running programs")?;
        let sampling = options.sampling.max(1);
        let room = capacity(&ebpf, "BLOCKS");
        if room < options.blocks {
            warn!(
                room,
                wanted = options.blocks,
                "the pinned list of blocks keeps its size; `leuko unpin` lets it change"
            );
        }
        let blocklist = Arc::new(Mutex::new(Blocklist::open(&mut ebpf, seed)?));
        let mut source = Self {
            ebpf,
            links: BTreeMap::new(),
            pins,
            resumed: None,
            sampling,
            sensors: sensors(),
            flows,
            aggregates,
            state,
            counters,
            arp,
            grace,
            blocklist,
        };
        if left.is_some() {
            source.resume().context("take over the pinned tables")?;
        } else {
            // The version last: only then is what is pinned complete.
            source.state.store(offset_of!(TableState, seed) / 8, seed);
            source.state.store(0, u64::from(ABI_VERSION) | u64::from(slots) << 32);
        }
        Ok(source)
    }

    /// Finishes what a process before this one was about to release when it was killed.
    fn resume(&mut self) -> io::Result<()> {
        let dead: Vec<SlotId> = self.flows.dead().into_iter().map(SlotId).collect();
        self.release(&dead, |_, _| ())?;
        let dead: Vec<AggregateId> = self.aggregates.dead().into_iter().map(AggregateId).collect();
        self.release_aggregates(&dead, |_, _| ())?;
        // It may have been killed between the count and the slot.
        self.state.store(LIVE, self.flows.used());
        self.resumed = Some(self.state.load(RETIRED));
        Ok(())
    }

    /// Whether programs and maps outlive this process.
    #[must_use]
    pub const fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// Packets of flows that an earlier process has taken out of the pinned tables; nothing if these are new.
    #[must_use]
    pub const fn resumed(&self) -> Option<u64> {
        self.resumed
    }

    /// Whose packets are dropped.
    #[must_use]
    pub fn blocklist(&self) -> Arc<Mutex<Blocklist>> {
        Arc::clone(&self.blocklist)
    }

    /// An XDP program (see [`xdp_program`]), loaded.
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
    pub const fn capacity(&self) -> usize {
        self.flows.capacity()
    }

    /// Entries of the flow table in use.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.state.load(LIVE)
    }

    /// Hands over every live flow in which a packet was counted since the last poll.
    pub fn poll(&mut self, mut each: impl FnMut(SlotId, &FlowSlot)) {
        match self.sampling {
            1 => self.flows.poll(|index, slot| each(SlotId(index), slot)),
            factor => self.flows.poll(|index, slot| each(SlotId(index), &slot.scaled(factor))),
        }
    }

    /// Takes flows out of the table and hands over their final counters. Waits until no running program can hold one,
    /// so nothing counted is lost; a packet that arrives meanwhile starts a new slot.
    ///
    /// # Errors
    /// When the kernel refuses the update that waits; the slots then stay out of use.
    pub fn release(&mut self, slots: &[SlotId], mut each: impl FnMut(SlotId, &FlowSlot)) -> io::Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let (factor, state) = (self.sampling, &self.state);
        self.flows.release(&self.grace, slots.iter().map(|id| id.0), |index, slot| {
            state.add(RETIRED, slot.packets());
            state.subtract(LIVE, 1);
            each(SlotId(index), &if factor == 1 { *slot } else { slot.scaled(factor) });
        })
    }

    /// Hands over every overflow aggregate in which a packet was counted since the last poll.
    pub fn poll_aggregates(&mut self, mut each: impl FnMut(AggregateId, &Aggregate)) {
        let factor = self.sampling;
        self.aggregates.poll(|index, aggregate| each(AggregateId(index), &aggregate.scaled(factor)));
    }

    /// As [`Self::release`], for aggregates. The first one stays: it takes what finds no other.
    ///
    /// # Errors
    /// As [`Self::release`].
    pub fn release_aggregates(
        &mut self,
        ids: &[AggregateId],
        mut each: impl FnMut(AggregateId, &Aggregate),
    ) -> io::Result<()> {
        let indexes = ids.iter().map(|id| id.0).filter(|&index| index != 0);
        if indexes.clone().next().is_none() {
            return Ok(());
        }
        let (factor, state) = (self.sampling, &self.state);
        self.aggregates.release(&self.grace, indexes, |index, aggregate| {
            state.add(RETIRED, aggregate.packets());
            each(AggregateId(index), &aggregate.scaled(factor));
        })
    }

    /// Hands over the ARP messages that came since the last call, at most as many as the ring holds: who sends faster
    /// than they are read does not keep the sensor from anything else.
    pub fn take_arp(&mut self, mut each: impl FnMut(&ArpMessage)) {
        const RECORD_HEADER: usize = 8;
        let room = ARP_RING_OCTETS as usize / (size_of::<ArpMessage>() + RECORD_HEADER);
        for _ in 0..room {
            let Some(item) = self.arp.next() else {
                break;
            };
            if let Some(message) = shared::arp_message(&item) {
                each(&message);
            }
        }
    }

    /// Says which interfaces are watched: a packet that came in at one of them is not counted again when it leaves.
    ///
    /// # Errors
    /// When there are more than the map holds.
    pub fn set_watched(&mut self, ifindexes: &BTreeSet<u32>) -> Result<()> {
        let map = self.ebpf.map_mut("WATCHED").context("map WATCHED")?;
        let mut map: HashMap<_, u32, u32> = HashMap::try_from(map).context("open map WATCHED")?;
        let known: BTreeSet<u32> = map.keys().filter_map(Result::ok).collect();
        for gone in known.difference(ifindexes) {
            map.remove(gone).context("forget a watched interface")?;
        }
        for new in ifindexes.difference(&known) {
            map.insert(new, 1, 0).context("note a watched interface; at most 1024 can be watched at once")?;
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

/// Word of the state that counts slots in use.
const LIVE: usize = offset_of!(TableState, live) / 8;
/// Word of the state that counts packets taken out.
const RETIRED: usize = offset_of!(TableState, retired_packets) / 8;

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

/// Entries that a hash map has room for: a pinned one as many as when it was made.
fn capacity(ebpf: &Ebpf, name: &str) -> u32 {
    let Some(Map::HashMap(map)) = ebpf.map(name) else {
        return 0;
    };
    map.info().map_or(0, |info| info.max_entries())
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the kernel object lacks map {name}"))
}
