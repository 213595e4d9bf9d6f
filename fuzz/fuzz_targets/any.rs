//! One binary for every kind of input: FUZZ_TARGET names the check (`src/fuzzing.rs` lists them).
#![no_main]

use std::sync::LazyLock;

static CHECK: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let known = osync::fuzzing::TARGETS;
    match known.iter().find(|(name, _)| *name == wanted) {
        Some((_, check)) => *check,
        None => {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            eprintln!("FUZZ_TARGET={wanted:?} is none of: {}", names.join(" "));
            std::process::exit(1)
        }
    }
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| CHECK(bytes));
