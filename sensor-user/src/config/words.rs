//! Error messages of the deserialiser in the words of people, with a hint at what may have been meant.

/// The message as it is shown. `hide` leaves out values, which may be secrets in the wrong place.
pub fn explain(message: &str, hide: bool) -> String {
    let message = if hide { without_value(message) } else { message.to_owned() };
    let message = message.lines().collect::<Vec<_>>().join("; ");
    let message = in_plain_words(&message);
    match meant(&message) {
        Some(name) => format!("{message}; did you mean `{name}`?"),
        None => message,
    }
}

/// Those of `names` that look like `name`, closest first, at most three.
pub fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    const ALIKE: f64 = 0.6;
    let is_end = |other: &str| other.strip_suffix(name).is_some_and(|before| before.ends_with('_'));
    let likeness = |other: &'a str| {
        let alike = strsim::normalized_damerau_levenshtein(name, other);
        (if is_end(other) { alike.max(ALIKE) } else { alike }, other)
    };
    let mut near: Vec<_> = names.map(likeness).filter(|(likeness, _)| *likeness >= ALIKE).collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// `invalid type: string "hunter2", expected ...` without the second and third word after the colon.
fn without_value(message: &str) -> String {
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(kind) {
            let what = rest.split([' ', ',']).next().unwrap_or_default();
            let expected = rest.rfind(", expected ").map_or("", |at| &rest[at..]);
            return format!("{kind}{what}{expected}");
        }
    }
    message.to_owned()
}

fn in_plain_words(message: &str) -> String {
    if let Some((before, rest)) = message.split_once("expected struct ") {
        let name = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        return format!("{before}expected a table{}", &rest[name..]);
    }
    for (theirs, ours) in [
        ("expected i64", "expected a whole number"),
        ("expected a sequence", "expected a list in brackets"),
        ("expected a boolean", "expected true or false"),
        ("expected a string", "expected text in quotes"),
        ("expected path string", "expected text in quotes"),
        ("wanted string or table", "expected text in quotes"),
    ] {
        if let Some(before) = message.strip_suffix(theirs) {
            return format!("{before}{ours}");
        }
    }
    message.to_owned()
}

/// For ``unknown field `x`, expected one of `a`, `b` ``: the likely one of `a` and `b`.
fn meant(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    let (name, rest) = rest.split_once('`')?;
    near(name, rest.split('`').skip(1).step_by(2)).first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_may_be_secret_are_left_out() {
        for (message, shown) in [
            (
                "invalid type: string \"hun, expected ter2\", expected struct RawBasic",
                "invalid type: string, expected a table",
            ),
            ("invalid type: integer `123456`, expected a string", "invalid type: integer, expected text in quotes"),
            ("invalid type: sequence, expected a string", "invalid type: sequence, expected text in quotes"),
        ] {
            assert_eq!(explain(message, true), shown);
        }
    }

    #[test]
    fn a_slip_of_the_keyboard_is_understood() {
        let message = "unknown field `intervall`, expected one of `interfaces`, `interval`";
        assert!(explain(message, false).ends_with("did you mean `interval`?"));
        assert_eq!(explain("unknown field `x`, expected `url`", false), "unknown field `x`, expected `url`");
        assert_eq!(near("XDP_MODE", ["KERNEL_EGRESS", "XDP_MODUS"].into_iter()), ["XDP_MODUS"]);
    }
}
