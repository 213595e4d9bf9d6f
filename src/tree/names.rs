//! Names as a file system sees them: which spellings are one name, and what becomes of a
//! spelling when it is stored (spec 8, "Case and Unicode forms").

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization, is_nfc_quick, is_nfd_quick};

/// What a file system makes of upper and lower case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, Serialize, Deserialize)]
pub enum Case {
    /// `a` and `A` are two names.
    #[default]
    Distinct,
    /// `a` and `A` are one name, spelled as it was made.
    Folded,
    /// `a` and `A` are one name, spelled as the file system likes.
    Rewritten,
}

/// What a file system makes of the composed (NFC) and decomposed (NFD) forms of a letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, Serialize, Deserialize)]
pub enum Forms {
    /// They are two names.
    #[default]
    Distinct,
    /// They are one name, spelled as it was made.
    Folded,
    /// They are one name, stored composed.
    Composed,
    /// They are one name, stored decomposed.
    Decomposed,
}

/// Which spellings a file system takes for one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, Serialize, Deserialize)]
pub struct Naming {
    /// Upper and lower case.
    pub case: Case,
    /// Unicode forms.
    pub forms: Forms,
}

impl Naming {
    /// Whether some spellings are one name.
    #[must_use]
    pub fn folds(self) -> bool {
        self != Naming::default()
    }

    /// The folding of both: spellings are one name if either side takes them for one.
    #[must_use]
    pub fn with(self, other: Naming) -> Naming {
        let case = if self.case == Case::Distinct { other.case } else { self.case };
        let forms = if self.forms == Forms::Distinct { other.forms } else { self.forms };
        Naming { case, forms }
    }

    /// What all spellings of a name have in common, and no other name has.
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
                // folding may leave a letter that has another form
                _ => decomposed(&decomposed(text).chars().map(fold).collect::<String>()),
            }
        };
        each_text(name, folded)
    }

    /// Another spelling of a name that is the same one where case, or Unicode forms, are folded;
    /// none if there is none.
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

    /// Whether two spellings are one name.
    #[must_use]
    pub fn is_one(self, a: &[u8], b: &[u8]) -> bool {
        a == b || (self.folds() && self.key(a) == self.key(b))
    }

    /// Whether what is stored as `stored` may have been made as `made`: the file system has
    /// rewritten no more than it always does.
    #[must_use]
    pub fn stores(self, made: &[u8], stored: &[u8]) -> bool {
        if made == stored {
            return true;
        }
        let form = self.form(made);
        match self.case {
            Case::Rewritten => self.is_one(&form, stored),
            Case::Distinct | Case::Folded => *form == *stored,
        }
    }

    /// A name in the form in which it is stored.
    fn form(self, name: &[u8]) -> Cow<'_, [u8]> {
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

/// Changes the text in a name; bytes that are none stay as they are.
fn each_text(name: &[u8], change: impl Fn(&str) -> String) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        out.extend_from_slice(change(chunk.valid()).as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(out)
}

/// Simple case folding: one letter to one letter, as the tables of file systems do it.
fn fold(letter: char) -> char {
    // Dotless i has a capital of its own only where Turkish is written.
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
        let both = CASE.with(FORMS);
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
            let one = |naming: Naming| naming.is_one(a.as_bytes(), b.as_bytes());
            assert_eq!((one(CASE), one(FORMS), one(both)), (case, forms, together), "{a} {b}");
            assert!(!one(Naming::default()), "{a} {b}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_compared_as_they_are() {
        assert!(CASE.is_one(b"A\xffB", b"a\xffb"));
        assert!(!CASE.is_one(b"A\xffB", b"a\xfeb"));
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
