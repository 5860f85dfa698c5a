//! What comes from Telegram.

use prometheus::{IntCounterVec, Registry};

use super::{Result, counters};

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateResult {
    /// It was for us.
    Handled,
    /// It was from somebody whom the configuration does not name: ignored.
    Stranger,
    /// It was of no known form: ignored.
    Unreadable,
}

impl UpdateResult {
    const ALL: [Self; 3] = [Self::Handled, Self::Stranger, Self::Unreadable];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Handled => "handled",
            Self::Stranger => "stranger",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Metrics of the bot.
pub struct TelegramMetrics {
    updates: IntCounterVec,
}

impl TelegramMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self> {
        let updates =
            counters(r, "leuko_telegram_updates_total", "What people wrote to the bot, and pressed.", &["result"])?;
        for result in UpdateResult::ALL {
            updates.with_label_values(&[result.as_str()]).inc_by(0);
        }
        Ok(Self { updates })
    }

    /// Counts an update.
    pub fn update(&self, result: UpdateResult) {
        self.updates.with_label_values(&[result.as_str()]).inc();
    }
}
