#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| osync::fuzzing::private_key(bytes));
