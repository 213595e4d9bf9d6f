//! A mail as bytes: headers, body in its charset, the log as attachment.

use super::{Charset, Letter, Who, body, subject};
use flate2::{Compression, write::GzEncoder};
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, Message, MultiPart, SinglePart};
use lettre::{Address, address::Envelope};
use std::io::Write;

/// Lines longer than this do not travel as they are.
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
