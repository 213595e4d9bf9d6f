//! What must hold whatever the other osync says (docs/testing.md).

use super::listing::Keeper;
use super::listing::{Known, Sum, TreeReader, blocks, name_of, names_from_bytes, names_to_bytes};
use super::protocol::{self, Piece, Request, Response, START};
use super::serve::{Limits, serve};
use crate::config::RuleText;
use crate::process::Stop;
use crate::replica::Watched;
use crate::tree::{Entry, Kind, Standing, Tree};
use serde::{Serialize, de::DeserializeOwned};
use std::io::Cursor;
use std::path::Path;

/// A frame: what is understood of it is said again with the same meaning.
pub(crate) fn message(bytes: &[u8]) {
    both::<Request>(bytes);
    both::<Response>(bytes);
}

fn both<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok((number, message)) = protocol::decode::<T>(bytes) else { return };
    if let Ok(frame) = protocol::encode(number, &message) {
        assert_eq!(protocol::decode::<T>(&frame[4..]), Ok((number, message)));
    }
}

/// Pieces of a listing: whatever they are, a tree that comes of them is one, and is the same
/// when it is told and read again.
pub(crate) fn listing(bytes: &[u8]) {
    let pieces: Vec<Piece> = match postcard::take_from_bytes(bytes) {
        Ok((pieces, _)) => pieces,
        Err(_) => bytes.split(|byte| *byte == 0xff).map(|b| Piece::New(b.to_vec())).collect(),
    };
    let mut reader = TreeReader::new(Standing::Present, Entry::new(Kind::Dir));
    let (mut keeper, mut sum) = (Keeper::new(None, None), Sum::default());
    for piece in pieces {
        let mut take = |block: &[u8]| {
            let before = reader.entries();
            reader.take(block)?;
            sum.add(&name_of(block), reader.entries() - before);
            Ok(())
        };
        if keeper.take(piece, &mut take).is_err() {
            return;
        }
    }
    let Ok(tree) = reader.finish(&sum.whole()) else { return };
    for id in tree.ids() {
        let name = tree.name(id);
        assert!(!name.is_empty() && !matches!(name, b"." | b"..") && !name.contains(&b'/'));
        assert_eq!(tree.find(&tree.path(id)), Some(id));
    }
    let (mut again, mut names) = (Vec::new(), Vec::new());
    let (mut sum, mut known) = (Sum::default(), Known::default());
    let told = blocks(&tree, |block, entries| {
        let name = name_of(block);
        sum.add(&name, entries);
        names.push(name);
        known.tell(block, &name, &mut again);
        Ok::<(), ()>(())
    });
    assert_eq!(told, Ok(()));
    let whole = sum.whole();
    assert_eq!(names_from_bytes(&names_to_bytes(&whole.name, &names), &whole.name), Some(names));
    let mut reader = TreeReader::new(Standing::Present, tree.entry(Tree::ROOT).clone());
    for piece in again {
        assert!(keeper.take(piece, &mut |block| reader.take(block)).is_ok());
    }
    let read = reader.finish(&whole).ok().map(|tree| tree.len());
    assert_eq!(read, Some(tree.len()));
}

/// Anything as what a client says: the server ends, whatever it is, and nothing is made outside
/// of the directory that it may use (here: none).
pub(crate) fn served(bytes: &[u8]) {
    let said = [START, bytes].concat();
    let place = |_: &Path| Err("nowhere".to_owned());
    let no_hooks = Some("none");
    let mut answers = Vec::new();
    let watch = |_: &Path, _: &[RuleText], _: &mut dyn FnMut(Watched), _: &Stop| Ok(());
    let limits = Limits { place: &place, no_hooks, no_following: None, watch: &watch };
    let _ = serve(Cursor::new(said), &mut answers, &limits);
}
