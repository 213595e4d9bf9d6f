//! A mail as bytes: headers, body in its charset, the log as attachment.

use super::{Letter, Who, body, subject};
use encoding_rs::{EncoderResult, Encoding, UTF_8};
use flate2::Compression;
use flate2::write::GzEncoder;
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, Message, MultiPart, SinglePart};
use std::io::Write;

/// A text with longer lines is sent as quoted-printable.
const PLAIN_LINE: usize = 900;

/// Builds the mail, with CRLF line ends and nothing but ASCII in it, unless an address
/// holds other letters.
pub(super) fn build(
    letter: &Letter<'_>,
    from: &Address,
    to: &[Address],
    charset: Charset,
) -> Result<Vec<u8>, String> {
    let failed = |e: &dyn std::fmt::Display| format!("cannot write the mail: {e}");
    let envelope = Envelope::new(Some(from.clone()), to.to_vec()).map_err(|e| failed(&e))?;
    let mut builder = Message::builder()
        .from(Mailbox::new(Some("osync".to_owned()), from.clone()))
        .subject(one_line(&subject(letter, &Who::here().host)))
        .message_id(None)
        .date_now()
        // automatic answers ("out of office") are not wanted
        .raw_header(auto_submitted())
        .envelope(envelope);
    for address in to {
        builder = builder.to(Mailbox::new(None, address.clone()));
    }
    let text = text_part(&body(letter, &Who::here()), charset).map_err(|e| failed(&e))?;
    let mail = if letter.transcript.is_empty() {
        builder.singlepart(text)
    } else {
        let log = log_part(letter).map_err(|e| failed(&e))?;
        builder.multipart(MultiPart::mixed().singlepart(text).singlepart(log))
    };
    Ok(mail.map_err(|e| failed(&e))?.formatted())
}

fn auto_submitted() -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned())
}

fn text_part(text: &str, charset: Charset) -> Result<SinglePart, Box<dyn std::error::Error>> {
    let bytes = charset.encode(&text.replace('\n', "\r\n"));
    let plain = bytes.iter().all(|b| b.is_ascii() && *b != 0x1b)
        && bytes.split(|b| *b == b'\n').all(|line| line.len() <= PLAIN_LINE);
    let body = if plain {
        Body::dangerous_pre_encoded(bytes, ContentTransferEncoding::SevenBit)
    } else {
        Body::new_with_encoding(bytes, ContentTransferEncoding::QuotedPrintable)
            .map_err(|_| "the body cannot be encoded")?
    };
    let kind = ContentType::parse(&format!("text/plain; charset={}", charset.name()))?;
    Ok(SinglePart::builder().content_type(kind).body(body))
}

fn log_part(letter: &Letter<'_>) -> Result<SinglePart, Box<dyn std::error::Error>> {
    let kind = ContentType::parse("application/gzip")?;
    Ok(Attachment::new(log_name(letter)).body(gzipped(letter)?, kind))
}

/// The log as an attachment, name and content, if there is any.
pub(super) fn attachment(letter: &Letter<'_>) -> Result<Option<(String, Vec<u8>)>, String> {
    if letter.transcript.is_empty() {
        return Ok(None);
    }
    let bytes = gzipped(letter).map_err(|e| format!("cannot write the mail: {e}"))?;
    Ok(Some((log_name(letter), bytes)))
}

fn gzipped(letter: &Letter<'_>) -> std::io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(letter.transcript)?;
    gzip.finish()
}

fn log_name(letter: &Letter<'_>) -> String {
    format!("osync.{}.log.gz", file_name(letter.task))
}

/// A name every mail program takes.
fn file_name(task: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    task.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// Header text: no line breaks, whatever a task is called.
pub(super) fn one_line(text: &str) -> String {
    crate::tree::path::escape(text.as_bytes())
}

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
mod charset_tests {
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
