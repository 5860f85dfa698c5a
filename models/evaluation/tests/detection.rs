//! The labelled captures as they are: how many, that their labels are understood, and when their attacks begin.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::PathBuf;

use sensor_core::incident::Class;
use sensor_evaluation::detection::mixed::HostWindows;
use sensor_evaluation::detection::truth::{self, Attack, CAPTURE_LABELS};

/// The folder of labelled data, or nothing (with the reason printed) where it is not at hand.
fn data() -> Option<PathBuf> {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let data = std::env::var_os("LEUKO_DATA").map_or_else(default, PathBuf::from);
    if data.join(CAPTURE_LABELS).is_file() {
        return Some(data);
    }
    assert!(std::env::var_os("CI").is_none(), "no labelled data in {}; set LEUKO_DATA", data.display());
    eprintln!("skipped: no labelled data in {}; set LEUKO_DATA", data.display());
    None
}

#[test]
fn every_capture_is_an_attack_or_benign_and_every_attack_has_a_name_we_have() {
    let Some(data) = data() else { return };
    let captures = truth::captures(&data).unwrap();
    let attacks: Vec<&Attack> = captures.iter().filter_map(|capture| capture.attack.as_ref()).collect();
    assert_eq!((attacks.len(), captures.len() - attacks.len()), (38, 110));
    assert_eq!(attacks.iter().filter(|attack| attack.counts()).count(), 28);
    for attack in attacks {
        let classes = attack.classes();
        assert!(!classes.is_empty() && attack.victims != truth::Hosts::default(), "{}", attack.label);
        for class in classes {
            assert!(Class::ALL.iter().any(|known| known.as_str() == class), "{}: {class}", attack.label);
        }
    }
    for capture in captures {
        let attack = capture.file.starts_with("pcaps/attack/");
        assert_eq!(capture.attack.is_some(), attack, "{}", capture.file);
    }
}

#[test]
fn the_mixed_capture_has_its_events_and_a_label_for_each_frame() {
    let Some(data) = data() else { return };
    let events = truth::events(&data).unwrap();
    assert_eq!(events.len(), 12);
    assert!(events.iter().all(|event| event.last.is_some_and(|last| event.first <= last) && !event.ends.is_empty()));
    HostWindows::read(&data).unwrap();
}
