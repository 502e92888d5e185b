//! The table of options. One entry is all there is to know about an option; the loader reads values through it.
//!
//! An option's file key is `[section] name`, its variable `CONCLAVE_SECTION_NAME`, its flag as written here.

/// A table of the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// The same on every node of a cluster.
    Cluster,
    /// One host's own.
    Host,
    /// One gateway's own.
    Gateway,
}

impl Section {
    pub const ALL: [Section; 3] = [Section::Cluster, Section::Host, Section::Gateway];

    pub fn name(self) -> &'static str {
        match self {
            Section::Cluster => "cluster",
            Section::Host => "host",
            Section::Gateway => "gateway",
        }
    }

    pub fn named(name: &str) -> Option<Section> {
        Section::ALL.into_iter().find(|section| section.name() == name)
    }

    /// What its variables begin with.
    pub fn variable_prefix(self) -> String {
        format!("CONCLAVE_{}_", self.name().to_uppercase())
    }
}

/// What a value is in the file. In variables and flags all are text, lists separated by commas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Boolean,
    List,
}

#[derive(Debug)]
pub struct Spec {
    pub section: Section,
    pub name: &'static str,
    /// Without the leading hyphens.
    pub flag: &'static str,
    pub kind: Kind,
    /// Meaning, unit and range.
    pub meaning: &'static str,
    pub default: Option<&'static str>,
    /// A value for the sample when there is no default.
    pub example: &'static str,
    /// The version it came in.
    pub since: &'static str,
}

impl Spec {
    /// How messages name it.
    pub fn field(&self) -> String {
        format!("{}.{}", self.section.name(), self.name)
    }

    pub fn variable(&self) -> String {
        format!("{}{}", self.section.variable_prefix(), self.name.to_uppercase())
    }
}

/// Every option, in the order of the sample.
pub static ALL: [&Spec; 22] = [
    &CLUSTER_TOKEN,
    &CLUSTER_TOKEN_FILE,
    &CLUSTER_INITIAL_HOSTS,
    &CLUSTER_SHARDS,
    &CLUSTER_PROJECT,
    &CLUSTER_HEARTBEAT_MS,
    &CLUSTER_ELECTION_MIN_MS,
    &CLUSTER_ELECTION_MAX_MS,
    &HOST_LISTEN,
    &HOST_ADVERTISE,
    &HOST_DATA,
    &HOST_JOIN,
    &HOST_ZONE,
    &HOST_COMPACT_AFTER_ENTRIES,
    &HOST_KEEP_LOG_ENTRIES,
    &HOST_INSECURE,
    &HOST_LOG,
    &GATEWAY_LISTEN,
    &GATEWAY_HOSTS,
    &GATEWAY_INSECURE,
    &GATEWAY_REFLECTION,
    &GATEWAY_LOG,
];

pub fn find(section: Section, name: &str) -> Option<&'static Spec> {
    ALL.into_iter().find(|spec| spec.section == section && spec.name == name)
}

/// The option that somebody most likely meant by `name` in `section`: one of that name elsewhere, else the section's
/// most similar.
pub fn nearest(section: Section, name: &str) -> &'static Spec {
    let name = name.to_lowercase();
    let misplaced = ALL.into_iter().find(|spec| spec.name == name || spec.flag.replace('-', "_") == name);
    let likeness = |spec: &Spec| (strsim::normalized_damerau_levenshtein(spec.name, &name) * 1_000.0) as u32;
    let own = ALL.into_iter().filter(|spec| spec.section == section);
    misplaced.or_else(|| own.max_by_key(|spec| likeness(spec))).unwrap_or(&CLUSTER_TOKEN)
}

pub static CLUSTER_TOKEN: Spec = Spec {
    section: Section::Cluster,
    name: "token",
    flag: "cluster-token",
    kind: Kind::Text,
    meaning: "Secret that the nodes of a cluster show each other; 16 to 1024 bytes, the same everywhere.",
    default: None,
    example: "change-me-everywhere",
    since: "0.1.0",
};

pub static CLUSTER_TOKEN_FILE: Spec = Spec {
    section: Section::Cluster,
    name: "token_file",
    flag: "cluster-token-file",
    kind: Kind::Text,
    meaning: "A file that holds the token, instead of `token`; blanks around it do not count.",
    default: None,
    example: "/etc/conclave/token",
    since: "0.1.0",
};

pub static CLUSTER_INITIAL_HOSTS: Spec = Spec {
    section: Section::Cluster,
    name: "initial_hosts",
    flag: "initial-hosts",
    kind: Kind::List,
    meaning: "The hosts that found a new cluster, by the addresses that they advertise; 1 to 64, the same list in the same order on each. \
              Only a host without data uses it.",
    default: None,
    example: "10.0.0.1:7100,10.0.0.2:7100,10.0.0.3:7100",
    since: "0.1.0",
};

pub static CLUSTER_SHARDS: Spec = Spec {
    section: Section::Cluster,
    name: "shards",
    flag: "shards",
    kind: Kind::Integer,
    meaning: "Shards of a new cluster, fixed for its life: a power of two from 1 to 4096, about ten for each node of the \
              largest size you expect.",
    default: Some("128"),
    example: "128",
    since: "0.1.0",
};

pub static CLUSTER_PROJECT: Spec = Spec {
    section: Section::Cluster,
    name: "project",
    flag: "project",
    kind: Kind::Text,
    meaning: "First project of a new cluster: 1 to 63 of a-z, 0-9 and hyphen.",
    default: Some("default"),
    example: "default",
    since: "0.1.0",
};

pub static CLUSTER_HEARTBEAT_MS: Spec = Spec {
    section: Section::Cluster,
    name: "heartbeat_ms",
    flag: "heartbeat-ms",
    kind: Kind::Integer,
    meaning: "How often a leader is heard of; milliseconds, 10 to 60000. Raise it, with the two below, between zones.",
    default: Some("300"),
    example: "300",
    since: "0.1.0",
};

pub static CLUSTER_ELECTION_MIN_MS: Spec = Spec {
    section: Section::Cluster,
    name: "election_min_ms",
    flag: "election-min-ms",
    kind: Kind::Integer,
    meaning: "Shortest silence after which a follower stands for election; milliseconds, at least twice heartbeat_ms.",
    default: Some("600"),
    example: "600",
    since: "0.1.0",
};

pub static CLUSTER_ELECTION_MAX_MS: Spec = Spec {
    section: Section::Cluster,
    name: "election_max_ms",
    flag: "election-max-ms",
    kind: Kind::Integer,
    meaning: "Longest such silence, and the time a lost leader's lease runs; milliseconds, above election_min_ms.",
    default: Some("900"),
    example: "900",
    since: "0.1.0",
};

pub static HOST_LISTEN: Spec = Spec {
    section: Section::Host,
    name: "listen",
    flag: "listen",
    kind: Kind::Text,
    meaning: "Where other nodes connect: host:port. Port 0 lets the system choose.",
    default: Some("127.0.0.1:7100"),
    example: "127.0.0.1:7100",
    since: "0.1.0",
};

pub static HOST_ADVERTISE: Spec = Spec {
    section: Section::Host,
    name: "advertise",
    flag: "advertise",
    kind: Kind::Text,
    meaning: "The address that other nodes are told, when it is not the one listened on: host:port.",
    default: None,
    example: "10.0.0.1:7100",
    since: "0.1.0",
};

pub static HOST_DATA: Spec = Spec {
    section: Section::Host,
    name: "data",
    flag: "data",
    kind: Kind::Text,
    meaning: "The data folder. It belongs to one node for ever and is refused elsewhere.",
    default: Some("conclave-data"),
    example: "conclave-data",
    since: "0.1.0",
};

pub static HOST_JOIN: Spec = Spec {
    section: Section::Host,
    name: "join",
    flag: "join",
    kind: Kind::List,
    meaning: "Hosts of the cluster that a new host joins, instead of cluster.initial_hosts; 1 to 64. Only a host without \
              data uses it.",
    default: None,
    example: "10.0.0.1:7100",
    since: "0.1.0",
};

pub static HOST_ZONE: Spec = Spec {
    section: Section::Host,
    name: "zone",
    flag: "zone",
    kind: Kind::Text,
    meaning: "The failure zone of this host, so that replicas of a shard spread over zones; at most 63 characters, empty \
              for none.",
    default: Some(""),
    example: "",
    since: "0.1.0",
};

pub static HOST_COMPACT_AFTER_ENTRIES: Spec = Spec {
    section: Section::Host,
    name: "compact_after_entries",
    flag: "compact-after-entries",
    kind: Kind::Integer,
    meaning: "Log entries of a shard after which its log is shortened, or 64 MiB of them; entries, 100 to 10000000.",
    default: Some("50000"),
    example: "50000",
    since: "0.1.0",
};

pub static HOST_KEEP_LOG_ENTRIES: Spec = Spec {
    section: Section::Host,
    name: "keep_log_entries",
    flag: "keep-log-entries",
    kind: Kind::Integer,
    meaning: "Log entries, or 64 MiB of them, that stay then for replicas that lag; one that lags more gets the whole state. \
              Entries, 10 to 10000000.",
    default: Some("10000"),
    example: "10000",
    since: "0.1.0",
};

pub static HOST_INSECURE: Spec = Spec {
    section: Section::Host,
    name: "insecure",
    flag: "insecure",
    kind: Kind::Boolean,
    meaning: "Allows listening beyond loopback without TLS. Only where the network is trusted.",
    default: Some("false"),
    example: "false",
    since: "0.1.0",
};

pub static HOST_LOG: Spec = Spec {
    section: Section::Host,
    name: "log",
    flag: "log",
    kind: Kind::Text,
    meaning: "What is logged: error, warn, info or debug, or a filter such as `info,conclave_raft=debug`.",
    default: Some("info"),
    example: "info",
    since: "0.1.0",
};

pub static GATEWAY_LISTEN: Spec = Spec {
    section: Section::Gateway,
    name: "listen",
    flag: "listen",
    kind: Kind::Text,
    meaning: "Where clients connect: host:port. Port 0 lets the system choose.",
    default: Some("127.0.0.1:7080"),
    example: "127.0.0.1:7080",
    since: "0.1.0",
};

pub static GATEWAY_HOSTS: Spec = Spec {
    section: Section::Gateway,
    name: "hosts",
    flag: "hosts",
    kind: Kind::List,
    meaning: "Internal addresses of hosts to ask for the shard map; 1 to 64, any of them will do.",
    default: None,
    example: "10.0.0.1:7100,10.0.0.2:7100,10.0.0.3:7100",
    since: "0.1.0",
};

pub static GATEWAY_INSECURE: Spec = Spec {
    section: Section::Gateway,
    name: "insecure",
    flag: "insecure",
    kind: Kind::Boolean,
    meaning: "Allows listening beyond loopback without TLS. Only where the network is trusted.",
    default: Some("false"),
    example: "false",
    since: "0.1.0",
};

pub static GATEWAY_REFLECTION: Spec = Spec {
    section: Section::Gateway,
    name: "reflection",
    flag: "reflection",
    kind: Kind::Boolean,
    meaning: "Whether clients may ask which services and messages there are (gRPC reflection).",
    default: Some("false"),
    example: "false",
    since: "0.1.0",
};

pub static GATEWAY_LOG: Spec = Spec {
    section: Section::Gateway,
    name: "log",
    flag: "log",
    kind: Kind::Text,
    meaning: "What is logged: error, warn, info or debug, or a filter such as `info,conclave_gateway=debug`.",
    default: Some("info"),
    example: "info",
    since: "0.1.0",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_found_by_its_name_and_has_a_variable_of_its_own() {
        let mut variables: Vec<String> = ALL.into_iter().map(Spec::variable).collect();
        for spec in ALL {
            assert!(std::ptr::eq(find(spec.section, spec.name).unwrap(), spec), "{}", spec.field());
            assert!(spec.default.is_none_or(|default| default == spec.example), "{}", spec.field());
        }
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), ALL.len());
        assert_eq!(CLUSTER_TOKEN_FILE.variable(), "CONCLAVE_CLUSTER_TOKEN_FILE");
    }

    #[test]
    fn the_nearest_option_is_the_one_that_was_meant() {
        for (section, given, meant) in [
            (Section::Host, "listne", "host.listen"),
            (Section::Host, "shards", "cluster.shards"),
            (Section::Host, "cluster_token", "cluster.token"),
            (Section::Cluster, "hearbeat_ms", "cluster.heartbeat_ms"),
            (Section::Gateway, "host", "gateway.hosts"),
            (Section::Gateway, "reflect", "gateway.reflection"),
        ] {
            assert_eq!(nearest(section, given).field(), meant, "{given}");
        }
    }
}
