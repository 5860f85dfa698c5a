//! Text of others, made harmless for terminals, logs and messages.

/// `text` as one line without control characters and without marks that reverse the reading direction.
///
/// Evidence may quote what an attacker sent, and a reason what somebody has pasted.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|c| !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor_or_turns_a_line_around() {
        for (text, shown) in [
            ("a\nb\u{202e}c\u{1b}[31m", "a bc [31m"),
            ("\u{200e}\u{200f}\u{202a}x\u{2066}y\u{2069}", "xy"),
            ("añadido ✓", "añadido ✓"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }
}
