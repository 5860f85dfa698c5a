//! One chat: its queue, which incidents it was told of, and the delivery of one message after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sensor_core::incident::{Change, IncidentEvent, Severity};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::api::{Bot, Circuit, Refusal, SendMessage};
use super::{ChatId, TelegramConfig, message};
use crate::export::prometheus::Metrics;
use crate::notify::Wiring;
use crate::notify::retry::Retry;
use crate::notify::sink::{Outcome, Sink};

/// Messages that wait for one chat. When they are as many, new ones are dropped and counted: the first ones say how it
/// began, and a closing without its opening tells the whole incident.
const CAPACITY: usize = 1024;
/// Longest wait that Telegram may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// Incidents whose first message is remembered, to reply to it.
const REMEMBERED: usize = 4096;

/// Takes events for one chat.
pub struct Inlet {
    queue: Option<mpsc::Sender<(Instant, Arc<IncidentEvent>)>>,
    waiting: Arc<AtomicU64>,
    /// Open incidents of which something was queued. An update of any other takes the place of its opening: that was
    /// below the minimum severity, or found no room.
    queued: Mutex<BTreeSet<String>>,
    metrics: Arc<Metrics>,
    send_updates: bool,
    min_severity: Severity,
}

impl Inlet {
    /// Queues the event, if there is room.
    pub fn offer(&self, event: &Arc<IncidentEvent>) {
        let Some(queue) = &self.queue else { return };
        if event.incident.severity < self.min_severity {
            return;
        }
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        let id = &event.incident.id;
        if event.change == Change::Updated && !self.send_updates && queued.contains(id) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.metrics.queue_changed(Sink::Telegram, 1);
        if queue.try_send((Instant::now(), Arc::clone(event))).is_err() {
            self.metrics.notified(Sink::Telegram, Outcome::Dropped, 1);
            self.settle(1);
        } else if event.change == Change::Closed {
            queued.remove(id);
        } else if queued.len() < REMEMBERED {
            queued.insert(id.clone());
        }
    }

    /// No more events come.
    pub fn close(&mut self) {
        self.queue = None;
    }

    /// Gives up what is not delivered; how much it was.
    pub fn abandon(&self) -> u64 {
        let lost = self.waiting.load(Ordering::Relaxed);
        self.metrics.notified(Sink::Telegram, Outcome::Dropped, lost);
        self.settle(lost);
        lost
    }

    fn settle(&self, messages: u64) {
        self.waiting.fetch_sub(messages, Ordering::Relaxed);
        self.metrics.queue_changed(Sink::Telegram, -i64::try_from(messages).unwrap_or(i64::MAX));
    }
}

/// The inlet and the task of `chat`.
pub fn build(
    chat: &ChatId,
    config: &TelegramConfig,
    (bot, circuit): (&Arc<Bot>, &Arc<Circuit>),
    wiring: &Wiring,
) -> (Inlet, Worker) {
    let (queue, events) = mpsc::channel(CAPACITY);
    let waiting = Arc::new(AtomicU64::new(0));
    let inlet = Inlet {
        queue: Some(queue),
        waiting: Arc::clone(&waiting),
        queued: Mutex::default(),
        metrics: Arc::clone(&wiring.metrics),
        send_updates: config.send_updates,
        min_severity: config.min_severity,
    };
    let worker = Worker {
        bot: Arc::clone(bot),
        circuit: Arc::clone(circuit),
        chat: chat.clone(),
        events,
        waiting,
        told: BTreeMap::new(),
        sensor: wiring.sensor.clone(),
        metrics: Arc::clone(&wiring.metrics),
        retry: wiring.retry,
        give_up_after: config.give_up_after.get(),
        send_updates: config.send_updates,
        failing: false,
    };
    (inlet, worker)
}

/// Writes to one chat.
pub struct Worker {
    bot: Arc<Bot>,
    circuit: Arc<Circuit>,
    chat: ChatId,
    events: mpsc::Receiver<(Instant, Arc<IncidentEvent>)>,
    waiting: Arc<AtomicU64>,
    /// Open incidents the chat knows of, with the number of their first message.
    told: BTreeMap<String, Option<i64>>,
    sensor: String,
    metrics: Arc<Metrics>,
    retry: Retry,
    give_up_after: Duration,
    send_updates: bool,
    failing: bool,
}

impl Worker {
    /// Runs until the inlet is closed and the queue is empty.
    pub async fn run(mut self) {
        while let Some((since, event)) = self.events.recv().await {
            self.handle(since, &event).await;
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.queue_changed(Sink::Telegram, -1);
        }
    }

    async fn handle(&mut self, since: Instant, event: &IncidentEvent) {
        let id = &event.incident.id;
        let known = self.told.get(id).copied();
        let text = match (event.change, known) {
            (Change::Updated, Some(_)) if !self.send_updates => return,
            (Change::Updated, Some(_)) => message::update(event, &self.sensor),
            (Change::Closed, Some(_)) => message::over(event),
            (Change::Closed, None) => message::missed(event, &self.sensor),
            (Change::Opened | Change::Updated, _) => message::alert(&event.incident, &self.sensor),
        };
        let delivered = self.deliver(&text, known.flatten(), since).await;
        if event.change == Change::Closed {
            self.told.remove(id);
        } else if let (Some(number), None) = (delivered, known) {
            self.remember(id, number);
        }
    }

    fn remember(&mut self, id: &str, number: Option<i64>) {
        if self.told.len() >= REMEMBERED {
            self.told.pop_first();
        }
        self.told.insert(id.to_owned(), number);
    }

    /// Sends the text, again and again where that helps. Gives the message's number, if Telegram said it.
    async fn deliver(&mut self, text: &str, reply_to: Option<i64>, since: Instant) -> Option<Option<i64>> {
        let mut backoff = self.retry.backoff();
        loop {
            if !self.circuit.is_closed() {
                self.fail("the bot token is refused");
                return None;
            }
            let wait = match self.bot.send(&SendMessage::new(&self.chat, text, reply_to)).await {
                Ok(number) => {
                    self.circuit.accept();
                    if std::mem::take(&mut self.failing) {
                        info!(chat = %self.chat, "telegram takes messages again");
                    }
                    self.count(Outcome::Delivered);
                    return Some(number);
                }
                Err(Refusal::Later { after, why }) => {
                    let wait = after.map_or_else(|| backoff.wait(), |asked| asked.min(LONGEST_ASKED));
                    if since.elapsed() + wait > self.give_up_after {
                        self.fail(&why);
                        return None;
                    }
                    if !std::mem::replace(&mut self.failing, true) {
                        warn!(chat = %self.chat, why, ?wait, "telegram does not take messages, trying again");
                    }
                    wait
                }
                Err(Refusal::Moved(chat)) if self.chat != ChatId::Number(chat) => {
                    warn!(old = %self.chat, new = chat, "a telegram group has a new number: change chat_ids");
                    self.chat = ChatId::Number(chat);
                    Duration::ZERO
                }
                Err(Refusal::Moved(_)) => {
                    self.fail("the group has moved to itself");
                    return None;
                }
                Err(Refusal::Token(why)) => {
                    self.circuit.refuse(&why);
                    self.fail(&why);
                    return None;
                }
                Err(Refusal::Never(why)) => {
                    self.circuit.accept();
                    self.fail(&why);
                    return None;
                }
            };
            self.count(Outcome::Retried);
            sleep(wait).await;
        }
    }

    /// Gives a message up. Of a refused token the circuit has told already.
    fn fail(&self, why: &str) {
        self.count(Outcome::Failed);
        if self.circuit.is_closed() {
            warn!(chat = %self.chat, why, "telegram message not delivered");
        } else {
            debug!(chat = %self.chat, why, "telegram message not delivered");
        }
    }

    fn count(&self, outcome: Outcome) {
        self.metrics.notified(Sink::Telegram, outcome, 1);
    }
}
