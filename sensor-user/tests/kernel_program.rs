//! The kernel program packet by packet (`BPF_PROG_TEST_RUN`): verdicts, flows and counters, without a network.
#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;
use std::fs::File;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use leuko::source::kernel::LoadOptions;
use leuko::source::pcap::{Capture, NetworkLayer};
use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};
use sensor_core::flow::SlotId;
use sensor_ebpf::abi::FlowSlot;
use sensor_ebpf::packet::tunnel;

use frames::{any_frame, tcp, udp};
use sides::{At, Host, Kernel, test_run};

#[path = "kernel_program/blocks.rs"]
mod blocks;
#[path = "kernel_program/depth.rs"]
mod depth;
#[path = "kernel_program/frames.rs"]
mod frames;
#[path = "kernel_program/overflow.rs"]
mod overflow;
#[path = "kernel_program/sides.rs"]
mod sides;

const EVERY_TUNNEL: u32 = tunnel::VXLAN | tunnel::GENEVE | tunnel::GRE | tunnel::IPIP;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;

#[test]
fn kernel_and_host_count_the_same() {
    if !root() {
        return;
    }
    for (at, tunnels) in At::ALL.into_iter().flat_map(|at| [(at, 0), (at, EVERY_TUNNEL)]) {
        let kernel = RefCell::new(Kernel::with(LoadOptions { flows: 4096, tunnels, ..LoadOptions::default() }));
        let config = Config { cases: 128, failure_persistence: None, ..Config::default() };
        let sequences = vec(any_frame(), 1..60);
        let outcome = TestRunner::new(config).run(&sequences, |sequence| {
            let mut kernel = kernel.borrow_mut();
            kernel.forget_fragments();
            let mut host = Host::new(tunnels);
            for frame in sequence.iter().filter(|frame| at.takes(frame)) {
                kernel.observe(at, frame);
                host.observe(frame);
            }
            let (kernel, host) = (kernel.counted(at.hook()), host.counted());
            proptest::prop_assert_eq!(kernel, host);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{at:?}, tunnels {tunnels:x}: {error}"));
    }
}

#[test]
fn the_program_for_kernels_without_multi_buffer_frames_counts_the_same() {
    if !root() {
        return;
    }
    let (mut kernel, mut host) = (Kernel::load(64), Host::new(0));
    for frame in [tcp(1, 0x02, b""), tcp(1, ACK, b"text"), vec![0; 60]] {
        host.observe(&frame);
        let result = test_run(kernel.source.xdp("leuko_xdp_linear").unwrap(), &frame, &[], 1);
        assert_eq!(result.return_value, 2);
    }
    assert_eq!(kernel.counted(At::Xdp.hook()), host.counted());
}

#[test]
fn captures_meant_to_break_parsers_count_the_same() {
    if !root() {
        return;
    }
    let Some(archives) = robustness_archives() else {
        return;
    };
    let mut kernel = Kernel::load(1 << 17);
    let mut frames = 0;
    for archive in archives {
        let mut host = Host::new(0);
        for_each_frame(&archive, |frame| {
            kernel.observe(At::Xdp, frame);
            host.observe(frame);
            frames += 1;
        });
        let (kernel, host) = (kernel.counted(At::Xdp.hook()), host.counted());
        for (key, flow) in &host.flows {
            assert_eq!(kernel.flows.get(key), Some(flow), "{}", archive.display());
        }
        assert_eq!(kernel, host, "{}", archive.display());
    }
    assert!(frames > 10_000, "{frames}");
}

#[test]
fn super_packets_are_counted_as_the_wire_has_them() {
    if !root() {
        return;
    }
    let mut kernel = Kernel::load(64);
    for (at, payload, segments) in [
        (At::Egress, 3000, 3),
        (At::Egress, 3000, 0),
        (At::Ingress, 3001, 4),
        (At::Ingress, 3001, 0),
        (At::Egress, 900, 1),
        (At::Egress, 900, 0),
    ] {
        kernel.observe_gso(at, &tcp(4000, ACK | PSH, &vec![0; payload]), 1000, segments);
        let counted = kernel.counted(at.hook());
        let packets = payload.div_ceil(1000) as u64;
        let flow = counted.flows.values().next().unwrap();
        assert_eq!(counted.counters.packets, packets);
        assert_eq!((flow.half[0].packets, flow.half[0].octets), (packets, payload as u64 + 40 * packets));
        assert_eq!((flow.half[0].psh, flow.rare[0].no_ack), (1, 0));
        let last = (payload - 1) % 1000 + 41;
        assert_eq!(usize::from(flow.half[0].len_min), last);
        assert_eq!(usize::from(flow.half[0].len_max), payload.min(1000) + 40);
    }
}

#[test]
fn a_poll_reports_only_what_moved() {
    if !root() {
        return;
    }
    let mut kernel = Kernel::load(4096);
    let polled = |kernel: &mut Kernel| {
        let mut seen = Vec::new();
        kernel.source.poll(|id, slot| seen.push((id, slot.key.lo_port, packets(slot))));
        seen
    };
    for flow in 0..100 {
        kernel.observe(At::Egress, &udp(flow + 1000, 10));
    }
    assert_eq!(polled(&mut kernel).len(), 100);
    assert_eq!(polled(&mut kernel), []);
    kernel.observe(At::Xdp, &udp(1007, 10));
    let [(id, port, count)] = polled(&mut kernel)[..] else { panic!("one flow moved") };
    assert_eq!((port, count), (1007, 2));

    // A slot whose new flow has as many packets as the old one had moved too.
    kernel.release(&[id]);
    kernel.repeat(At::Xdp, &udp(1007, 10), 2);
    let [(_, port, count)] = polled(&mut kernel)[..] else { panic!("one flow moved") };
    assert_eq!((port, count), (1007, 2));
}

#[test]
fn a_released_slot_counts_from_zero() {
    if !root() {
        return;
    }
    let mut kernel = Kernel::load(8);
    kernel.repeat(At::Xdp, &tcp(1, ACK | PSH | FIN, b"abc"), 1000);
    let last = kernel.counted(At::Xdp.hook());
    assert_eq!(last.flows.values().map(packets).sum::<u64>(), 1000);

    kernel.observe(At::Xdp, &tcp(1, ACK, b""));
    let again = kernel.counted(At::Xdp.hook());
    let flow = again.flows.values().next().unwrap();
    assert_eq!((packets(flow), flow.half[0].psh, flow.rare[0].fin, flow.first_payload), (1, 0, 0, 0));
}

#[test]
fn two_cpus_count_one_flow_exactly_while_it_is_polled() {
    if !root() {
        return;
    }
    const EACH: u32 = 400_000;
    let mut kernel = Kernel::load(64);
    let (one, other) = (kernel.second_handle(), kernel.second_handle());
    let running = AtomicBool::new(true);
    let seen = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        let first = scope.spawn(move || test_run(&one, &tcp(7, ACK | PSH, b"abcdefgh"), &[], EACH));
        let second = scope.spawn(move || test_run(&other, &tcp(7, ACK | FIN, b""), &[], EACH));
        scope.spawn(|| {
            let mut last_round = false;
            while !last_round {
                last_round = !running.load(Ordering::Relaxed);
                let mut sum = 0;
                kernel.source.poll(|id, slot| {
                    seen.lock().unwrap().insert(id);
                    sum += packets(slot);
                });
                assert!(sum <= u64::from(EACH) * 2, "{sum}");
            }
        });
        first.join().unwrap();
        second.join().unwrap();
        running.store(false, Ordering::Relaxed);
    });
    // One, or twins.
    let slots: Vec<SlotId> = seen.into_inner().unwrap().into_iter().collect();
    let flows = kernel.release(&slots);
    let flow = flows.values().next().unwrap();
    let each = u64::from(EACH);
    assert_eq!(flows.len(), 1);
    assert_eq!((flow.half[0].packets, flow.half[0].octets), (2 * each, each * (48 + 40)));
    assert_eq!((flow.half[0].psh, flow.rare[0].fin, flow.rare[0].no_ack), (EACH, EACH, 0));
    assert_eq!(kernel.source.counters().unwrap()[0].packets, 2 * each);
}

#[test]
fn nothing_is_lost_when_live_flows_are_released() {
    if !root() {
        return;
    }
    const EACH: u32 = 200_000;
    let mut kernel = Kernel::load(64);
    let other = kernel.second_handle();
    let mut released = 0;
    thread::scope(|scope| {
        let traffic = scope.spawn(move || test_run(&other, &tcp(7, ACK, b""), &[], EACH));
        while !traffic.is_finished() {
            let mut live = BTreeSet::new();
            kernel.source.poll(|id, _| {
                live.insert(id);
            });
            let live: Vec<SlotId> = live.into_iter().collect();
            released += kernel.release(&live).values().map(packets).sum::<u64>();
        }
        traffic.join().unwrap();
    });
    released += kernel.counted(At::Xdp.hook()).flows.values().map(packets).sum::<u64>();
    assert_eq!(released, u64::from(EACH));
}

fn packets(slot: &FlowSlot) -> u64 {
    slot.half[0].packets + slot.half[1].packets
}

fn for_each_frame(archive: &Path, mut each: impl FnMut(&[u8])) {
    let decoder = zstd::Decoder::new(File::open(archive).unwrap()).unwrap();
    let mut tar = tar::Archive::new(decoder);
    for member in tar.entries().unwrap() {
        let mut octets = Vec::new();
        member.unwrap().read_to_end(&mut octets).unwrap();
        let Ok(mut capture) = Capture::stream(Cursor::new(octets)) else {
            continue;
        };
        while let Some(frame) = capture.next_frame() {
            // A test run takes no frame longer than an XDP buffer with all its fragments.
            let fits = frame.data.len() < 60_000 && At::Xdp.takes(frame.data);
            if fits && frame.network_layer() == NetworkLayer::Ethernet {
                each(frame.data);
            }
        }
    }
}

/// The archives of captures that have broken other parsers.
fn robustness_archives() -> Option<Vec<PathBuf>> {
    let mut archives: Vec<PathBuf> =
        data("robustness")?.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    archives.retain(|path| path.extension().is_some_and(|extension| extension == "zst"));
    archives.sort();
    Some(archives)
}

/// A file or folder of the public captures; if it is not there, the test is skipped.
fn data(path: &str) -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let path = env::var_os("LEUKO_DATA").map_or_else(default, PathBuf::from).join(path);
    if !path.exists() {
        skip(&format!("needs {} (LEUKO_DATA)", path.display()));
        return None;
    }
    Some(path)
}

/// Whether this process may load programs; if not, the test is skipped.
fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("needs root");
    }
    root
}

#[expect(clippy::print_stderr, reason = "a skipped test prints why")]
fn skip(why: &str) {
    assert!(env::var("CI").as_deref() != Ok("true"), "may not be skipped in CI: {why}");
    eprintln!("skipped: {why}");
}
