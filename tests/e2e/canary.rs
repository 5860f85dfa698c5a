//! The self-test: `leuko canary` by itself, and in a sensor that runs.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Lab, Leuko, Need, Scene, require, run_timeout, until};

const LONG: Duration = Scene::LONG;

#[test]
fn a_canary_is_found_and_timed() -> Result<()> {
    if !require(&[Need::Root, Need::Leuko, Need::Tool("ip")]) {
        return Ok(());
    }
    let namespace = Lab::new()?.namespace("canary")?;
    let leuko = Leuko::binary()?;
    let folder = tempfile::tempdir()?;
    let metrics = folder.path().join("leuko_canary.prom");
    let file = metrics.to_string_lossy();
    let args = ["canary", "--json", "--count", "3", "--interval", "200ms", "--metrics-textfile", &file];
    let output = namespace.run(&leuko.to_string_lossy(), &args, LONG)?;
    let lines: Vec<Value> = output.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), 4, "{}", output.stdout);
    for line in &lines[..3] {
        assert_eq!((&line["type"], &line["result"]), (&"canary".into(), &"found".into()), "{line}");
        assert_eq!(line["flows"], line["probes"], "{line}");
        let stages: Vec<f64> = ["kernel_s", "read_s", "incident_s"].iter().filter_map(|s| line[s].as_f64()).collect();
        assert!(stages.len() == 3 && stages.is_sorted() && stages[0] > 0.0, "{line}");
    }
    assert_eq!(lines[3]["found"], 3);
    let text = std::fs::read_to_string(&metrics)?;
    for wanted in ["leuko_canaries_total{result=\"found\"} 3", "leuko_canary_seconds_count 3"] {
        assert!(text.contains(wanted), "{wanted} not in\n{text}");
    }
    Ok(())
}

#[test]
fn who_may_not_is_told_what_to_do() -> Result<()> {
    if !require(&[Need::Root, Need::Leuko, Need::Tool("ip"), Need::Tool("setpriv")]) {
        return Ok(());
    }
    let namespace = Lab::new()?.namespace("rights")?;
    let leuko = Leuko::binary()?;
    let mut command = namespace.command("setpriv");
    let output = run_timeout(command.arg("--bounding-set=-all").arg(leuko).arg("canary"), LONG)?;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("run as root, or grant CAP_"), "{}", output.stderr);
    Ok(())
}

#[test]
fn a_sensor_that_runs_tests_itself_and_tells_prometheus_alone() -> Result<()> {
    if !require(&[Need::Root, Need::Leuko, Need::Tool("ip"), Need::Tool("curl")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let state = tempfile::tempdir()?;
    let state = state.path().to_string_lossy();
    let args = ["run", "--json", "--interface", "eth0", "--interval", "200ms", "--canary", "1s", "--state-dir", &state];
    let mut leuko = Leuko::start(&pair.server, &args)?;
    let metrics = until("three canaries", LONG, || {
        let text = pair.server.http_get("http://127.0.0.1:9101/metrics").ok()?;
        let count = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        (count("leuko_canary_seconds_count ")? >= 3).then_some(text)
    })
    .with_context(|| leuko.stderr())?;
    for wanted in ["leuko_canaries_total{result=\"missed\"} 0", "leuko_canaries_total{result=\"failed\"} 0"] {
        assert!(metrics.contains(wanted), "{wanted} not in\n{metrics}");
    }
    let opened = metrics.lines().filter(|line| line.starts_with("leuko_incidents_total{"));
    assert!(opened.clone().count() > 0 && opened.clone().all(|line| line.ends_with(" 0")), "{metrics}");
    let status = leuko.terminate(Signal::SIGTERM, LONG)?;
    assert!(status.success(), "{status}: {}", leuko.stderr());
    let lines: Vec<Value> = leuko.lines().into_iter().map(|line| line.json).collect();
    assert_eq!(lines.iter().filter(|line| line["type"] == "incident").count(), 0, "{lines:?}");
    let summary = lines.last().context("the summary")?;
    assert_eq!((&summary["type"], &summary["incidents"]), (&"summary".into(), &0.into()));
    Ok(())
}
