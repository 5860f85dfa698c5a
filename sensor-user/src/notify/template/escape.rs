//! How values are written into a text of each format, so that no name of a host, no label and no User-Agent means more than
//! itself.

use std::fmt::Write as _;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value, escape_formatter};

/// Takes up no room, and keeps two characters from meaning something together.
const APART: char = '\u{200b}';

/// By the format at the end of the template's name.
pub fn of_name(name: &str) -> AutoEscape {
    match name.rsplit('.').next() {
        Some("html") => AutoEscape::Html,
        Some("json") => AutoEscape::Json,
        Some("md") => AutoEscape::Custom("md"),
        Some("mrkdwn") => AutoEscape::Custom("mrkdwn"),
        Some(_) | None => AutoEscape::None,
    }
}

/// Adds the filters `code`, for what people copy, such as addresses, and `url`, for the target of a link.
pub fn add_filters(environment: &mut Environment<'_>) {
    environment.add_filter("code", code);
    environment.add_filter("url", url);
}

/// Writes one value.
pub fn write(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let escape = match state.auto_escape() {
        AutoEscape::Custom("md") => Some(markdown as fn(&str) -> String),
        AutoEscape::Custom("mrkdwn") => Some(slack as fn(&str) -> String),
        AutoEscape::None | AutoEscape::Html | AutoEscape::Json | AutoEscape::Custom(_) | _ => None,
    };
    let Some(escape) = escape else { return escape_formatter(out, state, value) };
    if value.is_safe() || value.is_undefined() || value.is_none() {
        return escape_formatter(out, state, value);
    }
    let mut text = String::new();
    write!(text, "{value}").map_err(|_| Error::from(ErrorKind::WriteFailure))?;
    out.write_str(&escape(&text)).map_err(|_| Error::from(ErrorKind::WriteFailure))
}

/// Markdown as Discord and Mattermost read it: what could begin a format, a list, a link or a mention does not.
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    if begins_block(text) {
        escaped.push(APART);
    }
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '~' | '|' | '>' | '#' | '[' | ']' | '(' | ')' | '!' => {
                escaped.push('\\');
                escaped.push(c);
            }
            // `@everyone`, `<@1>`, `&#64;`: not everybody takes a backslash before these.
            '@' | '<' | '&' => escaped.extend([c, APART]),
            '/' if escaped.ends_with(':') => escaped.extend([APART, c]),
            '.' if ends_with_www(&escaped) => escaped.extend([APART, c]),
            _ => escaped.push(one_line(c)),
        }
    }
    escaped
}

/// Slack's "mrkdwn": three characters are control characters; formats need a word boundary, which a character without width
/// takes away.
pub fn slack(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '<' => push_entity(&mut escaped, c),
            // At the beginning of a line it is a quotation, even as an entity.
            '>' => escaped.push_str("\u{200b}&gt;"),
            '*' | '_' | '~' | '`' => escaped.extend([APART, c]),
            '@' => escaped.extend([c, APART]),
            '/' if escaped.ends_with(':') => escaped.extend([APART, c]),
            _ => escaped.push(one_line(c)),
        }
    }
    escaped
}

/// A value as code: to be copied as it is, so nothing but what would end it is changed.
fn code(state: &State<'_, '_>, text: &str) -> Value {
    let inner: String = text.chars().map(|c| if c == '`' { '\'' } else { one_line(c) }).collect();
    if inner.trim().is_empty() {
        return Value::from(inner);
    }
    match state.auto_escape() {
        AutoEscape::Custom("md") => Value::from_safe_string(format!("`{inner}`")),
        AutoEscape::Custom("mrkdwn") => {
            let mut escaped = String::from("`");
            inner.chars().for_each(|c| push_entity(&mut escaped, c));
            Value::from_safe_string(escaped + "`")
        }
        AutoEscape::None | AutoEscape::Html | AutoEscape::Json | AutoEscape::Custom(_) | _ => Value::from(text),
    }
}

/// The target of a link, without characters that would end it.
fn url(state: &State<'_, '_>, text: &str) -> Value {
    let mut target = String::with_capacity(text.len());
    for byte in text.bytes() {
        let kept = byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&+,;=%".contains(&byte);
        if kept { target.push(char::from(byte)) } else { target.push_str(&format!("%{byte:02X}")) }
    }
    match state.auto_escape() {
        AutoEscape::Custom("md") => Value::from_safe_string(target),
        AutoEscape::Custom("mrkdwn") => Value::from_safe_string(target.replace('&', "&amp;")),
        AutoEscape::None | AutoEscape::Html | AutoEscape::Json | AutoEscape::Custom(_) | _ => Value::from(target),
    }
}

fn push_entity(escaped: &mut String, c: char) {
    match c {
        '&' => escaped.push_str("&amp;"),
        '<' => escaped.push_str("&lt;"),
        '>' => escaped.push_str("&gt;"),
        _ => escaped.push(c),
    }
}

/// Whether a line of Markdown that begins so would be a list, a heading or code: `- a`, `1. a`, four spaces.
fn begins_block(text: &str) -> bool {
    let after_number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered =
        after_number.len() < text.len() && (after_number.starts_with(". ") || after_number.starts_with(") "));
    numbered || text.starts_with(['-', '+', '=', ' '])
}

/// Mattermost makes a link of `www.` and what follows.
fn ends_with_www(text: &str) -> bool {
    text.len().checked_sub(3).and_then(|at| text.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case("www"))
}

/// Some clients begin a line at Unicode's separators of lines and paragraphs, and at control characters.
const fn one_line(c: char) -> char {
    match c {
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => ' ',
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_is_text_for_discord_and_mattermost() {
        for (text, escaped) in [
            ("203.0.113.5 probed 8 ports", "203.0.113.5 probed 8 ports"),
            ("2001:db8:100::1", "2001:db8:100::1"),
            ("**a** __b__ `c`", r"\*\*a\*\* \_\_b\_\_ \`c\`"),
            ("@everyone <@1> &#64;here", "@\u{200b}everyone <\u{200b}@\u{200b}1\\> &\u{200b}\\#64;here"),
            ("[x](http://evil.example)", "\\[x\\]\\(http:\u{200b}//evil.example\\)"),
            ("www.evil.example", "www\u{200b}.evil.example"),
            ("ünwww.x", "ünwww\u{200b}.x"),
            ("- item", "\u{200b}- item"),
            ("1. item", "\u{200b}1. item"),
            ("# big", r"\# big"),
            ("a\u{2028}> b\nc", r"a \> b c"),
        ] {
            assert_eq!(markdown(text), escaped);
        }
    }

    #[test]
    fn mrkdwn_is_text_for_slack() {
        for (text, escaped) in [
            ("<!channel> & <@U1>", "&lt;!channel\u{200b}&gt; &amp; &lt;@\u{200b}U1\u{200b}&gt;"),
            ("*a* _b_ ~c~ `d`", "\u{200b}*a\u{200b}* \u{200b}_b\u{200b}_ \u{200b}~c\u{200b}~ \u{200b}`d\u{200b}`"),
            ("> quoted", "\u{200b}&gt; quoted"),
            ("https://evil.example", "https:\u{200b}//evil.example"),
        ] {
            assert_eq!(slack(text), escaped);
        }
    }

    #[test]
    fn code_and_links_cannot_be_left() {
        let render = |name: &'static str, source: &'static str, value: &str| {
            let mut environment = Environment::new();
            environment.set_auto_escape_callback(of_name);
            environment.set_formatter(write);
            add_filters(&mut environment);
            environment.add_template(name, source).unwrap();
            environment.get_template(name).unwrap().render(minijinja::context! { v => value }).unwrap()
        };
        for (name, source, value, text) in [
            ("a.md", "{{ v|code }}", "10.0.0.1, 2001:db8::1", "`10.0.0.1, 2001:db8::1`"),
            ("a.md", "{{ v|code }}", "a` @everyone `b", "`a' @everyone 'b`"),
            ("a.mrkdwn", "{{ v|code }}", "a` <!here> &", "`a' &lt;!here&gt; &amp;`"),
            ("a.md", "{{ v|code }}", "", ""),
            ("a.html", "{{ v|code }}", "<b>", "&lt;b&gt;"),
            ("a.md", "[x]({{ v|url }})", "https://a/b_c?x=(1)", "[x](https://a/b_c?x=%281%29)"),
            ("a.mrkdwn", "<{{ v|url }}|x>", "https://a/?b=1&c=|d>", "<https://a/?b=1&amp;c=%7Cd%3E|x>"),
        ] {
            assert_eq!(render(name, source, value), text);
        }
    }
}
