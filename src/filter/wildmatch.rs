//! Matches one wildcard pattern against one text as rsync does.
//!
//! A pattern is compiled once. Matching keeps at most two places to backtrack to: the latest `*`
//! and the latest `**`. That is enough. Whatever precedes a star is matched as early as possible,
//! which leaves the star the most text, so an earlier star never has to be tried again. The one
//! exception is a `*` that is stopped by a slash: an earlier `*` cannot cross that slash either,
//! but an earlier `**` can. So the time is polynomial in the lengths whatever the pattern, and the
//! stack does not grow.

/// Why a pattern can never match anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// `[` without its `]`.
    #[error("the bracket '[' is never closed, so it matches nothing")]
    OpenBracket,
    /// `[[:nosuch:]]`.
    #[error("it names a character class that does not exist, so it matches nothing")]
    UnknownClass,
    /// A backslash at the end of a pattern with wildcards.
    #[error("it ends in a backslash that escapes nothing, so it matches nothing")]
    TrailingBackslash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`: any byte but a slash.
    Any,
    /// A set, by its index in [`Wildmatch::sets`]; never matches a slash.
    Set(u32),
    /// `*`: any bytes without a slash.
    Star,
    /// `**`: any bytes.
    StarStar,
}

/// A set of bytes, one bit for each of the 256.
type ByteSet = [u64; 4];

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Wildmatch {
    tokens: Vec<Token>,
    sets: Vec<ByteSet>,
}

/// The text to match: a name that is treated as if a slash came before or after it, because that
/// is how rsync makes `**/x` match `x` and `x/***` match `x`.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    name: &'a [u8],
    lead: usize,
    len: usize,
}

impl<'a> Text<'a> {
    /// The bare name.
    #[must_use]
    pub fn new(name: &'a [u8]) -> Self {
        Text { name, lead: 0, len: name.len() }
    }

    /// With a slash before it.
    #[must_use]
    pub fn behind_slash(self) -> Self {
        Text { lead: 1, len: self.len + 1, ..self }
    }

    /// With a slash after it.
    #[must_use]
    pub fn before_slash(self) -> Self {
        Text { len: self.len + 1, ..self }
    }

    /// Its length in bytes, with these slashes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // an empty text is nothing special here
    pub fn len(self) -> usize {
        self.len
    }

    /// The byte at an index below [`Text::len`].
    #[must_use]
    pub fn at(self, index: usize) -> u8 {
        match index.checked_sub(self.lead) {
            Some(inner) => self.name.get(inner).copied().unwrap_or(b'/'),
            None => b'/',
        }
    }
}

/// Where to backtrack to: the token after a star, and where in the text that star ends so far.
#[derive(Clone, Copy)]
struct Retry {
    token: usize,
    at: usize,
}

impl Wildmatch {
    /// Compiles a pattern that holds at least one of `*`, `?`, `[`. (In any other, rsync does not
    /// treat a backslash as an escape.)
    ///
    /// # Errors
    /// The pattern could not match anything.
    pub fn compile(pattern: &[u8]) -> Result<Self, Malformed> {
        let mut compiled = Wildmatch { tokens: Vec::with_capacity(pattern.len()), sets: vec![] };
        let mut at = 0;
        while let Some(&byte) = pattern.get(at) {
            at += 1;
            let token = match byte {
                b'?' => Token::Any,
                b'*' => {
                    let run = pattern[at..].iter().take_while(|b| **b == b'*').count();
                    at += run;
                    if run == 0 { Token::Star } else { Token::StarStar }
                }
                b'\\' => {
                    let escaped = *pattern.get(at).ok_or(Malformed::TrailingBackslash)?;
                    at += 1;
                    Token::Byte(escaped)
                }
                b'[' => {
                    let (set, end) = parse_set(pattern, at)?;
                    at = end;
                    compiled.sets.push(set);
                    #[allow(clippy::cast_possible_truncation)] // fewer sets than pattern bytes
                    Token::Set((compiled.sets.len() - 1) as u32)
                }
                byte => Token::Byte(byte),
            };
            compiled.tokens.push(token);
        }
        Ok(compiled)
    }

    /// Whether the pattern matches all of the text from `start` on.
    #[must_use]
    pub fn matches(&self, text: Text<'_>, start: usize) -> bool {
        if !self.end_may_match(text, start) {
            return false;
        }
        let (mut token, mut at) = (0, start);
        let (mut star, mut star_star): (Option<Retry>, Option<Retry>) = (None, None);
        loop {
            match self.tokens.get(token) {
                Some(Token::StarStar) => {
                    token += 1;
                    if token == self.tokens.len() {
                        return true;
                    }
                    star_star = Some(Retry { token, at });
                    star = None;
                    continue;
                }
                Some(Token::Star) => {
                    token += 1;
                    star = Some(Retry { token, at });
                    continue;
                }
                Some(one) if at < text.len() && self.fits(*one, text.at(at)) => {
                    token += 1;
                    at += 1;
                    continue;
                }
                None if at == text.len() => return true,
                _ => {}
            }
            // Let the latest star take one more byte, or else the latest double star.
            if let Some(retry) = &mut star
                && retry.at < text.len()
                && text.at(retry.at) != b'/'
            {
                retry.at += 1;
                (token, at) = (retry.token, retry.at);
            } else if let Some(retry) = &mut star_star
                && retry.at < text.len()
            {
                retry.at += 1;
                star = None;
                (token, at) = (retry.token, retry.at);
            } else {
                return false;
            }
        }
    }

    /// A cheap test of the last byte, which rejects most names for patterns like `*.o`.
    fn end_may_match(&self, text: Text<'_>, start: usize) -> bool {
        match self.tokens.last() {
            Some(Token::Star | Token::StarStar) | None => true,
            Some(one) => text.len() > start && self.fits(*one, text.at(text.len() - 1)),
        }
    }

    fn fits(&self, token: Token, byte: u8) -> bool {
        match token {
            Token::Byte(wanted) => byte == wanted,
            Token::Any => byte != b'/',
            Token::Set(index) => contains(&self.sets[index as usize], byte),
            Token::Star | Token::StarStar => false,
        }
    }
}

fn insert(set: &mut ByteSet, byte: u8) {
    set[usize::from(byte >> 6)] |= 1 << (byte & 63);
}

fn contains(set: &ByteSet, byte: u8) -> bool {
    set[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
}

/// Reads a set from after its `[`. Returns the index after its `]`.
fn parse_set(pattern: &[u8], mut at: usize) -> Result<(ByteSet, usize), Malformed> {
    let byte_at = |at: usize| pattern.get(at).copied().ok_or(Malformed::OpenBracket);
    let mut set: ByteSet = [0; 4];
    let negated = matches!(byte_at(at)?, b'!' | b'^');
    at += usize::from(negated);

    // The first byte is a member even if it is a `]`. A `-` makes a range only between two single
    // members, not beside a class or another range.
    let mut previous: Option<u8> = None;
    let mut first = true;
    loop {
        let byte = byte_at(at)?;
        at += 1;
        match byte {
            b']' if !first => break,
            b'\\' => {
                let escaped = byte_at(at)?;
                at += 1;
                insert(&mut set, escaped);
                previous = Some(escaped);
            }
            b'-' if previous.is_some() && byte_at(at)? != b']' => {
                let mut last = byte_at(at)?;
                at += 1;
                if last == b'\\' {
                    last = byte_at(at)?;
                    at += 1;
                }
                (previous.unwrap_or(last)..=last).for_each(|b| insert(&mut set, b));
                previous = None;
            }
            b'[' if pattern.get(at) == Some(&b':') => match parse_class(pattern, at + 1)? {
                Some((class, end)) => {
                    (0..=255u8).filter(class).for_each(|b| insert(&mut set, b));
                    at = end;
                    previous = None;
                }
                None => {
                    insert(&mut set, b'[');
                    previous = Some(b'[');
                }
            },
            byte => {
                insert(&mut set, byte);
                previous = Some(byte);
            }
        }
        first = false;
    }
    if negated {
        set.iter_mut().for_each(|word| *word = !*word);
    }
    set[usize::from(b'/' >> 6)] &= !(1 << (b'/' & 63));
    Ok((set, at))
}

type Class = fn(&u8) -> bool;

/// Reads a class from after its `[:`. `None` if what follows is not a class; then the bracket is
/// an ordinary member of the set.
fn parse_class(pattern: &[u8], at: usize) -> Result<Option<(Class, usize)>, Malformed> {
    let length = pattern[at..].iter().position(|b| *b == b']').ok_or(Malformed::OpenBracket)?;
    let Some(name) = pattern[at..at + length].strip_suffix(b":") else { return Ok(None) };
    let class: Class = match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |b| matches!(b, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        // The vertical tab is white space in C but not in Rust.
        b"space" => |b| matches!(b, b' ' | 9..=13),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return Err(Malformed::UnknownClass),
    };
    Ok(Some((class, at + length + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Wildmatch::compile(pattern.as_bytes()).unwrap().matches(Text::new(text.as_bytes()), 0)
    }

    #[test]
    fn wildcards_match_what_rsync_matches() {
        let cases: &[(&str, &str, bool)] = &[
            ("*", "", true),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("**", "a/b", true),
            ("?", "a", true),
            ("?", "/", false),
            ("?", "", false),
            ("*.o", "x.o", true),
            ("*.o", "x.oo", false),
            ("*.o", "x.o.o", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXb/c", false),
            ("a**c", "a/b/c", true),
            ("a*/**/c", "ab/x/c", true),
            ("a*/**/c", "ab/c", false),
            ("**/c", "c", false),
            ("**a*c", "a/ab/abc", true),
            ("*a/*c", "xa/yc", true),
            ("*a*b/c*d", "aab/ccd", true),
            ("[a-c]", "b", true),
            ("[!a-c]", "b", false),
            ("[^a-c]", "d", true),
            ("[^a]", "/", false),
            ("[/]", "/", false),
            ("[]]", "]", true),
            ("[!]]", "a", true),
            ("[a-]", "-", true),
            ("[-a]", "-", true),
            ("[\\]]", "]", true),
            ("[\\a-\\c]", "b", true),
            ("[a-c-e]", "d", false),
            ("[a-c-e]", "-", true),
            ("[c-a]", "b", false),
            ("[[:digit:]]", "5", true),
            ("[[:digit:]x]", "x", true),
            ("[[:digit:]-z]", "-", true),
            ("[[:digit]", ":", true),
            ("[[:digit]", "[", true),
            ("[[:]x", "[x", true),
            ("[[a:]]", "[]", true),
            ("[[a:]", "a", true),
            ("[a-\\c]", "b", true),
            ("[a-\\c]d", "bd", true),
            ("[a-\\c-e]", "d", false),
            ("[a-\\c-e]", "-", true),
            ("[[:space:]]", "\u{b}", true),
            ("\\*", "*", true),
            ("\\*?", "ab", false),
            ("a\\b*", "ab", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), *expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn classes_hold_the_same_as_in_c_and_never_a_slash() {
        for (class, members) in [
            ("alnum", "09AZaz"),
            ("alpha", "AZaz"),
            ("blank", " \t"),
            ("cntrl", "\0\t\n\u{b}\u{1f}\u{7f}"),
            ("digit", "09"),
            ("graph", "!09AZ_az~"),
            ("lower", "az"),
            ("print", " !09AZ_az~"),
            ("punct", "!_~"),
            ("space", " \t\n\u{b}"),
            ("upper", "AZ"),
            ("xdigit", "09AFaf"),
        ] {
            let candidates = " !/09AFGZ_afgz~\0\t\n\u{b}\u{1f}\u{7f}";
            for byte in candidates.chars() {
                let more = match class {
                    "alnum" | "alpha" | "graph" | "print" => "AFGZafgz",
                    "lower" => "afgz",
                    "upper" => "AFGZ",
                    _ => "",
                };
                let expected = byte != '/' && (members.contains(byte) || more.contains(byte));
                let text = byte.to_string();
                assert_eq!(matches(&format!("[[:{class}:]]"), &text), expected, "{class} {byte:?}");
                let not = matches(&format!("[![:{class}:]]"), &text);
                assert_eq!(not, byte != '/' && !expected, "not {class} {byte:?}");
            }
        }
    }

    #[test]
    fn patterns_that_can_never_match_say_why() {
        let cases = [
            ("[abc", Malformed::OpenBracket),
            ("[", Malformed::OpenBracket),
            ("[!", Malformed::OpenBracket),
            ("[]", Malformed::OpenBracket),
            ("[a-", Malformed::OpenBracket),
            ("[a\\", Malformed::OpenBracket),
            ("[[:alpha:", Malformed::OpenBracket),
            ("[[:alpha:]", Malformed::OpenBracket),
            ("[[:nosuch:]]", Malformed::UnknownClass),
            ("[[::]]", Malformed::UnknownClass),
            ("*\\", Malformed::TrailingBackslash),
        ];
        for (pattern, expected) in cases {
            assert_eq!(Wildmatch::compile(pattern.as_bytes()).unwrap_err(), expected, "{pattern}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = "*a".repeat(60) + "b";
        assert!(!matches(&pattern, &"a".repeat(255)));
        let pattern = "**a*".repeat(40) + "b";
        assert!(!matches(&pattern, &"a/".repeat(2000)));
    }
}
