//! What is posted: one embed, within Discord's limits, that mentions nobody.
//!
//! Source: <https://docs.discord.com/developers/resources/message#embed-object-embed-limits>.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use crate::notify::template::Templates;
use crate::notify::template::escape::markdown;
use crate::notify::template::fit::units;
use crate::notify::text::clip;
use crate::notify::view::{Author, DigestView, View};
use crate::store::Event;

const DESCRIPTION: usize = 4096;
const FIELDS: usize = 25;
const FOOTER: usize = 256;
const TOTAL: usize = 6000;
/// Events that a digest lists.
const LISTED: usize = 60;

#[derive(Debug, Serialize)]
struct Embed {
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    description: String,
    color: u32,
    fields: Vec<Field>,
    footer: Footer,
    timestamp: String,
}

#[derive(Debug, Serialize)]
struct Field {
    name: String,
    value: String,
    inline: bool,
}

#[derive(Debug, Serialize)]
struct Footer {
    text: String,
}

impl Embed {
    /// With as many pieces of evidence as there is room for.
    fn with_evidence(mut self, view: &View) -> Self {
        let mut total = units(&self.title) + units(&self.description) + units(&self.footer.text);
        for one in view.evidence.iter().take(FIELDS) {
            // A field without a name or a value is refused.
            let text = |text: &str| if text.trim().is_empty() { "–".to_owned() } else { markdown(text) };
            let field = Field { name: text(&one.name), value: text(&one.value), inline: true };
            total += units(&field.name) + units(&field.value);
            if total > TOTAL {
                break;
            }
            self.fields.push(field);
        }
        self
    }

    fn message(&self) -> Value {
        json!({"embeds": [self], "allowed_mentions": {"parse": []}})
    }
}

/// The message about an event.
pub fn of(event: &Event, author: &Author, templates: &Templates) -> Result<Value> {
    let view = View::of(event, author);
    let text = templates.render_to_fit("discord.message.md", &view, |text| units(text) <= DESCRIPTION)?;
    let title = format!("{} {} · {} · {}", view.emoji, view.title, view.severity_name, markdown(&view.sensor));
    let embed = Embed {
        title,
        url: view.link.clone(),
        description: text.trim().to_owned(),
        color: view.colour,
        fields: Vec::new(),
        footer: Footer { text: clip(&format!("{} · {}", view.sensor, view.key), FOOTER) },
        timestamp: event.at.to_string(),
    };
    Ok(embed.with_evidence(&view).message())
}

/// The message about the first of several events, and how many these are.
pub fn of_several(events: &[Event], author: &Author, templates: &Templates) -> Result<(Value, usize)> {
    let fits = |text: &str| units(text) <= DESCRIPTION;
    let (text, listed) = templates.digest_to_fit("discord.digest.md", (events, author), LISTED, fits)?;
    let view = DigestView::of(&events[..listed], author);
    let embed = Embed {
        title: String::new(),
        url: String::new(),
        description: text.trim().to_owned(),
        color: view.colour,
        fields: Vec::new(),
        footer: Footer { text: view.sensor },
        timestamp: events.last().map(|event| event.at.to_string()).unwrap_or_default(),
    };
    Ok((embed.message(), listed))
}
