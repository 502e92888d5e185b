//! Brings the machine to the point where the workspace builds.
//!
//! RocksDB needs a C++ compiler and, for its bindings, libclang. ccache is wanted, not needed: with it a second target
//! directory gets the C++ in a minute instead of many. The suites that cut networks, disks and clocks use tools of the
//! system; without them those tests are skipped. What the comparison measures beside ours is installed for it alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The compilers that every build uses when ccache is there. Cargo builds RocksDB anew when these strings change, so
/// they are written once, here.
const CACHED_COMPILERS: [(&str, &str); 2] = [("CC", "ccache cc"), ("CXX", "ccache c++")];

/// What a task is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Build,
    /// Build, and break what the product stands on.
    Faults,
    /// Build, and measure ours beside RabbitMQ.
    RabbitMq,
}

impl Purpose {
    /// Whether who has this purpose needs what serves another.
    fn includes(self, other: Purpose) -> bool {
        self == other || other == Purpose::Build
    }
}

/// Something that is used, the Debian package that brings it, what for, and whether one can do without.
struct Need {
    what: &'static str,
    package: &'static str,
    purpose: Purpose,
    required: bool,
    is_here: fn() -> bool,
}

const fn required(what: &'static str, package: &'static str, is_here: fn() -> bool) -> Need {
    Need { what, package, purpose: Purpose::Build, required: true, is_here }
}

const fn wanted(purpose: Purpose, what: &'static str, package: &'static str, is_here: fn() -> bool) -> Need {
    Need { what, package, purpose, required: false, is_here }
}

const NEEDS: [Need; 9] = [
    required("a C compiler", "gcc", || on_path("cc")),
    required("a C++ compiler", "g++", || on_path("c++")),
    required("libclang", "libclang-dev", has_libclang),
    wanted(Purpose::Build, "ccache", "ccache", || on_path("ccache")),
    wanted(Purpose::Faults, "ip", "iproute2", || on_path("ip")),
    wanted(Purpose::Faults, "iptables", "iptables", || on_path("iptables")),
    wanted(Purpose::Faults, "mkfs.ext4", "e2fsprogs", || on_path("mkfs.ext4")),
    wanted(Purpose::Faults, "faketime", "faketime", || on_path("faketime")),
    Need {
        what: "RabbitMQ",
        package: "rabbitmq-server",
        purpose: Purpose::RabbitMq,
        required: true,
        is_here: || on_path("rabbitmq-server"),
    },
];

/// Says no to every service that a package wants to start; the file is asked by whoever installs one.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// How packages can be installed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Installer {
    Root,
    /// `sudo` that asks no password.
    Sudo,
    /// A person has to type the command.
    Person,
    /// Not a Debian: we know the needs, not the package names.
    NoApt,
}

/// Installs what is missing where that is allowed; otherwise says exactly what to type, and fails if it is required.
pub fn run(purpose: Purpose) -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| purpose.includes(need.purpose) && !(need.is_here)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.what).collect();
    eprintln!("this machine lacks {}", names.join(", "));

    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let installer = Installer::find();
    match installer {
        Installer::Root | Installer::Sudo => {
            for command in apt_commands(installer, &packages) {
                if let Err(error) = shell(&command) {
                    eprintln!("{error:#}");
                    break;
                }
            }
        }
        Installer::Person => eprintln!("install it with\n\n    {}\n", apt_commands(installer, &packages).join(" && ")),
        Installer::NoApt => {
            eprintln!("install it with your system's package manager (Debian's names: {})", packages.join(" "))
        }
    }

    let still: Vec<&str> =
        missing.iter().filter(|need| need.required && !(need.is_here)()).map(|need| need.what).collect();
    if !still.is_empty() {
        bail!("cannot build without {}", still.join(", "));
    }
    Ok(())
}

/// What `CC` and `CXX` are for every build. A person's own choice of a compiler wins.
pub fn compilers() -> Vec<(&'static str, &'static str)> {
    if !on_path("ccache") {
        return Vec::new();
    }
    CACHED_COMPILERS.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect()
}

impl Installer {
    fn find() -> Installer {
        let succeeds = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !on_path("apt-get") {
            Installer::NoApt
        } else if succeeds("sh", &["-c", "test \"$(id -u)\" = 0"]) {
            Installer::Root
        } else if succeeds("sudo", &["-n", "true"]) {
            Installer::Sudo
        } else {
            Installer::Person
        }
    }
}

fn apt_commands(installer: Installer, packages: &[&str]) -> Vec<String> {
    let prefix = match installer {
        Installer::Root | Installer::NoApt => "",
        Installer::Sudo | Installer::Person => "sudo ",
    };
    let names = packages.join(" ");
    let install = format!("{prefix}apt-get install --yes --no-install-recommends {names}");
    let install = if packages.contains(&"rabbitmq-server") { without_services(prefix, &install) } else { install };
    vec![format!("{prefix}apt-get update"), install]
}

/// An installation that starts no service, now or when the machine starts. A policy that is there already stays, and
/// decides.
fn without_services(prefix: &str, install: &str) -> String {
    format!(
        "(made=; test -e {POLICY} || made=yes; \
         test -z \"$made\" || printf '#!/bin/sh\\nexit 101\\n' | {prefix}install -m 755 /dev/stdin {POLICY} || exit 1; \
         {install}; status=$?; \
         test -z \"$made\" || {prefix}rm -f {POLICY}; \
         ! command -v systemctl >/dev/null || {prefix}systemctl disable rabbitmq-server epmd.service epmd.socket; \
         exit $status)"
    )
}

fn shell(command: &str) -> Result<()> {
    eprintln!("+ {command}");
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let status = shell.status().with_context(|| format!("cannot run `{command}`"))?;
    if !status.success() {
        bail!("`{command}` failed: {status}");
    }
    Ok(())
}

/// Tools of the administrator are not on everybody's path, and here all the same.
fn on_path(program: &str) -> bool {
    let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    find(program, &administrators).is_some()
}

/// A program on the path, or in one of some more folders.
pub fn find(program: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(more.iter().cloned())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Looks where RocksDB's bindings generator looks: the named folder, then the usual library folders.
fn has_libclang() -> bool {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let usual = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/lib"].map(PathBuf::from);
    let deeper = folders_in(Path::new("/usr/lib")).into_iter().flat_map(|folder| [folder.join("lib"), folder]);
    named.into_iter().chain(usual).chain(deeper).any(|folder| holds_libclang(&folder))
}

fn holds_libclang(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return folder.is_file() && is_libclang(folder) };
    entries.flatten().any(|entry| is_libclang(&entry.path()))
}

fn is_libclang(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let library = name.starts_with("libclang.so") || name.starts_with("libclang-") && name.contains(".so");
    (library && !name.starts_with("libclang-cpp")) || name == "libclang.dylib"
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_type_names_every_package() {
        let commands = apt_commands(Installer::Person, &["g++", "libclang-dev"]);
        assert_eq!(
            commands.join(" && "),
            "sudo apt-get update && sudo apt-get install --yes --no-install-recommends g++ libclang-dev"
        );
        assert_eq!(apt_commands(Installer::Root, &["ccache"])[0], "apt-get update");
    }

    #[test]
    fn a_package_with_a_service_is_installed_without_starting_it() {
        let commands = apt_commands(Installer::Sudo, &["rabbitmq-server"]);
        let install = &commands[1];
        let (denied, installed) = (install.find("exit 101").unwrap(), install.find("apt-get install").unwrap());
        assert!(denied < installed && install.contains("sudo rm -f /usr/sbin/policy-rc.d"), "{install}");
    }

    #[test]
    fn nothing_of_a_comparison_is_needed_for_the_tests() {
        assert!(Purpose::Faults.includes(Purpose::Build) && !Purpose::Faults.includes(Purpose::RabbitMq));
        assert!(Purpose::RabbitMq.includes(Purpose::Build) && !Purpose::RabbitMq.includes(Purpose::Faults));
    }

    #[test]
    fn libclang_is_told_from_its_neighbours() {
        for good in ["libclang.so", "libclang.so.1", "libclang-14.so.1", "libclang-14.so", "libclang.dylib"] {
            assert!(is_libclang(Path::new(good)), "{good}");
        }
        for bad in ["libclang-cpp.so.14", "libclangTooling.a", "clang", "libclang-14.a"] {
            assert!(!is_libclang(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn the_compilers_are_the_strings_that_cargo_remembers() {
        assert_eq!(CACHED_COMPILERS, [("CC", "ccache cc"), ("CXX", "ccache c++")]);
    }
}
