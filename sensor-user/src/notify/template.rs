//! The words of messages: templates that come with the program, in English and Spanish, and that the user may replace.
//!
//! A template is called `<sink>.<part>.<format>`, such as `telegram.message.html`; the format decides how values are escaped.
//! A file of that name in the user's folder takes the place of the built-in one.

pub(super) mod escape;
pub(super) mod fit;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use minijinja::{Environment, UndefinedBehavior};
use sensor_core::incident::Language;
use serde::Serialize;

use super::view::View;

/// Steps that rendering may take: no template of a user can hold up the sensor.
const FUEL: u64 = 200_000;

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        [$(($name, [
            include_str!(concat!("../../templates/en/", $name)),
            include_str!(concat!("../../templates/es/", $name)),
        ])),*]
    };
}

/// Every template, in English and Spanish.
const BUILTIN: &[(&str, [&str; 2])] = &builtin![
    "discord.digest.md",
    "discord.message.md",
    "email.digest.html",
    "email.digest.txt",
    "email.digest_subject.txt",
    "email.message.html",
    "email.message.txt",
    "email.subject.txt",
    "mattermost.digest.md",
    "mattermost.message.md",
    "ntfy.digest.txt",
    "ntfy.message.txt",
    "slack.digest.mrkdwn",
    "slack.message.mrkdwn",
    "syslog.message.txt",
    "telegram.blocks.html",
    "telegram.details.html",
    "telegram.digest.html",
    "telegram.help.html",
    "telegram.incidents.html",
    "telegram.message.html",
    "telegram.mutes.html",
    "telegram.over.html",
    "telegram.rise.html",
    "telegram.status.html",
    "telegram.top.html",
    "webhook.digest.json",
    "webhook.event.json",
];

/// The templates of one sensor.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// The templates of a language; those in the user's folder go before.
    ///
    /// # Errors
    /// A file of the user cannot be read, is called like none of ours, or is no template.
    pub fn load(folder: Option<&Path>, language: Language) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(escape::of_name);
        environment.set_formatter(escape::write);
        escape::add_filters(&mut environment);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        for (name, texts) in BUILTIN {
            let text = texts[usize::from(language == Language::Es)];
            environment.add_template(name, text).with_context(|| format!("the built-in template {name}"))?;
        }
        if let Some(folder) = folder {
            add_files(&mut environment, folder)?;
        }
        Ok(Self { environment })
    }

    /// The text of a template for what it is about.
    ///
    /// # Errors
    /// The template asks for something that there is not, or does not end.
    pub fn render(&self, name: &str, view: impl Serialize) -> Result<String> {
        let template = self.environment.get_template(name)?;
        template.render(view).with_context(|| format!("render the template {name}"))
    }

    /// The text of a template about an event, with as much evidence as fits.
    ///
    /// # Errors
    /// As [`Self::render`]; or it does not fit even without evidence.
    pub fn render_to_fit(&self, name: &str, view: &View, fits: impl Fn(&str) -> bool) -> Result<String> {
        for lines in [usize::MAX, 24, 12, 6, 3, 0] {
            if lines < usize::MAX && lines >= view.evidence.len() && lines > 0 {
                continue;
            }
            let text = self.render(name, view.clone().with_evidence(lines))?;
            if fits(&text) {
                return Ok(text);
            }
        }
        bail!("the template {name} gives more than the receiver takes, even without evidence: shorten it")
    }
}

/// Names of the built-in templates, and their texts in a language.
pub fn builtin(language: Language) -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILTIN.iter().map(move |(name, texts)| (*name, texts[usize::from(language == Language::Es)]))
}

fn add_files(environment: &mut Environment<'static>, folder: &Path) -> Result<()> {
    let unreadable = || format!("read the templates in {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        paths.push(entry.with_context(unreadable)?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if !BUILTIN.iter().any(|(known, _)| *known == name) {
            let known: Vec<&str> = BUILTIN.iter().map(|(known, _)| *known).collect();
            bail!("{} is called like no template: there are {}", path.display(), known.join(", "));
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read the template {}", path.display()))?;
        environment.add_template_owned(name, text).with_context(|| format!("the template {}", path.display()))?;
    }
    Ok(())
}
