//! What must hold of any bytes that come from outside, one function for each kind of them:
//! what the fuzz binary (`fuzz/`) runs, and the tests below, which try each with the
//! corpus that is kept there and with bytes made from it (docs/testing.md). Not a part of an
//! ordinary build.
//!
//! The functions stand beside the parsers, each in the `fuzzing.rs` of its room; they panic
//! where something does not hold.

/// What must hold of some bytes; panics where it does not.
pub type Check = fn(&[u8]);

/// Each check by its name.
pub const TARGETS: &[(&str, Check)] = &[
    ("conf", crate::config::fuzzing::conf),
    ("toml", crate::config::fuzzing::toml),
    ("upgrade", crate::config::fuzzing::upgrade),
    ("optional_args", crate::config::fuzzing::optional_args),
    ("location", crate::config::fuzzing::location),
    ("wildmatch", crate::filter::fuzzing::wildmatch),
    ("patterns", crate::filter::fuzzing::patterns),
    ("rsync_list", crate::filter::fuzzing::rsync_list),
    ("snapshot", crate::state::fuzzing::snapshot),
    ("lists", crate::state::fuzzing::lists),
    ("progress", crate::state::fuzzing::progress),
    ("lock", crate::replica::fuzzing::lock),
    ("identity", crate::replica::fuzzing::identity),
    ("kept", crate::replica::fuzzing::kept),
    ("acl", crate::replica::fuzzing::acl),
    ("temporary", crate::replica::fuzzing::temporary),
    ("remote_frames", crate::replica::fuzzing::remote::frames),
    ("remote_greeting", crate::replica::fuzzing::remote::greeting),
    ("remote_listing", crate::replica::fuzzing::remote::listing),
    ("remote_answers", crate::replica::fuzzing::remote::answers),
    ("remote_names", crate::replica::fuzzing::remote::names),
    ("peer_message", crate::replica::fuzzing::peer::message),
    ("peer_listing", crate::replica::fuzzing::peer::listing),
    ("peer_served", crate::replica::fuzzing::peer::served),
    ("owners", crate::replica::fuzzing::remote::owners),
    ("proc_stat", crate::system::fuzzing::proc_stat),
    ("rsync_output", crate::rsync::fuzzing::output),
    ("child_lines", crate::process::fuzzing::lines),
    ("askpass", crate::ssh::fuzzing::askpass),
    ("known_hosts", crate::ssh::fuzzing::known_hosts),
    ("ssh_options", crate::ssh::fuzzing::ssh_options),
    ("rsh", crate::ssh::fuzzing::rsh),
    ("account", crate::ssh::fuzzing::account),
    ("private_key", crate::ssh::fuzzing::private_key),
    ("filter_decision", crate::ssh_filter::fuzzing::decision),
    ("filter_rsync", crate::ssh_filter::fuzzing::rsync_server),
    ("metrics", crate::report::fuzzing::metrics),
    ("passwd", crate::report::fuzzing::passwd),
    ("mail", crate::report::mail::fuzzing::mail),
    ("trigger", crate::monitor::fuzzing::trigger),
];

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use proptest::prelude::*;
    use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn fuzz(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
    }

    /// The files of the corpus of a target, by name.
    fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let dir = fuzz("corpus").join(target);
        let mut paths: Vec<PathBuf> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{}: no corpus", dir.display());
        paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    #[test]
    fn each_of_them_has_a_corpus_and_nothing_else_has() {
        let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let dirs = fs::read_dir(fuzz("corpus")).unwrap();
        let found: BTreeSet<String> =
            dirs.map(|dir| dir.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(found, names);
    }

    #[test]
    fn it_holds_of_every_file_of_the_corpus() {
        for (target, check) in TARGETS {
            for (path, bytes) in corpus(target) {
                // the last line before a panic tells which
                println!("{}", path.display());
                check(&bytes);
            }
        }
    }

    /// Does to some bytes what storage, lines and people do: cut, change, repeat, mix.
    #[derive(Debug, Clone)]
    enum Damage {
        Cut(prop::sample::Index),
        Behead(prop::sample::Index),
        Change(prop::sample::Index, u8),
        Insert(prop::sample::Index, Vec<u8>),
        Remove(prop::sample::Index),
        Repeat(prop::sample::Index, prop::sample::Index),
    }

    fn damage() -> impl Strategy<Value = Damage> {
        let at = any::<prop::sample::Index>;
        let some = prop::collection::vec(any::<u8>(), 1..5);
        prop_oneof![
            1 => at().prop_map(Damage::Cut),
            1 => at().prop_map(Damage::Behead),
            4 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Change(at, byte)),
            2 => (at(), some).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
            2 => at().prop_map(Damage::Remove),
            2 => (at(), at()).prop_map(|(from, to)| Damage::Repeat(from, to)),
        ]
    }

    fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
        for damage in damages {
            let end = bytes.len() + 1;
            match damage {
                Damage::Cut(at) => bytes.truncate(at.index(end)),
                Damage::Behead(at) => drop(bytes.drain(..at.index(end))),
                Damage::Change(at, byte) if !bytes.is_empty() => {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                Damage::Insert(at, some) => {
                    let at = at.index(end);
                    bytes.splice(at..at, some.iter().copied());
                }
                Damage::Remove(at) if !bytes.is_empty() => {
                    let at = at.index(bytes.len());
                    bytes.remove(at);
                }
                Damage::Change(..) | Damage::Remove(_) => {}
                Damage::Repeat(from, to) if bytes.len() < 4096 => {
                    let (from, to) = (from.index(end), to.index(end));
                    let piece = bytes[from.min(to)..from.max(to)].to_vec();
                    bytes.splice(to..to, piece);
                }
                Damage::Repeat(..) => {}
            }
        }
        bytes
    }

    /// Shown as they would be written in Rust.
    #[derive(Clone)]
    struct Bytes(Vec<u8>);

    impl std::fmt::Debug for Bytes {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "b\"{}\"", self.0.escape_ascii())
        }
    }

    /// Tries a target; a failure names it.
    fn holds_of(strategy: impl Strategy<Value = Vec<u8>>, target: &str, check: fn(&[u8])) {
        let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
        let cases = wanted.unwrap_or(64);
        let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
        // the same ones each time: to look for others is what the fuzz targets are for
        let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let tried = TestRunner::new_with_rng(config, random).run(
            &strategy.prop_map(Bytes),
            |Bytes(bytes)| {
                check(&bytes);
                Ok(())
            },
        );
        if let Err(failure) = tried {
            panic!("{target}: {failure}");
        }
    }

    #[test]
    fn it_holds_of_any_bytes() {
        for (target, check) in TARGETS {
            holds_of(prop::collection::vec(any::<u8>(), 0..200), target, *check);
        }
    }

    #[test]
    fn it_holds_of_what_is_almost_sound() {
        for (target, check) in TARGETS {
            let files: Vec<Vec<u8>> = corpus(target)
                .into_iter()
                .map(|(_, bytes)| bytes)
                .filter(|b| b.len() < 8192)
                .collect();
            let strategy = (prop::sample::select(files), prop::collection::vec(damage(), 1..6))
                .prop_map(|(bytes, damages)| damaged(bytes, &damages));
            holds_of(strategy, target, *check);
        }
    }
}
