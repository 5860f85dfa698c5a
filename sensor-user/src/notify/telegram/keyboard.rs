//! The buttons below a message, and what comes back when one is pressed.
//!
//! Whoever may write to the bot may send any callback data: it is a code of ours and an identifier, or nothing.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::command::Order;
use super::standing::Standing;
use super::words::Words;

/// Longest identifier: with the code it is no longer than callback data may be (64 octets), and a rule's name holds it.
const ID_MAX: usize = 48;

/// How long something is muted at the press of a button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Hour,
    Day,
    Week,
}

impl Span {
    /// In seconds.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Hour => 3600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
        }
    }
}

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// All that is known.
    Details,
    /// Choose for how long.
    Mute,
    /// Report it no longer.
    MuteFor(Span),
    /// Ask whether it is meant.
    FalsePositive,
    /// It is meant.
    SurelyFalsePositive,
    /// It was an attack.
    Confirmed,
    /// Ask whether its attackers are to be blocked.
    Block,
    /// They are.
    SurelyBlock,
    /// Ask whether they are to be let pass again.
    Unblock,
    /// They are.
    SurelyUnblock,
    /// Back to the first buttons.
    Cancel,
}

const CODES: [(Button, &str); 13] = [
    (Button::Details, "d"),
    (Button::Mute, "m"),
    (Button::MuteFor(Span::Hour), "mh"),
    (Button::MuteFor(Span::Day), "md"),
    (Button::MuteFor(Span::Week), "mw"),
    (Button::FalsePositive, "f"),
    (Button::SurelyFalsePositive, "fy"),
    (Button::Confirmed, "c"),
    (Button::Block, "b"),
    (Button::SurelyBlock, "by"),
    (Button::Unblock, "u"),
    (Button::SurelyUnblock, "uy"),
    (Button::Cancel, "x"),
];

/// Answers to whether an order is meant: the message that asks says which.
const MEANT: &str = "q:y";
const NOT_MEANT: &str = "q:n";

/// Whether an order is meant, if that was pressed.
pub fn consent(data: &str) -> Option<bool> {
    match data {
        MEANT => Some(true),
        NOT_MEANT => Some(false),
        _ => None,
    }
}

/// What was pressed, and about which incident.
pub fn parse(data: &str) -> Option<(Button, &str)> {
    let (code, id) = data.split_once(':')?;
    let (button, _) = CODES.into_iter().find(|(_, known)| *known == code)?;
    is_identifier(id).then_some((button, id))
}

/// Whether buttons can speak of an incident, and a rule can be called after it.
pub fn is_identifier(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=ID_MAX).contains(&id.len()) && id.bytes().all(plain)
}

/// The buttons of a message: what has not been done yet.
pub fn of(id: &str, standing: &Standing, words: Words) -> Option<Value> {
    let mut first = vec![(Button::Details, words.details())];
    if !standing.muted {
        first.push((Button::Mute, words.mute()));
    }
    if standing.can_block {
        first.push((Button::Block, words.block_hour()));
    }
    if standing.can_unblock {
        first.push((Button::Unblock, words.unblock()));
    }
    let mut rows = vec![first];
    if !standing.judged {
        rows.push(vec![(Button::FalsePositive, words.false_positive()), (Button::Confirmed, words.confirmed())]);
    }
    markup(id, &rows)
}

/// For how long?
pub fn spans(id: &str, words: Words) -> Option<Value> {
    let [hour, day, week] = [Span::Hour, Span::Day, Span::Week].map(|span| (Button::MuteFor(span), words.span(span)));
    markup(id, &[vec![hour, day, week], vec![(Button::Cancel, words.cancel())]])
}

/// Is it meant?
pub fn sure(id: &str, words: Words) -> Option<Value> {
    markup(id, &[vec![(Button::SurelyFalsePositive, words.surely_false_positive()), (Button::Cancel, words.cancel())]])
}

/// Is it meant to block so many attackers for an hour?
pub fn sure_to_block(id: &str, attackers: &[IpAddr], words: Words) -> Option<Value> {
    let label = words.surely_block(attackers);
    markup(id, &[vec![(Button::SurelyBlock, &label), (Button::Cancel, words.cancel())]])
}

/// Is it meant to let them pass again?
pub fn sure_to_unblock(id: &str, words: Words) -> Option<Value> {
    markup(id, &[vec![(Button::SurelyUnblock, words.surely_unblock()), (Button::Cancel, words.cancel())]])
}

/// Is the order meant?
pub fn meant(order: &Order, words: Words) -> Value {
    let yes = match order {
        Order::Block { .. } => words.block(),
        Order::Unblock { .. } => words.unblock(),
    };
    let button = |text: &str, data: &str| json!({"text": text, "callback_data": data});
    json!({"inline_keyboard": [[button(yes, MEANT), button(words.leave_it(), NOT_MEANT)]]})
}

fn markup(id: &str, rows: &[Vec<(Button, &str)>]) -> Option<Value> {
    let button = |(button, text): &(Button, &str)| json!({"text": text, "callback_data": data(*button, id)});
    let rows: Vec<Vec<Value>> = rows.iter().map(|row| row.iter().map(button).collect()).collect();
    is_identifier(id).then(|| json!({"inline_keyboard": rows}))
}

fn data(button: Button, id: &str) -> String {
    let code = CODES.into_iter().find(|(known, _)| *known == button).map_or("", |(_, code)| code);
    format!("{code}:{id}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sensor_core::incident::Language;

    use super::*;

    #[test]
    fn what_is_pressed_is_what_was_offered() {
        let id = "0123456789abcdef-0123456789abcdef_0123456789abcd";
        assert_eq!(id.len(), ID_MAX);
        for (button, code) in CODES {
            let data = data(button, id);
            assert!(data.len() <= 64 && data.starts_with(code));
            assert_eq!(parse(&data), Some((button, id)));
        }
        let keyboard = of(id, &Standing::default(), Words(Language::En)).unwrap();
        let rows = keyboard["inline_keyboard"].as_array().unwrap();
        let buttons = rows.iter().flat_map(|row| row.as_array().unwrap());
        let texts: Vec<_> = buttons.map(|button| button["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["Details", "Mute", "False positive", "Confirmed"]);
        let standing = Standing { can_block: true, can_unblock: true, ..Standing::default() };
        let buttons = of(id, &standing, Words(Language::En)).unwrap()["inline_keyboard"][0].clone();
        assert_eq!((&buttons[2]["text"], &buttons[3]["text"]), (&json!("Block 1 h"), &json!("Unblock")));
        for (answer, meant) in [(MEANT, Some(true)), (NOT_MEANT, Some(false)), ("q:", None), ("d:y", None)] {
            assert_eq!(consent(answer), meant, "{answer}");
            assert!(meant.is_none() || parse(answer).is_none(), "it is of no incident");
        }
        assert!(of("a b", &Standing::default(), Words(Language::En)).is_none(), "no button could speak of it");
    }

    #[test]
    fn what_was_never_offered_is_nothing() {
        for data in ["", ":", "d", "d:", "D:a", "dd:a", "d:a:b", "d:a b", "d: a", "m1:a", "d:é", "fy", "fy:"] {
            assert_eq!(parse(data), None, "{data}");
        }
        assert_eq!(parse(&format!("d:{}", "a".repeat(ID_MAX + 1))), None);
    }

    proptest! {
        #[test]
        fn any_callback_data_is_harmless(data in ".{0,100}") {
            if let Some((_, id)) = parse(&data) {
                prop_assert!(is_identifier(id));
            }
        }
    }
}
