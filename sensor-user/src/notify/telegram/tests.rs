//! Against servers that speak the Bot API's wire format.

mod block;
mod bot;
mod fake;
mod hostile;
mod polling;
mod sink;
