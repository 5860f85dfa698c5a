//! Rules speak of metrics and labels that exist.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;
use leuko::export::prometheus::{Metrics, Vocabulary};
use prometheus::Registry;
use prometheus::proto::{LabelPair, Metric, MetricType};

use super::rules;

/// Labels that Prometheus gives to every series of a target.
const OF_THE_TARGET: [&str; 3] = ["instance", "job", "sensor"];

#[test]
fn rules_speak_of_metrics_that_exist() -> Result<()> {
    let exported = exported()?;
    let mut unknown = BTreeSet::new();
    for file in [rules(".yml")?, rules(".md")?].concat() {
        let text = fs::read_to_string(&file)?;
        unknown.extend(mentioned(&text).difference(&exported).cloned());
    }
    assert!(unknown.is_empty(), "{unknown:?} of {exported:#?}");
    Ok(())
}

/// `name` of each metric that the sensor exports, and `name{label}` of each of its labels.
fn exported() -> Result<BTreeSet<String>> {
    let registry = Registry::new();
    let words = Vocabulary { unaccounted: &["any"], ended: &["any"], programs: &["any"] };
    Metrics::new(&registry, &words)?.store().expect(["any"]);
    let mut names = BTreeSet::new();
    for family in registry.gather() {
        let mut series = vec![family.name().to_owned()];
        if family.get_field_type() == MetricType::HISTOGRAM {
            series.extend(["_bucket", "_count", "_sum"].map(|part| format!("{}{part}", family.name())));
        }
        let labels: BTreeSet<_> = family.get_metric().iter().flat_map(Metric::get_label).map(LabelPair::name).collect();
        names.extend(series.iter().flat_map(|name| labels.iter().map(move |label| format!("{name}{{{label}}}"))));
        names.extend(series);
    }
    Ok(names)
}

/// `name` of each metric of Leuko in a text, and `name{label}` of each label that it is asked for. Recorded series, whose
/// names have a colon before, are not among them.
fn mentioned(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    for (at, _) in text.match_indices("leuko_") {
        if text[..at].ends_with(in_name) {
            continue;
        }
        let rest = &text[at..];
        let (name, rest) = rest.split_at(rest.find(|c| !in_name(c)).unwrap_or(rest.len()));
        found.insert(name.to_owned());
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = labels.into_iter().flat_map(|(labels, _)| labels.split(','));
        let labels = labels.filter_map(|label| label.split(['=', '!']).next()).map(str::trim);
        found.extend(labels.filter(|label| !OF_THE_TARGET.contains(label)).map(|label| format!("{name}{{{label}}}")));
    }
    found
}

#[test]
fn metrics_are_found_in_expressions() {
    let text = r#"rate(leuko_a_total{x="1", job="leuko", y=~"2|3"}[5m]) and instance:leuko_b:rate5m or leuko_c"#;
    let found = ["leuko_a_total", "leuko_a_total{x}", "leuko_a_total{y}", "leuko_c"];
    assert_eq!(mentioned(text), found.map(str::to_owned).into());
}
