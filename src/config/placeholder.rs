//! What the sample files of osync put where people put their own mail settings. With the
//! programs it used then, nobody had to change them: on Linux they were never looked at
//! (spec 10, "Being told").

/// The settings and the values that nobody can mean.
const SAMPLES: &[(&str, &[&str])] = &[
    ("DESTINATION_MAILS", &["your@alert.tld", "infrastructure@example.com"]),
    ("SENDER_MAIL", &["alert@your.system.tld", "sender@example.com"]),
    ("SMTP_SERVER", &["smtp.your.isp.tld"]),
];

/// A setting that holds a sample's value and counts as unset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// The key.
    pub key: &'static str,
    /// The sample's value.
    pub value: String,
}

impl std::fmt::Display for Placeholder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Placeholder { key, value } = self;
        let then = match *key {
            "DESTINATION_MAILS" => "nobody gets a mail there",
            "SMTP_SERVER" => "mails go through a program of this machine",
            _ => "mails are from this user and host",
        };
        write!(f, "{key}: {value} is only the sample's value and counts as unset: {then}")
    }
}

/// Whether a value of this key is a sample's; the table's spelling of the key.
#[must_use]
pub fn find(key: &str, value: &str) -> Option<Placeholder> {
    let (key, samples) = SAMPLES.iter().find(|(known, _)| *known == key)?;
    let is_sample = samples.iter().any(|sample| value.trim().eq_ignore_ascii_case(sample));
    is_sample.then(|| Placeholder { key, value: value.trim().to_owned() })
}
