//! `rsync --server` kept inside one directory: its arguments, read and put together anew.
//! Pure but for the resolver that is handed in (spec 7, "ssh filter").
//!
//! Only options that are known here pass, and only paths that lie in the directory after
//! all links are resolved. What starts in the end is put together from what was
//! understood, so nothing can be read by rsync in another way than it was read here.

use super::decision::Refusal;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Who sees to it that rsync does not follow links out of the directory while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// The kernel (Landlock): rsync may follow any link, it reaches nothing outside.
    Kernel,
    /// Nobody: options that make rsync follow links are refused.
    ArgumentsOnly,
}

/// Tells where a path leads in the end; fails if that is not inside the directory.
pub type Resolver<'a> = &'a dyn Fn(&Path) -> Result<PathBuf, String>;

/// What an option carries behind its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Text,
    /// A directory, which must lie inside.
    Directory,
}

/// Long options that a client's rsync gives its server and that stay inside, by name.
/// Left out on purpose: everything that reads or writes a named file (`--log-file`,
/// `--files-from=FILE`, batches, `--temp-dir`), devices, daemons, `--delete*`,
/// `--remove-source-files`, `--inplace` (osync uses none of them).
const LONG_OPTIONS: &[(&str, Value)] = &[
    ("append", Value::None),
    ("backup-dir", Value::Directory),
    ("block-size", Value::Text),
    ("bwlimit", Value::Text),
    ("checksum-choice", Value::Text),
    ("checksum-seed", Value::Text),
    ("compare-dest", Value::Directory),
    ("compress-choice", Value::Text),
    ("compress-level", Value::Text),
    ("compress-threads", Value::Text),
    ("copy-dest", Value::Directory),
    ("debug", Value::Text),
    ("delay-updates", Value::None),
    ("devices", Value::None),
    ("dirs", Value::None),
    ("existing", Value::None),
    ("executability", Value::None),
    ("fake-super", Value::None),
    ("force", Value::None),
    ("from0", Value::None),
    ("fsync", Value::None),
    ("fuzzy", Value::None),
    ("group", Value::None),
    ("groupmap", Value::Text),
    ("hard-links", Value::None),
    ("ignore-errors", Value::None),
    ("ignore-existing", Value::None),
    ("ignore-missing-args", Value::None),
    ("ignore-times", Value::None),
    ("info", Value::Text),
    ("link-dest", Value::Directory),
    ("links", Value::None),
    ("list-only", Value::None),
    ("log-format", Value::Text),
    ("max-alloc", Value::Text),
    ("max-size", Value::Text),
    ("min-size", Value::Text),
    ("mkpath", Value::None),
    ("modify-window", Value::Text),
    ("msgs2stderr", Value::None),
    ("munge-links", Value::None),
    ("new-compress", Value::None),
    ("no-W", Value::None),
    ("no-implied-dirs", Value::None),
    ("no-msgs2stderr", Value::None),
    ("no-r", Value::None),
    ("no-relative", Value::None),
    ("no-specials", Value::None),
    ("no-whole-file", Value::None),
    ("numeric-ids", Value::None),
    ("old-compress", Value::None),
    ("one-file-system", Value::None),
    ("open-noatime", Value::None),
    ("owner", Value::None),
    ("partial", Value::None),
    ("partial-dir", Value::Directory),
    ("perms", Value::None),
    ("preallocate", Value::None),
    ("recursive", Value::None),
    ("safe-links", Value::None),
    ("size-only", Value::None),
    ("skip-compress", Value::Text),
    ("specials", Value::None),
    ("stats", Value::None),
    ("stderr", Value::Text),
    ("suffix", Value::Text),
    ("super", Value::None),
    ("timeout", Value::Text),
    ("times", Value::None),
    ("use-qsort", Value::None),
    ("usermap", Value::Text),
    ("whole-file", Value::None),
];

/// Letters without a value. `s` is dealt with apart; `L`, `K` and `k` follow links;
/// `e`, `@` and `B` carry something.
const LETTERS: &[u8] = b"vqlLKkogpDtrzcinuWHAXExSUNdIRbyOJm";
const FOLLOWING: &[u8] = b"LKk";

/// A call that has been read but not yet judged.
#[derive(Debug, Default)]
struct Call {
    sender: bool,
    options: Vec<Vec<u8>>,
    directories: Vec<(&'static str, Vec<u8>)>,
    /// Everything behind the options: a dot, then the paths.
    operands: Vec<Vec<u8>>,
}

/// Whether the arguments announce that the others come over standard input (`-s`).
#[must_use]
pub fn announces_more(args: &[Vec<u8>]) -> bool {
    args.iter().any(|arg| cluster(arg).is_some_and(|(letters, _)| letters.contains(&b's')))
}

/// Judges the arguments (those of the command line, then those of standard input) and
/// puts together what rsync is started with.
///
/// # Errors
/// An option that is not known to stay inside, a path that lies outside, or a call of
/// another form.
pub fn check(
    args: &[Vec<u8>],
    confinement: Confinement,
    resolve: Resolver<'_>,
) -> Result<Vec<OsString>, Refusal> {
    let call = read(args, confinement).map_err(Refusal::Rsync)?;
    put_together(call, resolve).map_err(Refusal::Rsync)
}

fn read(args: &[Vec<u8>], confinement: Confinement) -> Result<Call, String> {
    let mut call = Call::default();
    let mut args = args.iter();
    if args.next().map(Vec::as_slice) != Some(b"--server") {
        return Err("not called with --server first".to_owned());
    }
    while let Some(arg) = args.next() {
        if let Some(long) = arg.strip_prefix(b"--") {
            read_long(&mut call, long, &mut args)?;
        } else if let Some((letters, rest)) = cluster(arg) {
            call.options.extend(checked_cluster(letters, rest, confinement)?);
        } else if arg.starts_with(b"-") {
            return Err(format!("{} is not allowed", shown(arg)));
        } else {
            call.operands.push(arg.clone());
        }
    }
    Ok(call)
}

fn read_long<'a>(
    call: &mut Call,
    long: &[u8],
    args: &mut impl Iterator<Item = &'a Vec<u8>>,
) -> Result<(), String> {
    let (name, value) = match long.iter().position(|&byte| byte == b'=') {
        Some(at) => (&long[..at], Some(long[at + 1..].to_vec())),
        None => (long, None),
    };
    match (name, &value) {
        (b"sender", None) => {
            call.sender = true;
            return Ok(());
        }
        // The list itself comes over the connection.
        (b"files-from", Some(from)) if from == b"-" => {
            call.options.push(b"--files-from=-".to_vec());
            return Ok(());
        }
        _ => {}
    }
    let Some((known, kind)) = LONG_OPTIONS.iter().find(|(known, _)| known.as_bytes() == name)
    else {
        return Err(format!("--{} is not allowed", shown(name)));
    };
    if *kind == Value::None {
        if value.is_some() {
            return Err(format!("--{known} takes no value"));
        }
        call.options.push(format!("--{known}").into_bytes());
        return Ok(());
    }
    // rsync itself gives some values as the next argument.
    let value = match value {
        Some(value) => value,
        None => args.next().cloned().ok_or_else(|| format!("--{known} lacks its value"))?,
    };
    match kind {
        Value::Directory => call.directories.push((known, value)),
        _ if *known == "suffix" && value.contains(&b'/') => {
            return Err("--suffix holds a slash".to_owned());
        }
        _ => call.options.push([b"--", known.as_bytes(), b"=", &value].concat()),
    }
    Ok(())
}

/// An argument of single letters, parted before the first that carries a value.
fn cluster(arg: &[u8]) -> Option<(&[u8], &[u8])> {
    let letters = arg.strip_prefix(b"-").filter(|l| !l.is_empty() && !l.starts_with(b"-"))?;
    let end = letters.iter().position(|letter| b"e@B".contains(letter)).unwrap_or(letters.len());
    Some(letters.split_at(end))
}

fn checked_cluster(
    letters: &[u8],
    rest: &[u8],
    confinement: Confinement,
) -> Result<Option<Vec<u8>>, String> {
    let mut kept = b"-".to_vec();
    for &letter in letters {
        match letter {
            // The arguments that it announced have been read already.
            b's' => {}
            _ if confinement == Confinement::ArgumentsOnly && FOLLOWING.contains(&letter) => {
                return Err(format!(
                    "-{} follows links, and this system has no Landlock to keep them inside",
                    char::from(letter)
                ));
            }
            _ if LETTERS.contains(&letter) => kept.push(letter),
            _ => return Err(format!("-{} is not allowed", shown(&[letter]))),
        }
    }
    let harmless = match rest {
        [] => true,
        // What the client's rsync can do: letters that stand for nothing but themselves.
        [b'e', abilities @ ..] => {
            abilities.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.')
                && matches!(abilities.first(), Some(b'.' | b'0'..=b'9'))
        }
        [_, number @ ..] => {
            !number.is_empty() && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
        }
    };
    if !harmless {
        return Err(format!("-{} is not allowed", shown(rest)));
    }
    kept.extend(rest);
    Ok((kept.len() > 1).then_some(kept))
}

fn put_together(call: Call, resolve: Resolver<'_>) -> Result<Vec<OsString>, String> {
    let Some((dot, paths)) = call.operands.split_first() else {
        return Err("names no path".to_owned());
    };
    if dot != b"." || paths.is_empty() || (!call.sender && paths.len() > 1) {
        return Err("not the arguments of a server".to_owned());
    }
    // A receiver would write into files that are there; a sender reads less.
    if !call.sender && call.options.iter().any(|option| option == b"--append") {
        return Err("--append is not allowed for a receiver".to_owned());
    }
    let mut argv: Vec<OsString> = vec!["--server".into()];
    if call.sender {
        argv.push("--sender".into());
    }
    argv.extend(call.options.into_iter().map(OsString::from_vec));
    // They are the receiver's: a sender is told of those of the client, and has no use for
    // them.
    let directories = if call.sender { &[][..] } else { &call.directories };
    for (name, value) in directories {
        if !value.starts_with(b"/") {
            return Err(format!("--{name} is no absolute path"));
        }
        let mut option = OsString::from(format!("--{name}="));
        option.push(inside(value, resolve)?);
        argv.push(option);
    }
    argv.push(".".into());
    for path in paths {
        argv.push(inside(path, resolve)?);
    }
    Ok(argv)
}

/// The resolved path; a final slash, which means something to rsync, stays.
fn inside(path: &[u8], resolve: Resolver<'_>) -> Result<OsString, String> {
    let mut resolved = resolve(Path::new(OsStr::from_bytes(path)))?.into_os_string();
    let of_directory = path.ends_with(b"/") || path.ends_with(b"/.");
    if of_directory && !resolved.as_bytes().ends_with(b"/") {
        resolved.push("/");
    }
    Ok(resolved)
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
#[path = "rsync_args_tests.rs"]
mod tests;
