//! ACLs and extended attributes of a remote replica whose machine has no tools to read them:
//! rsync, which it has in any case, brings them to stand-ins here (docs/fidelity.md).

use super::outcome::Halt;
use super::{Surroundings, Task};
use crate::config::{Config, Preserve};
use crate::reconcile::change::{self, Digests, Recalled};
use crate::replica::{AttributeProbe, Attributes, Unread, WORK_DIR, Wanted};
use crate::report::Level;
use crate::report::words::counted;
use crate::rsync::{self, End, Outcome, Purpose, Transfer, UnknownOptions};
use crate::state::{Baseline, Covers};
use crate::tree::{Entry, Kind, NodeId, Pair, RelPath, Side, Stamp, Tree};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// So many entries have stand-ins at the same time.
const BATCH: usize = 50_000;

/// Reads attributes of one replica through rsync.
#[derive(Clone)]
pub struct Reader<'a> {
    config: &'a Config,
    around: Surroundings<'a>,
    /// Which side is read.
    side: Side,
    wanted: Wanted,
    /// The work directory where the stand-ins lie; none in a dry run, which writes nothing
    /// there.
    work_dir: Option<PathBuf>,
}

/// Attributes by entry; none for what rsync did not get to.
type Read = Vec<Option<Attributes>>;

impl Reader<'_> {
    /// What the entries, as they were just looked at, have. Answers come in their order.
    ///
    /// # Errors
    /// Why nothing is known of any of them.
    pub fn read(&self, source: &End, entries: &[(RelPath, Entry)]) -> Result<Read, String> {
        let mut read = Vec::new();
        for entries in entries.chunks(BATCH) {
            read.extend(self.batch(source, entries)?);
        }
        Ok(read)
    }

    fn batch(&self, source: &End, entries: &[(RelPath, Entry)]) -> Result<Read, String> {
        let no_place = |error| format!("cannot make stand-ins on this machine: {error}");
        let temporary;
        let place = match &self.work_dir {
            Some(work_dir) => work_dir.as_path(),
            None => {
                temporary = tempfile::tempdir().map_err(no_place)?;
                temporary.path()
            }
        };
        let attribute_probe = AttributeProbe::below(place).map_err(no_place)?;
        let made = attribute_probe.make(entries.iter()).map_err(no_place)?;
        let made: Vec<bool> = entries
            .iter()
            .zip(made)
            .map(|((_, entry), made)| made && self.can_be_told(entry.kind))
            .collect();
        let asked = entries.iter().zip(&made).filter(|(_, made)| **made);
        let paths = asked.map(|((path, _), _)| path.clone());
        let refused = self.ask(source, &attribute_probe.end(), paths)?;
        let mut read = Vec::new();
        for ((path, entry), made) in entries.iter().zip(made) {
            let found = match made && !refused.contains(path) {
                true => attribute_probe.attributes(path, entry, self.wanted),
                false => Ok(None),
            };
            let failed = |error| format!("cannot read the stand-in of {}: {error}", path.shown());
            read.push(found.map_err(failed)?);
        }
        Ok(read)
    }

    /// Only the super-user can make devices, stand-ins of them too.
    fn can_be_told(&self, kind: Kind) -> bool {
        self.wanted.all_spaces || !matches!(kind, Kind::CharDevice | Kind::BlockDevice)
    }

    /// Has rsync bring the attributes, and tells of which paths it could not.
    fn ask(
        &self,
        source: &End,
        destination: &End,
        paths: impl Iterator<Item = RelPath> + Clone + Send,
    ) -> Result<BTreeSet<RelPath>, String> {
        let transfer = Transfer {
            purpose: Purpose::Attributes,
            source,
            destination,
            to: self.side.other(),
            rules: &[],
            backup: None,
            partial_dir: None,
            resumes: false,
            is_listed_first: false,
            makes_holes: false,
            shows_progress: false,
            lacking: &UnknownOptions::new(),
        };
        let preserve = Preserve {
            permissions: false,
            owner: false,
            group: false,
            executability: false,
            hardlinks: false,
            checksum: false,
            acl: self.wanted.acl,
            xattr: self.wanted.xattr,
            ..self.config.preserve
        };
        let Surroundings { stop, log, .. } = self.around;
        let settings = &self.config.transfer;
        let finished =
            rsync::transfer(settings, &preserve, &transfer, paths, stop, log.as_ref(), &|_, _| ())
                .map_err(|error| error.to_string())?;
        match finished.outcome {
            Outcome::Done | Outcome::Vanished | Outcome::Partial => {}
            Outcome::Stopped(_) => return Err("the run was stopped".to_owned()),
            Outcome::EndedEarly(words) | Outcome::Failed(words) => {
                let said = finished.messages.first().map(|message| message.text.as_str());
                return Err(said.map_or(words.clone(), |said| format!("{words}: {said}")));
            }
        }
        let mut refused = BTreeSet::new();
        for message in finished.messages {
            // what it could not do to a stand-in looks as if there were nothing to do
            refused.insert(message.path.ok_or(message.text)?);
        }
        match finished.left_out {
            0 => Ok(refused),
            more => {
                Err(format!("rsync could not read those of {} at least", counted(more, "entry")))
            }
        }
    }
}

impl<'a> Task<'a> {
    /// Which attributes are compared.
    pub(super) fn wanted_attributes(&self) -> Wanted {
        Wanted {
            acl: self.config.preserve.acl,
            xattr: self.config.preserve.xattr,
            all_spaces: self.can_chown.initiator && self.can_chown.target,
        }
    }

    /// What the scan could not read is asked for through rsync, as far as the baseline does
    /// not know it. If that fails, attributes are not compared.
    pub(super) fn read_attributes(
        &mut self,
        trees: &mut Pair<Tree>,
        baseline: &Baseline,
    ) -> Result<(), Halt> {
        for side in Side::BOTH {
            if self.unread[side] == Unread::default() {
                continue;
            }
            let reader = self.reader_of(side);
            let recalled = change::recall_attributes(&trees[side], baseline, side, self.covers())
                .map_err(|error| Halt::state(&error))?;
            let entry = |id| (trees[side].path(id), trees[side].entry(id).clone());
            let asked: Vec<_> = recalled.asked.iter().map(|(id, _)| entry(*id)).collect();
            let read = match asked.is_empty() {
                true => Ok(Vec::new()),
                false => reader.read(&self.replicas[side].rsync_end(), &asked),
            };
            self.check_stop()?;
            match read {
                Ok(read) => {
                    let entries = counted(read.len() as u64, "entry");
                    let text = format!("{side}: rsync told the attributes of {entries}");
                    self.say(Level::Verbose, &text);
                    self.take_attributes(trees, &reader, &recalled, read);
                    self.unread[side] = Unread::default();
                    self.readers[side] = Some(reader);
                }
                Err(why) => self.tell_unread(side, &why),
            }
        }
        Ok(())
    }

    fn reader_of(&self, side: Side) -> Reader<'a> {
        let here = self.replicas[side.other()].root();
        Reader {
            config: self.config,
            around: self.around,
            side,
            wanted: self.wanted_attributes(),
            work_dir: (!self.is_dry()).then(|| here.join(OsStr::from_bytes(WORK_DIR))),
        }
    }

    fn take_attributes(
        &self,
        trees: &mut Pair<Tree>,
        reader: &Reader<'_>,
        recalled: &Recalled,
        read: Read,
    ) {
        let side = reader.side;
        for (id, digests) in &recalled.holds {
            digests.put_into(trees[side].entry_mut(*id));
        }
        let mut unknown = Vec::new();
        for ((id, before), read) in recalled.asked.iter().zip(read) {
            match read {
                Some(found) => found.digest_into(trees[side].entry_mut(*id)),
                None => {
                    let presumed = before.unwrap_or_else(|| across(trees, side, *id));
                    let entry = trees[side].entry_mut(*id);
                    presumed.put_into(entry);
                    entry.ctime = Stamp::UNKNOWN;
                    if reader.can_be_told(entry.kind) {
                        unknown.push(trees[side].path(*id));
                    }
                }
            }
        }
        if let Some(first) = unknown.first() {
            let text = format!(
                "ACLs or extended attributes could not be read (of {} in all); they count as \
                 unchanged, and the next run asks again",
                counted(unknown.len() as u64, "entry")
            );
            self.around.reporter().problem(Level::Warn, Some(side), Some(first), &text);
        }
    }

    fn tell_unread(&self, side: Side, why: &str) {
        let text = format!(
            "PRESERVE_ACL, PRESERVE_XATTR: that machine has no getfacl and setfacl (package acl) \
             or getfattr and setfattr (package attr), and rsync cannot tell either: {why}. \
             Changes of ACLs and extended attributes alone are not seen; they go over with \
             contents only"
        );
        self.around.reporter().problem(Level::Warn, Some(side), None, &text);
    }

    /// What a baseline of this run knows of attributes that only rsync can tell of.
    pub(super) fn covers(&self) -> Covers {
        let Wanted { acl, xattr, all_spaces } = self.wanted_attributes();
        Covers { acl, xattr, all_spaces }
    }

    /// Before the trees become the next baseline.
    pub(super) fn doubt_fresh_attributes(&self, trees: &mut Pair<Tree>) {
        for side in Side::BOTH.into_iter().filter(|side| self.readers[*side].is_some()) {
            change::doubt_fresh(&mut trees[side], self.began[side]);
        }
    }
}

/// What the other side has at the place of an entry.
fn across(trees: &Pair<Tree>, side: Side, id: NodeId) -> Digests {
    let other = &trees[side.other()];
    let found = other.find(&trees[side].path(id));
    found.map(|id| Digests::of(other.entry(id))).unwrap_or_default()
}
