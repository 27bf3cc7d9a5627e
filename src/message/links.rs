//! A forest whose trees are joined and cut again, and of which somebody always wants to know the root of a node: Sleator
//! and Tarjan's link-cut trees. Each question takes log n on the average, however deep the trees are. Used by `thread`.

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// Numbers in slots; a slot that is not there holds [`NONE`] and takes nothing.
#[derive(Debug)]
pub(super) struct Slots(Vec<u32>);

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self(vec![NONE; count])
    }

    pub(super) fn at(&self, slot: u32) -> u32 {
        self.0.get(slot as usize).copied().unwrap_or(NONE)
    }

    pub(super) fn put(&mut self, slot: u32, value: u32) {
        if let Some(place) = self.0.get_mut(slot as usize) {
            *place = value;
        }
    }
}

/// The forest. Paths of its trees are kept as splay trees, ordered by depth.
pub(super) struct Links {
    /// The node above in a splay tree, or where a splay tree's path goes on.
    up: Slots,
    /// Splay children: nearer to the root, and farther from it.
    near: Slots,
    far: Slots,
}

impl Links {
    /// So many nodes, each a tree of its own.
    pub(super) fn new(count: usize) -> Self {
        Self { up: Slots::new(count), near: Slots::new(count), far: Slots::new(count) }
    }

    /// The root of a node's tree.
    pub(super) fn root(&mut self, node: u32) -> u32 {
        self.expose(node);
        let mut root = node;
        while self.near.at(root) != NONE {
            root = self.near.at(root);
        }
        self.splay(root);
        root
    }

    /// Makes a root the child of a node of another tree.
    pub(super) fn link(&mut self, root: u32, parent: u32) {
        self.expose(root);
        self.up.put(root, parent);
    }

    /// Takes a node with everything below it out of its tree.
    pub(super) fn cut(&mut self, node: u32) {
        self.expose(node);
        let above = self.near.at(node);
        self.near.put(node, NONE);
        self.up.put(above, NONE);
    }

    /// Makes the path from the root to `node` one splay tree with `node` on top.
    fn expose(&mut self, node: u32) {
        let (mut below, mut at) = (NONE, node);
        while at != NONE {
            self.splay(at);
            self.far.put(at, below);
            below = at;
            at = self.up.at(at);
        }
        self.splay(node);
    }

    /// Whether nothing is above a node in its splay tree.
    fn on_top(&self, node: u32) -> bool {
        let up = self.up.at(node);
        up == NONE || (self.near.at(up) != node && self.far.at(up) != node)
    }

    fn splay(&mut self, node: u32) {
        while !self.on_top(node) {
            let up = self.up.at(node);
            if !self.on_top(up) {
                let above = self.up.at(up);
                let straight = (self.near.at(up) == node) == (self.near.at(above) == up);
                self.rotate(if straight { up } else { node });
            }
            self.rotate(node);
        }
    }

    /// Lifts a node over the one above it.
    fn rotate(&mut self, node: u32) {
        let up = self.up.at(node);
        let above = self.up.at(up);
        let was_top = self.on_top(up);
        let inner = if self.near.at(up) == node {
            let inner = self.far.at(node);
            self.near.put(up, inner);
            self.far.put(node, up);
            inner
        } else {
            let inner = self.near.at(node);
            self.far.put(up, inner);
            self.near.put(node, up);
            inner
        };
        self.up.put(inner, up);
        if !was_top {
            if self.near.at(above) == up {
                self.near.put(above, node);
            } else {
                self.far.put(above, node);
            }
        }
        self.up.put(up, node);
        self.up.put(node, above);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    const NODES: u32 = 12;

    proptest! {
        #[test]
        fn roots_are_those_of_a_plain_forest(
            steps in proptest::collection::vec((0..NODES, 0..NODES, any::<bool>()), 0..80),
        ) {
            let mut links = Links::new(NODES as usize);
            let mut parents = vec![NONE; NODES as usize];
            let root = |parents: &[u32], mut node: u32| {
                while parents[node as usize] != NONE {
                    node = parents[node as usize];
                }
                node
            };
            for (node, other, cut) in steps {
                if parents[node as usize] != NONE {
                    if cut {
                        links.cut(node);
                        parents[node as usize] = NONE;
                    }
                } else if root(&parents, other) != node {
                    links.link(node, other);
                    parents[node as usize] = other;
                }
                for node in 0..NODES {
                    prop_assert_eq!(links.root(node), root(&parents, node));
                }
            }
        }
    }
}
