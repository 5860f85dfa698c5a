//! Text of Telegram's HTML: escaped, and measured as Telegram does.

/// Longest message, in UTF-16 code units of the text without its tags.
pub const LIMIT: usize = 4096;

/// Whether a text is no longer than a message may be.
pub fn fits(html: &str) -> bool {
    units(html) <= LIMIT
}

/// Length of a text as Telegram counts it: without tags, and entities as what they stand for.
pub fn units(html: &str) -> usize {
    let (mut units, mut rest) = (0, html);
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '<' => rest.find('>'),
            '&' => rest.find(';').inspect(|_| units += 1),
            _ => None,
        };
        if end.is_none() {
            units += c.len_utf16();
        }
        rest = &rest[end.map_or(c.len_utf8(), |end| end + 1)..];
    }
    units
}

/// `text` as it stands in HTML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_do_not_count_and_entities_count_once() {
        for (html, length) in [
            ("", 0),
            ("<b>ab</b>", 2),
            ("&lt;b&gt; &#x27;", 5),
            ("𝄞é", 3),
            ("<a href=\"x\">y</a>", 1),
            ("a < b & c", 9),
        ] {
            assert_eq!(units(html), length, "{html}");
        }
        assert_eq!(units(&escape("<&>\"é")), 5);
    }
}
