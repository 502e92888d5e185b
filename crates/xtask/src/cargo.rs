//! Cargo, called the same way by every task.
//!
//! Invariant: one profile, one target directory, one selection ([`SELECTION`]) and one pair of compilers. A difference in
//! any of them would build RocksDB's C++ a second time. The simulation has its own of each, and no C++
//! ([`Cargo::simulation`]); the comparison has its own selection, and no C++ either ([`Cargo::build_comparison`]).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{checkout, setup};

pub struct Cargo {
    root: PathBuf,
    target: PathBuf,
    compilers: Vec<(&'static str, &'static str)>,
}

/// All but the simulation, which wants other features of what the others use, and the comparison, which brings the
/// clients of other systems with all that they need.
pub const SELECTION: [&str; 6] = ["--release", "--workspace", "--exclude", SIMULATION, "--exclude", COMPARISON];

/// The package that is built apart from the others.
pub const SIMULATION: &str = "conclave-simulation";
/// The package that only `bench nats` and `bench rabbitmq` build.
pub const COMPARISON: &str = "conclave-bench-compare";
/// What makes the simulation's runs repeat: the async runtime takes seeds, and randomness comes by a function that it can replace.
const SIMULATION_FLAGS: &str = "--cfg tokio_unstable --cfg getrandom_backend=\"linux_getrandom\"";

/// A variant of the workspace's build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// The product and all tests.
    Product,
    /// The binary `conclave` with crash points and planted bugs. It is built at the product's path, see
    /// [`Cargo::set_aside`]; only our crates from `faults` upwards differ, and cargo keeps both variants of them.
    Faults,
}

/// A test of one crate that depends on no crate with faults in it.
const SMALLEST_TEST: &str = "subdocuments";

/// A test executable and the package it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestExecutable {
    pub package: String,
    pub package_root: PathBuf,
    pub target: String,
    pub path: PathBuf,
}

/// What one build of the workspace leaves to run.
#[derive(Debug, Default)]
pub struct Artifacts {
    pub tests: Vec<TestExecutable>,
    /// Name and path of each binary.
    pub binaries: Vec<(String, PathBuf)>,
}

impl Artifacts {
    pub fn binary(&self, name: &str) -> Option<&Path> {
        self.binaries.iter().find(|(binary, _)| binary == name).map(|(_, path)| path.as_path())
    }
}

impl Cargo {
    pub fn find() -> Result<Cargo> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().context("cannot find the workspace")?;
        let target = target_directory()?;
        checkout::claim(&root, &target)?;
        let cargo = Cargo { root, target, compilers: setup::compilers() };
        checkout::claim(&cargo.root, &cargo.simulation_target())?;
        Ok(cargo)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `cargo <subcommand>` in the workspace, without what this process inherited from the cargo that started it.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_BIN_") {
                command.env_remove(&*name);
            }
        }
        command.arg(subcommand).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).stdin(Stdio::null());
        command.envs(self.compilers.iter().copied());
        command
    }

    /// What makes a build; it prints messages for [`parse_artifacts`].
    pub fn build_command(&self, build: Build) -> Command {
        let mut command = self.command("build");
        command.args(SELECTION).arg("--locked");
        match build {
            Build::Product => command.args(["--bins", "--tests"]),
            // A test among what is built, however small, makes cargo unify the features of third-party crates as it does
            // for the product; else many of them, and ours above them, would be built twice.
            Build::Faults => {
                command.args(["--bin", "conclave", "--test", SMALLEST_TEST, "--features", "conclave-cli/faults"])
            }
        };
        command.args(["--message-format", "json-render-diagnostics"]);
        command
    }

    /// `cargo <subcommand>` of the simulation, with its flags, its profile and a target directory beside the other.
    pub fn simulation(&self, subcommand: &str) -> Command {
        let mut command = self.command(subcommand);
        command.args(["--profile", "simulation", "-p", SIMULATION, "--features", "inject", "--locked"]);
        command.env("RUSTFLAGS", SIMULATION_FLAGS).env("CARGO_TARGET_DIR", self.simulation_target());
        command
    }

    /// A binary of the simulation, once it is built.
    pub fn simulation_binary(&self, name: &str) -> PathBuf {
        self.simulation_target().join("simulation").join(name)
    }

    fn simulation_target(&self) -> PathBuf {
        self.target.with_file_name("simulation")
    }

    /// Copies the binary of a faults build to a name of its own, before the product is built over it.
    pub fn set_aside(&self, faults: &Artifacts) -> Result<PathBuf> {
        let built = faults.binary("conclave").context("the build made no binary `conclave`")?;
        let (aside, next) = (built.with_file_name("conclave-faults"), built.with_file_name("conclave-faults.next"));
        // Renamed into place: a process may still run the old one.
        std::fs::copy(built, &next).and_then(|_| std::fs::rename(&next, &aside)).context("cannot copy the binary")?;
        Ok(aside)
    }

    /// Builds the binary `conclave` and returns its path.
    pub fn build_product(&self) -> Result<PathBuf> {
        self.build_binary("conclave")
    }

    pub fn build_binary(&self, name: &str) -> Result<PathBuf> {
        let artifacts = self.build(&["--bin", name])?;
        let found = artifacts.binaries.into_iter().find(|(binary, _)| binary == name);
        found.map(|(_, path)| path).with_context(|| format!("the build made no binary `{name}`"))
    }

    /// Builds the comparison with other systems and returns its path.
    pub fn build_comparison(&self) -> Result<PathBuf> {
        let mut command = self.command("build");
        command.args(["--release", "--locked", "-p", COMPARISON]);
        let found =
            Cargo::artifacts(command, COMPARISON)?.binaries.into_iter().find(|(binary, _)| binary == COMPARISON);
        found.map(|(_, path)| path).with_context(|| format!("the build made no binary `{COMPARISON}`"))
    }

    /// Builds one test executable.
    pub fn build_test(&self, target: &str) -> Result<TestExecutable> {
        let artifacts = self.build(&["--test", target])?;
        let found = artifacts.tests.into_iter().find(|test| test.target == target);
        found.with_context(|| format!("the build made no test `{target}`"))
    }

    fn build(&self, what: &[&str]) -> Result<Artifacts> {
        let mut command = self.command("build");
        // A test beside what is asked for: see [`Build::Faults`]. One variant of every crate serves all tasks.
        command.args(SELECTION).args(["--test", SMALLEST_TEST]).args(what);
        Cargo::artifacts(command, &what.join(" "))
    }

    /// Runs a build and reads what it made.
    fn artifacts(mut command: Command, what: &str) -> Result<Artifacts> {
        command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
        let output = command.output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("{what} does not build");
        }
        Ok(parse_artifacts(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Where tools are kept that are built from other projects' sources.
    pub fn tools(&self) -> PathBuf {
        self.target.with_file_name("tools")
    }

    /// `cargo metadata` of the workspace and everything it depends on.
    pub fn metadata(&self) -> Result<Value> {
        let mut command = self.command("metadata");
        let output = command.args(["--format-version", "1", "--locked"]).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("cargo metadata failed");
        }
        serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata wrote")
    }
}

fn target_directory() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(target) = set("CARGO_TARGET_DIR") {
        return std::path::absolute(target).context("CARGO_TARGET_DIR is not a path");
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("conclave/target")).context("neither CARGO_TARGET_DIR, XDG_CACHE_HOME nor HOME is set")
}

/// Reads the lines that cargo writes with `--message-format json`.
pub fn parse_artifacts(lines: &str) -> Artifacts {
    let mut artifacts = Artifacts::default();
    for message in lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let Some(path) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let target = message["target"]["name"].as_str().unwrap_or_default().to_owned();
        if message["profile"]["test"] == true {
            let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
            artifacts.tests.push(TestExecutable {
                package: package_name(message["package_id"].as_str().unwrap_or_default()),
                package_root: manifest.parent().unwrap_or(manifest).to_owned(),
                target,
                path,
            });
        } else if is_binary(&message["target"]["kind"]) {
            artifacts.binaries.push((target, path));
        }
    }
    artifacts
}

fn is_binary(kinds: &Value) -> bool {
    kinds.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"))
}

/// The package of an id such as `path+file:///src/crates/types#conclave-types@0.1.0`; the name is left out there when
/// the folder has it too.
fn package_name(id: &str) -> String {
    let (location, fragment) = id.rsplit_once('#').unwrap_or(("", id));
    match fragment.rsplit_once('@') {
        Some((name, _version)) => name.to_owned(),
        None => location.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r##"
{"reason":"compiler-artifact","package_id":"path+file:///src/crates/types#conclave-types@0.1.0","manifest_path":"/src/crates/types/Cargo.toml","target":{"kind":["lib"],"name":"conclave_types"},"profile":{"test":true},"executable":"/t/release/deps/conclave_types-1"}
{"reason":"compiler-artifact","package_id":"path+file:///src/crates/types#conclave-types@0.1.0","manifest_path":"/src/crates/types/Cargo.toml","target":{"kind":["lib"],"name":"conclave_types"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///src/crates/cli#conclave-cli@0.1.0","manifest_path":"/src/crates/cli/Cargo.toml","target":{"kind":["bin"],"name":"conclave"},"profile":{"test":false},"executable":"/t/release/conclave"}
{"reason":"compiler-artifact","package_id":"registry+x#serde@1","manifest_path":"/r/Cargo.toml","target":{"kind":["custom-build"],"name":"build-script-build"},"profile":{"test":false},"executable":"/t/build"}
{"reason":"build-finished","success":true}
not json
"##;

    #[test]
    fn tests_and_binaries_are_told_apart_and_build_scripts_left_out() {
        let artifacts = parse_artifacts(MESSAGES);
        assert_eq!(artifacts.binaries, [("conclave".to_owned(), PathBuf::from("/t/release/conclave"))]);
        assert_eq!(artifacts.tests.len(), 1);
        assert_eq!(artifacts.tests[0].package, "conclave-types");
        assert_eq!(artifacts.tests[0].package_root, Path::new("/src/crates/types"));
    }

    #[test]
    fn a_package_id_without_a_name_takes_the_folder() {
        assert_eq!(package_name("path+file:///src/conclave-tests#0.1.0"), "conclave-tests");
        assert_eq!(package_name("path+file:///src/tests#conclave-tests@0.1.0"), "conclave-tests");
    }
}
