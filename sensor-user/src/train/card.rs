//! What is to be known of a trained model before it is used, as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use sensor_core::time::Timestamp;
use sensor_models::Metrics;

use super::schema::unit;
use super::{Origin, TrainOptions, Trained, Written};

/// What the figures mean, by the beginning of their names.
const MEANINGS: [(&str, &str); 9] = [
    ("attack_rows", "labelled attacks, to none of which the baseline was fitted"),
    ("auc", "probability that an attack scores higher than a normal row"),
    ("held_out_normal_rows", "normal rows it was not fitted to"),
    ("held_out_rows_", "rows of the class it was not fitted to"),
    ("fpr_at_p_0_01", "share of held-out normal rows with p <= 0.01; near 0.01 if p-values are honest"),
    ("tpr_at_fpr_0_01", "share of attacks above a threshold that 1 % of the held-out normal rows reach"),
    ("tpr_at_p_0_01", "share of attacks with p <= 0.01"),
    ("false_alarm_ratio", "share of held-out normal rows that are named an attack"),
    ("recall_", "share of held-out rows of the class that are named as it; of normal rows: passed"),
];

/// The card.
#[must_use]
pub fn markdown(trained: &Trained, options: &TrainOptions, written: &Written) -> String {
    let mut card = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut card, trained, options, written);
    card
}

fn write(card: &mut String, trained: &Trained, options: &TrainOptions, written: &Written) -> std::fmt::Result {
    let model = written.model.file_name().unwrap_or_default().to_string_lossy();
    writeln!(card, "# {model}\n\nA baseline of normal traffic, made by `leuko train`.\n\n## Use\n")?;
    write_use(card, written)?;
    write_training(card, trained, options, written)?;
    writeln!(card, "## What was measured of the baseline\n")?;
    if !written.metrics.contains_key("fpr_at_p_0_01") {
        writeln!(
            card,
            "Nothing was held out: there was no more normal traffic than a fit needs, or it is all alike.\n"
        )?;
    }
    write_metrics(card, &written.metrics)?;
    if let Some(classifier) = &trained.classifier {
        writeln!(card, "## What was measured of the classifier\n")?;
        let share = classifier.normal_share();
        let source = if options.prior.is_some() { "as asked for" } else { "that of the rows; see `--prior`" };
        writeln!(card, "It expects {:.4} of the flows to be normal ({source}).\n", share)?;
        write_metrics(card, &written.classifier_metrics)?;
    }
    writeln!(card, "## Columns\n\nEach as the natural logarithm of 1 + its value.\n\n| column | unit |\n|---|---|")?;
    for column in trained.rows.schema.columns() {
        writeln!(card, "| `{column}` | {} |", unit(column))?;
    }
    write_limits(card, trained)
}

fn write_use(card: &mut String, written: &Written) -> std::fmt::Result {
    let model = written.model.file_name().unwrap_or_default().to_string_lossy();
    if written.usable_by_run {
        writeln!(
            card,
            "    leuko replay --baseline {model} --warmup 0s capture.pcap\n    \
             install -m 640 {model} /var/lib/leuko/baseline.leuko       # before `leuko run` starts\n"
        )?;
    } else {
        writeln!(
            card,
            "A benchmark only: `leuko run` and `leuko replay` cannot use it, because they do not measure these columns\n\
             (losses, windows, application fields, counts over the last 100 flows), and refuse it.\n"
        )?;
    }
    if let Some(classifier) = &written.classifier {
        let name = classifier.file_name().unwrap_or_default().to_string_lossy();
        writeln!(card, "`{name}`, beside it, names classes of attacks; it was fitted to the labels of the inputs.\n")?;
    }
    Ok(())
}

fn write_training(card: &mut String, trained: &Trained, options: &TrainOptions, written: &Written) -> std::fmt::Result {
    writeln!(card, "## Training\n\n| input | what | rows | first flow | latest flow |\n|---|---|---|---|---|")?;
    for origin in &trained.rows.origins {
        let [first, latest] = match origin.span_s {
            Some((first, latest)) => [first, latest].map(date),
            None => ["not known".to_owned(), "not known".to_owned()],
        };
        let damaged = if origin.damage.is_some() { ", damaged, up to the damage" } else { "" };
        let Origin { kind, rows, .. } = origin;
        writeln!(card, "| {} | {kind}{damaged} | {rows} | {first} | {latest} |", name(origin))?;
    }
    let recipe: Vec<String> = options.recipe.iter().map(|(kind, weight)| format!("{kind}={weight}")).collect();
    let training = trained.baseline.training();
    writeln!(
        card,
        "\n- {normal} rows of normal traffic, of which {given} were given to the fit; {attacks} of attacks, {left_out} that \
         the sensor found unusual itself, which are neither learned nor measured\n\
         - recipe `{recipe}`, contamination {contamination}, seed {seed}\n\
         - rows are held out by their content, one in five, so that copies of a row are on one side; a row with many\n\
         \x20 copies that is held out, and unlike the others, is a false alarm as often as it occurs\n",
        normal = written.normal_rows,
        given = training.rows,
        attacks = written.attack_rows,
        left_out = written.left_out_rows,
        recipe = recipe.join(","),
        contamination = options.contamination,
        seed = training.seed,
    )
}

fn write_metrics(card: &mut String, metrics: &Metrics) -> std::fmt::Result {
    writeln!(card, "| figure | value | what it is |\n|---|---|---|")?;
    for (name, value) in metrics {
        let meaning = MEANINGS.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or("", |(_, meaning)| meaning);
        let shown = if name.contains("rows") { format!("{value}") } else { format!("{value:.4}") };
        writeln!(card, "| `{name}` | {shown} | {meaning} |")?;
    }
    writeln!(card)
}

fn write_limits(card: &mut String, trained: &Trained) -> std::fmt::Result {
    writeln!(
        card,
        "\n## Limits\n\n\
         - It knows the traffic of the inputs and no other: what is rare or absent there is unusual, harmful or not.\n\
         - Attacks that nobody labelled were learned as normal traffic; `--contamination` leaves out so many rows."
    )?;
    if trained.rows.origins.iter().any(|origin| origin.kind == "capture") {
        writeln!(
            card,
            "- Attacks in captures are those that the rules of Leuko found; what they missed counts as normal."
        )?;
    }
    if !trained.rows.origins.iter().all(|origin| origin.labelled) {
        writeln!(card, "- An input without labels was taken for normal traffic as a whole.")?;
    }
    writeln!(card, "- Held-out rows are of the same inputs: on another network the figures will be worse.")
}

fn name(origin: &Origin) -> String {
    let name = origin.path.file_name().unwrap_or_default().to_string_lossy();
    name.replace('|', "\\|").replace(char::is_control, "?")
}

fn date(epoch_s: f64) -> String {
    let since = Duration::try_from_secs_f64(epoch_s).unwrap_or_default();
    (Timestamp::EPOCH + since).to_string()
}
