//! Values by hand, the columns of the data set, and what `leuko train` takes.

use super::*;

/// The header of the official UNSW_NB15_training-set.csv.
const OFFICIAL: &str = "id,dur,proto,service,state,spkts,dpkts,sbytes,dbytes,rate,sttl,dttl,sload,dload,sloss,dloss,\
    sinpkt,dinpkt,sjit,djit,swin,stcpb,dtcpb,dwin,tcprtt,synack,ackdat,smean,dmean,trans_depth,response_body_len,\
    ct_srv_src,ct_state_ttl,ct_dst_ltm,ct_src_dport_ltm,ct_dst_sport_ltm,ct_dst_src_ltm,is_ftp_login,ct_ftp_cmd,\
    ct_flw_http_mthd,ct_src_ltm,ct_srv_dst,is_sm_ips_ports,attack_cat,label";

fn flow(proto: u8, client: (u32, u16), server: (u32, u16)) -> FlowRow {
    FlowRow {
        first_seen: 1_421_927_414_000_000,
        last_seen: 1_421_927_414_121_478,
        src: (Addr::from_v4(client.0), client.1),
        dst: (Addr::from_v4(server.0), server.1),
        proto,
        end_reason: EndReason::TcpFin,
        packets: [6, 4],
        octets: [258, 172],
        features: Vec::new(),
    }
}

fn features(ends: [End; 2]) -> Features {
    let mut vector = [0.0; 19];
    (vector[0], vector[15], vector[16]) = (0.121_478, 0.5, 0.2);
    Features { vector, client_is_dst: false, ends }
}

fn value<'a>(row: &'a NamedCells<WIDTH>, name: &str) -> &'a Cell {
    &row.iter().find(|(column, _)| *column == name).unwrap().1
}

#[test]
fn columns_are_those_of_the_data_set_in_its_order() {
    let row = UnswRows::default().row(&flow(6, (1, 40_000), (2, 80)), &features([End::default(); 2]), None);
    let names: Vec<&str> = row.iter().map(|(name, _)| *name).collect();
    assert_eq!(names[..6], ["srcip", "sport", "dstip", "dsport", "stime", "ltime"]);
    assert_eq!(names[6..].join(","), OFFICIAL);
}

#[test]
fn a_row_of_the_data_set_gives_its_values() {
    let ends = [End { ttl: 252, window: 255, retransmits: 1, ..End::default() }, End { ttl: 254, ..End::default() }];
    let row = UnswRows::default().row(&flow(6, (0xc0a8_0001, 40_000), (2, 80)), &features(ends), Some(Class::PortScan));
    for (name, expected) in [
        ("srcip", Cell::Text("192.168.0.1".into())),
        ("sport", Cell::Count(40_000)),
        ("ltime", Cell::Time(1_421_927_414.121_478)),
        ("id", Cell::Count(1)),
        ("proto", Cell::Text("tcp".into())),
        ("service", Cell::Text("http".into())),
        ("spkts", Cell::Count(6)),
        ("dbytes", Cell::Count(172)),
        ("rate", Cell::Real(74.087_49)),
        ("sttl", Cell::Count(252)),
        ("dttl", Cell::Count(254)),
        ("sloss", Cell::Count(1)),
        ("swin", Cell::Count(255)),
        ("stcpb", Cell::Unknown),
        ("ackdat", Cell::Real(0.3)),
        ("ct_srv_src", Cell::Count(1)),
        ("is_sm_ips_ports", Cell::Count(0)),
        ("attack_cat", Cell::Text("port_scan".into())),
        ("label", Cell::Count(1)),
    ] {
        assert_eq!(value(&row, name), &expected, "{name}");
    }
}

#[test]
fn a_flow_whose_first_packet_was_the_answer_is_turned_round() {
    let turned = Features { client_is_dst: true, ..features([End::default(); 2]) };
    let row = UnswRows::default().row(&flow(6, (2, 80), (1, 40_000)), &turned, None);
    assert_eq!((value(&row, "dsport"), value(&row, "spkts")), (&Cell::Count(80), &Cell::Count(4)));
    assert_eq!((value(&row, "service"), value(&row, "dbytes")), (&Cell::Text("http".into()), &Cell::Count(258)));
}

#[test]
fn flows_alike_are_counted_among_the_last_hundred() {
    let mut rows = UnswRows::default();
    let mut next = |client, server| rows.row(&flow(6, client, server), &features([End::default(); 2]), None);
    next((1, 10), (2, 80));
    next((1, 11), (2, 22));
    next((1, 12), (3, 80));
    next((9, 10), (2, 80));
    let row = next((1, 10), (2, 80));
    for (name, expected) in [
        ("ct_srv_src", 3),
        ("ct_srv_dst", 3),
        ("ct_dst_ltm", 4),
        ("ct_src_ltm", 4),
        ("ct_src_dport_ltm", 3),
        ("ct_dst_sport_ltm", 3),
        ("ct_dst_src_ltm", 3),
    ] {
        assert_eq!(value(&row, name), &Cell::Count(expected), "{name}");
    }
    (0..98).for_each(|_| drop(next((5, 1), (6, 1))));
    let row = next((1, 10), (2, 80));
    assert_eq!(value(&row, "ct_src_ltm"), &Cell::Count(2), "only the latest is still among the hundred");
}

#[test]
fn the_state_is_that_of_argus() {
    let end = End::default();
    let kind = |kind: u16, code: u16| End { window: kind << 8 | code, ..end };
    let [syn, fin, rst] = [End { syn: true, ..end }, End { fin: true, ..end }, End { rst: true, ..end }];
    for (proto, ends, packets, shaken, expected) in [
        (6, [syn, end], [1, 0], false, "REQ"),
        (6, [syn, syn], [1, 1], false, "ACC"),
        (6, [syn, syn], [3, 2], true, "CON"),
        (6, [end, end], [3, 2], false, "CON"),
        (6, [syn, fin], [3, 2], true, "FIN"),
        (6, [fin, rst], [3, 2], true, "RST"),
        (17, [end, end], [1, 0], false, "INT"),
        (17, [end, end], [1, 1], false, "CON"),
        (1, [kind(8, 0), kind(0, 0)], [1, 1], false, "ECO"),
        (1, [kind(3, 3), end], [1, 0], false, "URP"),
        (58, [kind(128, 0), end], [1, 0], false, "ECO"),
    ] {
        let flow = FlowRow { packets, ..flow(proto, (1, 1), (2, 2)) };
        assert_eq!(state(&flow, ends, shaken), expected, "{proto} {ends:?}");
    }
}
