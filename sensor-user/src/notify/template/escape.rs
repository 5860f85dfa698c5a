//! How values are written into a text of each format, so that no name of a host, no label and no User-Agent means more than
//! itself.

use std::fmt::Write as _;

use minijinja::{AutoEscape, Error, ErrorKind, Output, State, Value, escape_formatter};

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

/// Markdown as Discord and Mattermost read it: what could begin a format, a link or a mention is escaped.
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '~' | '|' | '>' | '<' | '#' | '[' | ']' | '(' | ')' | '!' => {
                escaped.push('\\');
                escaped.push(c);
            }
            // An address of somebody (@everyone, @here) is broken by a character without width.
            '@' => escaped.push_str("@\u{200b}"),
            _ => escaped.push(c),
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
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '*' | '_' | '~' | '`' => {
                escaped.push('\u{200b}');
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}
