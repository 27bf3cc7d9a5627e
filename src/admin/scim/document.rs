//! What a provider sends of a user or group, checked and in one spelling: names of attributes in the letter case of the RFC,
//! empty values left out (RFC 7643 section 2.5), what is the gateway's own to say left out too. Everything else is kept as
//! it was sent.

use serde_json::{Map, Value};

use super::{
    error::{ScimError, ScimType},
    schema::{self, Attribute, Kind, NOT_TAKEN},
};

/// Largest resource that is kept, in bytes of JSON.
const MOST_BYTES: usize = 64 * 1024;
/// Deepest nesting.
const MOST_DEPTH: usize = 8;
/// Most attributes of an object.
const MOST_ATTRIBUTES: usize = 500;
/// Most elements of a list, members apart.
pub(super) const MOST_ELEMENTS: usize = 200;
/// Longest `externalId` and `displayName`, in bytes.
const MOST_NAME: usize = 1_000;

/// Checks a whole resource. `schema` is the one it must name, if it names any.
pub(super) fn read(
    body: Value,
    schema: &str,
    attributes: &'static [Attribute],
) -> Result<Map<String, Value>, ScimError> {
    let Value::Object(body) = body else {
        return Err(ScimError::new(ScimType::InvalidSyntax, "the body is no JSON object: send a resource"));
    };
    if let Some((_, named)) = body.iter().find(|(key, _)| key.eq_ignore_ascii_case("schemas")) {
        let named = named.as_array().map(Vec::as_slice).unwrap_or_default();
        if !named.iter().filter_map(Value::as_str).any(|name| name.eq_ignore_ascii_case(schema)) {
            let detail = format!("schemas does not name {schema:?}: this path takes no other resources");
            return Err(ScimError::new(ScimType::InvalidSyntax, detail));
        }
    }
    let kept = body.into_iter().filter(|(key, _)| !is_own(key));
    let document = object(kept, attributes, "", 1)?;
    bounded(&document)?;
    Ok(document)
}

/// Whether an attribute is the gateway's own to say.
pub(super) fn is_own(name: &str) -> bool {
    NOT_TAKEN.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn bounded(document: &Map<String, Value>) -> Result<(), ScimError> {
    // Members are kept as rows, not as text.
    let size: usize = document
        .iter()
        .filter(|(key, _)| *key != "members")
        .map(|(key, value)| key.len() + value.to_string().len())
        .sum();
    if size > MOST_BYTES {
        let detail =
            format!("the resource has {size} bytes, and at most {MOST_BYTES} are kept: map fewer attributes");
        return Err(ScimError::new(ScimType::InvalidValue, detail));
    }
    for name in ["externalId", "displayName"] {
        let Some(text) = document.get(name).and_then(Value::as_str) else { continue };
        if text.len() > MOST_NAME || text.chars().any(char::is_control) {
            let detail = format!("{name}: send at most {MOST_NAME} bytes without control characters");
            return Err(ScimError::new(ScimType::InvalidValue, detail));
        }
    }
    Ok(())
}

fn object(
    map: impl Iterator<Item = (String, Value)>,
    attributes: &'static [Attribute],
    place: &str,
    depth: usize,
) -> Result<Map<String, Value>, ScimError> {
    let mut read = Map::new();
    for (key, value) in map {
        if read.len() >= MOST_ATTRIBUTES {
            let place = if place.is_empty() { "the resource" } else { place };
            let detail = format!("{place} has more than {MOST_ATTRIBUTES} attributes: map fewer");
            return Err(ScimError::new(ScimType::InvalidValue, detail));
        }
        let attribute = schema::find(attributes, &key);
        let name = attribute.map_or(key, |attribute| attribute.name.to_owned());
        let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        let value = match attribute {
            Some(attribute) => checked(attribute, value, &place, depth)?,
            None => kept(value, &place, depth)?,
        };
        if is_empty(&value) {
            continue;
        }
        if read.keys().any(|key| key.eq_ignore_ascii_case(&name)) {
            let detail = format!("{place} is there twice, in different letter case: send it once");
            return Err(ScimError::new(ScimType::InvalidSyntax, detail));
        }
        read.insert(name, value);
    }
    Ok(read)
}

/// Nothing is said by it: such an attribute counts as absent.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A value of an attribute that is known.
fn checked(attribute: &'static Attribute, value: Value, place: &str, depth: usize) -> Result<Value, ScimError> {
    if !attribute.many {
        return single(attribute, value, place, depth);
    }
    let list = match value {
        Value::Array(list) => list,
        Value::Null => return Ok(Value::Null),
        one => vec![one],
    };
    if list.len() > MOST_ELEMENTS && attribute.name != "members" {
        return Err(too_many(place));
    }
    let list = list.into_iter().map(|value| single(attribute, value, place, depth + 1));
    let list = list.filter(|value| !matches!(value, Ok(value) if is_empty(value)));
    let list = list.collect::<Result<Vec<Value>, _>>()?;
    if list.iter().filter(|element| element.get("primary") == Some(&Value::Bool(true))).count() > 1 {
        let detail = format!("{place}: more than one is primary: mark one at most");
        return Err(ScimError::new(ScimType::InvalidValue, detail));
    }
    Ok(list.into())
}

fn single(attribute: &'static Attribute, value: Value, place: &str, depth: usize) -> Result<Value, ScimError> {
    if depth > MOST_DEPTH {
        return Err(too_deep(place));
    }
    let wrong = |value: &Value, wanted: &str| {
        let shown: String = value.to_string().chars().take(50).collect();
        ScimError::new(ScimType::InvalidValue, format!("{place} is {shown}: send {wanted}"))
    };
    match (attribute.kind, value) {
        (_, Value::Null) => Ok(Value::Null),
        (Kind::Flag, value @ Value::Bool(_)) => Ok(value),
        // As Entra sends it.
        (Kind::Flag, Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            "" => Ok(Value::Null),
            _ => Err(wrong(&Value::String(text), "true or false")),
        },
        (Kind::Flag, value) => Err(wrong(&value, "true or false")),
        (Kind::Text | Kind::Reference | Kind::Binary, value @ Value::String(_)) => Ok(value),
        (Kind::Text | Kind::Reference | Kind::Binary, value) => Err(wrong(&value, "a text")),
        (Kind::Complex, Value::Object(map)) => {
            object(map.into_iter(), attribute.subs, place, depth + 1).map(Value::Object)
        }
        // Entra sends a manager as the bare id.
        (Kind::Complex, Value::String(text)) if attribute.subs.iter().any(|sub| sub.name == "value") => {
            let map =
                if text.is_empty() { Map::new() } else { Map::from_iter([("value".to_owned(), text.into())]) };
            Ok(map.into())
        }
        (Kind::Complex, value) => Err(wrong(&value, "an object")),
    }
}

/// A value of an attribute that nobody here knows: kept, if it is not too deep.
fn kept(value: Value, place: &str, depth: usize) -> Result<Value, ScimError> {
    fn depth_of(value: &Value) -> usize {
        let inner = match value {
            Value::Array(list) => list.iter().map(depth_of).max(),
            Value::Object(map) => map.values().map(depth_of).max(),
            _ => return 0,
        };
        1 + inner.unwrap_or(0)
    }
    if depth + depth_of(&value) > MOST_DEPTH { Err(too_deep(place)) } else { Ok(value) }
}

/// A list that is too long.
pub(super) fn too_many(place: &str) -> ScimError {
    let detail = format!("{place} has more than {MOST_ELEMENTS} elements: send fewer");
    ScimError::new(ScimType::InvalidValue, detail)
}

fn too_deep(place: &str) -> ScimError {
    let detail = format!("{place} nests deeper than {MOST_DEPTH}: map fewer attributes");
    ScimError::new(ScimType::InvalidValue, detail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::admin::scim::schema::{ENTERPRISE, USER, USER_ATTRIBUTES};

    #[test]
    fn a_body_is_kept_in_one_spelling_and_without_what_is_not_the_providers_to_say() {
        let body = json!({
            "Schemas": [USER, ENTERPRISE], "ID": "7", "meta": {}, "password": "hush", "groups": [],
            "username": "ann@example.com", "ACTIVE": "False", "title": null, "ims": [],
            "Name": { "FamilyName": "Lee", "suffix": 1 }, "emails": { "VALUE": "a@b.c", "primary": "true" },
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:user": { "Manager": "42", "department": "" },
            "urn:example:own:1.0:User": { "Badge": 7 },
        });
        assert_eq!(
            Value::Object(read(body, USER, USER_ATTRIBUTES).unwrap()),
            json!({
                "userName": "ann@example.com", "active": false, "name": { "familyName": "Lee", "suffix": 1 },
                "emails": [{ "value": "a@b.c", "primary": true }],
                ENTERPRISE: { "manager": { "value": "42" }, "department": "" },
                "urn:example:own:1.0:User": { "Badge": 7 },
            })
        );
    }

    #[test]
    fn what_cannot_be_kept_is_refused_and_named() {
        let many: Value = (0..501).map(|n| (format!("a{n}"), json!(n))).collect();
        let deep = (0..9).fold(json!(1), |inner, _| json!({ "a": inner }));
        for (body, word, said) in [
            (json!([]), "invalidSyntax", "no JSON object"),
            (json!({ "schemas": ["urn:x"] }), "invalidSyntax", "schemas does not name"),
            (json!({ "schemas": "x" }), "invalidSyntax", "schemas does not name"),
            (json!({ "userName": 7 }), "invalidValue", "userName is 7: send a text"),
            (json!({ "active": "perhaps" }), "invalidValue", "send true or false"),
            (json!({ "active": 1 }), "invalidValue", "send true or false"),
            (json!({ "name": "Ann" }), "invalidValue", "name is"),
            (json!({ "name": { "givenName": [] } }), "invalidValue", "name.givenName is []"),
            (json!({ "emails": [7] }), "invalidValue", "emails is 7: send an object"),
            (json!({ "emails": [{ "primary": true }, { "primary": "True" }] }), "invalidValue", "more than one"),
            (json!({ "title": "a", "Title": "b" }), "invalidSyntax", "title is there twice"),
            (json!({ "own": deep.clone() }), "invalidValue", "own nests deeper"),
            (json!({ "nickName": "x".repeat(70_000) }), "invalidValue", "at most 65536"),
            (json!({ "externalId": "x\u{0}" }), "invalidValue", "externalId"),
            (json!({ "emails": vec![json!({ "value": "x" }); 201] }), "invalidValue", "more than 200 elements"),
            (many.clone(), "invalidValue", "more than 500 attributes"),
        ] {
            let error = read(body.clone(), USER, USER_ATTRIBUTES).unwrap_err();
            assert_eq!(error.word(), word, "{body}");
            assert!(format!("{error:?}").contains(said), "{body}: {error:?}");
        }
    }
}
