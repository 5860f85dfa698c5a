//! Numbers for people.

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `950 `, `1.2 k`, `3.45 M`: three digits and the prefix of the unit that follows.
pub fn rate(number: f64) -> String {
    let mut scaled = if number.is_finite() { number.max(0.0) } else { 0.0 };
    for prefix in ["", "k", "M", "G", "T"] {
        if scaled < 999.5 || prefix == "T" {
            let digits = if prefix.is_empty() || scaled >= 99.95 {
                0
            } else if scaled >= 9.995 {
                1
            } else {
                2
            };
            return format!("{scaled:.digits$} {prefix}");
        }
        scaled /= 1000.0;
    }
    String::new()
}

/// `12 %`, `99.98 %`: never rounded up to all, never down to none.
pub fn share(part: f64) -> String {
    let percent = if part.is_finite() { part.clamp(0.0, 1.0) * 100.0 } else { 0.0 };
    match percent {
        p if p == 0.0 || p == 100.0 => format!("{p:.0} %"),
        p if p > 99.0 => format!("{:.2} %", (p * 100.0).floor().min(9999.0) / 100.0),
        p if p < 1.0 => format!("{:.2} %", p.max(0.01)),
        p => format!("{p:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_honest() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [
            (0.0, "0 "),
            (950.4, "950 "),
            (999.9, "1.00 k"),
            (12_340.0, "12.3 k"),
            (3_450_000.0, "3.45 M"),
            (1e15, "1000 T"),
            (f64::NAN, "0 "),
        ] {
            assert_eq!(rate(number), text);
        }
        for (part, text) in
            [(0.0, "0 %"), (1e-9, "0.01 %"), (0.123, "12 %"), (0.999_99, "99.99 %"), (1.0, "100 %"), (0.5, "50 %")]
        {
            assert_eq!(share(part), text);
        }
    }
}
