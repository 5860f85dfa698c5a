//! What the bot says of blocks.

use std::net::IpAddr;
use std::time::Duration;

use sensor_core::incident::Language;
use sensor_core::net::Network;
use sensor_core::respond::{Block, Decider, Measure, Mode, Protection, Refusal, Scope, Target};

use super::{ANSWER_LIMIT, Words};
use crate::notify::telegram::command::{HOUR, Order};
use crate::notify::telegram::html::escape;
use crate::notify::text::{self, clip, plain, span};
use crate::notify::view::moment;

/// Addresses that a line below a message names.
const LISTED: usize = 2;
/// Longest name of who has decided, in characters.
const ACTOR_LIMIT: usize = 64;

impl Words {
    /// HTML: whether an order is meant.
    pub fn question(self, order: &Order) -> String {
        let (asked, reason) = match order {
            Order::Block { network, seconds, reason } => {
                let span = span(Duration::from_secs(seconds.unwrap_or(HOUR)));
                let asked = match self.0 {
                    Language::En => format!("Block <code>{network}</code> for {span}?"),
                    Language::Es => format!("¿Bloquear <code>{network}</code> durante {span}?"),
                };
                (asked, reason)
            }
            Order::Unblock { network, reason } => {
                let asked = match self.0 {
                    Language::En => format!("Unblock <code>{network}</code>?"),
                    Language::Es => format!("¿Desbloquear <code>{network}</code>?"),
                };
                (asked, reason)
            }
        };
        if reason.is_empty() { asked } else { format!("{asked}\n{}", escape(reason)) }
    }

    /// HTML: an order was carried out.
    pub fn blocked(self, block: &Block, who: &str) -> String {
        let (target, who, span) = (self.target(&block.target), escape(who), span(block.span()));
        match self.0 {
            Language::En => format!(
                "🚫 <code>{target}</code> is blocked for {span}, by {who}.\n<code>/unblock {target}</code> ends it."
            ),
            Language::Es => format!(
                "🚫 <code>{target}</code> queda bloqueado durante {span}, por {who}.\n<code>/unblock {target}</code> lo \
                 termina."
            ),
        }
    }

    /// An order was refused: as an alert, and as HTML.
    pub fn refused(self, network: Network, refusal: &Refusal) -> (String, String) {
        let why = self.refusal(refusal);
        let (en, es) = ("is not blocked", "no se bloquea");
        let verb = self.pick(en, es);
        let html = format!("<code>{network}</code> {verb}: {}", escape(&why));
        (clip(&format!("{network} {verb}: {why}"), ANSWER_LIMIT), html)
    }

    /// HTML: so many blocks were lifted; `within` is by what it is blocked all the same.
    pub fn unblocked(self, network: Network, lifted: usize, within: &[Target], who: &str) -> String {
        let who = escape(who);
        let done = match (self.0, lifted) {
            (Language::En, 0) => {
                format!("Nothing of <code>{network}</code> was blocked. The sensor leaves it alone for a while.")
            }
            (Language::En, _) => format!("🔓 <code>{network}</code>: blocks lifted by {who}: {lifted}."),
            (Language::Es, 0) => {
                format!("Nada de <code>{network}</code> estaba bloqueado. El sensor lo dejará en paz por un tiempo.")
            }
            (Language::Es, _) => format!("🔓 <code>{network}</code>: bloqueos retirados por {who}: {lifted}."),
        };
        done + &self.still(within)
    }

    /// How many attackers were blocked, were blocked before, and were refused, of how many.
    pub fn attackers_blocked(self, [put, before, refused]: [usize; 3], all: u64) -> String {
        let (blocked, already, not) = match self.0 {
            Language::En => ("Blocked for 1 h", "Blocked already", "Refused"),
            Language::Es => ("Bloqueados durante 1 h", "Ya bloqueados", "Rechazados"),
        };
        let of = self.pick("of", "de");
        let mut told = format!("{blocked}: {put} {of} {all}.");
        for (what, count) in [(already, before), (not, refused)] {
            if count > 0 {
                told += &format!(" {what}: {count}.");
            }
        }
        told
    }

    /// How many blocks of attackers were lifted.
    pub fn attackers_unblocked(self, lifted: usize, within: &[Target]) -> String {
        let done = match lifted {
            0 => self.pick("None of them was blocked.", "Ninguno estaba bloqueado.").to_owned(),
            _ => format!("{}: {lifted}.", self.pick("Blocks lifted", "Bloqueos retirados")),
        };
        done + &self.still(within)
    }

    fn still(self, within: &[Target]) -> String {
        if within.is_empty() {
            return String::new();
        }
        let within: Vec<String> = within.iter().map(|target| self.target(target)).collect();
        let within = text::list(&within, LISTED, self.0);
        match self.0 {
            Language::En => format!(" Still blocked by: {within}."),
            Language::Es => format!(" Sigue bloqueado por: {within}."),
        }
    }

    /// A line below a message: what is done about whom, until when, and who has decided so.
    pub fn held(self, addrs: &[IpAddr], block: &Block) -> String {
        let (addrs, until) = (text::list(addrs, LISTED, self.0), moment(block.until));
        let (what, by) = (self.measure(block.measure), self.decider(&block.by));
        match self.0 {
            Language::En => format!("🚫 {addrs}: {what} until {until} UTC by {by}"),
            Language::Es => format!("🚫 {addrs}: {what} hasta {until} UTC por {by}"),
        }
    }

    /// A button: the attackers are to be blocked.
    pub fn surely_block(self, attackers: &[IpAddr]) -> String {
        match (self.0, attackers) {
            (Language::En, [one]) => format!("Yes, block {one} for 1 h"),
            (Language::En, all) => format!("Yes, block {} for 1 h", all.len()),
            (Language::Es, [one]) => format!("Sí, bloquear {one} durante 1 h"),
            (Language::Es, all) => format!("Sí, bloquear {} durante 1 h", all.len()),
        }
    }

    /// Which packets.
    pub fn target(self, target: &Target) -> String {
        match (self.0, target) {
            (Language::En, target) => target.to_string(),
            (Language::Es, Target::Peer { network, scope: Scope::All }) => network.to_string(),
            (Language::Es, Target::Peer { network, scope: Scope::Protocol(number) }) => {
                format!("{network} {}", protocol(*number))
            }
            (Language::Es, Target::Peer { network, scope: Scope::Port { proto: number, port } }) => {
                format!("{network} {} puerto {port}", protocol(*number))
            }
            (Language::Es, Target::Requests { host, port }) => format!("peticiones a {host} puerto {port}"),
        }
    }

    /// What becomes of the packets.
    pub fn measure(self, measure: Measure) -> String {
        match (self.0, measure) {
            (Language::En, Measure::Drop) => "blocked".to_owned(),
            (Language::En, Measure::Limit(packets)) => format!("limited to {packets} packets/s"),
            (Language::Es, Measure::Drop) => "bloqueado".to_owned(),
            (Language::Es, Measure::Limit(packets)) => format!("limitado a {packets} paquetes/s"),
        }
    }

    /// Who has decided.
    pub fn decider(self, decider: &Decider) -> String {
        let by = match (self.0, decider) {
            (_, Decider::Person(actor)) => plain(actor),
            (Language::En, Decider::Incident(id)) => format!("the sensor ({})", plain(id)),
            (Language::En, Decider::List(name)) => format!("the list {}", plain(name)),
            (Language::Es, Decider::Incident(id)) => format!("el sensor ({})", plain(id)),
            (Language::Es, Decider::List(name)) => format!("la lista {}", plain(name)),
        };
        clip(&by, ACTOR_LIMIT)
    }

    /// How far the sensor goes by itself, and how long it only counts because it is new.
    pub fn mode(self, mode: Mode, unarmed: Duration) -> String {
        let goes = match mode {
            Mode::Off => self.pick("does nothing", "no hace nada"),
            Mode::Observe => self.pick("only counts what it would block", "solo cuenta lo que bloquearía"),
            Mode::RateLimit => self.pick("limits attackers", "limita a los atacantes"),
            Mode::Drop => self.pick("blocks attackers", "bloquea a los atacantes"),
        };
        let whole = format!("{} {goes}", self.pick("By itself the sensor", "Por sí mismo el sensor"));
        let acts = matches!(mode, Mode::RateLimit | Mode::Drop);
        match (acts && !unarmed.is_zero(), self.0) {
            (false, _) => format!("{whole} ({mode})."),
            (true, Language::En) => format!("{whole} ({mode}), after counting for another {}.", span(unarmed)),
            (true, Language::Es) => format!("{whole} ({mode}), tras contar durante otros {}.", span(unarmed)),
        }
    }

    fn refusal(self, refusal: &Refusal) -> String {
        if self.0 == Language::En {
            return refusal.to_string();
        }
        match refusal {
            Refusal::Guarded { network, protection } => {
                let other = match protection {
                    Protection::Configured => ", o cambie la configuración",
                    Protection::Own
                    | Protection::Gateway
                    | Protection::Resolver
                    | Protection::Session
                    | Protection::Receiver
                    | Protection::Special => "",
                };
                let what = protected(*protection);
                format!("{network} es o contiene {what}, que nunca se bloquea: elija una red que no lo incluya{other}")
            }
            Refusal::TooWide { network, widest } => {
                format!("{network} es demasiado amplia: bloquee una /{widest} o más estrecha")
            }
            Refusal::NotOurs { host } => format!(
                "{host} no es un equipo de esta red: solo se pueden limitar las peticiones a uno de ellos; bloquee al otro \
                 extremo"
            ),
            Refusal::Zero => "no hay puerto 0 ni protocolo 0: indique otro, o ninguno para todos".to_owned(),
            Refusal::NoPorts { proto } => {
                let proto = protocol(*proto);
                format!("{proto} no tiene puertos: omita el puerto, o elija tcp, udp, udplite o sctp")
            }
            Refusal::OtherFamily { network, proto } => {
                let proto = protocol(*proto);
                format!("{network} no usa {proto}: elija el ICMP de sus direcciones")
            }
            Refusal::NoTime => "un bloqueo necesita algo de tiempo, como 1 h".to_owned(),
            Refusal::TooLong { wished, longest } => format!(
                "{} es demasiado: bloquee durante {} como mucho, y de nuevo cuando termine",
                span(*wished),
                span(*longest)
            ),
            Refusal::NoRoom => {
                "la lista de bloqueos del núcleo está llena: aumente respond.capacity y reinicie el sensor".to_owned()
            }
            Refusal::Full { most } => {
                format!("ya hay {most} bloqueos de personas: retire algunos, o bloquee una red en lugar de sus equipos")
            }
        }
    }
}

/// The protocol in Spanish.
fn protocol(number: u8) -> String {
    Scope::Protocol(number).to_string().replace("protocol", "protocolo")
}

const fn protected(protection: Protection) -> &'static str {
    match protection {
        Protection::Own => "una dirección de este equipo",
        Protection::Gateway => "una puerta de enlace",
        Protection::Resolver => "un servidor de nombres",
        Protection::Configured => "una dirección que la configuración exceptúa",
        Protection::Session => "el lugar desde donde alguien trabaja en este equipo",
        Protection::Receiver => "un receptor de incidentes",
        Protection::Special => "una dirección que no es de un solo equipo",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_told_in_both_languages() {
        let network: Network = "192.0.2.0/24".parse().unwrap();
        let hour = Duration::from_secs(3600);
        let mut refusals = vec![
            Refusal::TooWide { network, widest: 24 },
            Refusal::NotOurs { host: network.addr() },
            Refusal::NoTime,
            Refusal::Zero,
            Refusal::NoPorts { proto: 1 },
            Refusal::OtherFamily { network, proto: 58 },
            Refusal::NoRoom,
            Refusal::TooLong { wished: 48 * hour, longest: 24 * hour },
            Refusal::Full { most: 1024 },
        ];
        refusals.extend(Protection::ALL.map(|protection| Refusal::Guarded { network, protection }));
        for refusal in refusals {
            let [en, es] = [Language::En, Language::Es].map(|language| Words(language).refused(network, &refusal));
            assert!(en.1.contains("is not blocked: ") && es.1.contains("no se bloquea: "), "{en:?} {es:?}");
            assert_ne!(en.1.split_once(": ").unwrap().1, es.1.split_once(": ").unwrap().1);
            for (alert, _) in [en, es] {
                assert!(alert.chars().count() <= ANSWER_LIMIT, "{alert}");
            }
        }
    }

    #[test]
    fn targets_are_told_in_spanish() {
        let peer = |scope| Target::Peer { network: "192.0.2.0/24".parse().unwrap(), scope };
        for (target, expected) in [
            (peer(Scope::All), "192.0.2.0/24"),
            (peer(Scope::Protocol(89)), "192.0.2.0/24 protocolo 89"),
            (peer(Scope::Port { proto: 6, port: 22 }), "192.0.2.0/24 tcp puerto 22"),
            (Target::Requests { host: "192.0.2.1".parse().unwrap(), port: 443 }, "peticiones a 192.0.2.1 puerto 443"),
        ] {
            assert_eq!(Words(Language::Es).target(&target), expected);
        }
    }
}
