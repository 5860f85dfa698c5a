//! Against daemons that read datagrams and streams.

use std::process::{Command, Stdio};
use std::sync::Mutex;

use proptest::prelude::*;
use sensor_core::incident::{Change, Incident, Language, Severity};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, UdpSocket, UnixDatagram};

use super::*;
use crate::notify::testing::{Rig, incident, until};
use crate::notify::view::Author;
use crate::notify::{NotifyConfig, Outcome};

fn rig(address: &str, more: &str) -> Rig {
    Rig::start(&format!("[[syslog]]\naddress = \"{address}\"\n{more}\n"))
}

fn count(rig: &Rig, outcome: Outcome) -> u64 {
    rig.count("syslog", outcome)
}

fn event(incident: Incident, change: Change) -> Event {
    let (at, n) = (incident.last_seen, 1);
    Event { seq: 1, n, change, rose: false, told: false, at, kept_at: at, incident }
}

fn scribe(sensor: &str, dialect: Dialect) -> Scribe {
    Scribe {
        dialect,
        facility: Facility::Local0.code(),
        app_name: "leuko".to_owned(),
        process: 77,
        author: Author { sensor: sensor.to_owned(), language: Language::En, dashboard: None },
        templates: Arc::new(Templates::load(None, Language::En).unwrap()),
    }
}

const REMOTE: Dialect = Dialect::Rfc5424 { limit: 8192 };
const DATA: &str = "[leuko@32473 key=\"a.1\" incident=\"a\" class=\"port_scan\" severity=\"medium\" change=\"opened\" \
                    src=\"203.0.113.5\" dst=\"192.0.2.10\" ports=\"22,80,443\"]";

#[test]
fn a_line_is_as_the_rfc_says() {
    let words = "Port scan (medium) opened: 203.0.113.5 probed 812 ports of 192.0.2.10 <tcp> & more";
    let line = scribe("web-1", REMOTE).line(&event(incident("a"), Change::Opened)).unwrap();
    let head = "<132>1 2025-06-15T15:07:22.000000Z web-1 leuko 77 port_scan";
    assert_eq!(line, format!("{head} {DATA} \u{feff}{words}"));
    let line = scribe("web-1", Dialect::Local).line(&event(incident("a"), Change::Opened)).unwrap();
    assert_eq!(line, format!("<132>leuko[77]: {words} {DATA}"));
}

#[test]
fn severities_are_those_of_syslog() {
    for (severity, change, priority) in [
        (Severity::Critical, Change::Opened, 130),
        (Severity::High, Change::Updated, 131),
        (Severity::Medium, Change::Opened, 132),
        (Severity::Low, Change::Opened, 133),
        (Severity::Critical, Change::Closed, 134),
    ] {
        let line = scribe("", REMOTE).line(&event(Incident { severity, ..incident("a") }, change)).unwrap();
        assert!(line.starts_with(&format!("<{priority}>1 ")) && line.contains("Z - leuko 77 "), "{line}");
    }
}

#[tokio::test]
async fn datagrams_are_one_message_each() {
    let daemon = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(&format!("udp://{}", daemon.local_addr().unwrap()), "facility = \"authpriv\"\napp_name = \"nids\"");
    for id in ["a", "b"] {
        rig.send(Change::Opened, &incident(id));
    }
    for id in ["a", "b"] {
        let mut buffer = [0; 4096];
        let len = daemon.recv(&mut buffer).await.unwrap();
        let line = std::str::from_utf8(&buffer[..len]).unwrap();
        assert!(line.starts_with("<84>1 ") && line.contains(" web-1 nids "), "{line}");
        assert!(line.contains(&format!("key=\"{id}.1\"")), "{line}");
    }
    until(|| count(&rig, Outcome::Delivered) == 2).await;
}

#[tokio::test]
async fn a_stream_counts_octets_and_is_opened_again() {
    let daemon = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(&format!("tcp://{}", daemon.local_addr().unwrap()), "");
    for id in ["a", "b"] {
        rig.send(Change::Opened, &incident(id));
        let (mut stream, _) = daemon.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let len = stream.read(&mut buffer).await.unwrap();
        let text = std::str::from_utf8(&buffer[..len]).unwrap();
        let (octets, line) = text.split_once(' ').unwrap();
        assert_eq!(octets.parse::<usize>().unwrap(), line.len());
        assert!(line.contains(&format!("key=\"{id}.1\"")), "{line}");
        let wanted = if id == "a" { 1 } else { 2 };
        until(|| count(&rig, Outcome::Delivered) == wanted).await;
        // The daemon is restarted: the next message has to find out.
    }
    assert_eq!(count(&rig, Outcome::Retried), 0);
}

#[tokio::test]
async fn what_was_written_to_a_daemon_that_hangs_up_is_written_again() {
    let daemon = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(&format!("tcp://{}", daemon.local_addr().unwrap()), "");
    rig.send(Change::Opened, &incident("a"));
    drop(daemon.accept().await.unwrap());
    let (mut stream, _) = daemon.accept().await.unwrap();
    let mut buffer = [0; 4096];
    let len = stream.read(&mut buffer).await.unwrap();
    assert!(String::from_utf8_lossy(&buffer[..len]).contains("key=\"a.1\""));
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    assert!(count(&rig, Outcome::Retried) >= 1);
}

#[tokio::test]
async fn a_daemon_that_is_not_there_or_does_not_read_is_waited_for() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let rig = rig(&format!("tcp://127.0.0.1:{port}"), "timeout = \"200ms\"");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Retried) > 0).await;
    let daemon = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let _open = daemon.accept().await.unwrap();
    until(|| count(&rig, Outcome::Delivered) == 1).await;
}

#[tokio::test]
async fn datagrams_that_nobody_listens_for_are_sent_again() {
    let at = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rig = rig(&format!("udp://{at}"), "");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Retried) > 1).await;
    assert_eq!(count(&rig, Outcome::Delivered), 0);
    let daemon = UdpSocket::bind(at).await.unwrap();
    let mut buffer = [0; 4096];
    let len = daemon.recv(&mut buffer).await.unwrap();
    assert!(String::from_utf8_lossy(&buffer[..len]).contains("key=\"a.1\""));
    until(|| count(&rig, Outcome::Delivered) == 1).await;
}

#[tokio::test]
async fn the_local_daemon_hears_what_it_understands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let rig = rig(&format!("unix://{}", path.display()), "");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Retried) > 0).await;
    let daemon = UnixDatagram::bind(&path).unwrap();
    let mut buffer = [0; 4096];
    let len = daemon.recv(&mut buffer).await.unwrap();
    assert!(buffer[..len].starts_with(b"<132>leuko["), "{}", String::from_utf8_lossy(&buffer[..len]));
    until(|| count(&rig, Outcome::Delivered) == 1).await;
}

/// `openssl s_server` prints what it reads.
#[tokio::test]
async fn tls_needs_a_certificate_that_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |args: &str| {
        let mut command = Command::new("openssl");
        command.current_dir(dir.path()).args(args.split(' ')).stdin(Stdio::piped()).stderr(Stdio::null());
        command
    };
    let made = openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 \
         -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE",
    );
    assert!({ made }.stdout(Stdio::null()).status().unwrap().success());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = format!("s_server -quiet -accept 127.0.0.1:{port} -key key.pem -cert cert.pem");
    let mut server = openssl(&server).stdout(Stdio::piped()).spawn().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (mut stdout, shared) = (server.stdout.take().unwrap(), Arc::clone(&heard));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = std::io::Read::read(&mut stdout, &mut buffer) {
            shared.lock().unwrap().extend_from_slice(&buffer[..len]);
        }
    });
    let stranger = rig(&format!("tls://127.0.0.1:{port}"), "timeout = \"2s\"");
    stranger.send(Change::Opened, &incident("stranger"));
    until(|| count(&stranger, Outcome::Retried) > 2).await;
    stranger.shutdown(Duration::ZERO).await;
    let ca = dir.path().join("cert.pem");
    let friend = rig(&format!("tls://127.0.0.1:{port}"), &format!("ca_file = \"{}\"", ca.display()));
    friend.send(Change::Opened, &incident("friend"));
    until(|| count(&friend, Outcome::Delivered) == 1).await;
    until(|| String::from_utf8_lossy(&heard.lock().unwrap()).contains("key=\"friend.1\"")).await;
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(!String::from_utf8_lossy(&heard.lock().unwrap()).contains("stranger"));
}

#[test]
fn addresses_are_read_with_their_usual_ports() {
    for (text, printed) in [
        ("udp://log", "udp://log:514"),
        ("tcp://log:10514", "tcp://log:10514"),
        ("tls://[2001:db8::1]", "tls://[2001:db8::1]:6514"),
        ("unix:///dev/log", "unix:///dev/log"),
    ] {
        assert_eq!(Address::try_from(text.to_owned()).unwrap().to_string(), printed);
    }
    for text in
        ["", "log", "udp://", "udp://log:", "udp://log:0", "udp://log:x", "udp://[::1", "http://log", "unix://x"]
    {
        assert!(Address::try_from(text.to_owned()).is_err(), "{text}");
    }
    for (more, words) in [
        ("facility = \"kern\"", "unknown variant"),
        ("app_name = \"a b\"", "app_name has letters"),
        ("ca_file = \"x\"", "ca_file is for tls://"),
    ] {
        let toml = format!("[[syslog]]\naddress = \"udp://log\"\n{more}");
        let error = toml::from_str::<NotifyConfig>(&toml).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// What the structured data of a line says, or nothing when it is none: a reader by RFC 5424, 6.3.
fn parameters(line: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut rest = line.strip_prefix("[leuko@32473")?;
    let mut found = Vec::new();
    while let Some(parameter) = rest.strip_prefix(' ') {
        let (name, value) = parameter.split_once("=\"")?;
        let (mut text, mut chars) = (String::new(), value.char_indices());
        loop {
            match chars.next()? {
                (_, '\\') => text.push(chars.next()?.1),
                (at, '"') => {
                    rest = &value[at + 1..];
                    break;
                }
                (_, ']') => return None,
                (_, c) => text.push(c),
            }
        }
        found.push((name.to_owned(), text));
    }
    Some((found, rest.strip_prefix(']')?))
}

proptest! {
    #[test]
    fn hostile_text_stays_in_its_place(sensor in hostile(), id in hostile(), summary in hostile(), limit in 2048_usize..8192) {
        let hostile = Incident { summary, ..incident(&id) };
        let line = scribe(&sensor, Dialect::Rfc5424 { limit }).line(&event(hostile, Change::Opened)).unwrap();
        prop_assert!(line.len() <= limit && !line.chars().any(char::is_control), "{}", line);
        let fields: Vec<&str> = line.splitn(7, ' ').collect();
        prop_assert_eq!((fields[0], fields[3], fields[4], fields[5]), ("<132>1", "leuko", "77", "port_scan"));
        let (found, rest) = parameters(fields[6]).expect("structured data");
        prop_assert_eq!(found.len(), 8);
        prop_assert_eq!(&found[4], &("change".to_owned(), "opened".to_owned()));
        prop_assert!(rest.starts_with(" \u{feff}Port scan (medium) opened:"), "{}", rest);
    }
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just("\"] [x@1 y=\"z\"]\n<0>1 - - - - - - forged".to_owned()),
        Just("\\\"]".repeat(100)),
        Just("ñ\u{feff}".repeat(9000)),
    ]
}
