//! Date fields (RFC 5322 section 3.3 and 4.3), read with tolerance. For SENTBEFORE, SENTON, SENTSINCE and sorting.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime};

/// Longest Date field that is looked at, in bytes.
const MAX_DATE: usize = 256;

/// The moment a Date field names, in its own zone: `date_naive()` is the day that SENTON compares with ("disregarding
/// time and timezone"). `None` when no date can be read.
///
/// Beyond the RFC it takes dashes for spaces, a date without time or zone (UTC), the order of `asctime`, and ISO 8601.
pub fn parse_date(value: &[u8]) -> Option<DateTime<FixedOffset>> {
    let value = super::field::unfold(value.get(..MAX_DATE).unwrap_or(value));
    let text = String::from_utf8_lossy(&without_comments(&value)).into_owned();
    let text = text.split(':').map(str::trim).collect::<Vec<_>>().join(":"); // `10 : 00` is obsolete, not wrong
    let mut found = Found::default();
    for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        found.take(word);
    }
    let date = NaiveDate::from_ymd_opt(found.year?, found.month?, found.day?)?;
    let zone = FixedOffset::east_opt(found.zone_s.unwrap_or(0))?;
    date.and_time(found.time.unwrap_or(NaiveTime::MIN)).and_local_timezone(zone).single()
}

fn without_comments(value: &[u8]) -> Vec<u8> {
    let mut depth = 0_u32;
    let mut out = Vec::with_capacity(value.len());
    for &byte in value {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(byte),
            _ => {}
        }
        if byte == b')' {
            out.push(b' ');
        }
    }
    out
}

#[derive(Default)]
struct Found {
    day: Option<u32>,
    month: Option<u32>,
    year: Option<i32>,
    time: Option<NaiveTime>,
    zone_s: Option<i32>,
}

impl Found {
    fn take(&mut self, word: &str) {
        if word.contains(':') {
            // `2024-03-01T10:00:00Z` is a date, a time and a zone in one word.
            match word.split_once(['T', 't']) {
                Some((date, time)) if date.contains('-') => {
                    self.take(date);
                    self.take(time);
                }
                _ => self.time_and_zone(word),
            }
        } else if self.time.is_some() && self.zone_s.is_none() && word.starts_with(['+', '-']) {
            self.zone_s = numeric_zone(word);
        } else if let Some(month) = month(word) {
            self.month = self.month.or(Some(month));
        } else if word.bytes().all(|byte| byte.is_ascii_digit()) {
            self.number(word);
        } else if word.contains('-') && !word.starts_with('-') {
            self.dashed(word);
        } else if self.time.is_some() && self.zone_s.is_none() {
            self.zone_s = named_zone(word);
        }
    }

    fn number(&mut self, word: &str) {
        let Ok(number) = word.parse::<u32>() else { return };
        match (self.day, self.year) {
            (None, _) if (1..=31).contains(&number) && word.len() <= 2 => self.day = Some(number),
            (_, None) => self.year = full_year(number, word.len()),
            _ => {}
        }
    }

    /// `30-Jun-1993` or `1993-06-30`.
    fn dashed(&mut self, word: &str) {
        let pieces: Vec<&str> = word.splitn(3, '-').collect();
        let [first, second, third] = pieces.as_slice() else { return };
        if first.len() == 4 && second.len() <= 2 {
            (self.year, self.month, self.day) = (first.parse().ok(), second.parse().ok(), third.parse().ok());
        } else if let Some(month) = month(second) {
            self.day = first.parse().ok();
            self.month = Some(month);
            self.year = third.parse().ok().and_then(|number| full_year(number, third.len()));
        }
    }

    /// `10:00`, `10:00:00`, `10:00:60.5`, maybe with `Z` or `+0200` glued to it.
    fn time_and_zone(&mut self, word: &str) {
        let zone_at = word.find(['+', '-', 'Z', 'z']);
        let (time, zone) = word.split_at_checked(zone_at.unwrap_or(word.len())).unwrap_or((word, ""));
        let mut numbers = time.split(':').map(|piece| piece.split('.').next().unwrap_or(piece).parse::<u32>());
        let (Some(Ok(hour)), Some(Ok(minute))) = (numbers.next(), numbers.next()) else { return };
        let second = numbers.next().and_then(Result::ok).unwrap_or(0).min(59); // a leap second, or nonsense
        self.time = self.time.or(NaiveTime::from_hms_opt(hour, minute, second));
        if !zone.is_empty() {
            self.zone_s = if zone.eq_ignore_ascii_case("z") { Some(0) } else { numeric_zone(zone) };
        }
    }
}

/// RFC 5322 section 4.3: two digits below 50 are 20xx, else 19xx; three digits count from 1900.
fn full_year(number: u32, digits: usize) -> Option<i32> {
    let year = i32::try_from(number).ok().filter(|&year| year <= 9999)?;
    Some(match digits {
        ..=2 if year < 50 => year + 2000,
        ..=3 => year + 1900,
        _ => year,
    })
}

fn month(word: &str) -> Option<u32> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let start = word.get(..3)?.to_ascii_lowercase();
    let place = MONTHS.iter().position(|month| *month == start)?;
    if !word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'.') {
        return None;
    }
    u32::try_from(place + 1).ok()
}

/// `+0200`, `-05:30`; outside +-24 h: UTC, as the moment is at least near.
fn numeric_zone(word: &str) -> Option<i32> {
    let digits: String = word.chars().filter(char::is_ascii_digit).take(4).collect();
    let (hours, minutes) = digits.split_at_checked(2)?;
    let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().unwrap_or(0) * 60;
    let seconds = if seconds < 86_400 { seconds } else { 0 };
    Some(if word.starts_with('-') { -seconds } else { seconds })
}

/// The zones of RFC 5322 section 4.3; any other name is "-0000" as it says.
fn named_zone(word: &str) -> Option<i32> {
    let hours = match word.to_ascii_uppercase().as_str() {
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        _ if word.bytes().all(|byte| byte.is_ascii_alphabetic()) => 0,
        _ => return None,
    };
    Some(hours * 3600)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_read_in_all_their_dresses() {
        let table = [
            ("Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T09:55:06-06:00"),
            ("21 Nov 1997 09:55:06 -0600 (CST)", "1997-11-21T09:55:06-06:00"),
            ("Fri, 21 Nov 97 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06-06:00"),
            ("Fri, 21 Nov 97 09:55 GMT", "1997-11-21T09:55:00+00:00"),
            ("Thu, 1 Jan 20 00:00:00 PST", "2020-01-01T00:00:00-08:00"),
            ("Thu, 1 Jan 120 00:00:00 +0000", "2020-01-01T00:00:00+00:00"),
            ("Wed Jun 30 21:49:08 1993", "1993-06-30T21:49:08+00:00"),
            ("Wed Jun 30 21:49:08 EST 1993", "1993-06-30T21:49:08-05:00"),
            ("30-Jun-1993 21:49:08 +0200", "1993-06-30T21:49:08+02:00"),
            ("2024-03-01T10:00:00Z", "2024-03-01T10:00:00+00:00"),
            ("2024-03-01 10:00:00+02:00", "2024-03-01T10:00:00+02:00"),
            ("1 September 2024", "2024-09-01T00:00:00+00:00"),
            ("Mon,\r\n 3 Feb 2025 23:59:60 +0100", "2025-02-03T23:59:59+01:00"),
            ("3 Feb 2025 10:00:00 +9999", "2025-02-03T10:00:00+00:00"),
            ("31 Feb 2025 10:00:00 +0000", ""),
            ("tomorrow", ""),
            ("", ""),
        ];
        for (text, expected) in table {
            let found = parse_date(text.as_bytes()).map(|date| date.to_rfc3339()).unwrap_or_default();
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(value in proptest::collection::vec(any::<u8>(), 0..80), text in "[0-9A-Za-z:+,() -]{0,40}") {
            let _ = parse_date(&value);
            let _ = parse_date(text.as_bytes());
        }
    }
}
