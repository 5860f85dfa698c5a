//! The file, the environment and the flags as one TOML tree in which every value knows where it came from.
//!
//! A value's span is its place in the file's text; spans after the end of the text number the overrides. An error of
//! deserialisation has a span, and so finds its way back to a line, a variable or a flag.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::ConfigError;
use super::setting::{Kind, Setting};
use super::words;

/// One setting from the environment or the command line. No `Debug`: the text may be a secret.
#[derive(Clone)]
pub struct Override {
    /// The variable or flag, for errors.
    pub origin: String,
    /// What is set.
    pub setting: &'static Setting,
    /// To what.
    pub text: String,
}

/// Sinks of which there may be several, below `notify`.
const SEVERAL: [&str; 10] =
    ["alertmanager", "discord", "email", "eve", "mattermost", "ntfy", "otlp", "slack", "syslog", "webhook"];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file.
    File {
        /// As it was given.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Keys joined by dots; empty for the whole file.
        key: String,
    },
    /// An environment variable or a flag, by name.
    Given(String),
    /// A default that does not go with the rest, by key.
    Default(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, key } if key.is_empty() => write!(f, "{}:{line}", path.display()),
            Self::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
            Self::Given(name) | Self::Default(name) => f.write_str(name),
        }
    }
}

/// The merged tree.
pub struct Layers<'a> {
    path: &'a Path,
    text: &'a str,
    overrides: &'a [Override],
    root: Spanned<DeTable<'a>>,
}

impl<'a> Layers<'a> {
    /// Parses the file's text and lays the overrides over it, later ones over earlier ones.
    pub fn new(path: &'a Path, text: &'a str, overrides: &'a [Override]) -> Result<Self, ConfigError> {
        let mut this = Self { path, text, overrides, root: Spanned::new(0..0, DeTable::new()) };
        this.root = DeTable::parse(text).map_err(|error| this.syntax_error(&error))?;
        Ok(this)
    }

    /// Lays the overrides over the file.
    pub fn overlay(&mut self) {
        for (index, given) in self.overrides.iter().enumerate() {
            let at = self.text.len() + 1 + index;
            let place = Place { file_end: self.text.len(), span: at..at + 1 };
            place.put(self.root.get_mut(), given.setting.path, &value(given, &place.span));
        }
    }

    /// The tree as a value of `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.refuse_wrong_shapes()?;
        self.refuse_hidden_secrets()?;
        T::deserialize(Deserializer::from(self.root.clone())).map_err(|error| self.error(&error))
    }

    /// As [`Layers::read`], but rules about a section as a whole are left for the time when the layers are one.
    pub fn check<T: DeserializeOwned>(&self) -> Result<(), ConfigError> {
        self.refuse_wrong_shapes()?;
        self.refuse_hidden_secrets()?;
        match T::deserialize(Deserializer::from(self.root.clone())) {
            Err(error) if !self.locate(error.span()).is_some_and(|found| found.is_table) => Err(self.error(&error)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Where the first of `keys` that is set at all was set.
    pub fn origin_of(&self, keys: &[&str]) -> Origin {
        let mut leaves = Vec::new();
        walk(self.root.get_ref(), "", &mut leaves);
        let found = keys.iter().find_map(|key| leaves.iter().find(|leaf| leaf.key == *key));
        match found {
            Some(leaf) => self.origin(Some(leaf.spans[1].clone())),
            None => Origin::Default(keys.first().copied().unwrap_or_default().to_owned()),
        }
    }

    /// Sections are tables; without this, a list would be taken for the section's values in some order.
    fn refuse_wrong_shapes(&self) -> Result<(), ConfigError> {
        let wrong = |value: &Spanned<DeValue<'_>>, message| {
            Err(ConfigError::Invalid { origin: self.origin(Some(value.span())), message })
        };
        let root = self.root.get_ref();
        for section in ["kernel", "timeouts", "metrics", "canary", "store", "detect", "notify"] {
            if let Some(value) = root.get(section).filter(|value| !value.get_ref().is_table()) {
                return wrong(value, format!("is a section: write [{section}], and its settings below that line"));
            }
        }
        let detect = root.get("detect").and_then(|detect| detect.get_ref().as_table());
        if let Some(value) = detect.and_then(|detect| detect.get("contamination")) {
            let message = "belongs to `leuko train`: what is reported follows from detect.alerts_per_day";
            return wrong(value, message.to_owned());
        }
        if let Some(value) =
            detect.and_then(|detect| detect.get("suppress")).filter(|value| !value.get_ref().is_array())
        {
            return wrong(value, "there may be several: write [[detect.suppress]], with two brackets".to_owned());
        }
        let notify = root.get("notify").and_then(|notify| notify.get_ref().as_table());
        let receiver = |name: &str| notify.and_then(|notify| notify.get(name));
        for name in SEVERAL {
            if let Some(value) = receiver(name).filter(|value| !value.get_ref().is_array()) {
                return wrong(value, format!("there may be several: write [[notify.{name}]], with two brackets"));
            }
        }
        match receiver("telegram").filter(|value| !value.get_ref().is_table()) {
            Some(value) => wrong(value, "there is one: write [notify.telegram], with one bracket".to_owned()),
            None => Ok(()),
        }
    }

    /// What `leuko config` prints in place of a secret is not a secret.
    fn refuse_hidden_secrets(&self) -> Result<(), ConfigError> {
        let mut leaves = Vec::new();
        walk(self.root.get_ref(), "", &mut leaves);
        let hidden = leaves.iter().find(|leaf| is_secret(&leaf.key) && leaf.text == Some("***"));
        match hidden {
            None => Ok(()),
            Some(leaf) => {
                let name = leaf.key.rsplit('.').next().unwrap_or_default();
                let message = format!(
                    "\"***\" stands for a secret that was not printed: put the secret here, or use {name}_file"
                );
                Err(ConfigError::Invalid { origin: self.origin(Some(leaf.spans[1].clone())), message })
            }
        }
    }

    fn syntax_error(&self, error: &toml::de::Error) -> ConfigError {
        let mut message = error.message().to_owned();
        if message == "duplicate key" {
            let key = error.span().and_then(|span| self.text.get(span)).unwrap_or_default();
            message.push_str(&format!(" `{key}`"));
        }
        ConfigError::Invalid { origin: self.origin(error.span()), message }
    }

    fn error(&self, error: &toml::de::Error) -> ConfigError {
        let found = self.locate(error.span());
        let secret = found.as_ref().is_some_and(|found| found.key.starts_with("notify"));
        ConfigError::Invalid { origin: self.origin(error.span()), message: words::explain(error.message(), secret) }
    }

    fn origin(&self, span: Option<Range<usize>>) -> Origin {
        let start = span.as_ref().map_or(0, |span| span.start);
        if let Some(given) = start.checked_sub(self.text.len() + 1).and_then(|index| self.overrides.get(index)) {
            return Origin::Given(given.origin.clone());
        }
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let key = self.locate(span).map(|found| found.key).unwrap_or_default();
        Origin::File { path: self.path.to_owned(), line, key }
    }

    /// The smallest thing around `span`; of several, the innermost.
    fn locate(&self, span: Option<Range<usize>>) -> Option<Found> {
        let span = span?;
        let mut nodes = Vec::new();
        walk(self.root.get_ref(), "", &mut nodes);
        let around = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
        let spans = nodes.iter().flat_map(|node| {
            let [key, value] = &node.spans;
            [(key, false), (value, node.is_table)].map(|(range, is_table)| (range, is_table, &node.key))
        });
        let closest = spans.rev().filter(|(range, ..)| around(range)).min_by_key(|(range, ..)| range.len());
        closest.map(|(_, is_table, key)| Found { key: key.clone(), is_table })
    }
}

struct Found {
    key: String,
    is_table: bool,
}

/// A key and its value somewhere in the tree.
struct Node<'t> {
    key: String,
    spans: [Range<usize>; 2],
    is_table: bool,
    text: Option<&'t str>,
}

fn walk<'t>(table: &'t DeTable<'_>, prefix: &str, nodes: &mut Vec<Node<'t>>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        walk_value(value, &key, name.span(), nodes);
    }
}

fn walk_value<'t>(value: &'t Spanned<DeValue<'_>>, key: &str, named: Range<usize>, nodes: &mut Vec<Node<'t>>) {
    let node = value.get_ref();
    nodes.push(Node {
        key: key.to_owned(),
        spans: [named, value.span()],
        is_table: node.is_table(),
        text: node.as_str(),
    });
    if let Some(table) = node.as_table() {
        walk(table, key, nodes);
    }
    for item in node.as_array().into_iter().flat_map(|items| items.iter()) {
        walk_value(item, key, item.span(), nodes);
    }
}

fn is_secret(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or_default();
    key.starts_with("notify.") && matches!(name, "token" | "password" | "bearer_token" | "secret" | "url")
}

/// A value that is put into the tree.
struct Place {
    file_end: usize,
    span: Range<usize>,
}

impl Place {
    fn put<'a>(&self, root: &mut DeTable<'a>, path: &str, value: &Spanned<DeValue<'a>>) {
        const EACH: &str = "notify.alertmanager";
        let Some(rest) = path.strip_prefix(EACH).and_then(|rest| rest.strip_prefix('.')) else {
            return self.set(root, path, value.clone());
        };
        if rest == "url" {
            let urls = value.get_ref().as_array().into_iter().flat_map(|items| items.iter());
            let tables = urls.map(|url| {
                let mut table = DeTable::new();
                self.set(&mut table, rest, url.clone());
                self.spanned(DeValue::Table(table))
            });
            return self.set(root, EACH, self.spanned(DeValue::Array(tables.collect())));
        }
        let Some(section) = self.section(root, "notify") else { return };
        let missing =
            || self.spanned(DeValue::Array([self.spanned(DeValue::Table(DeTable::new()))].into_iter().collect()));
        let each = section.entry(self.key("alertmanager")).or_insert_with(missing);
        if let DeValue::Array(tables) = each.get_mut() {
            for table in tables.iter_mut() {
                if let DeValue::Table(table) = table.get_mut() {
                    self.set(table, rest, value.clone());
                }
            }
        }
    }

    fn set<'a>(&self, mut table: &mut DeTable<'a>, path: &str, value: Spanned<DeValue<'a>>) {
        let mut rest = path;
        while let Some((name, below)) = rest.split_once('.') {
            let Some(section) = self.section(table, name) else { return };
            (table, rest) = (section, below);
        }
        // A secret of the environment takes the place of the file's `_file`, and the other way round.
        let sibling = rest.strip_suffix("_file").map_or_else(|| format!("{rest}_file"), ToOwned::to_owned);
        if table.get(sibling.as_str()).is_some_and(|sibling| sibling.span().start < self.file_end) {
            table.remove(sibling.as_str());
        }
        table.insert(self.key(rest), value);
    }

    /// The table called `name`. None when the file has something else there, which reading will complain about.
    fn section<'t, 'a>(&self, table: &'t mut DeTable<'a>, name: &str) -> Option<&'t mut DeTable<'a>> {
        let entry = table.entry(self.key(name)).or_insert_with(|| self.spanned(DeValue::Table(DeTable::new())));
        if let DeValue::Table(table) = entry.get_mut() { Some(table) } else { None }
    }

    fn key<'a>(&self, name: &str) -> Spanned<Cow<'a, str>> {
        Spanned::new(self.span.clone(), Cow::Owned(name.to_owned()))
    }

    fn spanned<'a>(&self, value: DeValue<'a>) -> Spanned<DeValue<'a>> {
        Spanned::new(self.span.clone(), value)
    }
}

fn value<'a>(given: &'a Override, span: &Range<usize>) -> Spanned<DeValue<'a>> {
    let text = given.text.as_str();
    let string = |text: &'a str| Spanned::new(span.clone(), DeValue::String(Cow::Borrowed(text)));
    match given.setting.kind {
        // Several Alertmanagers fit into one variable.
        Kind::Text if given.setting.path != "notify.alertmanager.url" => string(text),
        Kind::Text | Kind::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Spanned::new(span.clone(), DeValue::Array(items.map(string).collect()))
        }
        Kind::Scalar => match DeValue::parse(text).map(Spanned::into_inner) {
            Ok(value) if value.is_integer() || value.is_float() || value.is_bool() => Spanned::new(span.clone(), value),
            Ok(_) | Err(_) => string(text),
        },
    }
}
