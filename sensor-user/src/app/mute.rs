//! `leuko mute`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};

use super::{print, wall_clock};
use crate::cli::mute::{AddArgs, MuteAction};
use crate::config::network::Network;
use crate::config::suppress::{Expiry, RawSuppress, Suppress};
use crate::mutes::Mutes;

/// Adds, shows or removes rules.
///
/// # Errors
/// A rule that says nothing or nonsense, or a state directory that cannot be used.
pub fn run(state_dir: &Path, action: &MuteAction) -> Result<ExitCode> {
    let mut mutes = Mutes::read(state_dir)?;
    match action {
        MuteAction::Add(args) => {
            let rule = rule(args).map_err(|error| anyhow!(error))?;
            let told = format!("muted {}, until {}\n", rule.name(), rule.raw().expires);
            mutes.add(rule);
            mutes.write(state_dir)?;
            print(told.as_bytes())
        }
        MuteAction::Remove { name } => {
            if !mutes.remove(name) {
                bail!("there is no rule {name}; `leuko mute list` shows them");
            }
            mutes.write(state_dir)?;
            print(format!("{name} is reported again\n").as_bytes())
        }
        MuteAction::List { json } => print(list(&mutes, *json)?.as_bytes()),
    }
}

fn rule(args: &AddArgs) -> Result<Suppress, String> {
    let networks = |texts: &[String]| texts.iter().cloned().map(Network::try_from).collect::<Result<Vec<_>, _>>();
    let expires = match (args.until, args.span) {
        (Some(until), _) => until,
        (None, Some(span)) => {
            let end = jiff::Timestamp::try_from(wall_clock() + span).map_err(|_| "--for is too long".to_owned())?;
            Expiry::At(end.as_second())
        }
        (None, None) => Expiry::Never,
    };
    Suppress::try_from(RawSuppress {
        name: args.name.clone(),
        reason: args.reason.clone(),
        expires,
        class: args.class.iter().copied().collect(),
        from: networks(&args.from)?,
        to: networks(&args.to)?,
        port: args.port.clone(),
        days: args.days.iter().copied().collect(),
        hours: args.hours,
    })
}

fn list(mutes: &Mutes, json: bool) -> Result<String> {
    let mut text = String::new();
    for rule in mutes.suppress.iter().map(Suppress::raw) {
        if json {
            text += &(serde_json::to_string(rule).context("print a rule as JSON")? + "\n");
            continue;
        }
        let mut what = Vec::new();
        what.extend(rule.class.iter().map(ToString::to_string));
        what.extend(rule.from.iter().map(|net| format!("from {net}")));
        what.extend(rule.to.iter().map(|net| format!("to {net}")));
        what.extend(rule.port.iter().map(|port| format!("port {port}")));
        what.extend(rule.days.iter().map(|day| format!("{day:?}").to_lowercase()));
        what.extend(rule.hours.map(|hours| hours.to_string()));
        let RawSuppress { name, reason, expires, .. } = rule;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<20} {:<50} until {expires}: {reason}", what.join(", "));
    }
    if text.is_empty() && !json {
        text += "nothing is muted\n";
    }
    Ok(text)
}
