//! The result as Markdown.

use std::fmt::Write as _;

use crate::evaluate::{DatasetReport, ModelReport, Report, SetReport};
use crate::floors::SEEDS;
use crate::measures::{Interval, Measures};
use crate::speed::{BATCH, Cost};

/// The card. Figures repeat to the digit; those under "Speed" depend on the machine.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut card = INTRODUCTION.replace("{resamples}", &report.resamples.to_string());
    if let Some(why) = &report.floors_missing {
        line(&mut card, &format!("\n**scikit-learn was not measured**: {why}. The floors are missing below."));
    }
    for dataset in &report.datasets {
        write_dataset(&mut card, dataset);
    }
    write_aims(&mut card, report);
    write_parity(&mut card, report);
    write_costs(&mut card, &report.costs);
    write_columns(&mut card, &report.datasets);
    card
}

const INTRODUCTION: &str = "# Quality card

Written by `cargo xtask eval`; do not edit. The same data give the same digits, except under \"Speed\".

Models of tables that others recorded are benchmarks: none of them is in Leuko. Every number is of validation rows: half
of the rows, chosen by a hash of their content, so that copies of a row never are on both sides. Models are fitted to
40 %, thresholds are chosen on the normal ones of the other 10 % (conformal p-value <= 0.01). Addresses, ports,
identifiers, times of day and TTL are never features. The figures in brackets hold the middle 95 % of {resamples} bootstrap resamples
of groups of equal rows, by family; they do not say what another network would give, nor another seed.

AUC: area under the ROC curve. AP: average precision. TPR 1 %, 0.1 %: part of the attacks found when that part of normal
rows is flagged; 0.1 % only where there are 10,000 normal validation rows. FPR, F1, recall: at the chosen threshold; an
FPR away from 1 % means that the parts are not alike, since equal rows stay together. One-class models are fitted
to normal rows only. *Ensemble* is what Leuko uses: a one-class SVM, clusters and an Isolation Forest, weighed 8 : 1 : 1;
the other one-class models are not in it, and their rows say why. *Boosted trees* are the classifier that names attacks.
Definitions with the treatment of ties: `models/evaluation/src/measures.rs`, `split.rs`.
";

fn write_dataset(card: &mut String, dataset: &DatasetReport) {
    line(card, &format!("\n## {}\n\n{}\n", dataset.name, dataset.about));
    let weighted = dataset.families.iter().any(|family| family.weight.is_some());
    line(
        card,
        if weighted {
            "| rows | fit | calibration | validation | different | stands for |"
        } else {
            "| rows | fit | calibration | validation | different |"
        },
    );
    line(card, if weighted { "|---|--:|--:|--:|--:|--:|" } else { "|---|--:|--:|--:|--:|" });
    for family in &dataset.families {
        let [fit, calibration, validation] = family.rows;
        let weight = family.weight.map_or(String::new(), |weight| format!(" {weight:.1} |"));
        let name = family.name;
        line(card, &format!("| {name} | {fit} | {calibration} | {validation} | {} |{weight}", family.groups));
    }
    line(card, "\n| columns | model | AUC | AP | TPR 1 % | TPR 0.1 % | FPR | F1 |");
    line(card, "|---|---|---|---|---|---|---|---|");
    for set in &dataset.sets {
        set.models.iter().for_each(|model| write_model(card, set, model, &model.measures));
    }
    if weighted {
        line(card, "\nThe same, each row weighted by the rows of the full data set it stands for:\n");
        line(card, "| columns | model | AUC | AP | TPR 1 % | TPR 0.1 % | FPR | F1 |");
        line(card, "|---|---|---|---|---|---|---|---|");
        for set in &dataset.sets {
            for model in &set.models {
                if let Some(measures) = &model.by_prevalence {
                    write_model(card, set, model, measures);
                }
            }
        }
    }
    dataset.sets.iter().for_each(|set| write_recall(card, dataset, set));
}

fn write_model(card: &mut String, set: &SetReport, model: &ModelReport, measures: &Measures) {
    let mark = if set.leaks { " (leak)" } else { "" };
    let Measures { auc, average_precision, tpr_at_1_percent, tpr_at_1_per_mille, fpr, f1, .. } = measures;
    let per_mille = tpr_at_1_per_mille.as_ref().map_or("-".to_owned(), percent);
    line(
        card,
        &format!(
            "| {}{mark} | {} | {} | {} | {} | {per_mille} | {} | {} |",
            set.name,
            model.model,
            ratio(auc),
            ratio(average_precision),
            percent(tpr_at_1_percent),
            percent(fpr),
            ratio(f1),
        ),
    );
}

/// Families in rows, models in columns.
fn write_recall(card: &mut String, dataset: &DatasetReport, set: &SetReport) {
    line(card, &format!("\nRecall by family at the chosen threshold, {}, %:\n", set.name));
    let mut head = "| family |".to_owned();
    let mut rule = "|---|".to_owned();
    for model in &set.models {
        let _ = write!(head, " {} |", model.model);
        rule.push_str("---|");
        if !model.unseen.is_empty() {
            let _ = write!(head, " the same, fitted without the family |");
            rule.push_str("---|");
        }
    }
    line(card, &head);
    line(card, &rule);
    for (at, family) in dataset.families[1..].iter().enumerate() {
        let mut row = format!("| {} |", family.name);
        for model in &set.models {
            let seen = &model.measures.family_recall;
            for recall in [seen, &model.unseen].into_iter().filter(|all| !all.is_empty()) {
                let recall = recall.get(at).and_then(Option::as_ref).map_or("-".to_owned(), percent);
                let _ = write!(row, " {recall} |");
            }
        }
        line(card, &row);
    }
}

/// What was to be reached: data set, columns, model, measure, and the least it should be.
const AIMS: [(&str, &str, &str, &str, f64); 4] = [
    ("UNSW-NB15", "all", "ensemble", "TPR 1 %", 0.30),
    ("CIC-IDS2017 (corrected)", "counters", "ensemble", "TPR 1 %", 0.70),
    ("UNSW-NB15", "all", "boosted trees", "AUC", 0.997),
    ("UNSW-NB15", "all", "boosted trees", "TPR 1 %", 0.95),
];

const WHY_NOT: &str = "
Where an aim is missed: copies of a row are on one side of the split here, and on both in the splits that the aims come
from, where a classifier may remember a test row. Of CIC-IDS2017 there are few normal rows, so that 1 % of them are some
twenty odd but harmless flows that come before attacks which are many and alike: the AUC shows that the order is good
but for these. Which models are in the ensemble, and with which weights, was chosen on splits of the rows
that fit, not on these; a model that is better here on one data set was not better there on all three.
";

fn write_aims(card: &mut String, report: &Report) {
    line(card, "\n## Aims\n\n| data | columns | model | measure | aim | measured | |\n|---|---|---|---|--:|--:|---|");
    for (data, columns, model, measure, aim) in AIMS {
        let found = report.datasets.iter().find(|dataset| dataset.name == data);
        let set = found.and_then(|dataset| dataset.sets.iter().find(|set| set.name == columns));
        let Some(found) = set.and_then(|set| set.models.iter().find(|found| found.model == model)) else { continue };
        let value = if measure == "AUC" { found.measures.auc.value } else { found.measures.tpr_at_1_percent.value };
        let verdict = if value >= aim { "reached" } else { "missed" };
        line(card, &format!("| {data} | {columns} | {model} | {measure} | {aim} | {value:.4} | {verdict} |"));
    }
    card.push_str(WHY_NOT);
}

fn write_parity(card: &mut String, report: &Report) {
    line(card, "\n## Isolation Forest beside scikit-learn's\n");
    let Some(parity) = &report.parity else {
        return line(card, "Not measured.");
    };
    let (difference, error) = parity.difference();
    line(
        card,
        &format!(
            "The same trees: {} rows of UNSW-NB15 score the same within {:.1e}.\n\nFitted here and there, all columns of UNSW-NB15, {SEEDS} seeds: \
         AUC {:.4} (standard deviation {:.4}) here, {:.4} ({:.4}) there; difference {difference:+.4}, standard error {error:.4}.",
            parity.rows,
            rounded_up(parity.largest_difference),
            parity.here.mean,
            parity.here.deviation,
            parity.scikit_learn.mean,
            parity.scikit_learn.deviation,
        ),
    );
}

fn write_costs(card: &mut String, costs: &[Cost]) {
    line(
        card,
        &format!(
            "\n## Speed\n\nAll columns of UNSW-NB15, one core, microseconds a row, in a batch of {BATCH} and alone, the quickest of several runs. Depends on the machine.\n"
        ),
    );
    line(card, "| model | batch | alone | times scikit-learn's, batch | alone |");
    line(card, "|---|--:|--:|--:|--:|");
    for cost in costs {
        let floor = costs.iter().find(|floor| floor.floor && floor.model.ends_with(&cost.model) && !cost.floor);
        let ratios = floor.map_or("| |".to_owned(), |floor| {
            format!("{:.1} | {:.0} |", floor.batch_us / cost.batch_us, floor.single_us / cost.single_us)
        });
        line(card, &format!("| {} | {:.2} | {:.2} | {ratios}", cost.model, cost.batch_us, cost.single_us));
    }
}

fn write_columns(card: &mut String, datasets: &[DatasetReport]) {
    line(card, "\n## Columns");
    for dataset in datasets {
        line(card, &format!("\n### {}\n", dataset.name));
        for set in &dataset.sets {
            let words = if set.words.is_empty() {
                String::new()
            } else {
                format!("; one 0/1 column for each value of {}", set.words.join(", "))
            };
            line(card, &format!("- **{}** ({}): {}{words}", set.name, set.columns, set.numbers.join(", ")));
        }
    }
}

fn line(card: &mut String, text: &str) {
    card.push_str(text);
    card.push('\n');
}

fn ratio(interval: &Interval) -> String {
    format!("{:.4} [{:.4}, {:.4}]", interval.value, interval.low, interval.high)
}

fn percent(interval: &Interval) -> String {
    let Interval { value, low, high } = interval;
    format!("{:.2} [{:.2}, {:.2}]", 100.0 * value, 100.0 * low, 100.0 * high)
}

/// To a power of ten, upwards: the rounding of sums is no figure to compare.
fn rounded_up(difference: f64) -> f64 {
    (-18..=0).map(|exponent| 10.0_f64.powi(exponent)).find(|power| *power >= difference).unwrap_or(difference)
}
