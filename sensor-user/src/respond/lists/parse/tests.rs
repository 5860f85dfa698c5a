//! Lists as they are published, and as nobody should publish them.

use std::fmt::Write as _;
use std::io::BufReader;
use std::time::Instant;

use proptest::prelude::*;
use sensor_ebpf::abi::Addr;

use super::*;

fn format(toml: &str) -> Format {
    let text = format!("name = \"l\"\nfile = \"f\"\n{toml}");
    toml::from_str::<super::super::ListConfig>(&text).unwrap().format
}

fn read(text: &[u8], toml: &str) -> Result<Parsed, ParseError> {
    parse(text, &format(toml), MaxEntries::new(1_000_000))
}

/// Good lines, bad ones, those that are too wide, and networks.
fn counts(text: &str, toml: &str) -> (u64, u64, u64, usize) {
    let Parsed { set, report } = read(text.as_bytes(), toml).unwrap();
    (report.good, report.bad, report.too_wide, set.len())
}

#[test]
fn published_formats_are_read() {
    let auto = "";
    let spamhaus =
        "; Spamhaus DROP List\r\n1.10.16.0/20 ; SBL256894\r\n1.19.0.0/16 ; SBL434604\r\n2001:db8::/32 ; SBL1\r\n";
    let feodo = "# Feodo Tracker\n# \"first_seen_utc\",\"dst_ip\",\"dst_port\"\n\
        \"2021-01-17 07:30:05\",\"67.213.75.205\",\"443\"\n\"2021-01-17 07:44:46\", \"192.0.2.7\" ,\"8080\"\n";
    let with_header = "date,comment,address\n1,\"a, b\",192.0.2.1\n2,\"a \"\"b\"\", c\",192.0.2.2\n";
    let mixed =
        "\u{feff}# x\n\n  192.0.2.1\t# why\n192.0.2.2//why\n192.0.2.0/24\n10.0.0.1 - 10.0.0.6\n::/0\n0.0.0.0/0\n";
    for (text, toml, expected) in [
        (spamhaus, auto, (3, 0, 0, 3)),
        (spamhaus, "format = \"plain\"", (3, 0, 0, 3)),
        (feodo, auto, (2, 0, 0, 2)),
        (feodo, "format = \"csv\"\ncolumn = \"dst_ip\"", (2, 0, 0, 2)),
        (feodo, "format = \"csv\"\ncolumn = \"DST_IP\"", (2, 0, 0, 2)),
        (feodo, "format = \"csv\"\ncolumn = 2", (2, 0, 0, 2)),
        (with_header, auto, (2, 1, 0, 2)),
        (with_header, "format = \"csv\"\ncolumn = 3", (2, 0, 0, 2)),
        (with_header, "format = \"csv\"\ncolumn = \"address\"", (2, 0, 0, 2)),
        (mixed, auto, (4, 0, 2, 5)),
    ] {
        assert_eq!(counts(text, toml), expected, "{toml}: {text}");
    }
}

#[test]
fn bad_lines_are_counted_and_the_first_quoted_harmlessly() {
    let long = "y".repeat(10_000);
    let text =
        format!("192.0.2.1\n127.0.0.1 bad.example\nb\u{202e}a\x1b[31md\n{long}\nb\n192.0.2.2\n192.0.2.3\n192.0.2.4\n");
    let Parsed { set, report } = read(&[text.as_bytes(), b"\xff\xfe\n192.0.2.5 # caf\xe9\n"].concat(), "").unwrap();
    assert_eq!((set.len(), report.good, report.bad), (5, 5, 5));
    let clipped = format!("line 4 \"{}…\"", "y".repeat(QUOTE - 1));
    assert_eq!(report.examples, ["line 2 \"127.0.0.1 bad.example\"", "line 3 \"ba [31md\"", &*clipped]);
}

#[test]
fn what_is_no_list_is_refused_as_a_whole() {
    let html = "<!doctype html>\n<html>\n<body>Your address is\n192.0.2.1\n</body>\n</html>\n";
    let hosts = "127.0.0.1 a.example\n127.0.0.1 b.example\n";
    for (text, toml, words) in [
        ("", "", "no address"),
        ("# nothing today\n", "", "no address"),
        ("0.0.0.0/0\n", "", "no address"),
        (html, "", "5 of its lines are bad, and only 1 good: line 1 \"<!doctype html>\""),
        (hosts, "", "no address and no network: line 1 \"127.0.0.1 a.example\""),
        ("a,b\n1,192.0.2.1\n", "format = \"csv\"\ncolumn = \"ip\"", "no column called \"ip\""),
        ("a,b\n1,192.0.2.1\n", "format = \"csv\"\ncolumn = 7", "no address"),
        ("\"192.0.2.1,\n", "format = \"csv\"\ncolumn = 1", "no address"),
    ] {
        let error = read(text.as_bytes(), toml).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let few = MaxEntries::try_from(5).unwrap();
    assert!(parse(&b"10.0.0.0-10.0.0.6"[..], &Format::Auto, few).is_ok_and(|list| list.set.len() == 3));
    let error = parse(&b"10.0.0.1-10.0.0.62"[..], &Format::Auto, few).unwrap_err().to_string();
    assert!(error.contains("more than 5 entries"), "{error}");
    let endless = BufReader::new(io::repeat(b'x'));
    let error = parse(endless, &Format::Auto, few).unwrap_err().to_string();
    assert_eq!(error, "it is larger than 128 MB");
}

/// Prints what a million entries cost.
#[test]
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "it measures, and shows what it measured")]
fn a_million_entries_fit() {
    let host = |n: u32| std::net::Ipv4Addr::from(n.wrapping_mul(2_654_435_761));
    let mut text = String::new();
    for n in 0..1_000_000 {
        writeln!(text, "{} ; {n}", host(n)).unwrap();
    }
    let begun = Instant::now();
    let Parsed { set, report } = read(text.as_bytes(), "").unwrap();
    let read_in = begun.elapsed();
    assert_eq!((report.good, set.len()), (1_000_000, 1_000_000), "a multiplication by an odd number repeats nothing");
    assert!(set.octets() <= 24 * set.len());
    let begun = Instant::now();
    let found = (0..1_000_000).filter(|n| set.find(Addr::from_v4(n * 3)).is_some()).count();
    let searched_in = begun.elapsed();
    assert!((0..1_000_000).step_by(1000).all(|n| set.find(Addr::from_v4(host(n).to_bits())).is_some()));
    eprintln!(
        "1,000,000 entries of {} octets of text: read in {read_in:?}, {} octets in memory, {} ns a search ({found} hits)",
        text.len(),
        set.octets(),
        searched_in.as_nanos() / 1_000_000,
    );
}

proptest! {
    #[test]
    fn no_text_is_more_than_its_lines(
        lines in prop::collection::vec("[0-9a-f.:/;#,\" -]{0,40}|[0-9]{1,3}\\.[0-9]\\.[0-9]\\.[0-9](/[0-9]{1,2})?|\\PC{0,20}", 0..30),
        layout in prop::sample::select(vec!["", "format = \"plain\"", "format = \"csv\"\ncolumn = 2", "format = \"csv\"\ncolumn = \"a\""]),
    ) {
        match read(lines.join("\n").as_bytes(), layout) {
            Ok(Parsed { set, report }) => {
                prop_assert!(!set.is_empty() && report.good >= 1);
                prop_assert!(report.good + report.bad + report.too_wide <= lines.iter().map(|line| line.lines().count().max(1) as u64).sum());
                prop_assert!(report.bad <= report.good + report.too_wide);
            }
            Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control)),
        }
    }
}
