//! En español.

use super::{duration, features, found, hosts, is_true, list, number, octets, percent, ports, spanned, total};
use crate::incident::{Class, Incident};

pub(super) fn summary(incident: &Incident) -> String {
    let several = |total: u64, first: &std::net::IpAddr| format!("{total} equipos ({first} y otros)");
    let who = hosts(&incident.attackers, total(incident, "attackers_total"), "orígenes desconocidos", several);
    let whom = hosts(&incident.victims, total(incident, "victims_total"), "equipos desconocidos", several);
    let service = ports(incident, "ningún puerto", "puerto", "puertos");
    let took = duration(incident, "menos de un segundo");
    let n = |name: &str| number(incident, name);
    match incident.class {
        Class::PortScan => {
            let answered = found(incident);
            let answered = if answered == 0 { String::new() } else { format!("; respondieron {answered}") };
            format!("{who} sondeó {} puertos de {whom} en {took}{answered}", n("ports_total"))
        }
        Class::HostScan => {
            let sought = if incident.ports.is_empty() { "equipos activos" } else { &service };
            format!("{who} buscó {sought} en {whom} en {took}; casi nadie respondió")
        }
        Class::SynFlood => format!(
            "{whom} recibió {} peticiones de conexión TCP en vano en {service}, hasta {} por segundo, de {}",
            n("unused_connection_requests"),
            n("peak_packets_per_s"),
            sources(incident, &who),
        ),
        Class::UdpFlood => format!(
            "{whom} recibió {} datagramas UDP sin respuesta en {service}, hasta {} por segundo, de {}",
            n("unanswered_datagrams"),
            n("peak_packets_per_s"),
            sources(incident, &who),
        ),
        Class::IcmpFlood => format!(
            "{whom} recibió {} peticiones de eco ICMP, hasta {} por segundo, de {}",
            n("echo_requests"),
            n("peak_packets_per_s"),
            sources(incident, &who),
        ),
        Class::Amplification if is_true(incident, "reflector") => format!(
            "{who} devuelve {} por {} de preguntas en {service}, a {whom}: alguien pregunta en nombre de la víctima",
            octets(incident, "sent_octets"),
            octets(incident, "received_octets"),
        ),
        Class::Amplification => format!(
            "{whom} recibió {} respuestas a preguntas que no hizo, hasta {} por segundo, de {} equipos, puerto {}",
            n("unanswered_datagrams"),
            n("peak_packets_per_s"),
            n("distinct_sources"),
            list(incident, "amplifier_ports"),
        ),
        Class::BruteForce => {
            let success = if is_true(incident, "login_succeeded") { "; una parece haber acertado" } else { "" };
            format!(
                "{who} probó contraseñas en {whom}, {service}: {} conexiones cortas iguales{success}",
                n("connections")
            )
        }
        Class::ConnectionFlood => {
            let (connections, window) = (n("connections"), n("window_s"));
            let rest = match incident.evidence.get("usual_connections") {
                Some(usual) => format!(" (lo habitual serían {usual})"),
                None => " y apenas usó ninguna".to_owned(),
            };
            format!("{who} abrió {connections} conexiones con {whom}, {service}, en {window} segundos{rest}")
        }
        Class::SlowDos => format!(
            "{who} mantuvo {} conexiones con {whom}, {service}, abiertas durante {} sin enviar apenas nada",
            n("held_connections"),
            spanned(incident, "held_s", "menos de un segundo"),
        ),
        Class::Beacon => format!(
            "{who} llamó a {whom}, {service}, {} veces, cada {}, con una regularidad del {} %",
            n("connections"),
            spanned(incident, "interval_s", "menos de un segundo"),
            percent(incident, "regularity"),
        ),
        Class::DnsTunnel => format!(
            "{who} movió {} hacia fuera y {} hacia dentro por DNS en {whom}: {} preguntas de {} octetos de media",
            octets(incident, "sent_octets"),
            octets(incident, "received_octets"),
            n("questions"),
            n("mean_question_octets"),
        ),
        Class::IcmpTunnel => format!(
            "{who} y {whom} movieron {} en {} ecos ICMP que no son un ping",
            octets(incident, "octets"),
            n("echoes"),
        ),
        Class::Exfiltration => format!(
            "{who} envió {} a {whom} en {took}; lo habitual es {}",
            octets(incident, "sent_octets"),
            octets(incident, "usual_octets"),
        ),
        Class::LateralMovement => {
            format!("{who} accedió por primera vez a la administración de {whom}, {service}, en {took}")
        }
        Class::ArpSpoof => format!("{} responde por {}, que es de otros", n("mac"), list(incident, "claimed")),
        Class::Anomaly if is_true(incident, "host_window") => {
            format!("{who} hizo durante un minuto lo que aquí no es normal; lo que destacó: {}", features(incident),)
        }
        Class::Anomaly => format!(
            "{who} tuvo {} flujos distintos de lo normal aquí, de {} (lo habitual serían {}); lo que destacó: {}",
            n("rare_flows"),
            n("flows"),
            n("expected_rare_flows"),
            features(incident),
        ),
    }
}

fn sources(incident: &Incident, who: &str) -> String {
    let forged = if is_true(incident, "spoofed") { ", probablemente falsos" } else { "" };
    if incident.attackers.is_empty() {
        format!("{} orígenes{forged}", number(incident, "distinct_sources"))
    } else {
        who.to_owned()
    }
}
