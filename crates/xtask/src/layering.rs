//! Checks that dependencies point inwards, as ARCHITECTURE.md says they do.
//!
//! The rules are data ([`rules`]); the workspace is a small graph read from `cargo metadata` ([`graph`]). A new edge
//! between crates is a decision: it needs a line in the table, and a reason in the commit that adds it.

mod graph;
mod rules;

use anyhow::Result;

use crate::cargo::Cargo;
use graph::{Graph, Kind};
use rules::{BESIDE, EDGES, FORBIDDEN_IN_PURE, OWNED, SIMULATED, STORE};

pub use rules::PURE;

/// Every broken rule, in words; empty when all hold.
pub fn check(cargo: &Cargo) -> Result<Vec<String>> {
    Ok(violations(&Graph::from_metadata(&cargo.metadata()?)?))
}

fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for member in graph.members() {
        found.extend(wrong_edges(graph, member));
        found.extend(foreign_libraries(graph, member));
    }
    for member in PURE {
        for library in FORBIDDEN_IN_PURE {
            if let Some(path) = graph.path(member, library, &[Kind::Normal]) {
                found.push(format!("{member} is pure and must not reach {library}: {}", path.join(" -> ")));
            }
        }
        // Its tests run before RocksDB is built.
        if let Some(path) = graph.path(member, STORE, &[Kind::Normal, Kind::Development]) {
            found.push(format!("the tests of {member} must not reach {STORE}: {}", path.join(" -> ")));
        }
    }
    for member in SIMULATED {
        if let Some(path) = graph.path(member, STORE, &[Kind::Normal]) {
            found.push(format!("{member} runs in simulation and must not reach {STORE}: {}", path.join(" -> ")));
        }
    }
    found
}

/// Edges between our own crates that the table does not have.
fn wrong_edges(graph: &Graph, member: &str) -> Vec<String> {
    if BESIDE.contains(&member) {
        return Vec::new();
    }
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == member) else {
        return vec![format!("{member} has no place in the table of crates (crates/xtask/src/layering/rules.rs)")];
    };
    let ours = graph.dependencies(member).filter(|(name, kind)| graph.is_member(name) && *kind != Kind::Development);
    ours.filter(|(name, _)| !allowed.contains(&name.as_str()))
        .map(|(name, _)| format!("{member} must not depend on {name}"))
        .collect()
}

/// Libraries that another crate tames for everybody.
fn foreign_libraries(graph: &Graph, member: &str) -> Vec<String> {
    let owners = |library: &str| OWNED.iter().find(|(owned, _)| *owned == library).map(|(_, owners)| *owners);
    graph
        .dependencies(member)
        .filter_map(|(library, _)| Some((library, owners(library)?)))
        .filter(|(_, owners)| !owners.contains(&member))
        .map(|(library, owners)| format!("{member} names {library}, which only {} may", owners.join(", ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str, Kind)]) -> Graph {
        Graph::of(&["conclave-types", "conclave-room", "conclave-raft", "conclave-host", "conclave-cli"], edges)
    }

    #[test]
    fn the_intended_edges_are_allowed() {
        let graph = graph(&[
            ("conclave-room", "conclave-types", Kind::Normal),
            ("conclave-room", "conclave-testkit", Kind::Development),
            ("conclave-host", "conclave-room", Kind::Normal),
            ("conclave-raft", "openraft", Kind::Normal),
            ("conclave-cli", "clap", Kind::Normal),
        ]);
        assert_eq!(violations(&graph), Vec::<String>::new());
    }

    #[test]
    fn an_edge_outwards_is_found() {
        let graph = graph(&[("conclave-room", "conclave-raft", Kind::Normal)]);
        assert_eq!(violations(&graph), ["conclave-room must not depend on conclave-raft"]);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let graph = Graph::of(&["conclave-common"], &[]);
        assert!(violations(&graph)[0].starts_with("conclave-common has no place"));
    }

    #[test]
    fn a_foreign_library_is_named_by_its_owner_alone_even_in_tests() {
        let graph = graph(&[("conclave-host", "openraft", Kind::Development)]);
        assert_eq!(violations(&graph), ["conclave-host names openraft, which only conclave-raft may"]);
    }

    #[test]
    fn a_pure_crate_reaches_no_runtime_even_through_others() {
        let graph = graph(&[("conclave-room", "innocent", Kind::Normal), ("innocent", "tokio", Kind::Normal)]);
        assert_eq!(
            violations(&graph),
            ["conclave-room is pure and must not reach tokio: conclave-room -> innocent -> tokio"]
        );
    }

    #[test]
    fn a_build_tool_is_not_reached_by_what_it_built() {
        let graph = graph(&[("conclave-room", "generator", Kind::Build), ("generator", "tokio", Kind::Normal)]);
        assert_eq!(violations(&graph), Vec::<String>::new());
    }

    #[test]
    fn a_simulated_crate_does_not_link_the_store() {
        let edges = [("conclave-host", "wrapper", Kind::Normal), ("wrapper", "librocksdb-sys", Kind::Normal)];
        let found = violations(&graph(&edges));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("conclave-host -> wrapper -> librocksdb-sys"));
    }

    #[test]
    fn tests_of_a_pure_crate_do_not_link_the_store() {
        let edges = [
            ("conclave-room", "conclave-testkit", Kind::Development),
            ("conclave-testkit", "librocksdb-sys", Kind::Normal),
        ];
        assert!(violations(&graph(&edges)).iter().any(|found| found.starts_with("the tests of conclave-room")));
    }
}
