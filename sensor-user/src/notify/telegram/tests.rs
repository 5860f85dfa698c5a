//! Against servers that speak the Bot API's wire format.

mod bot;
mod fake;
mod hostile;
mod polling;
mod sink;
