//! From when to when a certificate is valid.
//!
//! Read by hand, since what verifies certificates tells yes or no only. What is read here is never trusted: it says when to renew.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use time::{Date, Month, PrimitiveDateTime, Time};

/// DER's tags, as far as they are met on the way to the validity.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The first second.
    pub from: i64,
    /// The last second.
    pub until: i64,
}

impl Life {
    /// What a certificate says; `None` for what is not a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (whole, _) = element(certificate, SEQUENCE)?;
        let (mut rest, _) = element(whole, SEQUENCE)?;
        if rest.first() == Some(&VERSION) {
            rest = element(rest, VERSION)?.1;
        }
        // Serial number, algorithm, issuer.
        for _ in 0..3 {
            rest = element(rest, *rest.first()?)?.1;
        }
        let (validity, _) = element(rest, SEQUENCE)?;
        let (from, rest) = instant(validity)?;
        let (until, _) = instant(rest)?;
        Some(Self { from, until })
    }

    /// Whether it is to be renewed: two thirds of it are over, which leaves time for whoever must do it by hand.
    #[must_use]
    pub fn is_due(self, now: i64) -> bool {
        let length = self.until.saturating_sub(self.from);
        now >= self.from.saturating_add(length / 3 * 2)
    }
}

/// Seconds since 1970.
#[must_use]
pub(crate) fn seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The content of the first element, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Longer ones say in how many bytes their length is written.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = length
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (found == tag).then_some((content, rest))
}

/// A time, and what follows it.
fn instant(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let tag = *bytes.first()?;
    let (text, rest) = element(bytes, tag)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        UTC_TIME => {
            let (year, text) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            // RFC 5280, 4.1.2.5.1.
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        GENERALIZED_TIME => {
            let (year, text) = text.split_at_checked(4)?;
            (year.parse().ok()?, text)
        }
        _ => return None,
    };
    let mut pairs = [0_u8; 5];
    let mut text = text;
    for pair in &mut pairs {
        let (digits, after) = text.split_at_checked(2)?;
        *pair = digits.parse().ok()?;
        text = after;
    }
    let [month, day, hour, minute, second] = pairs;
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    let time = Time::from_hms(hour, minute, second).ok()?;
    let at = PrimitiveDateTime::new(date, time).assume_utc();
    text.is_empty().then_some((at.unix_timestamp(), rest))
}
