//! Walks over a baseline in an order of whole paths, without holding all paths.

use super::baseline::Baseline;
use super::block::{Head, Known};
use super::wire::{Damaged, Reader};

/// In which order paths come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As [`RelPath`](crate::tree::RelPath) orders them: a directory, then all below it.
    Tree,
    /// As `LC_ALL=C sort` orders them: by the bytes of the whole path. `a b` comes between
    /// `a` and `a/b`.
    Text,
}

/// What a walk is to do with an entry.
#[derive(Debug)]
pub(super) struct Pick<T> {
    /// What is kept of it until its turn comes; none: it is passed over.
    pub(super) keep: Option<T>,
    /// Whether the walk goes into its block.
    pub(super) enter: bool,
}

/// Where a block begins, and which block follows the last one below it.
#[derive(Debug, Clone, Copy)]
struct BlockAt {
    at: usize,
    after: usize,
}

#[derive(Debug)]
struct Item<'a, T> {
    name: &'a [u8],
    what: What<T>,
}

#[derive(Debug)]
enum What<T> {
    Entry(T),
    /// The number of the block with what lies below that name.
    Below(usize),
}

impl<T> Item<'_, T> {
    /// What the order of text compares: paths below a name go on with `/`.
    fn text(&self) -> impl Iterator<Item = &u8> {
        self.name.iter().chain(matches!(self.what, What::Below(_)).then_some(&b'/'))
    }
}

#[derive(Debug)]
struct Frame<'a, T> {
    items: std::vec::IntoIter<Item<'a, T>>,
    /// How much of the path is that of the directory.
    dir: usize,
}

/// A walk. Holds the entries of the directories from the root to the present one.
#[derive(Debug)]
pub(super) struct Walk<'a, T, P> {
    baseline: &'a Baseline,
    blocks: Vec<BlockAt>,
    frames: Vec<Frame<'a, T>>,
    path: Vec<u8>,
    order: Order,
    pick: P,
}

impl<'a, T, P: FnMut(Known<'a>) -> Pick<T>> Walk<'a, T, P> {
    pub(super) fn new(baseline: &'a Baseline, order: Order, pick: P) -> Result<Self, Damaged> {
        let blocks = find_blocks(baseline.body())?;
        let (frames, path) = (Vec::new(), Vec::new());
        let mut walk = Walk { baseline, blocks, frames, path, order, pick };
        walk.enter(0)?;
        Ok(walk)
    }

    /// The next path that was picked.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], T)>, Damaged> {
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            self.path.truncate(frame.dir);
            let Some(item) = frame.items.next() else {
                self.frames.pop();
                continue;
            };
            if frame.dir > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(item.name);
            match item.what {
                What::Entry(kept) => return Ok(Some((&self.path, kept))),
                What::Below(block) => self.enter(block)?,
            }
        }
    }

    fn enter(&mut self, block: usize) -> Result<(), Damaged> {
        let mut items = Vec::new();
        let mut below = block + 1;
        let mut cursor = self.baseline.cursor_at(self.block(block)?.at);
        for known in cursor.open()? {
            let known = known?;
            let (name, has_block) = (known.name, known.has_block);
            let pick = (self.pick)(known);
            if let Some(kept) = pick.keep {
                items.push(Item { name, what: What::Entry(kept) });
            }
            if has_block {
                if pick.enter {
                    items.push(Item { name, what: What::Below(below) });
                }
                below = self.block(below)?.after;
            }
        }
        // without anything below, the order of names is that of paths
        if self.order == Order::Text && below > block + 1 {
            items.sort_by(|a, b| a.text().cmp(b.text()));
        }
        self.frames.push(Frame { items: items.into_iter(), dir: self.path.len() });
        Ok(())
    }

    fn block(&self, number: usize) -> Result<BlockAt, Damaged> {
        self.blocks.get(number).copied().ok_or(Damaged { at: 0, what: "a directory is missing" })
    }
}

/// One pass over the heads of all blocks.
fn find_blocks(body: &[u8]) -> Result<Vec<BlockAt>, Damaged> {
    let mut reader = Reader::new(body);
    let mut blocks: Vec<BlockAt> = Vec::new();
    // the blocks that are not complete: their number, and how many are missing below them
    let mut open: Vec<(usize, u64)> = Vec::new();
    loop {
        let at = reader.at();
        let head = Head::read(&mut reader)?;
        reader.take(head.bytes)?;
        open.push((blocks.len(), head.blocks));
        blocks.push(BlockAt { at, after: 0 });
        while let Some((number, 0)) = open.last().copied() {
            blocks[number].after = blocks.len();
            open.pop();
        }
        match open.last_mut() {
            Some((_, missing)) => *missing -= 1,
            None => return Ok(blocks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Header;
    use crate::state::testing::{any_records, path, seen};
    use crate::tree::RelPath;
    use proptest::prelude::*;

    fn paths(baseline: &Baseline, order: Order) -> Vec<Vec<u8>> {
        let everything = |_: Known<'_>| Pick { keep: Some(()), enter: true };
        let mut walk = Walk::new(baseline, order, everything).unwrap();
        let mut paths = Vec::new();
        while let Some((path, ())) = walk.next().unwrap() {
            paths.push(path.to_vec());
        }
        paths
    }

    #[test]
    fn what_is_not_entered_is_passed_over_with_all_below_it() {
        let given = ["a/b/c", "a/d", "e/f"].map(|p| (path(p), seen(1)));
        let baseline = Baseline::from_records(Header::default(), given);
        let pick = |known: Known<'_>| Pick { keep: Some(()), enter: known.name != b"a" };
        let mut walk = Walk::new(&baseline, Order::Tree, pick).unwrap();
        for expected in ["a", "e", "e/f"] {
            assert_eq!(walk.next().unwrap().unwrap().0, expected.as_bytes());
        }
        assert!(walk.next().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn both_orders_are_those_of_sorted_whole_paths(given in any_records()) {
            let baseline = Baseline::from_records(Header::default(), given);
            let by_tree = paths(&baseline, Order::Tree);
            let mut relative: Vec<_> =
                by_tree.iter().map(|path| RelPath::new(path.clone()).unwrap()).collect();
            relative.sort();
            prop_assert!(relative.iter().map(RelPath::as_bytes).eq(by_tree.iter().map(Vec::as_slice)));
            let mut by_text = by_tree;
            by_text.sort();
            prop_assert_eq!(paths(&baseline, Order::Text), by_text);
        }
    }
}
