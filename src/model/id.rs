//! Ids that Portcullis itself hands out.

use std::fmt;

/// One session of this process, in order of arrival. Not kept over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// A grant's row in the database; it keeps its identity when the app is connected again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(pub i64);

/// The short reference of a refusal, which finds its audit row: `7F3K2Q`.
///
/// Shape: six characters of Crockford's base 32 (no I, L, O, U), made from 30 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reference([u8; 6]);

impl Reference {
    const DIGITS: &'static [u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    /// From random bits; the caller owns the random source.
    pub fn from_bits(mut bits: u32) -> Self {
        let mut text = [b'0'; 6];
        for place in &mut text {
            *place = Self::DIGITS.get((bits & 31) as usize).copied().unwrap_or(b'0');
            bits >>= 5;
        }
        Self(text)
    }

    /// Reads a reference as a person types it: any letter case, with O for 0 and I or L for 1.
    pub fn parse(text: &str) -> Option<Self> {
        let text: [u8; 6] = text.as_bytes().try_into().ok()?;
        let text = text.map(|digit| match digit.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        });
        text.iter().all(|digit| Self::DIGITS.contains(digit)).then_some(Self(text))
    }

    /// The six characters.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or("")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_six_characters_nobody_misreads() {
        assert_eq!(Reference::from_bits(0).as_str(), "000000");
        assert_eq!(Reference::from_bits(u32::MAX).as_str(), "ZZZZZZ");
        assert_eq!(Reference::parse("zzzzzz"), Some(Reference::from_bits(u32::MAX)));
        assert_eq!(Reference::parse("OIL000"), Reference::parse("011000"));
        assert_eq!(Reference::parse("7F3K2"), None);
        assert_eq!(Reference::parse("7F3K2U"), None);
        assert_ne!(Reference::from_bits(1), Reference::from_bits(1 << 29));
        assert_eq!(Reference::parse("oilzz0").map(|r| r.to_string()).as_deref(), Some("011ZZ0"));
        for wrong in ["", "00000", "0000000", "00000U", "0000é"] {
            assert_eq!(Reference::parse(wrong), None, "{wrong:?}");
        }
    }
}
