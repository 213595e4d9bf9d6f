//! The words of a command as ssh hands it over, for commands that never see a shell.

/// Splits on blanks, undoing quotes and backslashes as `sh` would. Anything that a shell
/// would do more with (expansions, patterns, redirections, further commands) is no list
/// of words: none.
#[must_use]
pub fn split(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' => words.extend(word.take()),
            b'\'' => single_quoted(&mut bytes, word.get_or_insert_default())?,
            b'"' => double_quoted(&mut bytes, word.get_or_insert_default())?,
            b'\\' => match bytes.next()? {
                b'\n' => return None,
                escaped => word.get_or_insert_default().push(escaped),
            },
            _ if is_special(byte) => return None,
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    Some(words)
}

fn single_quoted(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match bytes.next()? {
            b'\'' => return Some(()),
            byte => word.push(byte),
        }
    }
}

fn double_quoted(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match bytes.next()? {
            b'"' => return Some(()),
            b'$' | b'`' => return None,
            b'\\' => match bytes.next()? {
                byte @ (b'"' | b'\\' | b'$' | b'`') => word.push(byte),
                b'\n' => return None,
                byte => word.extend([b'\\', byte]),
            },
            byte => word.push(byte),
        }
    }
}

fn is_special(byte: u8) -> bool {
    byte.is_ascii_control() || b";&|<>()$`*?[]{}#!".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_what_a_shell_would_make_of_them_or_nothing() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            ("", Some(&[])),
            ("  a   b ", Some(&["a", "b"])),
            (r"a\ b c", Some(&["a b", "c"])),
            (r#"'a b' "c d" e'f'"g""#, Some(&["a b", "c d", "efg"])),
            (r"'' a", Some(&["", "a"])),
            (r#""a\"b\\c\d""#, Some(&[r#"a"b\c\d"#])),
            (r"\$x \; \*", Some(&["$x", ";", "*"])),
            ("'$(x) ; `y`'", Some(&["$(x) ; `y`"])),
            ("a;b", None),
            ("a\nb", None),
            ("a\tb", None),
            ("a $x", None),
            (r#""$x""#, None),
            ("\"`x`\"", None),
            ("a *", None),
            ("a > b", None),
            ("'a", None),
            ("\"a", None),
            ("a\\", None),
        ];
        for (text, expected) in cases {
            let words = split(text.as_bytes());
            let expected = expected
                .map(|words| words.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>());
            assert_eq!(words, expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back_whole(words in prop::collection::vec("[^\u{0}']{0,8}", 0..5)) {
            let text = words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" ");
            let expected = words.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>();
            prop_assert_eq!(split(text.as_bytes()), Some(expected));
        }

        #[test]
        fn no_input_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = split(&text);
        }
    }
}
