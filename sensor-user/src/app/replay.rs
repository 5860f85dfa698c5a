//! `leuko replay`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use sensor_core::contract::FlowLine;
use sensor_core::engine::EngineConfig;
use tracing::info;

use super::{complain, engine_config};
use crate::cli::ReplayArgs;
use crate::config::Config;
use crate::config::datapath::Tunnel;
use crate::export::flows::FlowExport;
use crate::live::read_baseline;
use crate::printer::Printer;
use crate::replay::{Output, ReplayOptions, replay, replay_connections};
use crate::source::input::Input;
use crate::terminal::Reader;

/// Replays a capture or a log and prints what it holds. Damage to it is told last.
///
/// # Errors
/// When the capture or the baseline cannot be opened.
pub fn run(config: &Config, args: &ReplayArgs, quiet: bool) -> Result<ExitCode> {
    let input = open(args)?;
    let baseline = args.baseline.as_deref().map(read_baseline).transpose()?;
    let mut export = args.export.as_deref().map(FlowExport::create).transpose().context("export the flows")?;
    let keep_records = args.flows || export.is_some();
    let mut engine = EngineConfig { baseline, keep_records, ..engine_config(config) };
    if args.no_timeouts {
        engine.timeouts = None;
    }
    let tunnels = Tunnel::bits(&config.kernel.tunnels);
    let options = ReplayOptions { engine, interval: config.interval.get(), tunnels, beacons: args.beacons() };
    let mut printer = Printer::stdout(args.json, quiet);
    let mut reader = Reader::Listening;
    let emit = |output| {
        if let Some(export) = &mut export {
            write_to(export, &output).map_err(Some)?;
        }
        if reader == Reader::Listening {
            reader = print(&mut printer, output, args.flows).context("write to standard output").map_err(Some)?;
        }
        if reader == Reader::Gone && export.is_none() { Err(None) } else { Ok(()) }
    };
    let (done, damage) = match input {
        Input::Capture(mut capture) => {
            let done = replay(&mut capture, options, emit);
            (done, capture.damage().map(ToString::to_string))
        }
        Input::Log(log) => {
            let damage = log.fault.map(|fault| fault.to_string());
            (replay_connections(log.connections, options, emit), damage)
        }
    };
    match done {
        Ok(_) => {}
        Err(None) => return Ok(ExitCode::SUCCESS),
        Err(Some(error)) => return Err(error),
    }
    if let Some(export) = export {
        let flows = export.finish().context("export the flows")?;
        info!(flows, "exported the flows");
    }
    match damage {
        None => Ok(ExitCode::SUCCESS),
        Some(damage) => Ok(complain(&anyhow!("{}: {damage}; everything before it was processed", name(args)))),
    }
}

fn write_to(export: &mut FlowExport, output: &Output) -> Result<()> {
    match output {
        Output::Incident(event) => export.incident(event),
        Output::Flow(record) => export.flow(record)?,
        Output::Beacon(_) | Output::Summary(_) => {}
    }
    Ok(())
}

fn print(printer: &mut Printer, output: Output, flows: bool) -> io::Result<Reader> {
    match output {
        Output::Incident(event) => printer.incident(&event),
        Output::Flow(record) if flows => printer.flow(FlowLine::from(record.as_ref())),
        Output::Flow(_) => Ok(Reader::Listening),
        Output::Beacon(beacon) => printer.beacon(beacon),
        Output::Summary(summary) => printer.summary(summary),
    }
}

fn open(args: &ReplayArgs) -> Result<Input> {
    let input = if args.is_stdin() { Input::stdin() } else { Input::open(Path::new(&args.file)) };
    input.with_context(|| format!("replay {}", name(args)))
}

fn name(args: &ReplayArgs) -> String {
    if args.is_stdin() { "standard input".to_owned() } else { args.file.display().to_string() }
}
