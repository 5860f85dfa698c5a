//! scratch
use leuko::{replay::{replay,Output}, source::pcap::Capture};
use sensor_core::engine::EngineConfig;
fn main() {
    for path in std::env::args().skip(1) {
        println!("== {path}");
        let mut c = Capture::open(path.as_ref()).unwrap();
        let r: Result<_, ()> = replay(&mut c, EngineConfig{ keep_records: false, ..Default::default()}, std::time::Duration::from_secs(1), |o| { 
            match o { Output::Incident(e) => println!("  {:?} at {} {} {} {} score {:.3} ev {}", e.change, e.at, e.incident.class, e.incident.severity, e.incident.summary, e.incident.score, serde_json::to_string(&e.incident.evidence).unwrap().chars().take(400).collect::<String>()), Output::Summary(s) => println!("  {s:?}"), _ => {} } Ok(()) });
        r.unwrap();
    }
}
