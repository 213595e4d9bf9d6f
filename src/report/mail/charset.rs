//! MAIL_BODY_CHARSET: text into other encodings than UTF-8.

use encoding_rs::{EncoderResult, Encoding, UTF_8};

/// How the body of a mail is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// Unicode code points below this, one byte each: US-ASCII and ISO-8859-1, which
    /// encoding_rs knows as windows-1252 only.
    Low(u32, &'static str),
    /// One that encoding_rs knows.
    Known(&'static Encoding),
}

impl Default for Charset {
    fn default() -> Self {
        Charset::Known(UTF_8)
    }
}

impl Charset {
    /// The charset of a name as iconv or a browser knows it; UTF-8 for the empty name.
    pub(super) fn named(name: &str) -> Option<Charset> {
        let name = name.trim();
        match name.to_ascii_lowercase().as_str() {
            "" => Some(Charset::default()),
            "iso-8859-1" | "iso8859-1" | "iso_8859-1" | "latin1" | "l1" => {
                Some(Charset::Low(0x100, "ISO-8859-1"))
            }
            "us-ascii" | "ascii" | "ansi_x3.4-1968" => Some(Charset::Low(0x80, "US-ASCII")),
            _ => {
                let label = name.strip_suffix("//TRANSLIT").unwrap_or(name);
                // what can be read but not written (UTF-16) is written as UTF-8
                Encoding::for_label(label.as_bytes()).map(|e| Charset::Known(e.output_encoding()))
            }
        }
    }

    /// Its name in a mail's header.
    pub(super) fn name(self) -> &'static str {
        match self {
            Charset::Low(_, name) => name,
            Charset::Known(encoding) => encoding.name(),
        }
    }

    /// The text in this charset; what it cannot hold becomes `?`.
    pub(super) fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Charset::Low(end, _) => text
                .chars()
                .map(|c| u8::try_from(u32::from(c)).ok().filter(|b| u32::from(*b) < end))
                .map(|byte| byte.unwrap_or(b'?'))
                .collect(),
            Charset::Known(encoding) => encode_known(encoding, text),
        }
    }
}

fn encode_known(encoding: &'static Encoding, mut text: &str) -> Vec<u8> {
    let mut encoder = encoding.new_encoder();
    let mut out = Vec::with_capacity(text.len() + 16);
    loop {
        let (result, read) =
            encoder.encode_from_utf8_to_vec_without_replacement(text, &mut out, true);
        text = &text[read..];
        match result {
            EncoderResult::InputEmpty => return out,
            EncoderResult::OutputFull => out.reserve(text.len() * 2 + 16),
            EncoderResult::Unmappable(_) => {
                // through the encoder, which may be in the middle of a shift state
                out.reserve(16);
                let _ = encoder.encode_from_utf8_to_vec_without_replacement("?", &mut out, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_charset_cannot_hold_becomes_a_question_mark() {
        for (name, header, text, bytes) in [
            ("", "UTF-8", "ä€", &b"\xc3\xa4\xe2\x82\xac"[..]),
            ("ISO-8859-1", "ISO-8859-1", "ä€日!", b"\xe4??!"),
            ("US-ASCII", "US-ASCII", "aä", b"a?"),
            ("ISO-8859-15", "ISO-8859-15", "ä€日", b"\xe4\xa4?"),
            ("windows-1252", "windows-1252", "€", b"\x80"),
            ("koi8-r", "KOI8-R", "Да日", b"\xe4\xc1?"),
            ("ISO-2022-JP", "ISO-2022-JP", "a日é", b"a\x1b$BF|\x1b(B?"),
            ("UTF-16", "UTF-8", "ä", b"\xc3\xa4"),
        ] {
            let charset = Charset::named(name).unwrap();
            assert_eq!(
                (charset.name(), charset.encode(text).as_slice()),
                (header, bytes),
                "{name}"
            );
        }
        assert_eq!(Charset::named("klingon"), None);
    }

    #[test]
    fn long_texts_are_encoded_whole() {
        let text = "日本".repeat(10_000);
        let bytes = Charset::named("EUC-JP").unwrap().encode(&text);
        assert_eq!(encoding_rs::EUC_JP.decode(&bytes).0, text);
    }
}
