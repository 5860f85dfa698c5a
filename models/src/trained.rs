//! What is shipped with Leuko: models that were trained on its own flow vectors, as bytes in the program.
//!
//! `models/trained/MODEL_CARD.md` says what they were trained on and what they are worth. Nothing that is shipped decides
//! whether traffic is normal: that is learned where the sensor runs.

use crate::classifier::Classifier;

/// Share of ordinary flows among those that are asked about: flows of a host that was already found to be unusual.
const ORDINARY: f64 = 0.5;

/// Names the class of attack that an unusual flow looks like.
#[must_use]
pub fn attack_classes() -> Classifier {
    let shipped = Classifier::from_bytes(include_bytes!("../trained/attack_classes.leuko"));
    shipped.expect("what is shipped is read by a test").with_prior(ORDINARY).expect("a half is a share")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_can_be_read_and_is_small() {
        let classifier = attack_classes();
        assert_eq!(classifier.classes()[0], "normal");
        assert_eq!(classifier.normal_share(), ORDINARY);
        assert!(include_bytes!("../trained/attack_classes.leuko").len() < 5 << 20);
    }
}
