//! What is still somewhere: in a replica, in its `backup/` or in its `deleted/`.
#![allow(dead_code)]

use super::sandbox::{Replica, Sandbox};
use super::trees::{self, Tree, What, escape};
use std::collections::HashSet;
use std::path::Path;

/// Contents of files and targets of links.
#[derive(Debug, Default)]
pub struct Kept(HashSet<Vec<u8>>);

impl Kept {
    /// All that two replicas hold and keep.
    pub fn by(sandbox: &Sandbox) -> Self {
        Self::below([&sandbox.a, &sandbox.b].map(|replica: &Replica| replica.root.as_path()))
    }

    /// All that the replicas at these roots hold and keep.
    pub fn below<'p>(roots: impl IntoIterator<Item = &'p Path>) -> Self {
        let mut kept = Kept::default();
        for root in roots {
            for place in ["", "backup", "deleted", "replaced"] {
                let place =
                    if place.is_empty() { "".into() } else { format!(".osync_workdir/{place}") };
                kept.add(trees::read(&root.join(place)));
            }
        }
        kept
    }

    fn add(&mut self, tree: Tree) {
        self.0.extend(tree.into_values().filter_map(|node| leaf(node.what)));
    }

    /// Whether a content is there.
    pub fn holds(&self, content: &[u8]) -> bool {
        self.0.contains(content)
    }

    /// The paths of trees whose content is nowhere any more.
    pub fn lost<'t>(&self, before: impl IntoIterator<Item = &'t Tree>) -> Vec<String> {
        let entries = before.into_iter().flatten();
        let gone = entries
            .filter(|(_, node)| leaf(node.what.clone()).is_some_and(|leaf| !self.holds(&leaf)));
        gone.map(|(path, _)| escape(path)).collect()
    }
}

fn leaf(what: What) -> Option<Vec<u8>> {
    match what {
        What::File(content) | What::Link(content) => Some(content),
        What::Dir | What::Special(_) => None,
    }
}
