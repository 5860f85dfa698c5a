//! The same frames through the kernel program and through the accounting of a capture.

use std::collections::BTreeMap;

use aya::maps::Array;
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, TestRunResult};
use leuko::source::kernel::{KernelSource, LoadOptions};
use sensor_core::flow::{AggregateId, MemoryHook, SlotId};
use sensor_ebpf::abi::{Aggregate, ArpMessage, Counters, FlowKey, FlowSlot, Half, HalfRare, Hook};
use sensor_ebpf::packet::SliceReader;

/// The time of every packet.
pub const NOW_NS: u64 = 5_000_000_000;

/// What a side has counted.
#[derive(Debug, PartialEq)]
pub struct Counted {
    pub flows: BTreeMap<FlowKey, FlowSlot>,
    pub counters: Counters,
    pub arp: Vec<ArpMessage>,
}

/// The accounting of a capture.
pub struct Host(MemoryHook);

impl Host {
    pub fn new(tunnels: u32) -> Self {
        Self(MemoryHook::new(tunnels))
    }

    pub fn observe(&mut self, frame: &[u8]) {
        let reader = SliceReader { data: frame, wire_len: u32::try_from(frame.len()).unwrap() };
        self.0.observe_ethernet(&reader, NOW_NS);
    }

    pub fn counted(&mut self) -> Counted {
        let mut flows = BTreeMap::new();
        self.0.slots.poll(|_, slot| {
            flows.insert(slot.key, *slot);
        });
        Counted { flows, counters: self.0.counters, arp: std::mem::take(&mut self.0.arp) }
    }
}

/// Where the kernel program sees a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Xdp,
    Ingress,
    Egress,
}

impl At {
    pub const ALL: [Self; 3] = [Self::Xdp, Self::Ingress, Self::Egress];

    /// Whether a test run takes the frame. With a socket buffer it wants a whole IP header behind an IP EtherType.
    pub fn takes(self, frame: &[u8]) -> bool {
        let shortest = match (self, frame.get(12..14)) {
            (Self::Xdp, _) => 14,
            (_, Some([0x08, 0x00])) => 14 + 20,
            (_, Some([0x86, 0xdd])) => 14 + 40,
            _ => 15,
        };
        frame.len() >= shortest
    }

    pub const fn hook(self) -> Hook {
        match self {
            Self::Xdp | Self::Ingress => Hook::Ingress,
            Self::Egress => Hook::Egress,
        }
    }
}

/// The kernel program, loaded but attached to nothing.
pub struct Kernel {
    pub source: KernelSource,
    before: [Counters; 2],
}

impl Kernel {
    pub fn load(flows: u32) -> Self {
        Self::with(LoadOptions { flows, ..LoadOptions::default() })
    }

    pub fn with(options: LoadOptions) -> Self {
        let options = LoadOptions { seed: 0x5eed, fixed_ns: Some(NOW_NS), ..options };
        let mut source = KernelSource::load(options).unwrap();
        source.xdp("leuko_xdp").unwrap();
        source.classifier("leuko_ingress").unwrap();
        source.classifier("leuko_egress").unwrap();
        Self { source, before: [Counters::default(); 2] }
    }

    /// Runs the program on a frame and checks that it lets it pass.
    pub fn observe(&mut self, at: At, frame: &[u8]) {
        self.repeat(at, frame, 1);
    }

    pub fn repeat(&mut self, at: At, frame: &[u8], times: u32) {
        const XDP_PASS: u32 = 2;
        const TC_NEXT: u32 = u32::MAX;
        let pass = if at == At::Xdp { XDP_PASS } else { TC_NEXT };
        assert_eq!(self.run(at, frame, &[], times).return_value, pass, "{at:?} {frame:02x?}");
    }

    /// Runs the program on a frame and checks that it drops it.
    pub fn refuse(&mut self, at: At, frame: &[u8]) {
        assert!(self.drops(at, frame), "{at:?} {frame:02x?}");
    }

    /// Runs the program on a frame, and says whether it drops it.
    pub fn drops(&mut self, at: At, frame: &[u8]) -> bool {
        const XDP_DROP: u32 = 1;
        const TC_DROP: u32 = 2;
        self.run(at, frame, &[], 1).return_value == if at == At::Xdp { XDP_DROP } else { TC_DROP }
    }

    /// As [`Self::observe`] at TC, for a super-packet of TCP in IPv4; its segments may be counted, or not (0).
    pub fn observe_gso(&mut self, at: At, frame: &[u8], gso_size: u32, segments: u32) {
        self.run(at, frame, &sk_buff(&[(sk_buff::GSO_SEGS, segments), (sk_buff::GSO_SIZE, gso_size)]), 1);
    }

    /// As [`Self::observe`] at egress, for a packet that came in at an interface.
    pub fn observe_forwarded(&mut self, frame: &[u8], ingress_ifindex: u32) {
        self.run(At::Egress, frame, &sk_buff(&[(sk_buff::INGRESS_IFINDEX, ingress_ifindex)]), 1);
    }

    /// Forgets first fragments: a case of a property must not depend on the one before.
    pub fn forget_fragments(&mut self) {
        let map = self.source.ebpf().map_mut("FRAGMENTS").unwrap();
        let mut map: Array<_, u64> = Array::try_from(map).unwrap();
        for index in 0..map.len() {
            if map.get(&index, 0).unwrap() != 0 {
                map.set(index, 0, 0).unwrap();
            }
        }
    }

    /// What overflowed since the last call, by subject and protocol; what found no aggregate of its own, since the start.
    pub fn aggregates(&mut self) -> Vec<Aggregate> {
        let mut changed = Vec::new();
        let mut aggregates = Vec::new();
        self.source.poll_aggregates(|id, aggregate| match id {
            AggregateId(0) => aggregates.push(*aggregate),
            _ => changed.push(id),
        });
        self.source.release_aggregates(&changed, |_, aggregate| aggregates.push(*aggregate)).unwrap();
        aggregates
    }

    fn run(&mut self, at: At, frame: &[u8], context: &[u8], times: u32) -> TestRunResult {
        match at {
            At::Xdp => test_run(self.source.xdp("leuko_xdp").unwrap(), frame, context, times),
            At::Ingress => test_run(self.source.classifier("leuko_ingress").unwrap(), frame, context, times),
            At::Egress => test_run(self.source.classifier("leuko_egress").unwrap(), frame, context, times),
        }
    }

    /// A handle of its own on the ingress program, for another thread.
    pub fn second_handle(&mut self) -> SchedClassifier {
        let program = self.source.classifier("leuko_ingress").unwrap();
        SchedClassifier::from_program_info(program.info().unwrap(), "leuko_ingress".into()).unwrap()
    }

    /// What was counted at a hook since the last call; the table is empty afterwards.
    pub fn counted(&mut self, hook: Hook) -> Counted {
        let mut live = Vec::new();
        let mut polled = BTreeMap::new();
        self.source.poll(|id, slot| {
            live.push(id);
            add(&mut polled, slot);
        });
        let flows = self.release(&live);
        assert_eq!(polled, flows, "a poll without traffic sees what is final");
        let mut arp = Vec::new();
        self.source.take_arp(|message| arp.push(ArpMessage { ifindex: 0, ..*message }));
        let after = self.source.counters().unwrap();
        let (then, now) = (self.before[hook as usize], after[hook as usize]);
        self.before = after;
        Counted { flows, counters: difference(&now, &then), arp }
    }

    pub fn release(&mut self, slots: &[SlotId]) -> BTreeMap<FlowKey, FlowSlot> {
        let mut flows = BTreeMap::new();
        self.source.release(slots, |_, slot| add(&mut flows, slot)).unwrap();
        flows
    }
}

/// `struct __sk_buff` as the context of a test run, and where its fields are.
mod sk_buff {
    pub const SIZE: usize = 192;
    pub const INGRESS_IFINDEX: usize = 36;
    pub const GSO_SEGS: usize = 164;
    pub const GSO_SIZE: usize = 176;
}

fn sk_buff(fields: &[(usize, u32)]) -> [u8; sk_buff::SIZE] {
    let mut context = [0; sk_buff::SIZE];
    for (offset, value) in fields {
        context[*offset..][..4].copy_from_slice(&value.to_le_bytes());
    }
    context
}

pub fn test_run<P>(program: &P, frame: &[u8], context: &[u8], times: u32) -> TestRunResult
where
    for<'a> P: TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.ctx_in = (!context.is_empty()).then_some(context);
    options.repeat = times;
    program.test_run(options).unwrap_or_else(|error| panic!("{error}: {} octets {frame:02x?}", frame.len()))
}

/// Sums of the exact counters, by key: two CPUs may each have a slot for a flow that began on both at once.
pub fn add(flows: &mut BTreeMap<FlowKey, FlowSlot>, slot: &FlowSlot) {
    let flow = flows.entry(slot.key).or_insert(FlowSlot {
        half: [Half::default(); 2],
        rare: [HalfRare::default(); 2],
        ifindex: 0,
        ..*slot
    });
    for way in 0..2 {
        let half = Half {
            packets: flow.half[way].packets + slot.half[way].packets,
            octets: flow.half[way].octets + slot.half[way].octets,
            psh: flow.half[way].psh + slot.half[way].psh,
            ..slot.half[way]
        };
        flow.half[way] = half;
        let (sum, rare) = (flow.rare[way], slot.rare[way]);
        flow.rare[way] = HalfRare {
            fin: sum.fin + rare.fin,
            syn: sum.syn + rare.syn,
            rst: sum.rst + rare.rst,
            urg: sum.urg + rare.urg,
            ece: sum.ece + rare.ece,
            cwr: sum.cwr + rare.cwr,
            no_ack: sum.no_ack + rare.no_ack,
            retransmits: sum.retransmits + rare.retransmits,
        };
    }
}

fn difference(now: &Counters, then: &Counters) -> Counters {
    let mut difference = Counters {
        packets: now.packets - then.packets,
        octets: now.octets - then.octets,
        overflowed: now.overflowed - then.overflowed,
        fragments: now.fragments - then.fragments,
        orphan_fragments: now.orphan_fragments - then.orphan_fragments,
        multicast: now.multicast - then.multicast,
        broadcast: now.broadcast - then.broadcast,
        arp_lost: now.arp_lost - then.arp_lost,
        would_drop: now.would_drop - then.would_drop,
        unaccounted: now.unaccounted,
    };
    for (now, then) in difference.unaccounted.iter_mut().zip(then.unaccounted) {
        *now -= then;
    }
    difference
}
