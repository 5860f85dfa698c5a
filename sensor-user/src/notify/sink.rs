//! The kinds of sinks and what became of a notification, as metrics name them.

/// A kind of receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Prometheus Alertmanager, API v2.
    Alertmanager,
    /// A Telegram chat.
    Telegram,
}

impl Sink {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Alertmanager, Self::Telegram];

    /// The stable identifier.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alertmanager => "alertmanager",
            Self::Telegram => "telegram",
        }
    }
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver confirmed it.
    Delivered,
    /// Given up: refused for good, or too old.
    Failed,
    /// Lost before it was tried: no room, or the sensor stopped.
    Dropped,
    /// An attempt failed and will be repeated.
    Retried,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Failed, Self::Dropped, Self::Retried];

    /// The stable identifier.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::Retried => "retried",
        }
    }
}
