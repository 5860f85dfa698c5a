//! `leuko notify`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use prometheus::Registry;
use sensor_core::incident::Language;
use serde_json::json;
use tokio::sync::watch;

use super::{actor, author, now, print, runtime, wall_clock};
use crate::cli::notify::NotifyAction;
use crate::config::Config;
use crate::export::prometheus::{Metrics, Vocabulary};
use crate::notify::retry::Retry;
use crate::notify::{Sinks, Wiring, sample, template, text};
use crate::store::keeper::{Keep, Keeper, Running};
use crate::store::{Action, Store, Undelivered};

/// Undelivered events that are shown.
const SHOWN: u32 = 1000;

/// Shows, tries and mends what concerns sinks.
///
/// # Errors
/// There is no such sink, or the store cannot be used.
pub fn run(config: &Config, action: &NotifyAction) -> Result<ExitCode> {
    match action {
        NotifyAction::List { json } => list(config, *json),
        NotifyAction::Test { sink } => test(config, sink),
        NotifyAction::Dead { sink, json } => {
            let store = Store::open_existing(&config.state_dir)?;
            print(dead(&store.undelivered(sink.as_deref(), SHOWN)?, *json).as_bytes())
        }
        NotifyAction::Resend { sink, incident } => {
            let mut store = Store::open_existing(&config.state_dir)?;
            let count = store.resend(sink.as_deref(), incident.as_deref())?;
            let target = sink.as_deref().unwrap_or("all sinks");
            if count > 0 {
                let reason = incident.as_deref().unwrap_or_default();
                store.note(&Action { actor: &actor(), action: "resend", target, reason }, now())?;
            }
            print(format!("{count} events wait again for {target}; the running sensor sends them\n").as_bytes())
        }
        NotifyAction::Templates { write, name } => templates(config.language, write.as_deref(), name.as_deref()),
    }
}

/// Sinks with a store of their own, that ends with them.
fn sinks(config: &Config) -> Result<(Sinks, Wiring, Running, Scratch)> {
    let scratch = Scratch::new()?;
    let metrics = Arc::new(Metrics::new(&Registry::new(), &Vocabulary::default()).context("register metrics")?);
    let store = Keeper::start(&scratch.0, Keep::default(), Arc::clone(&metrics), Arc::new(wall_clock))?;
    let wiring = Wiring {
        author: author(config),
        metrics,
        clock: Arc::new(wall_clock),
        retry: Retry::default(),
        keeper: store.keeper(),
        status: watch::channel(None).1,
        response: watch::channel(None).1,
    };
    let sinks = Sinks::build(&config.notify, &wiring)?;
    Ok((sinks, wiring, store, scratch))
}

/// A folder that is removed at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("leuko-notify-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left in the folder of temporary files goes with the next start of the host.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn list(config: &Config, json: bool) -> Result<ExitCode> {
    let (sinks, _, store, _scratch) = sinks(config)?;
    store.stop();
    let mut rows: BTreeMap<String, (bool, u64, u64, Option<f64>)> =
        sinks.names().into_iter().map(|name| (name, (true, 0, 0, None))).collect();
    if config.state_dir.join(crate::store::NAME).exists() {
        let now = now();
        for queue in Store::open_existing(&config.state_dir)?.queues()? {
            let row = rows.entry(queue.sink).or_insert((false, 0, 0, None));
            let age = queue.oldest.map(|oldest| now.since(oldest).as_secs_f64());
            *row = (row.0, queue.pending, queue.dead, age);
        }
    }
    let mut out = String::new();
    for (sink, (configured, pending, dead, age)) in rows {
        if json {
            let line = json!({
                "sink": sink, "configured": configured, "pending": pending, "dead": dead, "oldest_age_s": age,
            });
            let _ = writeln!(out, "{line}");
        } else {
            let age = age.map(|age| format!(" since {}", text::span(Duration::from_secs_f64(age)))).unwrap_or_default();
            let gone = if configured { "" } else { " (not configured any more)" };
            let _ = writeln!(out, "{sink:<32} {pending:>6} wait{age}, {dead} were given up{gone}");
        }
    }
    if out.is_empty() && !json {
        out += "no sinks: configure one below [notify]; `leuko config` shows how\n";
    }
    print(out.as_bytes())
}

fn test(config: &Config, name: &str) -> Result<ExitCode> {
    let (sinks, wiring, store, _scratch) = sinks(config)?;
    let names = sinks.names();
    let Some(sinks) = sinks.only(name) else {
        bail!(
            "there is no sink {name:?}; there are: {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
    };
    let begun = super::live::stopwatch();
    let outcome = runtime()?.block_on(sample::send(sinks, &wiring, now()));
    let took = super::live::stopwatch().saturating_sub(begun);
    store.stop();
    match outcome {
        Ok(()) => print(
            format!("{name} has taken a sample incident, opened and closed, in {}\n", text::span(took)).as_bytes(),
        ),
        Err(why) => bail!("{name} has not taken it: {why}"),
    }
}

fn dead(undelivered: &[Undelivered], json: bool) -> String {
    let mut out = String::new();
    for one in undelivered {
        if json {
            let line = json!({
                "sink": one.sink, "event": one.event.key(), "class": one.event.incident.class,
                "happened_at": one.event.at.epoch_seconds(), "given_up_at": one.at.epoch_seconds(), "why": one.why,
            });
            let _ = writeln!(out, "{line}");
        } else {
            let why = text::plain(&one.why);
            let _ = writeln!(
                out,
                "{}  {:<24} {:<24} {:<16} {why}",
                one.at,
                one.sink,
                one.event.key(),
                one.event.incident.class
            );
        }
    }
    if out.is_empty() && !json {
        out += "nothing was given up\n";
    }
    out
}

fn templates(language: Language, folder: Option<&Path>, only: Option<&str>) -> Result<ExitCode> {
    let chosen: Vec<_> =
        template::builtin(language).filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    if let (true, Some(name)) = (chosen.is_empty(), only) {
        bail!("there is no template {name}; `leuko notify templates` prints all of them");
    }
    let mut out = String::new();
    for (name, text) in chosen {
        let Some(folder) = folder else {
            let _ = write!(out, "{{# {name} #}}\n{text}");
            continue;
        };
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let path = folder.join(name);
        let written =
            fs::File::create_new(&path).and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        let there = match written {
            Ok(()) => "",
            Err(error) if error.kind() == ErrorKind::AlreadyExists => " is there already",
            Err(error) => return Err(error).with_context(|| format!("write {}", path.display())),
        };
        let _ = writeln!(out, "{}{there}", path.display());
    }
    print(out.as_bytes())
}
