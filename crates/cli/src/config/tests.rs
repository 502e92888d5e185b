use std::path::{Path, PathBuf};

use super::*;

/// The smallest environment that a host starts with.
const HOST: [(&str, &str); 1] = [("CONCLAVE_CLUSTER_TOKEN", "correct-horse-battery")];
const GATEWAY: [(&str, &str); 2] =
    [("CONCLAVE_CLUSTER_TOKEN", "correct-horse-battery"), ("CONCLAVE_GATEWAY_HOSTS", "127.0.0.1:7100")];

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Loads a host's configuration from a file with this text, these variables besides the needed ones, and these flags.
fn host(file: &str, environment: &[(&str, &str)], flags: HostFlags) -> Result<HostConfig, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "conclave.toml", file);
    let mut flags = flags;
    flags.common.config = Some(path);
    load_host(&flags, &[variables(&HOST), variables(environment)].concat())
}

fn host_error(file: &str, environment: &[(&str, &str)], flags: HostFlags) -> String {
    let text = host(file, environment, flags).unwrap_err().to_string();
    // The folder is another one in each run.
    let folder = std::env::temp_dir().display().to_string();
    match text.split_once(&format!("{folder}/")) {
        Some((before, after)) => format!("{before}{}", after.split_once('/').map_or(after, |(_, rest)| rest)),
        None => text,
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn token(text: &str) -> ClusterToken {
    text.parse().unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

#[test]
fn a_token_is_all_a_host_needs() {
    let config = load_host(&HostFlags::default(), &variables(&HOST)).unwrap();
    assert_eq!(config.listen, Address::loopback(7100));
    assert_eq!(config.bootstrap, Bootstrap::Known);
    assert_eq!((config.cluster.shards, config.cluster.project.as_str()), (128, "default"));
    assert_eq!(config.cluster.token, token("correct-horse-battery"));
    let timings = config.cluster.timings;
    let ms = [timings.heartbeat, timings.election_min, timings.election_max].map(|time| time.as_millis());
    assert_eq!(ms, [300, 600, 900]);
    assert_eq!(config.log_bounds, LogBounds::DEFAULT);
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let file = "[cluster]\nshards = 2\n\n[host]\nzone = \"file\"\nlog = \"error\"\n";
    let environment = [("CONCLAVE_HOST_ZONE", "variable"), ("CONCLAVE_HOST_LOG", "warn")];
    let flags = HostFlags { zone: Some("flag".to_owned()), ..HostFlags::default() };
    let config = host(file, &environment, flags).unwrap();
    assert_eq!((config.cluster.shards, config.log.as_str(), config.zone.as_str()), (2, "warn", "flag"));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
    assert_eq!(
        host_error("[host]\nzone = \"a\"\nlistne = \"127.0.0.1:1\"\n", &[], HostFlags::default()),
        "there is no option host.listne, set in conclave.toml line 3; the nearest is listen in [host]"
    );
    assert_eq!(
        host_error("\n[host]\nshards = 4\n", &[], HostFlags::default()),
        "there is no option host.shards, set in conclave.toml line 3; the nearest is shards in [cluster]"
    );
    assert_eq!(
        host_error("[gatway]\n", &[], HostFlags::default()),
        "there is no option table [gatway], set in conclave.toml line 1; the nearest is [gateway]"
    );
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_name() {
    assert_eq!(
        host_error("", &[("CONCLAVE_HOST_ADVERTIZE", "a:1")], HostFlags::default()),
        "there is no option host.advertize, set by the variable CONCLAVE_HOST_ADVERTIZE; the nearest is \
         CONCLAVE_HOST_ADVERTISE"
    );
    let gateway = [variables(&GATEWAY), variables(&[("CONCLAVE_GATEWAY_TOKEN", "x")])].concat();
    let error = load_gateway(&GatewayFlags::default(), &gateway).unwrap_err().to_string();
    assert!(error.ends_with("the nearest is CONCLAVE_CLUSTER_TOKEN"), "{error}");
}

#[test]
fn variables_of_other_programs_and_service_links_are_left_alone() {
    let environment = [
        ("CONCLAVE_ADDRESS", "http://127.0.0.1:7080"),
        ("CONCLAVE_HOST_SERVICE_HOST", "10.0.0.1"),
        ("CONCLAVE_HOST_SERVICE_PORT_GRPC", "7100"),
        ("CONCLAVE_HOST_PORT", "tcp://10.0.0.1:7100"),
        ("CONCLAVE_HOST_PORT_7100_TCP_ADDR", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    assert!(host("", &environment, HostFlags::default()).is_ok());
}

#[test]
fn a_bad_value_is_refused_with_field_value_place_and_range() {
    assert_eq!(
        host_error("[cluster]\nshards = 3\n", &[], HostFlags::default()),
        "cluster.shards is \"3\", set in conclave.toml line 2, but must be a power of two from 1 to 4096"
    );
    assert_eq!(
        host_error("[cluster]\nshards = \"4\"\n", &[], HostFlags::default()),
        "cluster.shards is \"\\\"4\\\"\", set in conclave.toml line 2, but must be a whole number without quotes"
    );
    assert_eq!(
        host_error("", &[("CONCLAVE_CLUSTER_HEARTBEAT_MS", "1")], HostFlags::default()),
        "cluster.heartbeat_ms is \"1\", set by the variable CONCLAVE_CLUSTER_HEARTBEAT_MS, but must be milliseconds \
         from 10 to 60000"
    );
    let flags = HostFlags { project: Some("No".to_owned()), ..HostFlags::default() };
    assert!(
        host_error("", &[], flags).starts_with("cluster.project is \"No\", set by the flag --project, but must be")
    );
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let error = host_error("[host]\nzone = \n", &[], HostFlags::default());
    assert!(error.starts_with("conclave.toml line 2 is not TOML: "), "{error}");
    let mut flags = HostFlags::default();
    flags.common.config = Some(PathBuf::from("/nowhere/conclave.toml"));
    let error = load_host(&flags, &variables(&HOST)).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the configuration file /nowhere/conclave.toml: "), "{error}");
}

#[test]
fn a_secret_is_never_repeated() {
    let error = load_host(&HostFlags::default(), &variables(&[("CONCLAVE_CLUSTER_TOKEN", "short")])).unwrap_err();
    assert!(!error.to_string().contains("short"), "{error}");
    let config = load_host(&HostFlags::default(), &variables(&HOST)).unwrap();
    assert!(!format!("{config:?}").contains("horse"));
}

#[test]
fn the_token_comes_from_one_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "token", "from-a-file-of-its-own\n").display().to_string();
    let from_file = variables(&[("CONCLAVE_CLUSTER_TOKEN_FILE", &path)]);
    assert_eq!(load_host(&HostFlags::default(), &from_file).unwrap().cluster.token, token("from-a-file-of-its-own"));
    let both = [variables(&HOST), from_file].concat();
    assert!(load_host(&HostFlags::default(), &both).unwrap_err().to_string().ends_with("keep one of them"));
    assert!(load_host(&HostFlags::default(), &[]).unwrap_err().to_string().starts_with("cluster.token is not set"));
}

#[test]
fn listening_beyond_loopback_has_to_be_meant() {
    let open = [("CONCLAVE_HOST_LISTEN", "10.0.0.1:7100")];
    assert!(host_error("", &open, HostFlags::default()).contains("set host.insecure"));
    let meant = [open[0], ("CONCLAVE_HOST_INSECURE", "true")];
    assert!(host("", &meant, HostFlags::default()).is_ok_and(|config| config.insecure));
    let gateway = [variables(&GATEWAY), variables(&[("CONCLAVE_GATEWAY_LISTEN", "0.0.0.0:7080")])].concat();
    let error = load_gateway(&GatewayFlags::default(), &gateway).unwrap_err().to_string();
    assert!(error.contains("set gateway.insecure"), "{error}");
}

#[test]
fn a_host_that_listens_everywhere_says_where_it_is() {
    let everywhere = [("CONCLAVE_HOST_LISTEN", "0.0.0.0:7100"), ("CONCLAVE_HOST_INSECURE", "true")];
    assert!(host_error("", &everywhere, HostFlags::default()).starts_with("host.advertise is not set"));
    let told = [everywhere[0], everywhere[1], ("CONCLAVE_HOST_ADVERTISE", "10.0.0.1:7100")];
    assert_eq!(host("", &told, HostFlags::default()).unwrap().advertise, Some(address("10.0.0.1:7100")));
}

#[test]
fn a_founder_stands_in_its_own_list() {
    let founders = "[cluster]\ninitial_hosts = [\"127.0.0.1:7100\", \"127.0.0.1:7101\"]\n";
    let config = host(founders, &[], HostFlags::default()).unwrap();
    assert_eq!(
        config.bootstrap,
        Bootstrap::Found { hosts: vec![address("127.0.0.1:7100"), address("127.0.0.1:7101")] }
    );
    let stranger = [("CONCLAVE_HOST_LISTEN", "127.0.0.1:7109")];
    assert!(host_error(founders, &stranger, HostFlags::default()).contains("not in cluster.initial_hosts"));
    let both = [("CONCLAVE_HOST_JOIN", "127.0.0.1:7101")];
    assert!(host_error(founders, &both, HostFlags::default()).contains("both set"));
    let joined = host("", &both, HostFlags::default()).unwrap();
    assert_eq!(joined.bootstrap, Bootstrap::Join { through: vec![address("127.0.0.1:7101")] });
}

#[test]
fn timings_have_to_fit_together() {
    for timings in ["heartbeat_ms = 400\n", "election_max_ms = 600\n", "election_min_ms = 1000\n"] {
        let error = host_error(&format!("[cluster]\n{timings}"), &[], HostFlags::default());
        assert!(error.contains("do not fit together"), "{error}");
    }
}

#[test]
fn a_gateway_needs_to_know_a_host() {
    let config = load_gateway(&GatewayFlags::default(), &variables(&GATEWAY)).unwrap();
    assert_eq!((config.listen, config.reflection), (Address::loopback(7080), false));
    let without = variables(&GATEWAY[..1]);
    assert_eq!(
        load_gateway(&GatewayFlags::default(), &without).unwrap_err().to_string(),
        "gateway.hosts is not set: set [gateway] hosts, CONCLAVE_GATEWAY_HOSTS or --hosts"
    );
}

fn dev_flags() -> crate::flags::DevFlags {
    use clap::Parser;
    match crate::flags::Cli::parse_from(["conclave", "dev"]).command {
        crate::flags::Command::Dev(flags) => flags,
        other => panic!("another command: {other:?}"),
    }
}

#[test]
fn a_development_cluster_needs_nothing() {
    let config = load_dev(&dev_flags()).unwrap();
    assert_eq!((config.hosts, config.shards), (3, 16));
    assert_eq!(config.listen, Address::loopback(7080));
    assert_eq!(config.data, DevData::Folder(PathBuf::from("conclave-data")));
}

#[test]
fn a_development_cluster_has_one_host_or_three_and_stays_on_this_machine() {
    for (hosts, valid) in [("1", true), ("3", true), ("0", false), ("2", false), ("4", false)] {
        assert_eq!(
            load_dev(&crate::flags::DevFlags { hosts: hosts.to_owned(), ..dev_flags() }).is_ok(),
            valid,
            "{hosts}"
        );
    }
    let open = crate::flags::DevFlags { listen: "0.0.0.0:7080".to_owned(), ..dev_flags() };
    assert!(load_dev(&open).unwrap_err().to_string().contains("a loopback address"));
    let both = crate::flags::DevFlags { data: Some("x".into()), ephemeral: true, ..dev_flags() };
    assert!(load_dev(&both).unwrap_err().to_string().ends_with("keep one of them"));
}

#[test]
fn the_sample_configures_both_roles_once_its_comments_are_taken_away() {
    let sample = sample();
    let values = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(option) if !option.is_empty() && !option.starts_with(' ') => option.to_owned(),
        _ => line.to_owned(),
    });
    // Some exclude each other: a person would choose.
    let chosen: Vec<String> =
        values.filter(|line| !line.starts_with("token_file") && !line.starts_with("join")).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "conclave.toml", &chosen.join("\n"));
    let mut flags = HostFlags::default();
    flags.common.config = Some(path.clone());
    assert_eq!(load_host(&flags, &[]).unwrap().cluster.token, token("change-me-everywhere"));
    let mut flags = GatewayFlags::default();
    flags.common.config = Some(path);
    assert_eq!(load_gateway(&flags, &[]).unwrap().hosts.len(), 3);
}

#[test]
fn sample_configuration_matches_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/conclave.toml");
    if std::env::var_os("CONCLAVE_REWRITE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, sample()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == sample(), "deploy/conclave.toml is out of date: run `cargo xtask fix`");
}
