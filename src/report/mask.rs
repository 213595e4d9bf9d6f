//! Secrets never appear, at any level (spec 6).

use crate::config::Secret;

/// What stands in place of a secret.
const MASK: &str = "***";
/// A secret shorter than this is masked as a whole word only: a password `a` must not
/// turn every word with an `a` into a riddle that tells it.
const SHORT: usize = 4;

/// Takes secrets out of texts.
#[derive(Default)]
pub(super) struct Masks {
    /// The longest first, so that a secret holding another one is masked whole.
    needles: Vec<String>,
}

impl Masks {
    /// Adds a secret, also in the form it takes inside a quoted shell word.
    pub(super) fn add(&mut self, secret: &Secret) {
        let plain = secret.reveal();
        let quoted = plain.replace('\'', r"'\''");
        let escaped = crate::tree::path::escape(plain.as_bytes());
        for needle in [plain.to_owned(), quoted, escaped] {
            if !needle.is_empty() && !self.needles.contains(&needle) {
                self.needles.push(needle);
            }
        }
        self.needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    }

    /// The text without the secrets.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for needle in &self.needles {
            if text.contains(needle.as_str()) {
                text = replace(&text, needle);
            }
        }
        text
    }
}

/// Replaces every occurrence, or for short secrets every one that is a whole word.
fn replace(text: &str, needle: &str) -> String {
    if needle.len() >= SHORT {
        return text.replace(needle, MASK);
    }
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in text.match_indices(needle) {
        let (before, after) =
            (text[..at].chars().next_back(), text[at + found.len()..].chars().next());
        if at < from || word(before) || word(after) {
            continue;
        }
        out.push_str(&text[from..at]);
        out.push_str(MASK);
        from = at + found.len();
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_in_every_form_they_are_written_in() {
        let mut masks = Masks::default();
        for secret in ["Token9Long", "Token9", "it's", "a", ""] {
            masks.add(&Secret::new(secret));
        }
        for (text, shown) in [
            ("env _REMOTE_TOKEN=Token9 sh", "env _REMOTE_TOKEN=*** sh"),
            ("Token9Long", "***"),
            ("sh -c 'echo it'\\''s'", "sh -c 'echo ***'"),
            ("a cat a", "*** cat ***"),
            ("nothing here", "nothing here"),
        ] {
            assert_eq!(masks.apply(text), shown, "{text:?}");
        }
    }
}
