//! `rsync --server` kept inside one directory: its arguments, read and put together anew.
//! Pure but for the resolver that is handed in (spec 7, "ssh filter").
//!
//! Only options that are known here pass, and only paths that lie in the directory after
//! all links are resolved. What starts in the end is put together from what was
//! understood, so nothing can be read by rsync in another way than it was read here.

use super::decision::Refusal;
use crate::rsync::options::{self, Mark, RsyncOption, Takes};
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
            read_long(&mut call, long, confinement, &mut args)?;
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
    confinement: Confinement,
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
    let known = std::str::from_utf8(name).ok().and_then(options::by_name);
    let known = allowed(known, confinement, || format!("--{}", shown(name)))?;
    let name = known.long;
    if known.takes == Takes::Nothing {
        if value.is_some() {
            return Err(format!("--{name} takes no value"));
        }
        call.options.push(format!("--{name}").into_bytes());
        return Ok(());
    }
    // rsync itself gives some values as the next argument.
    let value = match value {
        Some(value) => value,
        None => args.next().cloned().ok_or_else(|| format!("--{name} lacks its value"))?,
    };
    match known.takes {
        Takes::Directory => call.directories.push((name, value)),
        _ if name == "suffix" && value.contains(&b'/') => {
            return Err("--suffix holds a slash".to_owned());
        }
        _ => call.options.push([b"--", name.as_bytes(), b"=", &value].concat()),
    }
    Ok(())
}

/// The option, if it may pass.
fn allowed(
    option: Option<&'static RsyncOption>,
    confinement: Confinement,
    name: impl Fn() -> String,
) -> Result<&'static RsyncOption, String> {
    match option {
        Some(option) if option.is(Mark::Served) => {
            if option.is(Mark::FollowsLinks) && confinement == Confinement::ArgumentsOnly {
                return Err(format!(
                    "{} follows links, and this system has no Landlock to keep them inside",
                    name()
                ));
            }
            Ok(option)
        }
        _ => Err(format!("{} is not allowed", name())),
    }
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
        // The arguments that `s` announced have been read already.
        if letter != b's' {
            let name = || format!("-{}", shown(&[letter]));
            allowed(options::by_letter(letter), confinement, name)?;
            kept.push(letter);
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
            return Err(format!("--{name} is not an absolute path"));
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
