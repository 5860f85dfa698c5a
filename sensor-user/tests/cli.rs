//! The command line: every example of the help texts can be typed, and every flag reaches its setting.

use std::path::Path;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use leuko::cli::{Cli, Command};

fn parse(line: &str) -> Cli {
    Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}\n{error}"))
}

/// What follows a prompt: the part before the explanation, the part of a pipe that is ours, without redirections.
fn command_of(line: &str) -> Option<&str> {
    let example = line.strip_prefix("  ")?;
    let example = example.split("   ").next()?;
    let example = example.rsplit(" | ").next()?.split(" > ").next()?;
    Some(&example[example.find("leuko ")?..])
}

fn check_examples(command: &clap::Command, found: &mut usize) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples: Vec<_> = help.lines().filter_map(command_of).collect();
    assert!(!examples.is_empty(), "{} has no examples", command.get_name());
    for example in examples {
        parse(example);
        *found += 1;
    }
}

#[test]
fn every_example_can_be_typed() {
    let cli = Cli::command();
    let mut found = 0;
    check_examples(&cli, &mut found);
    for command in cli.get_subcommands() {
        check_examples(command, &mut found);
    }
    assert!(found >= 20, "only {found} examples were found");
}

#[test]
fn the_command_line_is_consistent_and_every_option_is_explained() {
    let mut cli = Cli::command();
    cli.build();
    cli.clone().debug_assert();
    for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
        for option in command.get_arguments() {
            assert!(option.get_help().is_some(), "{} {}", command.get_name(), option.get_id());
        }
    }
}

#[test]
fn every_flag_of_run_reaches_its_setting() {
    let cli = parse(
        "leuko --log-level debug run --interface eth0 -i eth1,eth2 --interval 2s --warmup 5m --xdp-mode generic \
         --egress clsact --flows 2048 --sampling 9 --pin --metrics-listen [::1]:9 --canary 1h --state-dir /x --fresh --json --duration 90s --no-notify",
    );
    let config = cli.load_config().unwrap();
    let names: Vec<_> = config.interfaces.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["eth0", "eth1", "eth2"]);
    assert_eq!(config.log_level.as_str(), "debug");
    assert_eq!(config.interval.get(), Duration::from_secs(2));
    assert_eq!(config.warmup.get(), Duration::from_secs(300));
    assert_eq!(config.state_dir, Path::new("/x"));
    assert_eq!(config.canary.every.get(), Duration::from_secs(3600));
    let kernel = serde_json::to_value(config.kernel).unwrap();
    let expected = serde_json::json!({
        "xdp_mode": "off", "egress": "clsact", "flows": 2048, "sampling": 9, "tunnels": [], "pin": "/sys/fs/bpf/leuko"
    });
    assert_eq!(kernel, expected);
    let elsewhere = parse("leuko run --pin=/sys/fs/bpf/edge").load_config().unwrap();
    assert_eq!(elsewhere.kernel.pin.as_deref(), Some(Path::new("/sys/fs/bpf/edge")));
    assert_eq!(config.metrics.listen.address().unwrap().to_string(), "[::1]:9");
    let Command::Run(run) = cli.command else { panic!("run was asked for") };
    assert!(run.fresh && run.json && run.no_notify);
    assert_eq!(run.duration, Some(Duration::from_secs(90)));
}

#[test]
fn mistakes_are_named_by_the_flag() {
    for (line, words) in [
        ("leuko run --interval 0s", "--interval: must be from 100ms to 60s"),
        ("leuko run --flows 5", "--flows: must be from 1024 to 16777216"),
        ("leuko run -i eth0 -i eth0", "--interface: lists eth0 twice"),
        ("leuko replay --warmup soon x.pcap", "--warmup: not a time span"),
        ("leuko --log-level loud config", "--log-level: must be one of error, warn"),
        ("leuko --config /nonexistent/l.toml config", "/nonexistent/l.toml: No such file"),
    ] {
        let error = parse(line).load_config().unwrap_err().to_string();
        assert!(error.contains(words), "{line}\n{error}");
    }
    for (line, words) in [
        ("leuko run --xdp-mode nativ", "possible values: auto, native, off"),
        ("leuko run --duration 5", "write for instance 90s"),
        ("leuko run --duration -5s", "unexpected argument"),
        ("leuko replay", "<FILE>"),
        ("leuko -q --log-level info run", "cannot be used with"),
        ("leuko", "Usage: leuko"),
    ] {
        let error = Cli::try_parse_from(line.split_whitespace()).unwrap_err().to_string();
        assert!(error.contains(words), "{line}\n{error}");
    }
}

#[test]
fn replay_notifies_nobody_and_reads_its_own_flags() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("leuko.toml");
    std::fs::write(&file, "interval = \"5s\"\n[[notify.alertmanager]]\nurl = \"http://127.0.0.1:1\"").unwrap();
    let cli = parse(&format!("leuko --config {} replay --warmup 0s -", file.display()));
    let config = cli.load_config().unwrap();
    assert_eq!(config.interval.get(), Duration::from_secs(5));
    assert!(config.warmup.get().is_zero() && config.notify.alertmanager.is_empty());
    let Command::Replay(replay) = cli.command else { panic!("replay was asked for") };
    assert!(replay.is_stdin());
}

/// The environment is per process, so the case runs in a child.
#[test]
fn replay_does_not_look_at_the_environment() {
    if std::env::var_os("LEUKO_INTERVAL").is_some() {
        assert!(
            parse("leuko run").load_config().unwrap_err().to_string().starts_with("read the configuration file /non")
        );
        parse("leuko replay x.pcap").load_config().unwrap();
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "replay_does_not_look_at_the_environment"])
        .env("LEUKO_INTERVAL", "soon")
        .env("LEUKO_CONFIG", "/nonexistent")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && printed.contains("1 passed"), "{printed}");
}

#[test]
fn completions_know_the_commands() {
    let Command::Completions(completions) = parse("leuko completions bash").command else { panic!() };
    let script = String::from_utf8(completions.script()).unwrap();
    assert!(script.contains("replay") && script.contains("--no-timeouts"));
}
