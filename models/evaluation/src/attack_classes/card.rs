//! The card of the shipped classifier as Markdown.

use std::fmt::Write as _;

use sensor_models::labels::CLASSES;

use super::{FALSE_ALARMS, FOLDS, Judged, MOST_FLOWS, PRIORS, Trained, benign_captures};

/// Fewer flows than this make no figure to build on.
const FEW: usize = 30;

/// The card. The same training gives the same text.
#[must_use]
pub fn markdown(trained: &Trained) -> String {
    let mut card = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut card, trained);
    card
}

fn write(card: &mut String, trained: &Trained) -> std::fmt::Result {
    let Trained { classifier, flows, by_capture, by_source, chosen } = trained;
    let benign = benign_captures(flows).len();
    writeln!(
        card,
        "# attack_classes.leuko\n\n\
         Names the class of a flow that is part of an attack: gradient boosted trees on the {columns} columns of the flow\n\
         vector. Made by `cargo xtask train`; the same captures give the same bytes.\n\n\
         **For:** a hint at the class of flows that were already found to be unusual. **Not for:** finding attacks on its own\n\
         (what it has not seen it cannot name), nor judging a flow outside of Leuko's own measurement.\n\n\
         ## Training\n\n\
         {rows} flows of {captures} captures, {benign} of them without attacks, replayed as `leuko replay` does and labelled by\n\
         5-tuple. Flows of unknown truth ({unknown}) are left out; of each class of a capture at most {MOST_FLOWS} flows, spread\n\
         evenly, are kept ({surplus} were more), so that no flood dominates. The latest flow is of second {latest} of the epoch;\n\
         the seed is {seed}. The captures are public and carry no common licence; they are not part of this repository.\n\n\
         Columns (each as its natural logarithm of 1 + value): `{names}`. Units and formulas are those of\n\
         `sensor-user/core/src/features/flow.rs`. No address, port, TTL, identifier or time of day is a feature.\n",
        columns = classifier.columns().len(),
        rows = flows.rows.len(),
        captures = flows.captures.len(),
        unknown = flows.unknown,
        surplus = flows.surplus,
        latest = flows.latest_s,
        seed = classifier.training().seed,
        names = classifier.columns().join(" "),
    )?;
    writeln!(
        card,
        "## What it was measured on\n\n\
         Never on a capture it was fitted to: {FOLDS} folds, each judged by a classifier fitted to the others. *Unseen capture*\n\
         keeps the flows of a capture together, *unseen source* those of all captures of one author, which is harder: network\n\
         and tools are unseen, too. The figures are of these classifiers; the shipped one is fitted to all flows.\n\n\
         ## Share of normal traffic\n\n\
         How common attacks are in the captures says nothing of a network, so probabilities are corrected for a share of normal\n\
         flows that is expected. A flow is named when p(normal) is below 0.85 and the likeliest class has at least half of the\n\
         rest. The first share is taken that names at most {per_mille:.0} of 1000 flows of benign captures, unseen capture and\n\
         unseen source, else the last: **{prior}**.\n\n\
         | expected share | benign flows named, unseen capture | captures | attacks named right | benign flows named, unseen source | attacks named right |\n\
         |---|---|---|---|---|---|",
        per_mille = FALSE_ALARMS * 1000.0,
        prior = PRIORS[*chosen],
    )?;
    for (capture, source) in by_capture.iter().zip(by_source) {
        let alarms = |judged: &Judged| {
            let (named, all) = judged.false_alarms(flows);
            format!("{named} of {all} ({:.2} %)", 100.0 * named as f64 / all as f64)
        };
        writeln!(
            card,
            "| {} | {} | {} of {benign} | {} | {} | {} |",
            capture.prior,
            alarms(capture),
            capture.alarmed_captures(flows).len(),
            named_right(trained, capture),
            alarms(source),
            named_right(trained, source),
        )?;
    }
    classes(card, trained)?;
    calibration(card, trained)?;
    limits(card, trained)
}

/// Of all attack flows.
fn named_right(trained: &Trained, judged: &Judged) -> String {
    let outcomes: Vec<_> = attacks().map(|(class, _)| judged.outcome(&trained.flows, class)).collect();
    percent(outcomes.iter().map(|outcome| outcome.right).sum(), outcomes.iter().map(|outcome| outcome.rows).sum())
}

fn classes(card: &mut String, trained: &Trained) -> std::fmt::Result {
    let Trained { flows, by_capture, by_source, chosen, .. } = trained;
    let (capture, source) = (&by_capture[*chosen], &by_source[*chosen]);
    writeln!(
        card,
        "\n## By class, at the share that was taken\n\n\
         Recall: flows of the class that are named as it. Precision depends on how many flows of each class there are, here\n\
         those of the captures. A class of a single capture cannot be measured so (its fold has no example of it): what is\n\
         shown is what its flows are taken for. *Likeliest class right* is the share of the class whose likeliest class of\n\
         attacks is this one, whatever p(normal) is: what the hint is worth for a flow that is known to be an attack.\n\n\
         | class | flows | captures | recall, unseen capture | passed as normal | unknown | taken for | precision | recall, unseen source | likeliest class right, unseen capture | unseen source |\n\
         |---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for (class, name) in (0_u16..).zip(CLASSES) {
        let outcome = capture.outcome(flows, class);
        let captures = flows.captures_of(class).len();
        if outcome.rows == 0 {
            continue;
        }
        let measured =
            |right: usize, rows: usize| if captures > 1 { percent(right, rows) } else { "one capture".into() };
        let mut misnamed: Vec<(u16, usize)> = outcome.misnamed.iter().map(|(class, rows)| (*class, *rows)).collect();
        misnamed.sort_by_key(|(class, rows)| (usize::MAX - rows, *class));
        let misnamed: Vec<String> = misnamed
            .iter()
            .take(2)
            .map(|(class, rows)| format!("{} {}", CLASSES[usize::from(*class)], percent(*rows, outcome.rows)))
            .collect();
        let sources = source.outcome(flows, class);
        writeln!(
            card,
            "| `{name}`{} | {} | {captures} | {} | {} | {} | {} | {} | {} | {} | {} |",
            if outcome.rows < FEW { " (few)" } else { "" },
            outcome.rows,
            measured(outcome.right, outcome.rows),
            if class == 0 { String::new() } else { percent(outcome.passed, outcome.rows) },
            percent(outcome.unknown, outcome.rows),
            misnamed.join(", "),
            if class == 0 { None } else { capture.precision(flows, class) }
                .map_or(String::new(), |share| format!("{:.1} %", 100.0 * share)),
            measured(sources.right, sources.rows),
            if class == 0 { String::new() } else { measured(outcome.likeliest_right, outcome.rows) },
            if class == 0 { String::new() } else { measured(sources.likeliest_right, sources.rows) },
        )?;
    }
    Ok(())
}

fn calibration(card: &mut String, trained: &Trained) -> std::fmt::Result {
    const EDGES: [f64; 7] = [0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0];
    let Trained { flows, by_capture, .. } = trained;
    let judged = &by_capture[0];
    writeln!(
        card,
        "\n## Is p(normal) what it says\n\n\
         Unseen captures, expected share of normal flows {}. Normal flows and attacks are weighted so that they are that many.\n\n\
         | p(normal) | flows | mean p(normal) | share that is normal |\n|---|---|---|---|",
        judged.prior
    )?;
    let normal = flows.class.iter().filter(|class| **class == 0).count() as f64;
    let weight = |class: u16| {
        if class == 0 { judged.prior / normal } else { (1.0 - judged.prior) / (flows.class.len() as f64 - normal) }
    };
    for edges in EDGES.windows(2) {
        let inside = |p: f64| p >= edges[0] && (p < edges[1] || edges[1] == 1.0);
        let rows: Vec<usize> = (0..flows.rows.len()).filter(|row| inside(judged.normal[*row])).collect();
        let total: f64 = rows.iter().map(|row| weight(flows.class[*row])).sum();
        if rows.is_empty() {
            continue;
        }
        let mean: f64 = rows.iter().map(|row| weight(flows.class[*row]) * judged.normal[*row]).sum::<f64>() / total;
        let share: f64 =
            rows.iter().filter(|row| flows.class[**row] == 0).map(|row| weight(flows.class[*row])).sum::<f64>() / total;
        writeln!(card, "| {} to {} | {} | {mean:.3} | {share:.3} |", edges[0], edges[1], rows.len())?;
    }
    Ok(())
}

fn limits(card: &mut String, trained: &Trained) -> std::fmt::Result {
    let Trained { flows, by_capture, chosen, .. } = trained;
    let tool_bound = |class: u16| {
        let outcome = by_capture[*chosen].outcome(flows, class);
        flows.captures_of(class).len() > 1 && outcome.right * 20 < outcome.rows
    };
    let names = |wanted: &dyn Fn(u16) -> bool| -> String {
        let names: Vec<String> =
            attacks().filter(|(class, _)| wanted(*class)).map(|(_, name)| format!("`{name}`")).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let rows = |class: u16| flows.class.iter().filter(|other| **other == class).count();
    writeln!(
        card,
        "\n## Limits\n\n\
         - It sees one flow, not what happens around it. The probe of a SYN scan and a packet of a SYN flood are the same flow:\n\
         \x20 which of the two it is, the number of ports and hosts says, and that is what the rules of Leuko count. The same holds\n\
         \x20 for a UDP scan and a UDP flood, and for a try of a password and a short, ordinary conversation.\n\
         - In several captures, and yet named right in fewer than one of 20 flows of one that was not seen: {tool_bound}. What was\n\
         \x20 learned of these is how a tool behaves in a network, not how the attack does: a flow that is not named is not harmless.\n\
         - Few flows (fewer than {FEW}), so that neither recall nor precision is known: {few}.\n\
         - One capture only, so that nothing is known of other tools and networks: {single}.\n\
         - No flow at all, so that the class is never named: {absent}.\n\
         - Captures are of laboratories and of single protocols, most of them old; the benign ones hold little of the traffic of\n\
         \x20 a busy server. A share of normal flows that holds for them need not hold for yours.\n\
         - `anomaly` holds what has no class of its own; a flow named so is like an attack of the captures, no more.",
        tool_bound = names(&tool_bound),
        few = names(&|class| (1..FEW).contains(&rows(class))),
        single = names(&|class| flows.captures_of(class).len() == 1),
        absent = names(&|class| rows(class) == 0),
    )
}

fn attacks() -> impl Iterator<Item = (u16, &'static str)> {
    (1_u16..).zip(CLASSES.into_iter().skip(1))
}

fn percent(part: usize, all: usize) -> String {
    if all == 0 { String::new() } else { format!("{:.1} %", 100.0 * part as f64 / all as f64) }
}
