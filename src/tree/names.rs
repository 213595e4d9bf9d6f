//! How a file system treats the spelling of names: which spellings it takes for the same name,
//! and how it stores them (spec 8, "Case and Unicode forms").

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization, is_nfc_quick, is_nfd_quick};

/// How a file system treats upper and lower case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, Serialize, Deserialize)]
pub enum Case {
    /// `a` and `A` are two names.
    #[default]
    Distinct,
    /// `a` and `A` are one name, stored as it was created.
    Folded,
    /// `a` and `A` are one name, and the file system chooses the spelling.
    Rewritten,
}

/// How a file system treats the composed (NFC) and decomposed (NFD) forms of a letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, Serialize, Deserialize)]
pub enum Forms {
    /// They are two names.
    #[default]
    Distinct,
    /// They are one name, stored as it was created.
    Folded,
    /// They are one name, stored composed.
    Composed,
    /// They are one name, stored decomposed.
    Decomposed,
}

/// Which spellings a file system takes for the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, Serialize, Deserialize)]
pub struct Naming {
    /// How upper and lower case are treated.
    pub case: Case,
    /// How Unicode forms are treated.
    pub forms: Forms,
}

impl Naming {
    /// Whether any two spellings are the same name.
    #[must_use]
    pub fn folds(self) -> bool {
        self != Naming::default()
    }

    /// The folding of both file systems: spellings are the same name if either of them says so.
    #[must_use]
    pub fn or(self, other: Naming) -> Naming {
        let case = if self.case == Case::Distinct { other.case } else { self.case };
        let forms = if self.forms == Forms::Distinct { other.forms } else { self.forms };
        Naming { case, forms }
    }

    /// A key that is equal for two names exactly if they are spellings of the same name.
    #[must_use]
    pub fn key(self, name: &[u8]) -> Cow<'_, [u8]> {
        if name.is_ascii() {
            return match self.case {
                Case::Distinct => Cow::Borrowed(name),
                _ if name.iter().any(u8::is_ascii_uppercase) => {
                    Cow::Owned(name.to_ascii_lowercase())
                }
                _ => Cow::Borrowed(name),
            };
        }
        let folded = |text: &str| -> String {
            let decomposed = |text: &str| match self.forms {
                Forms::Distinct => text.to_owned(),
                _ => text.nfd().collect(),
            };
            match self.case {
                Case::Distinct => decomposed(text),
                // Case folding may give a letter that can be decomposed again.
                _ => decomposed(&decomposed(text).chars().map(fold).collect::<String>()),
            }
        };
        each_text(name, folded)
    }

    /// Another spelling of the same name, where case or Unicode forms are folded; `None` if there
    /// is no other.
    #[must_use]
    pub fn other_spelling(self, name: &[u8]) -> Option<Vec<u8>> {
        let other = match (self.case, self.forms) {
            (Case::Distinct, Forms::Distinct) => return None,
            (Case::Distinct, _) => {
                let composed = each_text(name, |text| text.nfc().collect());
                let decomposed = each_text(name, |text| text.nfd().collect());
                if *composed == *name { decomposed } else { composed }.into_owned()
            }
            _ => {
                let swap = |byte: &u8| match byte {
                    b'a'..=b'z' => byte.to_ascii_uppercase(),
                    other => other.to_ascii_lowercase(),
                };
                name.iter().map(swap).collect()
            }
        };
        (other != name).then_some(other)
    }

    /// Whether two spellings are the same name.
    #[must_use]
    pub fn same_name(self, a: &[u8], b: &[u8]) -> bool {
        a == b || (self.folds() && self.key(a) == self.key(b))
    }

    /// Whether `stored` is how the file system stores an entry that is created as `created`, and
    /// not an older entry under another spelling.
    #[must_use]
    pub fn stores(self, created: &[u8], stored: &[u8]) -> bool {
        if created == stored {
            return true;
        }
        let form = self.stored_form(created);
        match self.case {
            Case::Rewritten => self.same_name(&form, stored),
            Case::Distinct | Case::Folded => *form == *stored,
        }
    }

    /// A name in the Unicode form in which it is stored.
    fn stored_form(self, name: &[u8]) -> Cow<'_, [u8]> {
        if name.is_ascii() {
            return Cow::Borrowed(name);
        }
        match self.forms {
            Forms::Distinct | Forms::Folded => Cow::Borrowed(name),
            Forms::Composed => each_text(name, |text| match is_nfc_quick(text.chars()) {
                unicode_normalization::IsNormalized::Yes => text.to_owned(),
                _ => text.nfc().collect(),
            }),
            Forms::Decomposed => each_text(name, |text| match is_nfd_quick(text.chars()) {
                unicode_normalization::IsNormalized::Yes => text.to_owned(),
                _ => text.nfd().collect(),
            }),
        }
    }
}

/// Changes the UTF-8 text in a name; all other bytes stay as they are.
fn each_text(name: &[u8], change: impl Fn(&str) -> String) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        out.extend_from_slice(change(chunk.valid()).as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(out)
}

/// Simple case folding, one letter to one letter, like the tables of file systems.
fn fold(letter: char) -> char {
    // The capital of the dotless i is an ordinary I. File systems do not fold the two.
    if letter == 'ı' {
        return letter;
    }
    let single = |letter: char, mut to: Box<dyn Iterator<Item = char>>| match (to.next(), to.next())
    {
        (Some(one), None) => one,
        _ => letter,
    };
    let upper = single(letter, Box::new(letter.to_uppercase()));
    single(upper, Box::new(upper.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Naming = Naming { case: Case::Folded, forms: Forms::Distinct };
    const FORMS: Naming = Naming { case: Case::Distinct, forms: Forms::Folded };
    const COMPOSED: &str = "caf\u{e9}";
    const DECOMPOSED: &str = "cafe\u{301}";

    #[test]
    fn spellings_are_one_name_where_case_or_form_is_folded() {
        let both = CASE.or(FORMS);
        for (a, b, case, forms, together) in [
            ("readme", "README", true, false, true),
            (COMPOSED, DECOMPOSED, false, true, true),
            ("CAF\u{c9}", DECOMPOSED, false, false, true),
            ("CAF\u{c9}", COMPOSED, true, false, true),
            ("Σίσυφος", "ΣΊΣΥΦΟΣ", true, false, true),
            ("Straße", "STRASSE", false, false, false),
            ("ı", "i", false, false, false),
            ("a", "b", false, false, false),
        ] {
            let one = |naming: Naming| naming.same_name(a.as_bytes(), b.as_bytes());
            assert_eq!((one(CASE), one(FORMS), one(both)), (case, forms, together), "{a} {b}");
            assert!(!one(Naming::default()), "{a} {b}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_compared_as_they_are() {
        assert!(CASE.same_name(b"A\xffB", b"a\xffb"));
        assert!(!CASE.same_name(b"A\xffB", b"a\xfeb"));
    }

    #[test]
    fn a_stored_name_is_told_from_another_spelling() {
        let decomposed = Naming { case: Case::Folded, forms: Forms::Decomposed };
        let stores = |naming: Naming, made: &str, stored: &str| {
            naming.stores(made.as_bytes(), stored.as_bytes())
        };
        assert!(stores(decomposed, COMPOSED, DECOMPOSED));
        assert!(!stores(decomposed, "Readme", "README"));
        assert!(!stores(FORMS, COMPOSED, DECOMPOSED), "it would have kept the form");
        let composed = Naming { case: Case::Distinct, forms: Forms::Composed };
        assert!(stores(composed, DECOMPOSED, COMPOSED));
        let upper = Naming { case: Case::Rewritten, forms: Forms::Distinct };
        assert!(stores(upper, "readme", "README"));
    }
}
