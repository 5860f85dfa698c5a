//! Short words of the bot: labels of buttons, and what it says to a press or a command.

mod respond;

use sensor_core::incident::Language;

use super::html::escape;
use super::keyboard::Span;
use crate::notify::text;

/// Longest text that an answer to a press shows, in characters: Telegram takes 200.
pub const ANSWER_LIMIT: usize = 190;

/// The words of a language.
#[derive(Clone, Copy, Debug)]
pub struct Words(pub Language);

macro_rules! words {
    ($($(#[$meta:meta])* $name:ident: $en:literal, $es:literal;)*) => {
        impl Words {
            $($(#[$meta])* pub const fn $name(self) -> &'static str {
                self.pick($en, $es)
            })*
        }
    };
}

words! {
    details: "Details", "Detalles";
    mute: "Mute", "Silenciar";
    false_positive: "False positive", "Falso positivo";
    surely_false_positive: "Yes, a false positive", "Sí, es un falso positivo";
    confirmed: "Confirmed", "Confirmar";
    cancel: "Cancel", "Cancelar";
    not_allowed: "You may not do this here.", "No tiene permiso para hacer esto aquí.";
    unknown_button: "This button does not work any more.", "Este botón ya no funciona.";
    no_incident: "There is no such incident.", "No existe ese incidente.";
    judged_before: "That has been said already.", "Eso ya se ha indicado.";
    nothing_to_mute_by: "Neither attackers nor victims are known: there is nothing to mute by.",
        "No se conocen ni atacantes ni víctimas: no hay por qué silenciar.";
    stopping: "The sensor is stopping.", "El sensor se está deteniendo.";
    muted_short: "Muted.", "Silenciado.";
    judged_short: "Noted. Thank you.", "Anotado. Gracias.";
    block: "Block", "Bloquear";
    block_hour: "Block 1 h", "Bloquear 1 h";
    unblock: "Unblock", "Desbloquear";
    surely_unblock: "Yes, unblock", "Sí, desbloquear";
    leave_it: "Leave it", "Dejarlo";
    left: "Left as it was.", "Se ha dejado como estaba.";
    cannot_act: "The sensor cannot act yet: it is starting. Try again in a moment.",
        "El sensor aún no puede actuar: está arrancando. Inténtelo de nuevo en un momento.";
    question_unknown: "This question is over: write the command again.",
        "Esta pregunta ya no vale: escriba la orden otra vez.";
    question_late: "This was not confirmed in time: write the command again.",
        "No se ha confirmado a tiempo: escriba la orden otra vez.";
    nobody_to_block: "Nobody can be blocked: the attackers are spoofed or unknown.",
        "No hay a quién bloquear: los atacantes son falsificados o desconocidos.";
    blocked_short: "Blocked.", "Bloqueado.";
    unknown_command: "There is no such command; /help lists them.", "No existe esa orden; /help las enumera.";
    usage_incident: "Write <code>/incident ID</code>; /incidents lists them.",
        "Escriba <code>/incident ID</code>; /incidents los enumera.";
    usage_mute: "Write <code>/mute ID 1h reason</code>, from 1m to 52w; /incidents lists the identifiers.",
        "Escriba <code>/mute ID 1h motivo</code>, de 1m a 52w; /incidents enumera los identificadores.";
    usage_unmute: "Write <code>/unmute NAME</code>; /mutes lists them.",
        "Escriba <code>/unmute NOMBRE</code>; /mutes las enumera.";
    usage_block: "Write <code>/block ADDRESS 1h reason</code>: an address (203.0.113.7) or a network (203.0.113.0/24), a \
        time from 1m to 52w if 1h is not meant, and a reason if you like.",
        "Escriba <code>/block DIRECCIÓN 1h motivo</code>: una dirección (203.0.113.7) o una red (203.0.113.0/24), un tiempo \
        de 1m a 52w si no ha de ser 1h, y un motivo si quiere.";
    usage_unblock: "Write <code>/unblock ADDRESS reason</code>, with an address or a network; /blocks lists them.",
        "Escriba <code>/unblock DIRECCIÓN motivo</code>, con una dirección o una red; /blocks las enumera.";
    too_long: "The answer is longer than a message may be.", "La respuesta es más larga de lo que admite un mensaje.";
    was_confirmed: "confirmed", "confirmado";
    was_false_positive: "false positive", "falso positivo";
}

impl Words {
    const fn pick(self, en: &'static str, es: &'static str) -> &'static str {
        match self.0 {
            Language::En => en,
            Language::Es => es,
        }
    }

    /// A span on a button.
    pub const fn span(self, span: Span) -> &'static str {
        match span {
            Span::Hour => self.pick("1 hour", "1 hora"),
            Span::Day => self.pick("1 day", "1 día"),
            Span::Week => self.pick("1 week", "1 semana"),
        }
    }

    /// A line below a message: until when it is muted, and who has done so.
    pub fn muted(self, until: &str, who: &str) -> String {
        match self.0 {
            Language::En => format!("🔇 Muted until {until} by {who}"),
            Language::Es => format!("🔇 Silenciado hasta {until} por {who}"),
        }
    }

    /// A line below a message: it was none, and who says so.
    pub fn found_false(self, who: &str) -> String {
        match self.0 {
            Language::En => format!("❌ False positive, says {who}"),
            Language::Es => format!("❌ Falso positivo, según {who}"),
        }
    }

    /// A line below a message: it was one, and who says so.
    pub fn found_true(self, who: &str) -> String {
        match self.0 {
            Language::En => format!("✅ Confirmed by {who}"),
            Language::Es => format!("✅ Confirmado por {who}"),
        }
    }

    /// An answer to a press of what is muted.
    pub fn muted_before(self, until: &str) -> String {
        match self.0 {
            Language::En => format!("It is muted already, until {until}."),
            Language::Es => format!("Ya está silenciado, hasta {until}."),
        }
    }

    /// HTML: a rule was added.
    pub fn rule_added(self, name: &str, until: &str, what: &str) -> String {
        let (name, what) = (escape(name), escape(what));
        match self.0 {
            Language::En => format!("🔇 Muted until {until}: {what}\n<code>/unmute {name}</code> ends it."),
            Language::Es => format!("🔇 Silenciado hasta {until}: {what}\n<code>/unmute {name}</code> lo termina."),
        }
    }

    /// HTML: a rule was removed, or there was none.
    pub fn rule_removed(self, name: &str, was_there: bool) -> String {
        let name = escape(name);
        match (self.0, was_there) {
            (Language::En, true) => format!("🔔 <code>{name}</code> is reported again."),
            (Language::En, false) => format!("There is no rule <code>{name}</code>; /mutes lists them."),
            (Language::Es, true) => format!("🔔 Se vuelve a informar de <code>{name}</code>."),
            (Language::Es, false) => format!("No existe la regla <code>{name}</code>; /mutes las enumera."),
        }
    }

    /// Something could not be done.
    pub fn failed(self, error: &anyhow::Error) -> String {
        let error = text::plain(&format!("{error:#}"));
        let whole = match self.0 {
            Language::En => format!("This could not be done: {error}"),
            Language::Es => format!("No se ha podido hacer: {error}"),
        };
        text::clip(&whole, ANSWER_LIMIT)
    }

    /// Who attacks or is attacked, of a rule.
    pub fn hosts(self, from: &[String], to: &[String]) -> String {
        let side = |word: &str, hosts: &[String]| match hosts.is_empty() {
            true => String::new(),
            false => format!(" {word} {}", text::list(hosts, 5, self.0)),
        };
        side(self.pick("from", "de"), from) + &side(self.pick("to", "a"), to)
    }

    /// The commands, as clients of Telegram list them.
    pub const fn commands(self) -> [(&'static str, &'static str); 11] {
        [
            ("status", self.pick("How the sensor fares", "Cómo va el sensor")),
            ("incidents", self.pick("The latest incidents", "Los últimos incidentes")),
            ("incident", self.pick("All about one: /incident ID", "Todo sobre uno: /incident ID")),
            ("top", self.pick("Attackers and victims of the last day", "Atacantes y víctimas del último día")),
            ("mute", self.pick("Report it no longer: /mute ID 1d reason", "Dejar de informar: /mute ID 1d motivo")),
            ("mutes", self.pick("What is muted", "Qué está silenciado")),
            ("unmute", self.pick("Report it again: /unmute NAME", "Volver a informar: /unmute NOMBRE")),
            ("block", self.pick("Block: /block ADDRESS 1h reason", "Bloquear: /block DIRECCIÓN 1h motivo")),
            ("unblock", self.pick("Let pass again: /unblock ADDRESS", "Dejar pasar: /unblock DIRECCIÓN")),
            ("blocks", self.pick("What is blocked", "Qué está bloqueado")),
            ("help", self.pick("What the bot can do", "Qué sabe hacer el bot")),
        ]
    }
}
