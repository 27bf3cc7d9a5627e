//! What a request asks to be told: which resources, which page of them, which attributes (RFC 7644 sections 3.4.2 and 3.9).

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::IntoParams;

use super::{
    error::{ScimError, ScimType},
    filter::Filter,
    path::AttributePath,
};

/// Resources of a page where the request does not say.
const USUAL: usize = 100;
/// Most resources of a page.
pub(super) const MOST: usize = 1_000;
/// Most attributes named in a request.
const MOST_NAMED: usize = 100;

/// A request's own words; everything may be absent.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ask {
    /// Which resources: `userName eq "ann@example.com"`.
    pub(super) filter: Option<String>,
    /// The first of them that is wanted, from 1.
    start_index: Option<String>,
    /// How many are wanted, at most 1,000.
    count: Option<String>,
    /// `userName` for users, `displayName` for groups; they are sorted so anyhow.
    sort_by: Option<String>,
    /// `ascending` or `descending`.
    sort_order: Option<String>,
    /// These attributes alone, between commas.
    attributes: Option<String>,
    /// All attributes but these, between commas.
    excluded_attributes: Option<String>,
}

/// The same, understood.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) filter: Option<Filter>,
    pub(super) shape: Shape,
    pub(super) descending: bool,
    /// How many come before the first that is wanted.
    pub(super) skip: usize,
    pub(super) count: usize,
}

impl Ask {
    /// A body of `/.search`, which says the same with numbers and lists.
    pub(super) fn from_body(body: &Value) -> Self {
        let field = |name: &str| super::matches::member(body.as_object()?, name);
        let word = |name: &str| {
            Some(match field(name)? {
                Value::String(text) => text.clone(),
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
                Value::Null => return None,
                other => other.to_string(),
            })
        };
        Self {
            filter: word("filter"),
            start_index: word("startIndex"),
            count: word("count"),
            sort_by: word("sortBy"),
            sort_order: word("sortOrder"),
            attributes: word("attributes"),
            excluded_attributes: word("excludedAttributes"),
        }
    }

    /// What is to be told of one resource.
    pub(super) fn shape(&self) -> Result<Shape, ScimError> {
        let list = |text: &Option<String>| {
            let names = text.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|name| !name.is_empty());
            let names = names.take(MOST_NAMED + 1).map(AttributePath::parse).collect::<Result<Vec<_>, _>>()?;
            if names.len() > MOST_NAMED {
                let detail = format!("more than {MOST_NAMED} attributes are named: name fewer");
                return Err(ScimError::new(ScimType::InvalidValue, detail));
            }
            Ok(names)
        };
        Ok(Shape { only: list(&self.attributes)?, without: list(&self.excluded_attributes)? })
    }

    /// What is to be told of many. `sorted_by` is the attribute that the resources can be sorted by.
    pub(super) fn wanted(&self, sorted_by: &str) -> Result<Wanted, ScimError> {
        let bad = |detail: String| ScimError::new(ScimType::InvalidValue, detail);
        let number = |name: &str, text: &Option<String>| match text.as_deref().map(str::trim) {
            None | Some("") => Ok(None),
            Some(text) => text.parse::<i64>().map(Some).map_err(|_| {
                let shown: String = text.chars().take(30).collect();
                bad(format!("{name} = {shown:?}: send a whole number"))
            }),
        };
        let start = number("startIndex", &self.start_index)?.unwrap_or(1).max(1);
        let count = number("count", &self.count)?.map_or(USUAL, |count| usize::try_from(count).unwrap_or(0));
        if let Some(by) = self.sort_by.as_deref().filter(|by| !by.is_empty())
            && !AttributePath::parse(by)?.is(&[sorted_by])
        {
            return Err(bad(format!("sortBy: these are sorted by {sorted_by} only")));
        }
        let descending = match self.sort_order.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("" | "ascending") => false,
            Some("descending") => true,
            Some(_) => return Err(bad("sortOrder is neither ascending nor descending".to_owned())),
        };
        Ok(Wanted {
            filter: self.filter.as_deref().filter(|text| !text.trim().is_empty()).map(Filter::parse).transpose()?,
            shape: self.shape()?,
            descending,
            skip: usize::try_from(start - 1).unwrap_or(usize::MAX),
            count: count.min(MOST),
        })
    }
}

/// Which attributes are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    only: Vec<AttributePath>,
    without: Vec<AttributePath>,
}

impl Shape {
    /// Whether an attribute is told at all.
    pub(super) fn tells(&self, name: &str) -> bool {
        let named = self.only.iter().any(|path| path.first().eq_ignore_ascii_case(name));
        (self.only.is_empty() || named) && !self.without.iter().any(|path| path.is(&[name]))
    }

    /// Whether attributes are named that alone are to be told.
    pub(super) fn is_chosen(&self) -> bool {
        !self.only.is_empty()
    }

    /// Cuts a resource to it. `id` and `schemas` are always told.
    pub(super) fn cut(&self, resource: Value) -> Value {
        let Value::Object(map) = resource else { return resource };
        let map = if self.only.is_empty() { map } else { chosen(map, &self.only) };
        self.without.iter().fold(map, |map, path| without(map, path.steps(), true)).into()
    }
}

fn is_always(key: &str) -> bool {
    matches!(key, "id" | "schemas")
}

fn chosen(map: Map<String, Value>, paths: &[AttributePath]) -> Map<String, Value> {
    let mut cut = Map::new();
    for (key, value) in map {
        let named: Vec<&[String]> =
            paths.iter().map(AttributePath::steps).filter_map(|steps| below(steps, &key)).collect();
        if is_always(&key) || named.iter().any(|below| below.is_empty()) {
            cut.insert(key, value);
        } else if !named.is_empty() {
            cut.insert(key, parts(value, &named));
        }
    }
    cut
}

/// What a path asks for below an attribute of the resource; the name of an extension is one step, or two as it is read.
fn below<'p>(steps: &'p [String], key: &str) -> Option<&'p [String]> {
    let (first, rest) = steps.split_first()?;
    if first.eq_ignore_ascii_case(key) {
        return Some(rest);
    }
    let whole = steps.len() == 2 && steps.join(":").eq_ignore_ascii_case(key);
    whole.then_some(&[])
}

fn parts(value: Value, named: &[&[String]]) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(|element| parts(element, named)).collect::<Vec<_>>().into(),
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(key, _)| {
                named.iter().any(|steps| steps.first().is_some_and(|step| step.eq_ignore_ascii_case(key)))
            });
            kept.collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

fn without(mut map: Map<String, Value>, steps: &[String], top: bool) -> Map<String, Value> {
    let Some(key) = map.keys().find(|key| below(steps, key).is_some()).cloned() else { return map };
    let rest = below(steps, &key).unwrap_or_default();
    if top && is_always(&key) {
        return map;
    }
    if rest.is_empty() {
        map.remove(&key);
        return map;
    }
    if let Some(value) = map.get_mut(&key) {
        let cut = |value: Value| match value {
            Value::Object(inner) => without(inner, rest, false).into(),
            other => other,
        };
        *value = match value.take() {
            Value::Array(list) => list.into_iter().map(cut).collect::<Vec<_>>().into(),
            other => cut(other),
        };
    }
    map
}

/// A list of resources, as it is answered (RFC 7644 section 3.4.2).
pub(super) fn list(total: usize, wanted: &Wanted, resources: Vec<Value>) -> Value {
    let shown: Vec<Value> = resources.into_iter().map(|resource| wanted.shape.cut(resource)).collect();
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": total,
        "startIndex": wanted.skip.saturating_add(1),
        "itemsPerPage": shown.len(),
        "Resources": shown,
    })
}

/// The part of a list that is wanted, taken as the list goes by.
pub(super) struct Window<T> {
    skip: usize,
    count: usize,
    /// All that fit so far.
    pub(super) total: usize,
    /// Those that are wanted.
    pub(super) rows: Vec<T>,
}

impl<T> Window<T> {
    pub(super) fn new(wanted: &Wanted) -> Self {
        Self { skip: wanted.skip, count: wanted.count, total: 0, rows: Vec::new() }
    }

    pub(super) fn take(&mut self, row: T) {
        if self.total >= self.skip && self.rows.len() < self.count {
            self.rows.push(row);
        }
        self.total += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ask(pairs: &[(&str, &str)]) -> Ask {
        Ask::from_body(&pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect())
    }

    #[test]
    fn a_page_is_asked_for_as_the_rfc_says() {
        for (start, count, skip, taken) in [
            ("1", "10", 0, 10),
            ("0", "10", 0, 10),
            ("-3", "-1", 0, 0),
            ("5", "0", 4, 0),
            ("", "", 0, 100),
            ("11", "5000", 10, 1000),
        ] {
            let wanted = ask(&[("startIndex", start), ("count", count)]).wanted("userName").unwrap();
            assert_eq!((wanted.skip, wanted.count), (skip, taken), "{start} {count}");
        }
        for pairs in [
            [("startIndex", "x")],
            [("count", "1.5")],
            [("sortBy", "title")],
            [("sortOrder", "up")],
            [("count", "99999999999999999999")],
        ] {
            assert_eq!(ask(&pairs).wanted("userName").unwrap_err().word(), "invalidValue", "{pairs:?}");
        }
        assert!(ask(&[("sortBy", "USERNAME"), ("sortOrder", "Descending")]).wanted("userName").unwrap().descending);
        let body = json!({ "startIndex": 3, "count": 2, "attributes": ["id", "name"], "filter": "title pr" });
        let wanted = Ask::from_body(&body).wanted("userName").unwrap();
        assert_eq!((wanted.skip, wanted.count, wanted.filter.is_some()), (2, 2, true));
        assert!(wanted.shape.tells("Name") && !wanted.shape.tells("meta"));
    }

    #[test]
    fn a_resource_is_cut_to_what_is_asked_for() {
        let enterprise = super::super::schema::ENTERPRISE;
        let ann = json!({
            "schemas": [], "id": "7", "userName": "ann", "name": { "givenName": "Ann", "familyName": "Lee" },
            "emails": [{ "type": "work", "value": "a" }, { "value": "b" }], "meta": {},
            enterprise: { "department": "Sales", "division": "North" },
        });
        let department = format!("{enterprise}:department");
        for (key, names, left) in [
            ("attributes", "userName", json!({ "schemas": [], "id": "7", "userName": "ann" })),
            (
                "attributes",
                "NAME.familyname,nothing",
                json!({ "schemas": [], "id": "7", "name": { "familyName": "Lee" } }),
            ),
            (
                "attributes",
                "emails.value",
                json!({ "schemas": [], "id": "7", "emails": [{ "value": "a" }, { "value": "b" }] }),
            ),
            ("attributes", &department, json!({ "schemas": [], "id": "7", enterprise: { "department": "Sales" } })),
            (
                "attributes",
                enterprise,
                json!({ "schemas": [], "id": "7", enterprise: { "department": "Sales", "division": "North" } }),
            ),
            (
                "excludedAttributes",
                &format!("id,schemas,meta,name,emails.type,{department}"),
                json!({
                    "schemas": [], "id": "7", "userName": "ann", "emails": [{ "value": "a" }, { "value": "b" }],
                    enterprise: { "division": "North" },
                }),
            ),
        ] {
            assert_eq!(ask(&[(key, names)]).shape().unwrap().cut(ann.clone()), left, "{key}={names}");
        }
        assert_eq!(ask(&[("attributes", "a b")]).shape().unwrap_err().word(), "invalidPath");
    }
}
