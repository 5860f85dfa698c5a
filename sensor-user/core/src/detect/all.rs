//! Every detector of flows but the anomalies, which are fed with flows that have ended.

use std::iter::once;

use sensor_ebpf::abi::ArpMessage;

use super::{
    ArpScan, ArpScanParams, ArpSpoof, ArpSpoofParams, Beacon, BeaconParams, BruteForce, BruteForceParams,
    ConnectionFlood, ConnectionFloodParams, Detector, DnsTunnel, DnsTunnelParams, Exfiltration, ExfiltrationParams,
    Finding, Flood, FloodKind, FloodParams, IcmpTunnel, IcmpTunnelParams, LateralMovement, LateralMovementParams,
    Reflector, ReflectorParams, Scan, ScanParams, SlowDos, SlowDosParams,
};
use crate::arp::ArpTable;
use crate::flow::{FlowEvent, OverflowEvent};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of every detector of flows. The defaults need no tuning.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are named like the detectors")]
pub struct DetectorParams {
    pub syn_flood: FloodParams,
    pub udp_flood: FloodParams,
    pub icmp_flood: FloodParams,
    pub reflector: ReflectorParams,
    pub scan: ScanParams,
    pub arp_scan: ArpScanParams,
    pub arp_spoof: ArpSpoofParams,
    pub connection_flood: ConnectionFloodParams,
    pub brute_force: BruteForceParams,
    pub slow_dos: SlowDosParams,
    pub beacon: BeaconParams,
    pub dns_tunnel: DnsTunnelParams,
    pub icmp_tunnel: IcmpTunnelParams,
    pub exfiltration: ExfiltrationParams,
    pub lateral_movement: LateralMovementParams,
}

impl Default for DetectorParams {
    fn default() -> Self {
        Self {
            syn_flood: FloodParams::of(FloodKind::Syn),
            udp_flood: FloodParams::of(FloodKind::Udp),
            icmp_flood: FloodParams::of(FloodKind::Icmp),
            reflector: ReflectorParams::default(),
            scan: ScanParams::default(),
            arp_scan: ArpScanParams::default(),
            arp_spoof: ArpSpoofParams::default(),
            connection_flood: ConnectionFloodParams::default(),
            brute_force: BruteForceParams::default(),
            slow_dos: SlowDosParams::default(),
            beacon: BeaconParams::default(),
            dns_tunnel: DnsTunnelParams::default(),
            icmp_tunnel: IcmpTunnelParams::default(),
            exfiltration: ExfiltrationParams::default(),
            lateral_movement: LateralMovementParams::default(),
        }
    }
}

/// Every detector of flows. The order is that of their findings.
#[derive(Debug)]
pub struct Detectors {
    /// Apart, because what it knows is saved and shown.
    beacon: Beacon,
    others: Vec<Box<dyn Detector>>,
}

impl Detectors {
    /// Detectors that have seen nothing.
    #[must_use]
    pub fn new(params: DetectorParams) -> Self {
        Self {
            beacon: Beacon::new(params.beacon),
            others: vec![
                Box::new(Flood::new(FloodKind::Syn, params.syn_flood)),
                Box::new(Flood::new(FloodKind::Udp, params.udp_flood)),
                Box::new(Flood::new(FloodKind::Icmp, params.icmp_flood)),
                Box::new(Reflector::new(params.reflector)),
                Box::new(Scan::new(params.scan)),
                Box::new(ArpScan::new(params.arp_scan)),
                Box::new(ArpSpoof::new(params.arp_spoof)),
                Box::new(ConnectionFlood::new(params.connection_flood)),
                Box::new(BruteForce::new(params.brute_force)),
                Box::new(SlowDos::new(params.slow_dos)),
                Box::new(DnsTunnel::new(params.dns_tunnel)),
                Box::new(IcmpTunnel::new(params.icmp_tunnel)),
                Box::new(Exfiltration::new(params.exfiltration)),
                Box::new(LateralMovement::new(params.lateral_movement)),
            ],
        }
    }

    /// The detector of beacons.
    #[must_use]
    pub const fn beacon(&self) -> &Beacon {
        &self.beacon
    }

    /// The detector of beacons.
    pub const fn beacon_mut(&mut self) -> &mut Beacon {
        &mut self.beacon
    }

    fn each(&mut self) -> impl Iterator<Item = &mut dyn Detector> {
        let others = self.others.iter_mut().map(|detector| &mut **detector as &mut dyn Detector);
        others.chain(once(&mut self.beacon as &mut dyn Detector))
    }
}

impl Detector for Detectors {
    fn observe(&mut self, event: &FlowEvent) {
        self.each().for_each(|detector| detector.observe(event));
    }

    fn observe_overflow(&mut self, event: &OverflowEvent) {
        self.each().for_each(|detector| detector.observe_overflow(event));
    }

    fn observe_arp(&mut self, message: &ArpMessage, at: Timestamp, table: &ArpTable) {
        self.each().for_each(|detector| detector.observe_arp(message, at, table));
    }

    fn tick(&mut self, now: Timestamp, roles: &Roles) -> Vec<Finding> {
        self.each().flat_map(|detector| detector.tick(now, roles)).collect()
    }

    fn is_idle(&self) -> bool {
        self.beacon.is_idle() && self.others.iter().all(|detector| detector.is_idle())
    }
}
