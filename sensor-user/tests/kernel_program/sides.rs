//! The same frames through the kernel program and through the accounting of a capture.

use std::collections::BTreeMap;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions, TestRunResult};
use leuko::source::kernel::{KernelSource, LoadOptions};
use sensor_core::flow::{MemoryHook, SlotId};
use sensor_ebpf::abi::{Counters, FlowKey, FlowSlot, Half, HalfRare, Hook};
use sensor_ebpf::packet::SliceReader;

/// The time of every packet.
pub const NOW_NS: u64 = 5_000_000_000;

/// What a side has counted.
#[derive(Debug, PartialEq)]
pub struct Counted {
    pub flows: BTreeMap<FlowKey, FlowSlot>,
    pub counters: Counters,
}

/// The accounting of a capture.
pub struct Host(MemoryHook);

impl Default for Host {
    fn default() -> Self {
        Self(MemoryHook::new(0))
    }
}

impl Host {
    pub fn observe(&mut self, frame: &[u8]) {
        let reader = SliceReader { data: frame, wire_len: u32::try_from(frame.len()).unwrap() };
        self.0.observe_ethernet(&reader, NOW_NS);
    }

    pub fn counted(&mut self) -> Counted {
        let mut flows = BTreeMap::new();
        self.0.slots.poll(|_, slot| {
            flows.insert(slot.key, *slot);
        });
        Counted { flows, counters: self.0.counters }
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
        let options = LoadOptions { flows, seed: 0x5eed, fixed_ns: Some(NOW_NS), ..LoadOptions::default() };
        let mut source = KernelSource::load(options).unwrap();
        source.xdp("leuko_xdp").unwrap();
        source.xdp("leuko_xdp_generic").unwrap();
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

    /// As [`Self::observe`] at TC, for a super-packet.
    pub fn observe_gso(&mut self, at: At, frame: &[u8], gso_size: u32) {
        /// `struct __sk_buff` and where its `gso_segs` and `gso_size` are.
        const SK_BUFF: (usize, usize, usize) = (192, 164, 176);
        let mut context = [0u8; SK_BUFF.0];
        let segments = u32::try_from(frame.len()).unwrap().div_ceil(gso_size);
        context[SK_BUFF.1..][..4].copy_from_slice(&segments.to_le_bytes());
        context[SK_BUFF.2..][..4].copy_from_slice(&gso_size.to_le_bytes());
        self.run(at, frame, &context, 1);
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
        let after = self.source.counters().unwrap();
        let (then, now) = (self.before[hook as usize], after[hook as usize]);
        self.before = after;
        Counted { flows, counters: difference(&now, &then) }
    }

    pub fn release(&mut self, slots: &[SlotId]) -> BTreeMap<FlowKey, FlowSlot> {
        let mut flows = BTreeMap::new();
        self.source.release(slots, |_, slot| add(&mut flows, slot)).unwrap();
        flows
    }
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
        unaccounted: now.unaccounted,
    };
    for (now, then) in difference.unaccounted.iter_mut().zip(then.unaccounted) {
        *now -= then;
    }
    difference
}
