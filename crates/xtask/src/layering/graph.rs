//! The workspace and what it depends on, as a graph of package names.
//!
//! Versions of one package are one node: no rule tells them apart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result};
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Normal,
    Development,
    Build,
}

#[derive(Debug, Default)]
pub struct Graph {
    members: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<(String, Kind)>>,
}

impl Graph {
    /// Reads what `cargo metadata` writes.
    pub fn from_metadata(metadata: &Value) -> Result<Graph> {
        let names: BTreeMap<&str, &str> = list(&metadata["packages"])
            .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
            .collect();
        let name_of = |id: &Value| -> Result<String> {
            let id = id.as_str().context("a package without an id")?;
            Ok((*names.get(id).with_context(|| format!("an unknown package {id}"))?).to_owned())
        };

        let mut graph = Graph::default();
        for id in list(&metadata["workspace_members"]) {
            graph.members.insert(name_of(id)?);
        }
        for node in list(&metadata["resolve"]["nodes"]) {
            let from = name_of(&node["id"])?;
            for dependency in list(&node["deps"]) {
                let to = name_of(&dependency["pkg"])?;
                for kind in list(&dependency["dep_kinds"]) {
                    graph.edges.entry(from.clone()).or_default().insert((to.clone(), Kind::named(&kind["kind"])));
                }
            }
        }
        Ok(graph)
    }

    #[cfg(test)]
    pub fn of(members: &[&str], edges: &[(&str, &str, Kind)]) -> Graph {
        let mut graph = Graph { members: members.iter().map(|name| (*name).to_owned()).collect(), ..Graph::default() };
        for (from, to, kind) in edges {
            graph.edges.entry((*from).to_owned()).or_default().insert(((*to).to_owned(), *kind));
        }
        graph
    }

    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(String::as_str)
    }

    pub fn is_member(&self, name: &str) -> bool {
        self.members.contains(name)
    }

    /// What `name` itself declares.
    pub fn dependencies(&self, name: &str) -> impl Iterator<Item = &(String, Kind)> {
        self.edges.get(name).into_iter().flatten()
    }

    /// A shortest way from `from` to `to`: a first step of one of `first` kinds, normal ones after it.
    pub fn path(&self, from: &str, to: &str, first: &[Kind]) -> Option<Vec<String>> {
        let mut came_from: BTreeMap<String, String> = BTreeMap::new();
        let mut queue = VecDeque::from([from.to_owned()]);
        while let Some(name) = queue.pop_front() {
            let kinds = if name == from { first } else { &[Kind::Normal] };
            for (next, kind) in self.dependencies(&name) {
                if !kinds.contains(kind) || next == from || came_from.contains_key(next) {
                    continue;
                }
                came_from.insert(next.clone(), name.clone());
                if next == to {
                    return Some(walk_back(&came_from, from, to));
                }
                queue.push_back(next.clone());
            }
        }
        None
    }
}

impl Kind {
    fn named(kind: &Value) -> Kind {
        match kind.as_str() {
            Some("dev") => Kind::Development,
            Some("build") => Kind::Build,
            _ => Kind::Normal,
        }
    }
}

fn walk_back(came_from: &BTreeMap<String, String>, from: &str, to: &str) -> Vec<String> {
    let mut path = vec![to.to_owned()];
    while let Some(previous) = path.last().filter(|last| *last != from).and_then(|last| came_from.get(last)) {
        path.push(previous.clone());
    }
    path.reverse();
    path
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_becomes_names_and_kinds() {
        let metadata = serde_json::json!({
            "packages": [{"id": "a 1", "name": "a"}, {"id": "b 1", "name": "b"}],
            "workspace_members": ["a 1"],
            "resolve": {"nodes": [
                {"id": "a 1", "deps": [{"pkg": "b 1", "dep_kinds": [{"kind": null}, {"kind": "dev"}]}]},
                {"id": "b 1", "deps": []},
            ]},
        });
        let graph = Graph::from_metadata(&metadata).unwrap();
        assert!(graph.is_member("a") && !graph.is_member("b"));
        let edges: Vec<_> = graph.dependencies("a").cloned().collect();
        assert_eq!(edges, [("b".to_owned(), Kind::Normal), ("b".to_owned(), Kind::Development)]);
    }

    #[test]
    fn a_path_takes_development_edges_at_the_first_step_only() {
        let graph = Graph::of(&["a"], &[("a", "b", Kind::Development), ("b", "c", Kind::Development)]);
        assert_eq!(graph.path("a", "b", &[Kind::Development]), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(graph.path("a", "c", &[Kind::Development]), None);
    }
}
