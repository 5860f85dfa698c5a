//! `leuko mute`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use sensor_core::incident::suppress::Backtest;
use serde::Serialize;
use serde_json::json;

use super::incidents::{Tally, tally};
use super::{actor, now, print, wall_clock};
use crate::cli::mute::{AddArgs, MuteAction};
use crate::config::network::Network;
use crate::config::suppress::{Expiry, RawSuppress, Suppress};
use crate::store::{Incidents, Kept, Store};

/// Adds, shows or removes rules.
///
/// # Errors
/// A rule that says nothing or nonsense, or a state directory that cannot be used.
pub fn run(state_dir: &Path, action: &MuteAction) -> Result<ExitCode> {
    // A rule may be there before the first sensor runs.
    let mut store = Store::open(state_dir)?;
    match action {
        MuteAction::Add(args) => add(&mut store, args),
        MuteAction::Remove { name } => {
            if !store.remove_mute(name, &actor(), now())? {
                bail!("there is no rule {name}; `leuko mute list` shows them");
            }
            print(format!("{name} is reported again\n").as_bytes())
        }
        MuteAction::List { json } => print(list(&store.mutes()?, *json)?.as_bytes()),
    }
}

fn add(store: &mut Store, args: &AddArgs) -> Result<ExitCode> {
    let rule = rule(args).map_err(|error| anyhow!(error))?;
    let since = args.since.map(|moment| moment.at(now()));
    let past = store.incidents(&Incidents { since, ..Incidents::default() }).context("read past incidents")?;
    let tried = Trial::of(&rule, &past);
    let mut told = if args.json { json!(tried).to_string() + "\n" } else { tried.words(args.dry_run) };
    if !args.dry_run {
        store.add_mute(&rule, &actor(), now())?;
        if args.apply_to_past {
            store.mute_past(&tried.ids, rule.name(), &actor(), now())?;
        }
        if !args.json {
            let _ = writeln!(told, "muted {}, until {}", rule.name(), rule.raw().expires);
        }
    }
    print(told.as_bytes())
}

/// What a rule would have done to past incidents.
#[derive(Serialize)]
struct Trial<'a> {
    rule: &'a str,
    /// Incidents it was tried on.
    tried: u64,
    /// Those that nobody would have been told of, by class.
    withheld: BTreeMap<&'static str, Tally>,
    /// Those that would have been told with fewer attackers.
    partly: u64,
    #[serde(skip)]
    ids: Vec<&'a str>,
}

impl<'a> Trial<'a> {
    fn of(suppress: &'a Suppress, past: &'a [Kept]) -> Self {
        let rule = suppress.rule();
        let by = |outcome| past.iter().filter(move |kept| rule.backtest(&kept.incident) == outcome);
        let withheld: Vec<&Kept> = by.clone()(Backtest::Withheld).collect();
        Self {
            rule: suppress.name(),
            tried: past.len() as u64,
            partly: by(Backtest::Partly).count() as u64,
            ids: withheld.iter().map(|kept| kept.incident.id.as_str()).collect(),
            withheld: tally(withheld.into_iter()),
        }
    }

    fn words(&self, dry_run: bool) -> String {
        let mut out = String::new();
        let all = self.withheld.values().map(|tally| tally.incidents).sum::<u64>();
        let _ = writeln!(out, "of {} past incidents, {all} would not have been told:", self.tried);
        for (class, tally) in &self.withheld {
            let Tally { incidents, confirmed, false_positive } = *tally;
            let open = incidents - confirmed - false_positive;
            let _ = writeln!(
                out,
                "  {class:<16} {incidents:>6}   confirmed {confirmed}, false positives {false_positive}, not judged {open}"
            );
        }
        if self.partly > 0 {
            let _ = writeln!(out, "  {} more would have been told with fewer attackers", self.partly);
        }
        let confirmed = self.withheld.values().map(|tally| tally.confirmed).sum::<u64>();
        if confirmed > 0 {
            let _ = writeln!(out, "warning: {confirmed} of them were confirmed attacks: make the rule narrower");
        }
        if dry_run {
            out += "nothing was changed\n";
        }
        out
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

fn list(mutes: &[Suppress], json: bool) -> Result<String> {
    let mut text = String::new();
    for rule in mutes.iter().map(Suppress::raw) {
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

#[cfg(test)]
mod tests {
    use sensor_core::incident::Change;
    use sensor_core::time::Timestamp;

    use super::*;
    use crate::notify::testing::{event, incident};
    use crate::store::{Judgement, Verdict};

    #[test]
    fn a_rule_is_tried_on_what_is_stored_before_it_is_saved() {
        let mut store = Store::in_memory().unwrap();
        let mut partly = incident("c");
        partly.attackers.push("198.51.100.7".parse().unwrap());
        for one in [incident("a"), incident("b"), partly] {
            store.record(&[event(Change::Opened, &one)], &[], Timestamp::EPOCH).unwrap();
        }
        let judgement = Judgement { verdict: Verdict::Confirmed, reason: String::new() };
        store.judge("b", &judgement, "me", Timestamp::EPOCH).unwrap();
        let rule = Suppress::try_from(RawSuppress {
            name: "ours".to_owned(),
            reason: "a test".to_owned(),
            from: vec![Network::try_from("203.0.113.0/24".to_owned()).unwrap()],
            ..RawSuppress::default()
        })
        .unwrap();
        let past = store.incidents(&Incidents::default()).unwrap();
        let tried = Trial::of(&rule, &past);
        assert_eq!((tried.tried, tried.partly, tried.ids.as_slice()), (3, 1, &["a", "b"][..]));
        let tally = Tally { incidents: 2, confirmed: 1, false_positive: 0 };
        assert_eq!(tried.withheld, BTreeMap::from([("port_scan", tally)]));
        let words = tried.words(true);
        assert!(
            words.contains("of 3 past incidents, 2 would not") && words.contains("1 of them were confirmed"),
            "{words}"
        );
        assert!(store.mutes().unwrap().is_empty());
    }
}
