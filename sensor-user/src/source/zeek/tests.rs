//! Logs in their forms, and what becomes of a connection.

use sensor_core::flow::{FlowView, Outcome};
use sensor_ebpf::packet::proto;

use super::*;

const HEADER: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\tconn_state\tlocal_orig\tlocal_resp\tmissed_bytes\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\ttunnel_parents\n";
const WEB: &str = "928.943457\tC\t10.0.2.112\t49168\t195.113.214.219\t80\ttcp\thttp\t0.055687\t261\t1077\tSF\t-\t-\t0\tShADadfF\t5\t473\t5\t1281\t(empty)\n";

fn read(text: &str) -> ConnLog {
    ConnLog::read(text.as_bytes())
}

fn only(text: &str) -> Connection {
    let log = read(text);
    assert_eq!((log.connections.len(), &log.fault), (1, &None));
    log.connections[0].clone()
}

#[test]
fn a_log_with_its_header_is_read() {
    let web = only(&(HEADER.to_owned() + WEB + "#close\t2020-01-01\n"));
    assert_eq!(web.began.nanos(), 928_943_457_000);
    assert_eq!(web.ended.nanos(), 928_999_144_000);
    let slot = web.slot(1.0);
    let view = FlowView::new(&slot);
    assert_eq!((view.client().port, view.server().port, view.proto()), (49_168, 80, proto::TCP));
    assert_eq!((view.sent().packets, view.sent().octets), (5, 473));
    assert_eq!((view.received().packets, view.received().octets), (5, 1281));
    assert_eq!((view.outcome(false), view.is_closing()), (Outcome::Served, true));
    let opening = web.slot(0.0);
    let view = FlowView::new(&opening);
    assert_eq!((view.sent().packets, view.received().packets, view.sent_rare().syn), (1, 0, 1));
    assert_eq!(view.outcome(false), Outcome::Pending);
}

#[test]
fn columns_may_be_in_any_order_and_labels_may_follow() {
    let labelled = "#separator \\x09\n#fields\tproto\tid.resp_p\tid.resp_h\tid.orig_p\tid.orig_h\tts\ttunnel_parents   label   detailed-label\nudp\t53\t8.8.8.8\t5353\t10.0.0.1\t1.5\t(empty)   Malicious   C&C\n";
    let dns = only(labelled);
    assert_eq!((dns.began.nanos(), dns.ports, dns.proto), (1_500_000_000, [5353, 53], proto::UDP));
    assert_eq!(FlowView::new(&dns.slot(1.0)).outcome(true), Outcome::Unanswered);
    let commas = "#separator ,\n#fields,ts,id.orig_h,id.orig_p,id.resp_h,id.resp_p,proto\n1e-3,::1,1,::2,2,tcp\n";
    assert_eq!(only(commas).began.nanos(), 1_000_000);
}

#[test]
fn objects_are_read_and_sorted() {
    let line = |ts: &str, proto: &str| {
        format!(
            r#"{{"ts":{ts},"id.orig_h":"10.0.0.1","id.orig_p":8,"id.resp_h":"10.0.0.2","id.resp_p":0,"proto":"{proto}"}}"#
        )
    };
    let log = read(&format!("{}\n{}\n\n{}", line("1664464851.198729", "tcp"), line("3", "icmp"), line("4.25", "udp")));
    assert_eq!(log.fault, None);
    let began: Vec<u64> = log.connections.iter().map(|connection| connection.began.nanos()).collect();
    assert_eq!(began, [3_000_000_000, 4_250_000_000, 1_664_464_851_198_729_000]);
    let echo = log.connections[0].slot(1.0);
    assert_eq!((echo.key.lo_port, echo.key.hi_port), (0, 0));
    assert_eq!(FlowView::new(&echo).outcome(true), Outcome::Unanswered);
}

#[test]
fn states_say_what_became_of_a_request() {
    for (state, history, sent, received, outcome) in [
        ("S0", "S", 2, 0, Outcome::Unanswered),
        ("S0", "", 1, 0, Outcome::Unanswered),
        ("REJ", "Sr", 1, 1, Outcome::Refused),
        ("REJ", "", 1, 1, Outcome::Refused),
        ("RSTO", "ShR", 2, 1, Outcome::Torn),
        ("RSTO", "ShAR", 3, 1, Outcome::Torn),
        ("SH", "Sh", 1, 1, Outcome::HalfOpen),
        ("SF", "ShADadFf", 6, 5, Outcome::Served),
        ("RSTR", "ShADadRr", 18, 38, Outcome::Served),
        ("OTH", "Dd", 1, 1, Outcome::Served),
    ] {
        let bytes = if outcome == Outcome::Served { 100 } else { 0 };
        let line = format!(
            "5.0\tC\t10.0.0.1\t40000\t10.0.0.2\t80\ttcp\t-\t2.5\t{bytes}\t{bytes}\t{state}\t-\t-\t0\t{}\t{sent}\t{}\t{received}\t{}\t-\n",
            if history.is_empty() { "-" } else { history },
            sent * 60,
            received * 60,
        );
        let slot = only(&(HEADER.to_owned() + &line)).slot(1.0);
        let view = FlowView::new(&slot);
        assert_eq!(view.outcome(true), outcome, "{state} {history}");
        assert_eq!(view.client().port, 40_000, "{state} {history}");
    }
}

#[test]
fn what_is_missing_is_reckoned() {
    let line = r#"{"ts":1,"id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":2,"proto":"tcp","conn_state":"SF","orig_bytes":3000,"resp_bytes":10}"#;
    let connection = only(line);
    assert_eq!([connection.packets_of(0), connection.packets_of(1)], [6, 4]);
    assert_eq!([connection.octets_of(0), connection.octets_of(1)], [3240, 170]);
}

#[test]
fn a_fault_names_its_line_and_what_is_before_it_is_kept() {
    for (text, part) in [
        ("1.0\tC\t10.0.0.1\n", "line 8: it has 3 columns, but the header names at least 20"),
        (&WEB.replace("49168", "x"), "line 8: id.orig_p is \"x\", which is not understood"),
        (&WEB.replace("928.943457", "2020-01-01"), "times are seconds since the epoch"),
        (&WEB.replace("\ttcp\t", "\t-\t"), "line 8: it has no proto"),
        ("{\"ts\":\n", "line 8: it is no JSON object"),
    ] {
        let log = read(&(HEADER.to_owned() + WEB + text));
        let fault = log.fault.expect("it is damaged").to_string();
        assert!(fault.contains(part), "{fault}");
        assert_eq!(log.connections.len(), 1);
    }
    assert!(read(WEB).fault.unwrap().to_string().contains("line 1: there is no #fields line before it"));
    let dns = read("#separator \\x09\n#path\tdns\n").fault.unwrap().to_string();
    assert_eq!(dns, "line 2: this is Zeek's log of \"dns\"; give conn.log, its log of connections");
    let short = read("#fields\tts\tuid\n").fault.unwrap().to_string();
    assert!(short.contains("the header has no column id.orig_h"), "{short}");
}
