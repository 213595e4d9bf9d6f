//! A kernel without Landlock, for what is started from here.
#![allow(dead_code)]

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::BTreeMap;

/// Runs something on a thread for which, and for all that it starts, the system calls of
/// Landlock do not exist. (The filter also takes away the gaining of rights.)
pub fn without_landlock<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // landlock_create_ruleset, landlock_add_rule, landlock_restrict_self: one number on
    // all architectures
    let calls: BTreeMap<_, _> = (444..=446).map(|number| (number, Vec::new())).collect();
    let filter = SeccompFilter::new(
        calls,
        SeccompAction::Allow,
        SeccompAction::Errno(rustix::io::Errno::NOSYS.raw_os_error() as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            seccompiler::apply_filter(&program).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
