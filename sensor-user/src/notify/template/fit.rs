//! Messages that are as long as the receiver takes.

use anyhow::{Result, bail};

use super::Templates;
use crate::notify::view::{Author, DigestView};
use crate::store::Event;

impl Templates {
    /// The text of a template about several events, at most `most`, and how many of them it lists: as many as fit.
    ///
    /// # Errors
    /// As [`Self::render`]; or it does not fit even with one event.
    pub fn digest_to_fit(
        &self,
        name: &str,
        (events, author): (&[Event], &Author),
        most: usize,
        fits: impl Fn(&str) -> bool,
    ) -> Result<(String, usize)> {
        let mut listed = events.len().min(most);
        loop {
            let text = self.render(name, DigestView::of(&events[..listed], author))?;
            if fits(&text) {
                return Ok((text, listed));
            }
            if listed <= 1 {
                bail!("the template {name} gives more than the receiver takes, even of one event: shorten it");
            }
            listed = listed * 3 / 4;
        }
    }
}

/// Length as most services count it: in UTF-16 code units.
#[must_use]
pub fn units(text: &str) -> usize {
    text.encode_utf16().count()
}
