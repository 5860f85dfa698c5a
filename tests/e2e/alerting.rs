//! Alerts from end to end: rules by promtool, routes by amtool, messages by a real Alertmanager.

#[path = "alerting/messages.rs"]
mod messages;
#[path = "alerting/metrics.rs"]
mod metrics;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use support::{Need, require, run_timeout, tool};

/// Time for a tool to check a file, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of `deploy/prometheus` whose names end so, sorted.
fn rules(end: &str) -> Result<Vec<PathBuf>> {
    let folder = project().join("deploy/prometheus");
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<BTreeSet<_>>>()?;
    let found: Vec<_> = paths.into_iter().filter(|path| path.to_string_lossy().ends_with(end)).collect();
    ensure!(!found.is_empty(), "no {end} in {}", folder.display());
    Ok(found)
}

/// Runs a checker; what it says is in the error.
fn check(program: &str, args: &[&str], files: &[PathBuf]) -> Result<String> {
    let mut command = Command::new(tool(program)?);
    Ok(run_timeout(command.args(args).args(files), LONG)?.success()?.stdout)
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() -> Result<()> {
    if !require(&[Need::Tool("promtool")]) {
        return Ok(());
    }
    check("promtool", &["check", "config"], &rules("prometheus.yml")?)?;
    check("promtool", &["check", "rules"], &rules(".rules.yml")?)?;
    check("promtool", &["test", "rules"], &rules(".rules.test.yml")?)?;
    Ok(())
}

/// The values of a key, `- alert: LeukoDown` or `runbook: README.md#leukodown`, in files of YAML.
fn values(files: &[PathBuf], key: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let lines = text.lines().map(|line| line.trim_start().trim_start_matches("- "));
        found.extend(lines.filter_map(|line| Some(line.strip_prefix(key)?.strip_prefix(": ")?.to_owned())));
    }
    Ok(found)
}

#[test]
fn every_alert_is_tested_and_has_a_chapter_in_the_runbook() -> Result<()> {
    let alerts: BTreeSet<_> = values(&rules(".rules.yml")?, "alert")?.into_iter().collect();
    assert!(alerts.len() >= 10, "{alerts:?}");

    let runbook = fs::read_to_string(project().join("deploy/prometheus/README.md"))?;
    let chapters: BTreeSet<_> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(alerts.iter().map(String::as_str).collect::<BTreeSet<_>>(), chapters);

    let runbooks: BTreeSet<_> = values(&rules(".rules.yml")?, "runbook")?.into_iter().collect();
    let expected = alerts.iter().map(|alert| format!("deploy/prometheus/README.md#{}", alert.to_lowercase()));
    assert_eq!(runbooks, expected.collect());

    let tests = rules(".rules.test.yml")?.iter().map(fs::read_to_string).collect::<std::io::Result<String>>()?;
    let untested: Vec<_> = alerts.iter().filter(|alert| !tests.contains(alert.as_str())).collect();
    assert!(untested.is_empty(), "{untested:?}");
    Ok(())
}

/// Labels of an alert, and who is told.
const ROUTES: [(&[&str], &str); 14] = [
    (&["alertname=LeukoIncident", "severity=critical", "class=syn_flood"], "urgent"),
    (&["alertname=LeukoIncident", "severity=high", "class=brute_force"], "urgent"),
    (&["alertname=LeukoIncident", "severity=medium", "class=port_scan"], "routine"),
    (&["alertname=LeukoIncident", "severity=low", "class=anomaly"], "digest"),
    (&["alertname=LeukoDown", "severity=critical"], "urgent"),
    (&["alertname=LeukoStalled", "severity=critical"], "urgent"),
    (&["alertname=LeukoStoreFailing", "severity=critical"], "urgent"),
    (&["alertname=LeukoStoreFailing", "severity=warning"], "routine"),
    (&["alertname=LeukoCoverageLow", "severity=warning"], "routine"),
    (&["alertname=LeukoNotificationsDead", "severity=warning"], "routine"),
    (&["alertname=LeukoBudgetExhausted", "severity=info"], "digest"),
    (&["alertname=LeukoLoadUnusual", "severity=info"], "digest"),
    (&["alertname=LeukoOfTomorrow", "severity=unheard_of"], "routine"),
    (&["alertname=DiskFull", "severity=critical"], "routine"),
];

#[test]
fn alerts_are_routed_by_severity() -> Result<()> {
    if !require(&[Need::Tool("amtool")]) {
        return Ok(());
    }
    let config = project().join("alertmanager/alertmanager.yml");
    let said = check("amtool", &["check-config"], std::slice::from_ref(&config))?;
    assert!(said.contains("1 templates"), "{said}");
    let config = format!("--config.file={}", config.display());
    for (labels, receiver) in ROUTES {
        let args = [&["config", "routes", "test", &config, "sensor=lab"], labels].concat();
        assert_eq!(check("amtool", &args, &[])?.trim(), receiver, "{labels:?}");
    }
    Ok(())
}

#[test]
fn every_severity_of_a_rule_has_a_route() -> Result<()> {
    let severities: BTreeSet<_> = values(&rules(".rules.yml")?, "severity")?.into_iter().collect();
    let routed = ["critical", "info", "warning"].map(str::to_owned);
    assert_eq!(severities, routed.into());
    Ok(())
}
