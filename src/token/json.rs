//! JSON as tokens need it: a duplicate member is an error at every level, depth is limited, nothing is guessed.
//!
//! serde_json reads the letters; this file decides what may be built from them. RFC 7519 section 4 lets a parser
//! keep the last of two equal members, and then two parsers of one token can see two users: here both are refused.

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Map, Value};

/// Deepest nesting of arrays and objects that is ever read: reading calls itself. What a token may have is
/// [`super::Rules::json_depth`].
pub(super) const MAX_DEPTH: usize = 64;

/// Why bytes are not the JSON object that was expected. Says nothing of the bytes but a member's name, cut short.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON (RFC 8259), not UTF-8, or a number outside a double's range.
    #[error("is not well-formed JSON")]
    Syntax,
    /// JSON, but no object.
    #[error("is not a JSON object")]
    NotObject,
    /// One object has the member twice.
    #[error("has the member {member:?} twice")]
    Duplicate {
        /// The member's name, cut at 40 characters.
        member: String,
    },
    /// Nested deeper than the limit.
    #[error("is nested deeper than {limit} levels")]
    Depth {
        /// The limit.
        limit: usize,
    },
}

/// Reads one JSON object, nested `limit` levels at most (and never more than [`MAX_DEPTH`]), and nothing behind it but
/// white space.
pub(super) fn object(bytes: &[u8], limit: usize) -> Result<Map<String, Value>, JsonError> {
    let fault = RefCell::new(None);
    let mut reader = Deserializer::from_slice(bytes);
    let limit = limit.min(MAX_DEPTH);
    let read = Strict { depth: limit, limit, fault: &fault }.deserialize(&mut reader);
    let value = read.and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(JsonError::NotObject),
        Err(_) => Err(fault.take().unwrap_or(JsonError::Syntax)),
    }
}

/// Builds one value, `depth` levels of nesting at most. What serde's errors cannot carry goes into `fault`.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    limit: usize,
    fault: &'a RefCell<Option<JsonError>>,
}

impl Strict<'_> {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(self.fail(JsonError::Depth { limit: self.limit })),
        }
    }

    fn fail<E: serde::de::Error>(self, fault: JsonError) -> E {
        self.fault.replace(Some(fault));
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut members = Map::new();
        while let Some(name) = items.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(self.fail(JsonError::Duplicate { member: name.chars().take(40).collect() }));
            }
            let value = items.next_value_seed(below)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_object_is_read_only_if_nobody_could_read_it_otherwise() {
        let twice = |member: &str| Err(JsonError::Duplicate { member: member.into() });
        let cases: [(&str, Result<usize, JsonError>); 14] = [
            ("{}", Ok(0)),
            (" {\"a\":[null,true,-1,1.5,\"x\"],\"b\":{\"a\":{}}} ", Ok(2)),
            ("{\"a\":1,\"a\":1}", twice("a")),
            ("{\"a\":1,\"\\u0061\":2}", twice("a")),
            ("{\"x\":{\"b\":1,\"b\":2}}", twice("b")),
            ("{\"x\":[{\"c\":1,\"c\":2}]}", twice("c")),
            ("[]", Err(JsonError::NotObject)),
            ("\"a\"", Err(JsonError::NotObject)),
            ("{} {}", Err(JsonError::Syntax)),
            ("{\"a\":1e999}", Err(JsonError::Syntax)),
            ("{\"a\":NaN}", Err(JsonError::Syntax)),
            ("{\"a\":1,}", Err(JsonError::Syntax)),
            ("{\"a\":\"\\ud800\"}", Err(JsonError::Syntax)),
            ("", Err(JsonError::Syntax)),
        ];
        for (text, expected) in cases {
            assert_eq!(object(text.as_bytes(), 16).map(|members| members.len()), expected, "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}", 16), Err(JsonError::Syntax));
    }

    #[test]
    fn as_many_levels_as_allowed_are_read_and_one_more_is_not() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        for limit in [2, 16, MAX_DEPTH] {
            assert!(object(nested(limit).as_bytes(), limit).is_ok());
            assert_eq!(object(nested(limit + 1).as_bytes(), limit), Err(JsonError::Depth { limit }));
        }
        assert!(object(nested(100_000).as_bytes(), usize::MAX).is_err());
    }
}
