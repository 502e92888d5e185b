//! The rules: who may depend on whom, and who may name which library.

/// Crates without async runtime, gRPC, database, clock or randomness.
pub const PURE: [&str; 3] = ["conclave-types", "conclave-room", "conclave-placement"];

/// What would bring one of those into a pure crate.
pub const FORBIDDEN_IN_PURE: [&str; 9] =
    ["tokio", "futures-executor", "tonic", "prost", "hyper", "openraft", "librocksdb-sys", "getrandom", "chrono"];

/// The C++ store: what the crates below never link.
pub const STORE: &str = "librocksdb-sys";

/// Crates that run under simulated time and network, where threads of a C++ library cannot follow.
pub const SIMULATED: [&str; 18] = [
    "conclave-types",
    "conclave-network",
    "conclave-faults",
    "conclave-room",
    "conclave-document",
    "conclave-placement",
    "conclave-proto",
    "conclave-storage",
    "conclave-raft",
    "conclave-transport",
    "conclave-cluster",
    "conclave-auth",
    "conclave-host",
    "conclave-gateway",
    "conclave-client",
    "conclave-testkit",
    "conclave-workload",
    "conclave-simulation",
];

/// Which of our crates each crate may use. From the inside out; a crate that is not here may not exist.
pub const EDGES: [(&str, &[&str]); 18] = [
    ("conclave-types", &[]),
    ("conclave-network", &[]),
    ("conclave-faults", &[]),
    ("conclave-room", &["conclave-types"]),
    ("conclave-document", &["conclave-types"]),
    ("conclave-placement", &["conclave-types"]),
    ("conclave-storage", &["conclave-types"]),
    ("conclave-storage-rocksdb", &["conclave-storage", "conclave-types", "conclave-faults"]),
    ("conclave-proto", &["conclave-types", "conclave-room"]),
    ("conclave-auth", &["conclave-types", "conclave-proto"]),
    ("conclave-raft", &["conclave-types", "conclave-faults", "conclave-storage", "conclave-proto"]),
    ("conclave-transport", &["conclave-types", "conclave-network", "conclave-proto", "conclave-raft"]),
    ("conclave-client", &["conclave-types", "conclave-network", "conclave-proto"]),
    (
        "conclave-cluster",
        &[
            "conclave-types",
            "conclave-faults",
            "conclave-network",
            "conclave-placement",
            "conclave-proto",
            "conclave-storage",
            "conclave-raft",
        ],
    ),
    (
        "conclave-host",
        &[
            "conclave-types",
            "conclave-faults",
            "conclave-room",
            "conclave-document",
            "conclave-network",
            "conclave-placement",
            "conclave-proto",
            "conclave-storage",
            "conclave-raft",
            "conclave-transport",
            "conclave-auth",
            "conclave-cluster",
        ],
    ),
    (
        "conclave-gateway",
        &[
            "conclave-types",
            "conclave-network",
            "conclave-placement",
            "conclave-proto",
            "conclave-auth",
            "conclave-cluster",
        ],
    ),
    (
        "conclave-cli",
        &[
            "conclave-types",
            "conclave-faults",
            "conclave-room",
            "conclave-network",
            "conclave-placement",
            "conclave-proto",
            "conclave-storage",
            "conclave-storage-rocksdb",
            "conclave-raft",
            "conclave-transport",
            "conclave-auth",
            "conclave-client",
            "conclave-cluster",
            "conclave-host",
            "conclave-gateway",
        ],
    ),
    ("conclave-xtask", &[]),
];

/// Crates that nothing shipped depends on: they may use any other.
pub const BESIDE: [&str; 6] = [
    "conclave-testkit",
    "conclave-workload",
    "conclave-simulation",
    "conclave-tests",
    "conclave-bench",
    "conclave-bench-compare",
];

/// Libraries that one crate tames for all others, so that an upgrade touches one crate.
pub const OWNED: [(&str, &[&str]); 17] = [
    ("rocksdb", &["conclave-storage-rocksdb"]),
    ("openraft", &["conclave-raft"]),
    ("openraft-macros", &["conclave-raft"]),
    ("openraft-rt", &["conclave-raft"]),
    ("openraft-rt-tokio", &["conclave-raft"]),
    ("hashring", &["conclave-placement"]),
    // The process-level suites forge tokens by hand, which `conclave-auth` must not help them with.
    ("jsonwebtoken", &["conclave-auth", "conclave-tests"]),
    ("prost-build", &["conclave-proto"]),
    ("tonic-prost-build", &["conclave-proto"]),
    ("protox", &["conclave-proto"]),
    ("yrs", &["conclave-document"]),
    ("opentelemetry", &["conclave-telemetry"]),
    ("clap", &["conclave-cli", "conclave-tests", "conclave-bench"]),
    ("turmoil", &["conclave-simulation"]),
    ("mad-turmoil", &["conclave-simulation"]),
    // Clients of what we are compared with.
    ("async-nats", &["conclave-bench-compare"]),
    ("lapin", &["conclave-bench-compare"]),
];
