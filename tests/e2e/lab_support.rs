//! The lab itself works: namespaces, wires, servers, the reader of Leuko's output, and no trace afterwards.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use serde_json::json;
use support::{
    Alertmanager, Dns, FakeTelegram, Guard, Http, Iperf, Lab, Leuko, Namespace, Need, Pair, Port, Prometheus, Sshd,
    Wire, require, run_timeout, until,
};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn namespaces_reach_each_other_over_ipv4_and_ipv6() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("nmap")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    for (family, address) in [("-4", Pair::SERVER), ("-6", Pair::SERVER_V6)] {
        let ping = pair.client.run("nmap", &["-sn", "-n", family, address], SOON)?;
        assert!(ping.stdout.contains("Host is up"), "{}", ping.stdout);
    }
    assert_eq!(pair.server.mac("eth0")?.len(), 17);
    Ok(())
}

#[test]
fn a_wire_soon_carries_only_what_a_test_sends() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let sent = |namespace: &Namespace| {
        let count = namespace.run("cat", &["/sys/class/net/eth0/statistics/tx_packets"], SOON)?.stdout;
        anyhow::Ok(count.trim().parse::<u32>()?)
    };
    std::thread::sleep(Duration::from_secs(2));
    let before = (sent(&pair.client)?, sent(&pair.server)?);
    assert!(before.0 <= 2 && before.1 <= 2, "more than the reports of the multicast groups: {before:?}");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((sent(&pair.client)?, sent(&pair.server)?), before);
    Ok(())
}

#[test]
fn a_wire_has_the_mtu_and_the_offloads_it_was_given() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("ethtool")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (one, other) = (lab.namespace("one")?, lab.namespace("other")?);
    Wire { mtu: 9000, offloads: false }.connect(
        Port { namespace: &one, interface: "lan0", addresses: &["10.78.0.1/24"] },
        Port { namespace: &other, interface: "lan1", addresses: &["10.78.0.2/24"] },
    )?;
    assert!(one.ip("link show dev lan0")?.contains("mtu 9000"));
    let features = other.run("ethtool", &["-k", "lan1"], SOON)?.stdout;
    for feature in ["generic-receive-offload", "generic-segmentation-offload", "tcp-segmentation-offload"] {
        assert!(features.contains(&format!("{feature}: off")), "{features}");
    }
    Ok(())
}

#[test]
fn http_is_served() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("curl")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let web = Http::start(&pair.server, 80)?;
    std::fs::write(web.root().join("more"), "more")?;
    assert_eq!(pair.client.http_get("http://10.77.0.2/")?, Http::GREETING);
    assert_eq!(pair.client.http_get("http://[fd77::2]/more")?, "more");
    Ok(())
}

#[test]
fn ssh_refuses_passwords_and_takes_the_key() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("sshd"), Need::Tool("ssh"), Need::Tool("hydra")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let sshd = Sshd::start(&pair.server, 22)?;
    let login = sshd.login(&pair.client, Pair::SERVER, "echo in")?.success()?;
    assert_eq!(login.stdout, "in\n");
    let passwords = tempfile::NamedTempFile::new()?;
    std::fs::write(passwords.path(), "one\ntwo\nthree\nfour\n")?;
    let guesses = ["-l", "root", "-P", &passwords.path().to_string_lossy(), "-t", "4", "-I", "ssh://10.77.0.2"];
    let hydra = pair.client.run("hydra", &guesses, Duration::from_secs(60))?;
    assert!(hydra.stdout.contains("0 valid password"), "{}", hydra.stdout);
    until("the failed password", SOON, || sshd.log().contains("Failed password for root").then_some(()))
}

#[test]
fn iperf_moves_octets() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("iperf3")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let report = Iperf::start(&pair.server, 5201)?.send(&pair.client, Pair::SERVER, 1, &["-b", "10M"])?;
    let octets = report["end"]["sum_received"]["bytes"].as_u64().unwrap_or(0);
    assert!(octets > 100_000, "{octets}");
    Ok(())
}

#[test]
fn alertmanager_takes_an_alert() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("prometheus-alertmanager"), Need::Tool("curl")]) {
        return Ok(());
    }
    let namespace = Lab::new()?.namespace("alerts")?;
    let alertmanager = Alertmanager::start(&namespace, "127.0.0.1:9093", Alertmanager::SILENT)?;
    let alert = json!([{"labels": {"alertname": "PortScan"}, "annotations": {"score": "0.9"}}]).to_string();
    let url = format!("{}/api/v2/alerts", alertmanager.url());
    namespace.run("curl", &["-sS", "--fail", "-H", "content-type: application/json", "-d", &alert, &url], SOON)?;
    let alerts = alertmanager.alerts(&namespace)?;
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["labels"]["alertname"], "PortScan");
    Ok(())
}

#[test]
fn prometheus_scrapes() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("prometheus"), Need::Tool("curl")]) {
        return Ok(());
    }
    let namespace = Lab::new()?.namespace("metrics")?;
    let own = Prometheus::scraping("127.0.0.1:9090");
    let prometheus = Prometheus::start(&namespace, "127.0.0.1:9090", &own)?;
    let up = until("a scrape", SOON, || prometheus.query(&namespace, "up").ok().filter(|up| !up.is_empty()))?;
    assert_eq!(up[0]["value"][1], "1");
    Ok(())
}

#[test]
fn names_are_resolved() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("nmap")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let _dns = Dns::start(&pair.server)?;
    let mut scan = pair.client.command("nmap");
    scan.args(["-n", "-Pn", "-sU", "-p53", "--script", "dns-recursion", Pair::SERVER]);
    let scan = run_timeout(scan, SOON)?.success()?;
    assert!(scan.stdout.contains("Recursion appears to be enabled"), "{}", scan.stdout);
    Ok(())
}

#[test]
fn fake_telegram_records_what_it_is_sent() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("curl")]) {
        return Ok(());
    }
    let namespace = Lab::new()?.namespace("telegram")?;
    let telegram = FakeTelegram::start(&namespace, "127.0.0.1:8081", &[429])?;
    let url = format!("{}/bot1:secret/sendMessage", telegram.url());
    let send = |text: &str| {
        let message = json!({"chat_id": 7, "text": text}).to_string();
        namespace.run("curl", &["-sS", "-H", "content-type: application/json", "-d", &message, &url], SOON)
    };
    assert!(send("first")?.stdout.contains("retry_after"));
    assert!(send("second")?.stdout.contains(r#""ok":true"#));
    let second = telegram.wait_for("the second", SOON, |request| request["body"]["text"] == "second")?;
    assert_eq!(second["status"], 200);
    assert_eq!(second["headers"]["content-type"], "application/json");
    assert_eq!(telegram.requests()?[0]["status"], 429);
    Ok(())
}

#[test]
fn lines_of_leuko_are_read_as_they_come() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let namespace = Lab::new()?.namespace("leuko")?;
    let script = r#"trap 'echo "{\"class\":\"last\"}"; exit 7' INT
        echo plain; echo warning >&2; echo '{"class":"port_scan"}'; while :; do sleep 0.05; done"#;
    let mut leuko = Leuko::start_program(Path::new("/bin/sh"), &namespace, &["-c", script])?;
    let line = leuko.wait_for("a port scan", SOON, |line| line.json["class"] == "port_scan")?;
    assert!(line.at <= leuko.elapsed());
    assert!(leuko.stderr().contains("warning"));
    let error = leuko.wait_for("a flood", Duration::from_millis(50), |line| line.json["class"] == "flood").unwrap_err();
    assert!(error.to_string().contains("plain"), "{error}");
    assert_eq!(leuko.terminate(Signal::SIGINT, SOON)?.code(), Some(7));
    assert_eq!(leuko.lines().last().map(|line| &line.json["class"]), Some(&json!("last")));
    let error = leuko.wait_for("more", SOON, |line| line.json["class"] == "more").unwrap_err();
    assert!(error.to_string().contains("leuko ended"), "{error}");
    Ok(())
}

#[test]
fn nothing_is_left_of_a_lab() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pair = lab.pair()?;
    assert_eq!(lab.existing()?.len(), 2);
    let mut forgotten = pair.server.command("sleep").arg("60").spawn()?;
    let pids = || run_timeout(Command::new("ip").args(["netns", "pids", pair.server.name()]), SOON).ok();
    until("the process inside", SOON, || pids().filter(|pids| !pids.stdout.is_empty()))?;
    drop(pair);
    assert_eq!(lab.existing()?, [""; 0]);
    assert!(!forgotten.wait()?.success(), "killed with its namespace");
    Ok(())
}

#[test]
fn nothing_is_left_of_a_lab_after_a_panic() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let ended = std::thread::scope(|scope| {
        let test = scope.spawn(|| -> Result<()> {
            let _pair = lab.pair()?;
            panic!("as a failing test does");
        });
        test.join()
    });
    assert!(ended.is_err());
    assert_eq!(lab.existing()?, [""; 0]);
    Ok(())
}

#[test]
fn what_a_killed_test_left_is_removed_by_the_next() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let mut gone = Command::new("true").spawn()?;
    let name = format!("leuko-{}-0-left", gone.id());
    gone.wait()?;
    run_timeout(Command::new("ip").args(["netns", "add", &name]), SOON)?.success()?;
    let path = Path::new("/run/netns").join(&name);
    let _forgotten = Guard::spawn(Command::new("ip").args(["netns", "exec", &name, "sleep", "60"]))?;
    // A lab of another test in this process may have removed it already.
    Lab::new()?;
    assert!(!path.exists());
    Ok(())
}
