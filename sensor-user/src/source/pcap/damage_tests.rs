//! What a damaged or hostile capture gives.

use proptest::prelude::*;

use super::testing::*;
use super::*;

#[test]
fn damage_is_named_with_its_byte_offset() {
    let pcap = Classic::plain().packet(1, 0, b"ok");
    let ng = Ng::new(Order::Little).interface(1, 0, &[]).enhanced(0, 1, b"ok");
    let (p, n) = (pcap.octets.len(), ng.octets.len());
    let overrun = [&[0; 12][..], &[5, 0, 0, 0, 5, 0, 0, 0], b"1234"].concat();
    let cases = [
        (
            pcap.clone().record([1, 0, 74, 74], &[0; 20]).octets,
            format!("truncated packet record at byte {p}: 74 octets announced, 20 left"),
        ),
        (
            [&pcap.octets[..], &[1, 2, 3]].concat(),
            format!("truncated packet record header at byte {p}: 16 octets announced, 3 left"),
        ),
        (
            pcap.clone().record([1, 0, u32::MAX, 74], &[]).octets,
            format!("oversized packet record at byte {p}: 4294967295 octets announced, 16777216 allowed"),
        ),
        (
            [&ng.octets[..], &[6, 0, 0, 0, 100, 0, 0, 0, 1]].concat(),
            format!("truncated block at byte {n}: 100 octets announced, 9 left"),
        ),
        (
            [&ng.octets[..], &[6, 0, 0, 0, 0, 0, 0, 0x80]].concat(),
            format!("oversized block at byte {n}: 2147483648 octets announced, 16777216 allowed"),
        ),
        (
            [&ng.octets[..], &[6, 0, 0, 0, 8, 0, 0, 0]].concat(),
            format!("impossible block at byte {n}: 8 octets announced, fewer than its fixed part"),
        ),
        (
            [&ng.octets[..], &[7, 0, 0, 0, 12, 0, 0, 0, 13, 0, 0, 0]].concat(),
            format!("inconsistent block at byte {n}: 12 octets announced at its beginning, 13 at its end"),
        ),
        (
            ng.clone().block(6, &[0; 16]).octets,
            format!("impossible block at byte {n}: 28 octets announced, fewer than its fixed part"),
        ),
        (
            ng.clone().block(6, &overrun).octets,
            format!("inconsistent packet block at byte {n}: 5 octets announced, room for 4"),
        ),
        (ng.clone().enhanced(1, 0, b"x").octets, format!("packet block at byte {n} names the undescribed interface 1")),
        (
            ng.clone().section(Order::Big).simple(1, b"x").octets,
            format!("packet block at byte {} names the undescribed interface 0", n + 28),
        ),
        (
            ng.clone().block(0x0a0d_0d0a, &[7; 16]).octets,
            format!("section header at byte {n} has an unknown byte order or version"),
        ),
    ];
    for (octets, expected) in cases {
        let (frames, damage) = streamed(&octets);
        assert_eq!(frames[0].2, b"ok", "{expected}");
        assert_eq!(damage.as_ref().unwrap().to_string(), expected);
        assert_eq!(filed(&octets), (frames, damage), "{expected}");
    }
}

#[test]
fn what_is_not_a_capture_is_refused_with_advice() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "the capture is empty; supported are pcap, pcapng and conn.log of Zeek, each plain or compressed"),
        (b"\x1f\x8b\x08\0", "gzip data, not a capture; decompress it first, e.g. zcat FILE | leuko replay -"),
        (b"\x28\xb5\x2f\xfd", "zstd data, not a capture; decompress it first, e.g. zstdcat FILE | leuko replay -"),
        (
            b"GET / HTTP",
            "not a capture: it begins with GET ; supported are pcap, pcapng and conn.log of Zeek, each plain or compressed",
        ),
        (
            b"\xd4\xc3",
            "not a capture: it begins with \\xd4\\xc3; supported are pcap, pcapng and conn.log of Zeek, each plain or compressed",
        ),
        (
            b"\xd4\xc3\xb2\xa1\x02\0",
            "truncated pcap file header at byte 0: 24 octets announced, 6 left; \
             supported are pcap, pcapng and conn.log of Zeek, each plain or compressed",
        ),
        (
            b"\x0a\x0d\x0d\x0a\x1c\0\0\0ABCDEFGH",
            "section header at byte 0 has an unknown byte order or version; \
             supported are pcap, pcapng and conn.log of Zeek, each plain or compressed",
        ),
    ];
    for (octets, message) in cases {
        assert_eq!(stream(octets).err().unwrap().to_string(), message);
        assert_eq!(Capture::open(file(octets).path()).err().unwrap().to_string(), message);
    }
    let error = Capture::open(Path::new("/nowhere/x.pcap")).err().unwrap();
    assert_eq!(error.to_string(), "open capture /nowhere/x.pcap");
    assert!(std::error::Error::source(&error).is_some());
}

/// A valid capture of each format, out of order.
fn samples() -> [Vec<u8>; 2] {
    let ng = Ng::new(Order::Big)
        .interface(1, 0, &[(9, &[9])])
        .enhanced(0, 9_000_000, b"later")
        .enhanced(0, 1_000_000, b"earlier")
        .block(5, b"statistics..")
        .section(Order::Little)
        .interface(101, 4, &[])
        .simple(10, b"simp")
        .obsolete(0, 5, b"");
    [disordered(), ng.octets]
}

#[test]
fn a_cut_capture_gives_a_prefix_and_the_place_of_the_cut() {
    for whole in samples() {
        let (all, damage) = streamed(&whole);
        assert_eq!(damage, None);
        for cut in 0..whole.len() {
            let octets = &whole[..cut];
            let Ok(mut capture) = stream(octets) else {
                assert!(cut < 28, "only a file header cannot be opened");
                continue;
            };
            let frames = drain(&mut capture);
            assert!(all.starts_with(&frames) && frames.len() < all.len(), "cut at {cut}");
            let damage = capture.damage().cloned();
            assert!(damage.as_ref().is_none_or(|damage| damage.offset < cut as u64), "cut at {cut}: {damage:?}");
            let (mut sorted, file_damage) = filed(octets);
            assert_eq!(damage, file_damage, "cut at {cut}");
            let mut expected = frames;
            expected.sort_by_key(|frame| frame.0);
            sorted.sort_by_key(|frame| frame.0);
            assert_eq!(sorted, expected, "cut at {cut}");
        }
    }
}

#[test]
fn a_file_that_shrinks_between_its_readings_is_damaged() {
    let ascending = (0..20_000).fold(Classic::plain(), |capture, secs| capture.packet(secs, 0, &[7; 40])).octets;
    let descending = (0..20_000).rev().fold(Classic::plain(), |capture, secs| capture.packet(secs, 0, &[7; 40])).octets;
    for octets in [ascending, descending] {
        let file = file(&octets);
        let mut capture = Capture::open(file.path()).unwrap();
        file.as_file().set_len(24 + 56 * 10_000).unwrap();
        while capture.next_frame().is_some() {}
        assert!(capture.packets() < 20_000);
        assert_eq!(capture.damage().map(|damage| damage.fault.clone()), Some(Fault::Changed));
    }
}

proptest! {
    #[test]
    fn random_octets_never_panic(mut noise in proptest::collection::vec(any::<u8>(), 0..400), sample in 0..2_usize, at in 0..200_usize) {
        // Behind a valid beginning, so that the noise is read as records.
        let whole = samples()[sample].clone();
        let mut octets = whole[..at.min(whole.len())].to_vec();
        octets.append(&mut noise);
        let from_stream = stream(&octets).map(|mut capture| (drain(&mut capture).len(), capture.damage().cloned()));
        let from_file = Capture::open(file(&octets).path())
            .map(|mut capture| (drain(&mut capture).len(), capture.damage().cloned()));
        match (from_stream, from_file) {
            (Ok(a), Ok(b)) => prop_assert_eq!(a, b),
            (a, b) => prop_assert!(a.is_err() && b.is_err()),
        }
    }

    #[test]
    fn single_wrong_octets_never_panic(sample in 0..2_usize, at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut octets = samples()[sample].clone();
        let at = at.index(octets.len());
        octets[at] = value;
        if let Ok(mut capture) = stream(&octets) {
            drain(&mut capture);
            prop_assert!(capture.damage().is_none_or(|damage| damage.offset < octets.len() as u64));
        }
    }
}
