//! Whether a resource fits a filter (RFC 7644 section 3.4.2.2), and values of a resource by name.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{
    filter::{Filter, Operator},
    path::AttributePath,
    schema::{self, GROUP_ATTRIBUTES, USER_ATTRIBUTES},
};
use crate::model::UserId;

/// Whether the resource, or the element of one, fits.
pub(super) fn fits(filter: &Filter, resource: &Value) -> bool {
    match filter {
        Filter::And(one, other) => fits(one, resource) && fits(other, resource),
        Filter::Or(one, other) => fits(one, resource) || fits(other, resource),
        Filter::Not(inner) => !fits(inner, resource),
        Filter::Present(path) => values(resource, path.steps()).into_iter().any(is_something),
        Filter::Has(path, inner) => values(resource, path.steps()).into_iter().any(|element| fits(inner, element)),
        Filter::Is(path, Operator::NotEqual, wanted) => !compares(path, Operator::Equal, wanted, resource),
        Filter::Is(path, operator, wanted) => compares(path, *operator, wanted, resource),
    }
}

/// The member of this name, whatever its letter case.
pub(super) fn member<'v>(map: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    map.get(name).or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// What stands at a path; each element of a list by itself.
fn values<'v>(resource: &'v Value, steps: &[String]) -> Vec<&'v Value> {
    let mut found = vec![resource];
    for step in steps {
        let next = found.into_iter().filter_map(|value| member(value.as_object()?, step));
        found =
            next.flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)).collect();
    }
    found
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn compares(path: &AttributePath, operator: Operator, wanted: &Value, resource: &Value) -> bool {
    let found = values(resource, path.steps());
    if wanted.is_null() {
        return !found.into_iter().any(is_something);
    }
    let exact = is_exact(path);
    found.into_iter().any(|value| {
        // A list of complex values without a part named is about their `value`.
        let value = value.as_object().map_or(Some(value), |map| member(map, "value"));
        value.is_some_and(|value| holds(value, operator, wanted, exact, path))
    })
}

/// Whether letter case counts.
fn is_exact(path: &AttributePath) -> bool {
    let first = path.first();
    let known = schema::find(USER_ATTRIBUTES, first).or_else(|| schema::find(GROUP_ATTRIBUTES, first));
    let of_members = first.eq_ignore_ascii_case("members");
    of_members || first.eq_ignore_ascii_case("id") || known.is_some_and(|attribute| attribute.exact)
}

fn holds(value: &Value, operator: Operator, wanted: &Value, exact: bool, path: &AttributePath) -> bool {
    match (value, wanted) {
        (Value::String(value), Value::String(wanted)) => {
            if path.first().eq_ignore_ascii_case("meta")
                && let (Some(value), Some(wanted)) = (moment(value), moment(wanted))
            {
                return ordered(value.cmp(&wanted), operator);
            }
            if path.is(&["userName"])
                && let Ok(wanted) = UserId::parse(wanted)
            {
                return texts(value, operator, wanted.as_str());
            }
            if exact {
                texts(value, operator, wanted)
            } else {
                texts(&value.to_lowercase(), operator, &wanted.to_lowercase())
            }
        }
        (Value::Number(value), Value::Number(wanted)) => {
            let order = value.as_f64().zip(wanted.as_f64()).and_then(|(value, wanted)| value.partial_cmp(&wanted));
            order.is_some_and(|order| ordered(order, operator))
        }
        (Value::Bool(value), Value::Bool(wanted)) => operator == Operator::Equal && value == wanted,
        // Entra writes `primary eq "True"`.
        (Value::Bool(value), Value::String(wanted)) => {
            operator == Operator::Equal && wanted.eq_ignore_ascii_case(if *value { "true" } else { "false" })
        }
        (Value::String(value), Value::Bool(wanted)) => {
            operator == Operator::Equal && value.eq_ignore_ascii_case(if *wanted { "true" } else { "false" })
        }
        _ => false,
    }
}

fn texts(value: &str, operator: Operator, wanted: &str) -> bool {
    match operator {
        Operator::Contains => value.contains(wanted),
        Operator::StartsWith => value.starts_with(wanted),
        Operator::EndsWith => value.ends_with(wanted),
        _ => ordered(value.cmp(wanted), operator),
    }
}

fn ordered(order: Ordering, operator: Operator) -> bool {
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::NotEqual | Operator::Contains | Operator::StartsWith | Operator::EndsWith => false,
    }
}

fn moment(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_fits_or_not() {
        let ann = json!({
            "id": "aB1", "externalId": "X-7", "userName": "Ann@example.com", "active": true,
            "name": { "familyName": "Müller", "givenName": "" },
            "emails": [
                { "type": "work", "value": "ann@example.com", "primary": true },
                { "type": "home", "value": "ann@home.example" },
            ],
            "roles": [{ "primary": "True", "value": "reader" }],
            "meta": { "created": "2026-01-01T00:00:00Z", "lastModified": "2026-06-01T12:00:00.250Z" },
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": { "department": "Sales" },
        });
        for (filter, expected) in [
            ("userName eq \"Ann@example.com\"", true),
            ("userName eq \"Ann@EXAMPLE.com\"", true),
            ("userName eq \"ann@example.com\"", false),
            ("userName sw \"Ann@\"", true),
            ("id eq \"ab1\"", false),
            ("externalid eq \"X-7\"", true),
            ("externalId eq \"x-7\"", false),
            ("name.familyName eq \"MÜLLER\"", true),
            ("name.familyName co \"üll\"", true),
            ("name.familyName ew \"er\"", true),
            ("name.givenName pr", false),
            ("name pr", true),
            ("title pr", false),
            ("title ne \"x\"", true),
            ("title eq null", true),
            ("userName ne null", true),
            ("emails eq \"ANN@home.example\"", true),
            ("emails[type eq \"work\" and value ew \".example\"]", false),
            ("emails[type eq \"home\"].value eq \"ann@home.example\"", true),
            ("emails.type eq \"other\"", false),
            ("emails ne \"ann@example.com\"", false),
            ("roles[primary eq \"true\"]", true),
            ("roles[primary eq true]", true),
            ("emails[primary eq \"True\"].value pr", true),
            ("active eq true", true),
            ("active eq \"False\"", false),
            ("active ne false", true),
            ("meta.lastModified gt \"2026-06-01T14:00:00+02:00\"", true),
            ("meta.lastModified gt \"2026-06-01T12:00:01Z\"", false),
            ("meta.created le \"2026-01-01T00:00:00.000Z\"", true),
            ("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq \"sales\"", true),
            ("not (active eq true) or userName pr", true),
            ("userName gt \"A\" and userName lt \"B\"", true),
            ("userName.nothing eq \"x\"", false),
        ] {
            assert_eq!(fits(&Filter::parse(filter).unwrap(), &ann), expected, "{filter}");
        }
    }
}
