//! What a sound capture gives.

use super::testing::*;
use super::*;

const SEC: u64 = 1_000_000_000;

#[test]
fn pcap_is_read_in_both_byte_orders_and_resolutions() {
    for order in [Order::Little, Order::Big] {
        for (magic, nanos) in [(MICROS, 5000), (NANOS, 5)] {
            let octets =
                Classic::new(order, magic, (2, 4), 113).packet(1, 5, b"one").record([2, 0, 3, 1500], b"two").octets;
            let frames = vec![
                (SEC + nanos, LinkType::LinuxSll, b"one".to_vec(), 3),
                (2 * SEC, LinkType::LinuxSll, b"two".to_vec(), 1500),
            ];
            assert_eq!(streamed(&octets), (frames.clone(), None), "{order:?} {magic:x}");
            assert_eq!(filed(&octets), (frames, None), "{order:?} {magic:x}");
        }
    }
}

#[test]
fn lengths_are_swapped_in_old_versions() {
    for (version, header, captured) in
        [((2, 1), [0, 0, 60, 3], 3), ((2, 3), [0, 0, 60, 3], 3), ((2, 3), [0, 0, 3, 60], 3), ((2, 4), [0, 0, 3, 60], 3)]
    {
        let octets = Classic::new(Order::Big, MICROS, version, 1).record(header, b"abc").octets;
        let (frames, damage) = streamed(&octets);
        assert_eq!((frames[0].2.len(), frames[0].3, damage), (captured, 60, None), "{version:?} {header:?}");
    }
}

#[test]
fn quirks_of_writers_are_tolerated() {
    // More than the announced snapshot length of 64, and more than there was on the wire.
    let octets = Classic::plain().record([0, 0, 200, 100], &[9; 200]).octets;
    assert_eq!(streamed(&octets), (vec![(0, LinkType::Ethernet, vec![9; 200], 200)], None));
    // A frame check sequence of 4 octets, announced above the link type.
    let octets = Classic::new(Order::Little, MICROS, (2, 4), 0x4400_0001).packet(0, 0, b"x").octets;
    assert_eq!(streamed(&octets).0[0].1, LinkType::Ethernet);
    // A block whose length does not count its padding.
    let mut octets = Ng::new(Order::Little).interface(1, 0, &[]).octets;
    octets.extend([3, 0, 0, 0, 17, 0, 0, 0, 1, 0, 0, 0, b'x', 0, 0, 0, 17, 0, 0, 0]);
    assert_eq!(streamed(&octets), (vec![(0, LinkType::Ethernet, b"x".to_vec(), 1)], None));
}

#[test]
fn each_pcapng_interface_has_its_link_type_and_clock() {
    for order in [Order::Little, Order::Big] {
        let offset = order.u64(1000);
        let octets = Ng::new(order)
            .interface(1, 0, &[(2, b"eth0"), (9, &[9])])
            .interface(101, 0, &[(9, &[0x80 | 10]), (14, &offset)])
            .interface(276, 0, &[])
            .enhanced(0, SEC + 7, b"nanoseconds")
            .enhanced(1, 512, b"1/1024 of a second")
            .enhanced(2, 1_000_001, b"microseconds")
            .octets;
        let frames = vec![
            (SEC + 7, LinkType::Ethernet, b"nanoseconds".to_vec(), 21),
            (1000 * SEC + SEC / 2, LinkType::RawIp, b"1/1024 of a second".to_vec(), 28),
            (SEC + 1000, LinkType::LinuxSll2, b"microseconds".to_vec(), 22),
        ];
        assert_eq!(streamed(&octets), (frames, None), "{order:?}");
    }
}

#[test]
fn pcapng_clocks_saturate() {
    let max = i128::from(u64::MAX);
    for (tsresol, tsoffset, units, nanos) in [
        (0, 0, 7, 7 * i128::from(SEC)),
        (3, 0, 7, 7_000_000),
        (12, 0, 7_000, 7),
        (127, 0, u64::MAX, 0),
        (0, 0, u64::MAX, max),
        (0x80, 0, 7, 7 * i128::from(SEC)),
        (0x80 | 64, 0, u64::MAX, i128::from(SEC) - 1),
        (0xff, 0, u64::MAX, 0),
        (6, -2, 1_000_000, 0),
        (6, -1, 1_000_001, 1000),
        (6, i64::MAX, u64::MAX, max),
        (0, i64::MIN, 0, 0),
        (0, i64::MAX, u64::MAX, max),
    ] {
        let octets = Ng::new(Order::Big)
            .interface(1, 0, &[(9, &[tsresol]), (14, &tsoffset.to_be_bytes())])
            .enhanced(0, units, b"x")
            .octets;
        assert_eq!(i128::from(streamed(&octets).0[0].0), nanos, "{tsresol} {tsoffset} {units}");
    }
}

#[test]
fn malformed_interface_options_leave_the_default_clock() {
    for options in [&[9, 0, 0, 99][..], &[9, 0, 2, 0, 3, 3, 0, 0], &[14, 0, 1, 0, 3, 0, 0, 0], &[9]] {
        let body = [&[1, 0, 0, 0, 0, 0, 0, 0], options, &[0; 4][..(4 - options.len() % 4) % 4]].concat();
        let octets = Ng::new(Order::Little).block(1, &body).enhanced(0, 1, b"x").octets;
        assert_eq!(streamed(&octets).0[0].0, 1000, "{options:?}");
    }
}

#[test]
fn every_packet_block_of_pcapng_is_read_and_others_are_skipped() {
    let octets = Ng::new(Order::Big)
        .block(0xbad, b"custom, ")
        .interface(1, 5, &[])
        .enhanced(0, 3_000_000, b"enhanced")
        .simple(9, b"simpl")
        .block(5, b"statistics, ")
        .obsolete(0, 4_000_000, b"obsolete")
        .section(Order::Little)
        .interface(101, 0, &[])
        .simple(6, b"simple")
        .octets;
    let frames = vec![
        (3 * SEC, LinkType::Ethernet, b"enhanced".to_vec(), 18),
        (3 * SEC, LinkType::Ethernet, b"simpl".to_vec(), 9),
        (4 * SEC, LinkType::Ethernet, b"obsolete".to_vec(), 18),
        (4 * SEC, LinkType::RawIp, b"simple".to_vec(), 6),
    ];
    assert_eq!(streamed(&octets), (frames.clone(), None));
    assert_eq!(filed(&octets), (frames, None));
}

#[test]
fn a_file_is_sorted_and_ties_keep_their_order() {
    let file = file(&disordered());
    let mut capture = Capture::open(file.path()).unwrap();
    let order: Vec<_> = drain(&mut capture).into_iter().map(|(at, _, data, _)| (at / SEC, data[0])).collect();
    assert_eq!(order, [(3, b'b'), (3, b'e'), (4, b'd'), (5, b'a'), (5, b'c'), (6, b'f')]);
    assert_eq!(capture.late(), 0);
}

#[test]
fn a_stream_keeps_the_order_of_arrival_and_counts_the_late() {
    let mut capture = stream(&disordered()).unwrap();
    let order: Vec<_> = drain(&mut capture).into_iter().map(|(_, _, data, _)| data[0]).collect();
    assert_eq!((order.as_slice(), capture.late()), (&b"abcdef"[..], 3));
}

#[test]
fn a_sorted_file_keeps_its_link_types_and_large_frames() {
    let mut capture = Ng::new(Order::Little).interface(1, 0, &[]).interface(u16::MAX, 0, &[]);
    // Far more than the page cache holds, backwards.
    for number in 0..2000_u16 {
        let data = [&number.to_le_bytes()[..], &[7; 5000]].concat();
        capture = capture.enhanced(u32::from(number % 2), u64::from(2000 - number), &data);
    }
    let (frames, damage) = filed(&capture.octets);
    assert_eq!((frames.len(), damage), (2000, None));
    for (position, (at, link, data, wire_len)) in frames.into_iter().enumerate() {
        let number = u16::try_from(1999 - position).unwrap();
        assert_eq!((at, wire_len), (1000 * (position as u64 + 1), 5012));
        assert_eq!(link, if number % 2 == 0 { LinkType::Ethernet } else { LinkType::Other(65535) });
        assert!(data.starts_with(&number.to_le_bytes()) && data.len() == 5002);
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says why")]
fn public_captures_have_the_packets_their_labels_count() {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let data = PathBuf::from(std::env::var_os("LEUKO_DATA").unwrap_or_else(|| default.into()));
    let Ok(mut labels) = csv::Reader::from_path(data.join("labels/pcap_labels.csv")) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no captures in {}", data.display());
        println!("skipped: no captures in {}; set LEUKO_DATA", data.display());
        return;
    };
    let columns = labels.headers().unwrap().clone();
    for row in labels.records() {
        let row = row.unwrap();
        let column = |name| columns.iter().position(|column| column == name).map(|number| &row[number]).unwrap();
        let mut capture = Capture::open(&data.join(column("file"))).unwrap();
        let (mut octets, mut latest) = (0, Timestamp::EPOCH);
        while let Some(frame) = capture.next_frame() {
            assert!(frame.at >= latest, "{}", column("file"));
            latest = frame.at;
            octets += frame.data.len();
        }
        let labelled = (column("packets").parse().unwrap(), column("bytes").parse().unwrap());
        assert_eq!((capture.packets(), octets), labelled, "{}", column("file"));
        assert_eq!(capture.damage(), None, "{}", column("file"));
    }
}
