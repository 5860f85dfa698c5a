//! The two kinds of tables that are understood: the sensor's own flows, and UNSW-NB15.

use sensor_core::features::flow::COLUMNS;

use crate::export::flows::IDENTITY;

/// Which columns rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Flows of captures and of `leuko replay --export`: what the sensor measures.
    Flows,
    /// The official train and test tables of UNSW-NB15 (Moustafa, Slay 2015).
    UnswNb15,
}

/// Columns of UNSW-NB15 that models see: packets, octets, rates, times, losses, windows, application fields, and counts
/// over the last 100 flows. Neither TTL (attackers and clients sat behind different numbers of hops), nor sequence
/// numbers (they begin at random), nor whether addresses are equal.
const UNSW_NB15: [&str; 33] = [
    "dur",
    "spkts",
    "dpkts",
    "sbytes",
    "dbytes",
    "rate",
    "sload",
    "dload",
    "sinpkt",
    "dinpkt",
    "sjit",
    "djit",
    "tcprtt",
    "synack",
    "ackdat",
    "smean",
    "dmean",
    "sloss",
    "dloss",
    "swin",
    "dwin",
    "trans_depth",
    "response_body_len",
    "is_ftp_login",
    "ct_ftp_cmd",
    "ct_flw_http_mthd",
    "ct_srv_src",
    "ct_srv_dst",
    "ct_dst_ltm",
    "ct_src_ltm",
    "ct_src_dport_ltm",
    "ct_dst_sport_ltm",
    "ct_dst_src_ltm",
];

impl Schema {
    /// Every schema.
    pub const ALL: [Self; 2] = [Self::Flows, Self::UnswNb15];

    /// The schema that a header is most like; nothing if no column that only one schema has is there.
    #[must_use]
    pub fn of_header(header: &[&str]) -> Option<Self> {
        let own = |schema: Self| {
            let others = Self::ALL.into_iter().filter(|other| *other != schema);
            let shared = |name: &str| others.clone().any(|other| other.has(name));
            header.iter().filter(|name| schema.has(name) && !shared(name)).count()
        };
        let best = Self::ALL.into_iter().max_by_key(|schema| own(*schema))?;
        (own(best) > 0).then_some(best)
    }

    /// Columns that models see, in their order.
    #[must_use]
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Flows => &COLUMNS,
            Self::UnswNb15 => &UNSW_NB15,
        }
    }

    /// In messages and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::UnswNb15 => "unsw_nb15",
        }
    }

    /// For people.
    #[must_use]
    pub const fn described(self) -> &'static str {
        match self {
            Self::Flows => "flows of this sensor",
            Self::UnswNb15 => "columns of UNSW-NB15",
        }
    }

    /// Whether the sensor itself measures these columns.
    #[must_use]
    pub const fn is_of_the_sensor(self) -> bool {
        matches!(self, Self::Flows)
    }

    fn has(self, name: &str) -> bool {
        self.columns().contains(&name) || (self == Self::Flows && IDENTITY.contains(&name) && name != "proto")
    }
}

/// Unit of a column of either schema.
#[must_use]
pub fn unit(column: &str) -> &'static str {
    match column {
        "dur" | "tcprtt" | "synack" | "ackdat" => "s",
        "spkts" | "dpkts" | "sloss" | "dloss" => "packets",
        "sbytes" | "dbytes" | "smean" | "dmean" | "sdev" | "ddev" | "swin" | "dwin" | "response_body_len" => "octets",
        "sload" | "dload" => "bit/s",
        "rate" => "packets/s",
        "sinpkt" | "dinpkt" | "sjit" | "djit" => "ms",
        "sflags" | "dflags" => "ratio",
        _ => "count",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_known_by_what_only_one_schema_has() {
        for (header, expected) in [
            (&["src_addr", "dur", "spkts"][..], Some(Schema::Flows)),
            (&["dur", "sdev", "label"], Some(Schema::Flows)),
            (&["id", "dur", "proto", "sloss", "sttl"], Some(Schema::UnswNb15)),
            (&["dur", "proto", "spkts", "label"], None),
            (&["date", "price"], None),
        ] {
            assert_eq!(Schema::of_header(header), expected, "{header:?}");
        }
    }

    #[test]
    fn no_model_sees_who_where_or_when() {
        let identifying = ["sttl", "dttl", "ct_state_ttl", "stcpb", "dtcpb", "is_sm_ips_ports", "id", "label"];
        for schema in Schema::ALL {
            let seen = |name: &&str| schema.columns().contains(name);
            assert!(!identifying.iter().chain(&IDENTITY).any(seen), "{schema:?}");
        }
    }
}
