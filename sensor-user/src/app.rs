//! From the command line to a running sensor. The only code that reads clocks.

mod block;
mod canary;
mod flows;
mod incidents;
mod live;
mod mute;
mod notify;
mod replay;
mod responding;
mod store;
mod train;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use nix::unistd::{Uid, User};
use sensor_core::engine::EngineConfig;
use sensor_core::incident::suppress::Rule;
use sensor_core::net::Network;
use sensor_core::time::Timestamp;

use crate::cli::{Cli, Command, DEFAULT_PIN, DoctorArgs};
use crate::config::Config;
use crate::config::suppress::Suppress;
use crate::doctor::{self, DoctorOptions};
use crate::notify::text::plain;
use crate::notify::view::Author;
use crate::source::kernel::pin::unpin;
use crate::store::event_time;
use crate::terminal::paint::wants_colour;
use crate::{harden, log, terminal};

/// Does what the command line asks for.
///
/// # Errors
/// What a person has to mend, with how.
pub fn run(cli: &Cli) -> Result<ExitCode> {
    if let Command::Completions(completions) = &cli.command {
        return print(&completions.script());
    }
    let config = cli.load_config()?;
    match &cli.command {
        Command::Run(args) => {
            log::init(&config, cli.global.quiet)?;
            if config.harden.enabled {
                harden::plan(&config, config.respond.nftables).apply().log();
            }
            runtime()?.block_on(live::run(&config, args, cli.global.quiet))
        }
        Command::Replay(args) => {
            log::init(&config, cli.global.quiet)?;
            replay::run(&config, args, cli.global.quiet)
        }
        Command::Train(args) => {
            log::init(&config, cli.global.quiet)?;
            train::run(&config, args, cli.global.quiet)
        }
        Command::Block(args) => block::block(&config, args),
        Command::Unblock(args) => block::unblock(&config, args),
        Command::Blocks(args) => block::blocks(&config, args),
        Command::Incidents(args) => incidents::run(&config.state_dir, &args.action),
        Command::Feedback(args) => incidents::feedback(&config.state_dir, args),
        Command::Flows(args) => flows::run(&config.state_dir, args),
        Command::Mute(args) => mute::run(&config.state_dir, &args.action),
        Command::Notify(args) => notify::run(&config, &args.action),
        Command::Audit(args) => incidents::audit(&config.state_dir, args),
        Command::Store(args) => store::run(&config.state_dir, &args.action),
        Command::Doctor(args) => runtime()?.block_on(diagnose(&config, args)),
        Command::Canary(args) => {
            log::init(&config, true)?;
            canary::run(&config, args)
        }
        Command::Config(args) => print(config_text(&config, args.json)?.as_bytes()),
        Command::Unpin(args) => {
            let dir = args.dir.as_deref().or(config.kernel.pin.as_deref()).unwrap_or(Path::new(DEFAULT_PIN));
            let pins = unpin(dir)?;
            print(format!("{pins} pins removed from {}\n", dir.display()).as_bytes())
        }
        Command::Completions(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Says on standard error what went wrong.
#[must_use]
pub fn complain(error: &anyhow::Error) -> ExitCode {
    // Nowhere is left to say that standard error is closed.
    let _ = writeln!(io::stderr(), "leuko: {error:#}");
    ExitCode::FAILURE
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the asynchronous runtime")
}

fn config_text(config: &Config, json: bool) -> Result<String> {
    if json {
        Ok(serde_json::to_string_pretty(config).context("print the configuration as JSON")? + "\n")
    } else {
        Ok(config.effective_toml())
    }
}

/// A reader that has gone away is no failure.
fn print(bytes: &[u8]) -> Result<ExitCode> {
    terminal::print(bytes).map(|_| ExitCode::SUCCESS).context("write to standard output")
}

async fn diagnose(config: &Config, args: &DoctorArgs) -> Result<ExitCode> {
    let report = doctor::run(config, DoctorOptions { now: wall_clock(), try_attach: args.try_attach }).await;
    let mut text = Vec::new();
    let written = if args.json {
        report.write_json(&mut text)
    } else {
        report.write_table(&mut text, wants_colour(&io::stdout()))
    };
    written.context("print the report")?;
    print(&text)?;
    Ok(ExitCode::from(report.exit_code()))
}

#[expect(clippy::disallowed_methods, reason = "the clock that is handed to everything else")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// The wall clock as event time.
fn now() -> Timestamp {
    event_time(wall_clock())
}

/// Who runs this command, for the audit trail: behind sudo, whoever asked for it.
fn actor() -> String {
    let behind = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    let name = behind.or_else(|| Some(User::from_uid(Uid::current()).ok()??.name));
    format!("local:{}", plain(&name.unwrap_or_else(|| Uid::current().to_string())))
}

/// What the configuration says is not to be reported.
fn suppressed(config: &Config) -> Vec<Rule> {
    let allow = config.detect.allow.iter().map(|network| Network::new(network.addr(), network.prefix_len()));
    let allow: Vec<Network> = allow.collect();
    let allow = (!allow.is_empty()).then(|| Rule::of_attackers("allow", "detect.allow", allow));
    allow.into_iter().chain(config.detect.suppress.iter().map(Suppress::rule)).collect()
}

/// Who speaks in messages.
fn author(config: &Config) -> Author {
    let dashboard = config.notify.dashboard.as_ref().map(ToString::to_string);
    Author { sensor: config.sensor_name(), language: config.language, dashboard }
}

/// What the configuration says about detection.
fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        warmup: config.warmup.get(),
        budget: config.detect.alerts_per_day.budget(),
        classifier: Some(Arc::new(sensor_models::trained::attack_classes())),
        timeouts: Some(config.timeouts.into()),
        disabled: config.detect.disable.iter().copied().collect(),
        suppressed: suppressed(config),
        local: config.detect.local.iter().map(|network| Network::new(network.addr(), network.prefix_len())).collect(),
        language: config.language,
        ..EngineConfig::default()
    }
}
