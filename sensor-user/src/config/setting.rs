//! Every setting there is: its place in the TOML tree, how its text is read, and what it means.

/// A leaf of the configuration tree.
#[derive(Debug)]
pub struct Setting {
    /// Place in the tree, joined by dots. Below `notify.alertmanager` it is meant for each element of that array.
    pub path: &'static str,
    /// How an environment variable or a flag becomes a value.
    pub kind: Kind,
    /// One sentence for people, with unit, bounds and default.
    pub about: &'static str,
    /// A value in TOML, for settings that may have none.
    pub example: &'static str,
}

/// How text becomes a TOML value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is a string.
    Text,
    /// A number or `true` or `false` when it looks like one, else a string.
    Scalar,
    /// Strings between commas.
    List,
}

impl Setting {
    /// The setting at `path`.
    #[must_use]
    pub fn find(path: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.path == path)
    }

    const fn such_as(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    /// Its environment variable, e.g. `LEUKO_KERNEL_XDP_MODE`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("LEUKO_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// For `notify.*`, the name without that word: `LEUKO_TELEGRAM_TOKEN`.
    #[must_use]
    pub fn short_variable(&self) -> Option<String> {
        let path = self.path.strip_prefix("notify.")?;
        Some(format!("LEUKO_{}", path.replace('.', "_").to_uppercase()))
    }
}

const fn text(path: &'static str, about: &'static str) -> Setting {
    Setting { path, kind: Kind::Text, about, example: "" }
}

const fn scalar(path: &'static str, about: &'static str) -> Setting {
    Setting { path, kind: Kind::Scalar, about, example: "" }
}

const fn list(path: &'static str, about: &'static str) -> Setting {
    Setting { path, kind: Kind::List, about, example: "" }
}

/// In the order in which they are printed. A section is complete before the next begins.
pub const SETTINGS: [Setting; 80] = [
    list(
        "interfaces",
        "Names or patterns (\"eth*\"), here or in a namespace (\"blue:eth0\"). None: that of the default route.",
    ),
    scalar("interval", "How often flows are looked at, 100ms to 60s. Default 1s."),
    scalar("warmup", "How long normal traffic is learned before anomalies are reported, 0s to 24h. Default 60s."),
    text("state_dir", "Where the learned baseline is kept. Default /var/lib/leuko."),
    text("log_file", "Also log to this file, one JSON object a line. Default: none.")
        .such_as(r#""/var/log/leuko.log""#),
    text("log_level", "error, warn, info, debug, trace, off, or a filter such as \"info,leuko::source=debug\"."),
    text("language", "Language of the sentences about incidents: en or es. Default en."),
    text("sensor", "Name of this sensor in alerts. Default: the host name.").such_as(r#""web-1.example.org""#),
    text(
        "kernel.xdp_mode",
        "auto, native (in the driver) or off (at TC). auto: native if the driver can and no other program has it.",
    ),
    text("kernel.egress", "How outgoing packets are seen: auto, tcx (Linux 6.6), clsact, or off for mirror ports."),
    scalar("kernel.flows", "Flows that are tracked at once, 1024 to 16777216. Default 131072."),
    scalar("kernel.sampling", "Look at one packet of so many, 1 to 65536, and multiply what it counts. Default 1."),
    list("kernel.tunnels", "Tunnels whose inner packets are counted in place of the outer: vxlan, geneve, gre, ipip."),
    text("kernel.pin", "Folder in a BPF filesystem that keeps programs and maps, so that a restart goes on counting.")
        .such_as(r#""/sys/fs/bpf/leuko""#),
    scalar("timeouts.tcp_idle", "TCP connection in use. All timeouts: 1ms to 24h without a packet end the flow."),
    scalar("timeouts.tcp_closed", "TCP after FIN from both sides, or RST."),
    scalar("timeouts.tcp_opening", "TCP without payload yet: probes and half-open connections."),
    scalar("timeouts.udp_idle", "UDP but for DNS, and other protocols."),
    scalar("timeouts.dns_idle", "UDP from or to port 53."),
    scalar("timeouts.icmp_idle", "ICMP and ICMPv6."),
    scalar("timeouts.active", "A flow that lasts longer is recorded and begins anew."),
    text("metrics.listen", "Where Prometheus fetches /metrics, or \"off\". Default 127.0.0.1:9101."),
    scalar(
        "canary.every",
        "How often `leuko run` tests itself with a marked scan, up to 24h; 0s for never. Default 0s.",
    ),
    scalar("store.flows", "Whether each flow that ended is kept, for `leuko flows`. Default true."),
    scalar("store.keep", "How long incidents, events and the audit trail are kept, 1h to 3650d. Default 365d."),
    scalar("store.keep_flows", "How long flows are kept one by one, then as sums by the hour. Default 7d."),
    scalar("store.keep_summaries", "How long these sums are kept. Default 90d."),
    scalar("store.max_size", "How much the store may hold, 16MB to 64TB: the oldest flows go first. Default 1GB."),
    scalar(
        "detect.alerts_per_day",
        "Alerts a day that are acceptable where chance decides (anomaly): the threshold follows. Default 10.",
    ),
    list(
        "detect.disable",
        "Classes that are not reported, such as port_scan or beacon; `leuko mute add --help` lists them.",
    ),
    list("detect.local", "Public addresses and networks (CIDR) that are yours, besides this host's own."),
    list("detect.allow", "Addresses and networks (CIDR) that are never reported as attackers."),
    text("respond.mode", "How far the sensor goes by itself: off, observe, rate-limit, drop. Default observe."),
    list("respond.never", "Addresses and networks (CIDR) that are never blocked, besides those of detect.allow."),
    scalar("respond.observe_first", "How long a new sensor only counts what it would block, 0s to 30d. Default 24h."),
    scalar(
        "respond.first",
        "How long a first automatic block is, 10s to 30d; each further is 4 times that. Default 10m.",
    ),
    scalar("respond.longest", "How long an automatic block is at most, 10s to 30d. Default 24h."),
    scalar("respond.entries", "Automatic blocks at once, 1 to 100000. Default 1024."),
    scalar("respond.per_minute", "New automatic blocks in any minute, 1 to 10000. Default 30."),
    scalar("respond.limit", "Packets a second that pass of an attacker in rate-limit mode. Default 100."),
    scalar("respond.requests", "SYN a second of strangers that pass to a service flooded with them. Default 200."),
    scalar("respond.capacity", "Blocks the kernel has room for, lists included, 1024 to 4194304. Default 65536."),
    text("respond.socket", "Socket by which `leuko block` acts. Default: leuko.sock in the state directory.")
        .such_as(r#""/run/leuko/leuko.sock""#),
    scalar("respond.nftables", "Whether nftables enforces blocks, too; not imported lists. Default false."),
    text(
        "respond.file",
        "File of blocked networks, one a line, without imported lists, for firewalls that read it. Default: none.",
    )
    .such_as(r#""/var/lib/leuko/blocked.txt""#),
    scalar("harden.enabled", "Whether `leuko run` gives up at its start what watching does not take. Default true."),
    text(
        "harden.user",
        "Who it becomes when root starts it, if there is such a user; \"root\" to stay. Default leuko.",
    ),
    text("notify.dashboard", "Base address of the dashboard, for links in messages. Default: none.")
        .such_as(r#""https://leuko.example.org""#),
    text("notify.templates", "Folder with templates in place of the built-in ones; `leuko notify templates`.")
        .such_as(r#""/etc/leuko/templates""#),
    text("notify.alertmanager.url", "Base address, such as \"http://127.0.0.1:9093\". One [[section]] for each.")
        .such_as(r#""http://127.0.0.1:9093""#),
    text("notify.alertmanager.basic_auth.username", "HTTP basic authentication: the name,").such_as(r#""leuko""#),
    text("notify.alertmanager.basic_auth.password", "and the password,").such_as(r#""secret""#),
    text("notify.alertmanager.basic_auth.password_file", "or a file that holds it.")
        .such_as(r#""/etc/leuko/alertmanager.password""#),
    text("notify.alertmanager.bearer_token", "Token for the Authorization header.").such_as(r#""secret""#),
    text("notify.alertmanager.bearer_token_file", "File that holds the token.")
        .such_as(r#""/etc/leuko/alertmanager.token""#),
    text("notify.alertmanager.ca_file", "Certificates (PEM) that sign the server's, besides those of the system.")
        .such_as(r#""/etc/leuko/ca.pem""#),
    scalar("notify.alertmanager.resend", "How often firing alerts are repeated.").such_as(r#""60s""#),
    text("notify.alertmanager.name", "Name in the outbox, in commands and in metrics. Default: alertmanager.")
        .such_as(r#""alertmanager""#),
    text("notify.alertmanager.min_severity", "Mildest severity that is told: low, medium, high or critical.")
        .such_as(r#""low""#),
    scalar(
        "notify.alertmanager.send_updates",
        "Whether changes of an open incident are told; that it is worse always is.",
    )
    .such_as("true"),
    scalar("notify.alertmanager.send_resolved", "Whether the end of an incident is told.").such_as("true"),
    scalar("notify.alertmanager.timeout", "How long a request may take.").such_as(r#""10s""#),
    scalar("notify.alertmanager.give_up_after", "How old an event gets before it is given up, up to 24h.")
        .such_as(r#""24h""#),
    text("notify.alertmanager.rate_limit", "How many messages in a time; what is more goes into one message.")
        .such_as(r#""600/1m""#),
    scalar("notify.alertmanager.cool_down", "Rest after a message, unless something critical comes.")
        .such_as(r#""5m""#),
    text("notify.telegram.token", "What @BotFather gave.").such_as(r#""123456:ABC-DEF""#),
    text("notify.telegram.token_file", "File that holds the token.").such_as(r#""/etc/leuko/telegram.token""#),
    list("notify.telegram.chat_ids", "Numbers of chats, or @names of public channels.")
        .such_as(r#"[42, "@my_channel"]"#),
    scalar("notify.telegram.commands", "Whether buttons and commands work. Default true.").such_as("true"),
    list("notify.telegram.allowed_users", "Numbers of those who may act in groups; needed in public ones.")
        .such_as("[42]"),
    scalar("notify.telegram.pictures", "Whether a picture of the time line follows what is high or critical.")
        .such_as("false"),
    text("notify.telegram.api_base", "Server of the Bot API.").such_as(r#""https://api.telegram.org""#),
    text("notify.telegram.name", "Name in the outbox, in commands and in metrics. Default: telegram.")
        .such_as(r#""telegram""#),
    text("notify.telegram.min_severity", "Mildest severity that is told: low, medium, high or critical.")
        .such_as(r#""low""#),
    scalar("notify.telegram.send_updates", "Whether changes of an open incident are told; that it is worse always is.")
        .such_as("true"),
    scalar("notify.telegram.send_resolved", "Whether the end of an incident is told.").such_as("true"),
    scalar("notify.telegram.timeout", "How long a request may take.").such_as(r#""15s""#),
    scalar("notify.telegram.give_up_after", "How old an event gets before it is given up, up to 24h.")
        .such_as(r#""24h""#),
    text("notify.telegram.rate_limit", "How many messages in a time; what is more goes into one message.")
        .such_as(r#""20/1m""#),
    scalar("notify.telegram.cool_down", "Rest after a message, unless something critical comes.").such_as(r#""5m""#),
];
