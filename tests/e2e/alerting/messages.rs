//! What people read: a real Alertmanager with the configuration that is shipped, and receivers that keep what they get.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Alertmanager, FakeTelegram, Lab, Namespace, Need, Webhook, require};
use tempfile::NamedTempFile;

use super::{LONG, check, project};

/// Longest message that Telegram takes.
const TELEGRAM_MAX: usize = 4096;

/// The receivers, and the Alertmanager between.
struct Desk {
    telegram: FakeTelegram,
    discord: Webhook,
    alertmanager: Alertmanager,
    namespace: Namespace,
}

impl Desk {
    /// Nothing if the machine lacks something.
    fn open() -> Result<Option<Self>> {
        if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("curl"), Need::Tool("prometheus-alertmanager")]) {
            return Ok(None);
        }
        let namespace = Lab::new()?.namespace("desk")?;
        let telegram = FakeTelegram::start(&namespace, "127.0.0.1:8081", &[])?;
        let discord = Webhook::start(&namespace, "127.0.0.1:8082")?;
        let config = configuration(telegram.url(), discord.url())?;
        let alertmanager = Alertmanager::start(&namespace, "127.0.0.1:9093", &config)?;
        Ok(Some(Self { telegram, discord, alertmanager, namespace }))
    }

    /// Posts alerts as Leuko does.
    fn post(&self, alerts: &[Value]) -> Result<()> {
        let file = NamedTempFile::new()?;
        fs::write(file.path(), json!(alerts).to_string())?;
        let (data, url) = (format!("@{}", file.path().display()), format!("{}/api/v2/alerts", self.alertmanager.url()));
        let args = ["-sS", "--fail-with-body", "--noproxy", "*", "-H", "content-type: application/json", "-d", &data];
        self.namespace.run("curl", &[&args[..], &[&url]].concat(), LONG).map(drop)
    }

    /// The text of the first message to Telegram that has `part` in it, which Telegram would have taken.
    fn telegram(&self, part: &str) -> Result<String> {
        let fits = |request: &Value| request["body"]["text"].as_str().is_some_and(|text| text.contains(part));
        let request = self.telegram.wait_for(part, LONG, fits)?;
        ensure!(request["path"] == "/bot123:lab/sendMessage" && request["status"] == 200, "{request}");
        ensure!(request["body"]["parse_mode"] == "HTML", "{request}");
        let text = request["body"]["text"].as_str().context("a text")?.to_owned();
        well_formed(&text).with_context(|| text.clone())?;
        Ok(text)
    }

    /// Title and text of the first message to Discord that has `part` in one of them.
    fn discord(&self, part: &str) -> Result<(String, String)> {
        let words = |body: &Value, name: &str| body["embeds"][0][name].as_str().unwrap_or_default().to_owned();
        let both = |body: &Value| (words(body, "title"), words(body, "description"));
        let body = self.discord.wait_for(part, LONG, |body| {
            let (title, text) = both(body);
            title.contains(part) || text.contains(part)
        })?;
        Ok(both(&body))
    }
}

/// What is shipped, with receivers of the test, less patience, and no mail: a server that is not there holds all up.
fn configuration(telegram: &str, discord: &str) -> Result<String> {
    let folder = project().join("alertmanager");
    let mut config = fs::read_to_string(folder.join("alertmanager.yml")).context("read alertmanager.yml")?;
    for (shipped, here) in [
        ("templates/*.tmpl", folder.join("templates/*.tmpl").to_string_lossy().as_ref()),
        ("bot_token: CHANGE_ME", "bot_token: '123:lab'"),
        ("https://api.telegram.org", telegram),
        ("https://discord.com/api/webhooks/CHANGE_ME", discord),
        ("group_wait: 30s", "group_wait: 1s"),
        ("group_interval: 30s", "group_interval: 2s"),
        ("group_interval: 45s", "group_interval: 2s"),
    ] {
        ensure!(config.contains(shipped), "{shipped} is not in alertmanager.yml");
        config = config.replace(shipped, here);
    }
    let mut in_mail = false;
    let lines = config.lines().filter(|line| {
        let indent = line.len() - line.trim_start().len();
        in_mail = line.trim() == "email_configs:" || (in_mail && indent > 4);
        !in_mail
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// An alert with the labels and annotations of Leuko's. It is over if it has an end.
fn alert(id: &str, [class, severity, sensor]: [&str; 3], summary: &str) -> Value {
    json!({
        "labels": {
            "alertname": "LeukoIncident", "incident_id": id, "class": class, "severity": severity, "sensor": sensor,
        },
        "annotations": {
            "summary": summary, "attackers": "192.0.2.7, 2001:db8::7", "victims": "192.0.2.1", "ports": "22, 80",
            "score": "0.98", "severity_now": severity, "severity_at_opening": severity,
            "evidence": "name=<script>alert(1)</script>", "first_seen": "2026-01-01T00:00:00.000000Z",
            "last_seen": "2026-01-01T00:00:01.000000Z",
        },
        "generatorURL": "https://leuko.example/incidents/7",
    })
}

fn over(mut alert: Value) -> Value {
    alert["startsAt"] = "2026-01-01T00:00:00Z".into();
    alert["endsAt"] = "2026-01-01T00:01:00Z".into();
    alert
}

/// Whether Telegram can parse it: tags that it knows, closed in order, and no bare `<`, `>` or `&`.
fn well_formed(html: &str) -> Result<()> {
    ensure!(html.chars().count() <= TELEGRAM_MAX, "{} characters", html.chars().count());
    let mut open = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '>', '&']) {
        rest = &rest[at..];
        if let Some(entity) = rest.strip_prefix('&') {
            let (name, after) = entity.split_once(';').context("an entity without end")?;
            let number = name.strip_prefix('#').is_some_and(|number| number.parse::<u32>().is_ok());
            ensure!(number || ["lt", "gt", "amp", "quot"].contains(&name), "&{name};");
            rest = after;
            continue;
        }
        let (tag, after) = rest.strip_prefix('<').and_then(|tag| tag.split_once('>')).context("a bare < or >")?;
        if let Some(name) = tag.strip_prefix('/') {
            ensure!(open.pop() == Some(name), "</{name}> closes nothing");
        } else {
            let (name, link) = tag.split_once(' ').unwrap_or((tag, ""));
            let known = ["b", "code"].contains(&name) && link.is_empty();
            ensure!(known || (name == "a" && link.starts_with("href=\"https://")), "<{tag}>");
            open.push(name);
        }
        rest = after;
    }
    ensure!(open.is_empty(), "not closed: {open:?}");
    Ok(())
}

/// What an attacker would like to say in a summary.
const HOSTILE: &str = "Scan <b>by</b> *me* @everyone [win](https://evil.example) `x` \\ __y__ \u{202e}\nand\ttail";

#[test]
fn hostile_text_arrives_escaped_and_so_does_the_end() -> Result<()> {
    let Some(desk) = Desk::open()? else { return Ok(()) };
    let mut attack = alert("ab-1", ["port_scan", "critical", "web<_>1"], HOSTILE);
    attack["annotations"]["attackers"] = "<i>&".into();
    desk.post(&[attack.clone()])?;

    let text = desk.telegram("ab-1")?;
    assert!(
        text.starts_with("<b>[1 open] CRITICAL port scan on web_1</b>\n\n🔴 Scan &lt;b&gt;by&lt;/b&gt; *me*"),
        "{text}"
    );
    assert!(
        text.contains("`x` \\ __y__ and tail\n<b>From</b> i\n<b>To</b> 192.0.2.1\n<b>Ports</b> 22, 80\n"),
        "{text}"
    );
    assert!(text.ends_with("<code>ab-1</code>\n<a href=\"https://leuko.example/incidents/7\">Show</a>"), "{text}");

    let (title, text) = desk.discord("ab-1")?;
    assert_eq!(title, "[1 open] CRITICAL port scan on web_1");
    let escaped = r"Scan \<b\>by\</b\> \*me\* \@everyone \[win\]\(https:\//evil.example\) \`x\` \\ \_\_y\_\_ and tail";
    assert!(text.contains(&format!("🔴 {escaped}\n**From** i\n")), "{text}");
    assert!(text.contains("`ab-1`\n[Show](https://leuko.example/incidents/7)"), "{text}");

    desk.post(&[over(attack)])?;
    let text = desk.telegram("[over]")?;
    assert!(text.contains("[over] CRITICAL port scan on web_1") && text.contains("🟢 Over: Scan &lt;b&gt;"), "{text}");
    let (title, text) = desk.discord("[over]")?;
    assert!(title.contains("port scan") && text.contains(&format!("🟢 Over: {escaped}")), "{title}\n{text}");
    assert_eq!((desk.telegram.requests()?.len(), desk.discord.bodies().len()), (2, 2), "each is told once");
    Ok(())
}

#[test]
fn hostile_text_is_escaped_in_mail() -> Result<()> {
    if !require(&[Need::Tool("amtool")]) {
        return Ok(());
    }
    let hostile = "</td><script>alert(1)</script>&\"'";
    let mut attack = alert(hostile, ["port_scan", "critical", hostile], hostile);
    for name in ["attackers", "victims", "ports", "score", "evidence", "first_seen", "description", "runbook"] {
        attack["annotations"][name] = hostile.into();
    }
    attack["labels"]["instance"] = hostile.into();
    attack["generatorURL"] = "https://leuko.example/\"onclick=\"x".into();
    let mut ended = over(attack.clone());
    (attack["status"], ended["status"]) = ("firing".into(), "resolved".into());
    let common = &attack["labels"];
    let data = json!({ "status": "firing", "alerts": [attack, ended], "commonLabels": common });
    let file = NamedTempFile::new()?;
    fs::write(file.path(), data.to_string())?;
    let templates = project().join("alertmanager/templates/*.tmpl");
    let args = [
        "template",
        "render",
        "--template.type=html",
        "--template.text={{ template \"leuko.email\" . }}",
        &format!("--template.glob={}", templates.display()),
        &format!("--template.data={}", file.path().display()),
    ];
    let html = check("amtool", &args, &[])?;
    assert!(html.matches("&lt;script&gt;").count() >= 12, "{html}");
    assert!(!html.contains("<script") && !html.contains("\"onclick"), "{html}");
    assert_eq!(html.matches("<td>").count(), html.matches("</td>").count(), "{html}");
    Ok(())
}

/// Telegram refuses a message that Alertmanager has cut within a tag or an entity.
#[test]
fn many_alerts_with_long_texts_fit_into_a_message() -> Result<()> {
    let Some(desk) = Desk::open()? else { return Ok(()) };
    // The worst for a limit on length: nothing but what has to be escaped, as much of it as is escaped, and neither.
    for (class, summary) in [
        ("port_scan", "'<>&\"".repeat(200)),
        ("brute_force", format!("'''''{}", "ä".repeat(1000))),
        ("syn_flood", "word ".repeat(200)),
    ] {
        let long = |index: usize| {
            let mut alert = alert(&format!("{class}-{index:080}"), [class, "high", &"sensor".repeat(40)], &summary);
            for name in ["attackers", "victims", "ports", "description", "first_seen", "score", "evidence"] {
                alert["annotations"][name] = summary.clone().into();
            }
            alert["generatorURL"] = format!("https://leuko.example/{}", "i".repeat(100)).into();
            alert
        };
        let open: Vec<_> = (0..20).map(long).collect();
        desk.post(&open)?;
        let title = class.replace('_', " ");
        let text = desk.telegram(&format!("[20 open] HIGH {title} on"))?;
        assert!(text.contains("<a href"), "{text}");
        let ended: Vec<_> = open.into_iter().skip(10).map(over).collect();
        desk.post(&ended)?;
        desk.telegram(&format!("[10 open] HIGH {title} on"))?;
        desk.discord(&format!("[10 open] HIGH {title} on"))?;
    }
    Ok(())
}

#[test]
fn alerts_of_prometheus_are_told_as_what_they_are() -> Result<()> {
    let Some(desk) = Desk::open()? else { return Ok(()) };
    desk.post(&[json!({
        "labels": { "alertname": "LeukoDown", "severity": "critical", "job": "leuko", "instance": "a:9101" },
        "annotations": { "summary": "Nobody watches", "description": "See the log.", "runbook": "README.md#leukodown" },
        "generatorURL": "http://prometheus:9090/graph?g0.expr=up&g0.tab=1",
    })])?;
    let text = desk.telegram("LeukoDown")?;
    assert_eq!(text, "<b>[1 open] CRITICAL LeukoDown at a:9101</b>\n\n🔴 Nobody watches\nSee the log.");
    let (title, text) = desk.discord("LeukoDown")?;
    assert_eq!(title, "[1 open] CRITICAL LeukoDown at a:9101");
    assert!(text.contains("🔴 Nobody watches\nSee the log.\n[Show](http://prometheus:9090/graph"), "{text}");
    assert!(!text.contains("From") && !text.contains("``"), "{text}");
    Ok(())
}

#[test]
fn a_flood_keeps_anomalies_of_its_sensor_quiet() -> Result<()> {
    let Some(desk) = Desk::open()? else { return Ok(()) };
    desk.post(&[alert("flood", ["syn_flood", "critical", "lab"], "A flood")])?;
    desk.telegram("flood")?;
    desk.post(&[
        alert("quiet", ["anomaly", "medium", "lab"], "An anomaly of the flood"),
        alert("scan", ["port_scan", "medium", "lab"], "A scan beside the flood"),
        alert("told", ["anomaly", "medium", "elsewhere"], "An anomaly elsewhere"),
    ])?;
    desk.discord("told")?;
    desk.discord("scan")?;

    // Longer than any group waits here.
    std::thread::sleep(Duration::from_secs(4));
    let told = json!([desk.discord.bodies(), desk.telegram.requests()?]).to_string();
    assert!(!told.contains("quiet"), "{told}");
    let alerts = desk.alertmanager.alerts(&desk.namespace)?;
    let quiet = alerts.iter().find(|alert| alert["labels"]["incident_id"] == "quiet").context("it is held")?;
    assert_eq!(quiet["status"]["state"], "suppressed", "{quiet}");

    desk.post(&[over(alert("flood", ["syn_flood", "critical", "lab"], "A flood"))])?;
    desk.discord("quiet")?;
    Ok(())
}

#[test]
fn html_that_telegram_would_refuse_is_recognised() {
    for (html, good) in [
        ("<b>a &amp; b</b> &#39;", true),
        ("<a href=\"https://leuko.example\">Show</a>", true),
        ("<a href=\"javascript:x\">Show</a>", false),
        ("<b>", false),
        ("</b>", false),
        ("<b><code></b></code>", false),
        ("<script></script>", false),
        ("a < b", false),
        ("a > b", false),
        ("AT&T", false),
        ("&am", false),
    ] {
        assert_eq!(well_formed(html).is_ok(), good, "{html}");
    }
}
