//! PATCH (RFC 7644 section 3.5.2), with what Entra and Okta send beside it: operations in capitals, names with dots in an
//! object without a path, a removal that names the values to remove.

use serde_json::{Map, Value};

use super::{
    document::{MOST_ELEMENTS, is_own, too_many},
    error::{ScimError, ScimType},
    filter::{Filter, Operator},
    matches::fits,
    path::AttributePath,
    schema::{self, Attribute},
};

/// Most operations of a request, those of an object without a path counted one by one.
const MOST: usize = 1_000;
/// Most bytes that one operation may write, all places that it writes them to counted.
const MOST_BYTES: usize = 256 * 1024;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Remove,
    Replace,
}

/// Where an operation is carried out: `emails`, `name.familyName`, `emails[type eq "work"].value`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) path: AttributePath,
    pub(super) filter: Option<Filter>,
    pub(super) sub: Option<String>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operation {
    pub(super) verb: Verb,
    pub(super) target: Target,
    pub(super) value: Option<Value>,
}

impl Target {
    fn parse(text: &str) -> Result<Self, ScimError> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once('[') else {
            return Ok(Self { path: AttributePath::parse(text)?, filter: None, sub: None });
        };
        let path = AttributePath::parse(name)?;
        let (filter, rest) = Filter::parse_brackets(rest).map_err(|error| match error {
            ScimError::Own { detail, .. } => ScimError::new(ScimType::InvalidPath, detail),
            other => other,
        })?;
        let sub = match rest.strip_prefix('.') {
            Some(sub) if !sub.contains([':', '.']) => Some(AttributePath::parse(sub)?.whole()),
            None if rest.is_empty() => None,
            Some(_) | None => {
                let detail = format!("{text:?}: only .NAME may follow the brackets");
                return Err(ScimError::new(ScimType::InvalidPath, detail));
            }
        };
        Ok(Self { path, filter: Some(filter), sub })
    }
}

/// The operations of a request. Those without a path come as one for each attribute of their value; what is the
/// gateway's own to say is passed over there, and an error where it is named as a path.
pub(super) fn read(body: &Value) -> Result<Vec<Operation>, ScimError> {
    let syntax = |detail: &str| ScimError::new(ScimType::InvalidSyntax, detail);
    let field = |map: &Value, name: &str| super::matches::member(map.as_object()?, name).cloned();
    let Some(Value::Array(list)) = field(body, "Operations") else {
        return Err(syntax("the body has no list Operations: send { \"Operations\": [{ \"op\": .. }] }"));
    };
    let bounded = |count: usize| match count {
        1..=MOST => Ok(()),
        _ => Err(syntax(&format!("{count} operations: send 1 to {MOST} at once"))),
    };
    bounded(list.len())?;
    let mut operations = Vec::with_capacity(list.len());
    for item in &list {
        let verb = match field(item, "op").as_ref().and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref()
        {
            Some("add") => Verb::Add,
            Some("remove") => Verb::Remove,
            Some("replace") => Verb::Replace,
            _ => return Err(syntax("op is not add, remove or replace")),
        };
        let value = field(item, "value");
        match (field(item, "path"), value) {
            (Some(Value::String(path)), value) if !path.trim().is_empty() => {
                let target = Target::parse(&path)?;
                if is_own(target.path.first()) {
                    let detail = format!("{} cannot be changed", target.path.first());
                    return Err(ScimError::new(ScimType::Mutability, detail));
                }
                if value.is_none() && verb != Verb::Remove {
                    return Err(ScimError::new(
                        ScimType::InvalidValue,
                        format!("{path}: there is no value to set"),
                    ));
                }
                operations.push(Operation { verb, target, value });
            }
            (Some(other), _) if !other.is_null() && other.as_str().is_none() => {
                return Err(ScimError::new(ScimType::InvalidPath, "path is no text"));
            }
            (_, _) if verb == Verb::Remove => {
                return Err(ScimError::new(ScimType::NoTarget, "a removal needs a path"));
            }
            (_, Some(Value::Object(map))) => {
                bounded(operations.len() + map.len().max(1))?;
                for (key, value) in map.into_iter().filter(|(key, _)| !is_own(key)) {
                    let target = Target::parse(&key)?;
                    operations.push(Operation { verb, target, value: Some(value) });
                }
            }
            _ => return Err(ScimError::new(ScimType::InvalidValue, "without a path the value is an object")),
        }
    }
    Ok(operations)
}

/// Carries an operation out on a resource, which is to be checked afterwards.
pub(super) fn apply(
    document: &mut Map<String, Value>,
    operation: Operation,
    attributes: &'static [Attribute],
) -> Result<(), ScimError> {
    let Operation { verb, target: Target { path, filter, sub }, value } = operation;
    // `urn:..:2.0:User` reads as an attribute `User`, but an extension of that name may be meant.
    let whole = path.whole();
    let is_extension = schema::find(attributes, &whole).is_some() || find(document, &whole).is_some();
    let steps = if is_extension && path.steps().len() > 1 { vec![whole] } else { path.steps().to_vec() };
    let change = Change { verb, filter, sub, value, place: steps.join(".") };
    change.descend(document, &steps, attributes)
}

struct Change {
    verb: Verb,
    filter: Option<Filter>,
    sub: Option<String>,
    value: Option<Value>,
    place: String,
}

/// The key that an attribute has here, whatever its letter case.
fn find(map: &Map<String, Value>, name: &str) -> Option<String> {
    map.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned()
}

impl Change {
    fn descend(
        self,
        map: &mut Map<String, Value>,
        steps: &[String],
        attributes: &'static [Attribute],
    ) -> Result<(), ScimError> {
        let Some((step, below)) = steps.split_first() else { return Ok(()) };
        let attribute = schema::find(attributes, step);
        let key = find(map, step).unwrap_or_else(|| attribute.map_or(step.as_str(), |found| found.name).to_owned());
        let many = attribute.is_some_and(|attribute| attribute.many);
        if below.is_empty() {
            return match self.filter {
                Some(_) => self.in_list(map, &key),
                None => self.at(map, &key, many),
            };
        }
        let subs = attribute.map_or(&[][..], |attribute| attribute.subs);
        match map.get_mut(&key) {
            Some(Value::Object(inner)) => self.descend(inner, below, subs),
            Some(Value::Array(list)) => {
                // A part of a list without a filter is that part of each element.
                self.bounded(list.len())?;
                let place = self.place.clone();
                let change = |element: &mut Value| {
                    let again = Self {
                        verb: self.verb,
                        filter: self.filter.clone(),
                        sub: self.sub.clone(),
                        value: self.value.clone(),
                        place: place.clone(),
                    };
                    element.as_object_mut().map_or(Ok(()), |inner| again.descend(inner, below, subs))
                };
                list.iter_mut().try_for_each(change)
            }
            _ if self.verb == Verb::Remove => Ok(()),
            _ => {
                let mut inner = Map::new();
                self.descend(&mut inner, below, subs)?;
                map.insert(key, if many { Value::Array(vec![inner.into()]) } else { inner.into() });
                Ok(())
            }
        }
    }

    /// A whole attribute.
    fn at(self, map: &mut Map<String, Value>, key: &str, many: bool) -> Result<(), ScimError> {
        self.bounded(1)?;
        let value = self.value.unwrap_or_default();
        let there = map.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        if value.as_array().map_or(0, Vec::len).saturating_add(there) > 2 * MOST_ELEMENTS {
            return Err(too_many(&self.place));
        }
        match (self.verb, map.get_mut(key)) {
            (Verb::Remove, Some(Value::Array(list))) if !value.is_null() => {
                // Entra names the values to remove.
                let gone = elements(value);
                list.retain(|element| !gone.iter().any(|gone| same(element, gone)));
                if list.is_empty() {
                    map.remove(key);
                }
            }
            (Verb::Remove, _) => {
                map.remove(key);
            }
            (_, _) if value.is_null() => {
                map.remove(key);
            }
            (Verb::Add, Some(Value::Array(list))) => append(list, elements(value)),
            (_, Some(Value::Object(before))) if value.is_object() => merge(before, value),
            (_, _) => {
                map.insert(key.to_owned(), if many { Value::Array(elements(value)) } else { value });
            }
        }
        Ok(())
    }

    /// A value that is written to many places, or a list that is compared element by element, is work without end unless
    /// it is short.
    fn bounded(&self, places: usize) -> Result<(), ScimError> {
        let bytes = self.value.as_ref().map_or(0, |value| value.to_string().len());
        if places > 2 * MOST_ELEMENTS {
            return Err(too_many(&self.place));
        }
        if bytes.saturating_mul(places) > MOST_BYTES {
            let detail = format!("{}: the value is too long: send less at once", self.place);
            return Err(ScimError::new(ScimType::InvalidValue, detail));
        }
        Ok(())
    }

    /// The elements of a list that fit the filter.
    fn in_list(self, map: &mut Map<String, Value>, key: &str) -> Result<(), ScimError> {
        let Some(filter) = &self.filter else { return Ok(()) };
        let list = match map.get_mut(key) {
            Some(Value::Array(list)) => list,
            Some(_) => {
                let detail = format!("{} is no list, so nothing in it can be chosen by [ ]", self.place);
                return Err(ScimError::new(ScimType::InvalidPath, detail));
            }
            None if self.verb == Verb::Remove => return Ok(()),
            None => {
                map.insert(key.to_owned(), Value::Array(Vec::new()));
                let Some(Value::Array(list)) = map.get_mut(key) else { return Ok(()) };
                list
            }
        };
        self.bounded(list.len().max(1))?;
        let mut met = None;
        if self.verb == Verb::Remove && self.sub.is_none() {
            list.retain(|element| !fits(filter, element));
        } else {
            for (at, element) in list.iter_mut().enumerate().filter(|(_, element)| fits(filter, element)) {
                met = Some(at);
                if let Some(inner) = element.as_object_mut() {
                    Self::change_element(self.verb, inner, self.sub.as_deref(), self.value.clone());
                }
            }
            match (met, self.verb) {
                (Some(_), _) | (None, Verb::Remove) => {}
                (None, Verb::Add) => {
                    // Entra adds so what is not there yet: what the filter asks for becomes part of it.
                    let mut made = Map::new();
                    asked(filter, &mut made);
                    Self::change_element(Verb::Add, &mut made, self.sub.as_deref(), self.value.clone());
                    list.push(made.into());
                    met = Some(list.len() - 1);
                }
                (None, Verb::Replace) => {
                    let detail = format!("{}: nothing fits the filter, so nothing can be replaced", self.place);
                    return Err(ScimError::new(ScimType::NoTarget, detail));
                }
            }
        }
        if let Some(at) = met {
            one_primary(list, at);
        }
        if list.is_empty() {
            map.remove(key);
        }
        Ok(())
    }

    fn change_element(verb: Verb, inner: &mut Map<String, Value>, sub: Option<&str>, value: Option<Value>) {
        match (verb, sub, value) {
            (Verb::Remove, Some(sub), _) | (_, Some(sub), None | Some(Value::Null)) => {
                if let Some(key) = find(inner, sub) {
                    inner.remove(&key);
                }
            }
            (_, Some(sub), Some(value)) => {
                let key = find(inner, sub).unwrap_or_else(|| sub.to_owned());
                inner.insert(key, value);
            }
            (Verb::Replace, None, Some(Value::Object(new))) => *inner = new,
            (_, None, Some(value @ Value::Object(_))) => merge(inner, value),
            (_, None, _) => {}
        }
    }
}

fn elements(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        one => vec![one],
    }
}

/// Whether two elements of a list are the same one: by all they say, or by `value` where one says nothing else of weight.
fn same(element: &Value, gone: &Value) -> bool {
    let value = |of: &Value| of.as_object().and_then(|map| super::matches::member(map, "value").cloned());
    let kind = |of: &Value| of.as_object().and_then(|map| super::matches::member(map, "type").cloned());
    let named = value(gone).or_else(|| gone.is_string().then(|| gone.clone()));
    element == gone
        || named.is_some() && value(element) == named && (kind(gone).is_none() || kind(gone) == kind(element))
}

fn append(list: &mut Vec<Value>, new: Vec<Value>) {
    for element in new {
        if list.contains(&element) {
            continue;
        }
        list.push(element);
        let newest = list.len() - 1;
        one_primary(list, newest);
    }
}

/// Where the element at this place is the primary one, no other is (RFC 7644 section 3.5.2).
fn one_primary(list: &mut [Value], newest: usize) {
    let is_primary = |element: &Value| {
        let flag = element.get("primary");
        flag == Some(&Value::Bool(true))
            || flag.and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    };
    if !list.get(newest).is_some_and(is_primary) {
        return;
    }
    for (_, element) in list.iter_mut().enumerate().filter(|(at, element)| *at != newest && is_primary(element)) {
        if let Some(map) = element.as_object_mut() {
            map.insert("primary".to_owned(), false.into());
        }
    }
}

fn merge(before: &mut Map<String, Value>, value: Value) {
    let Value::Object(new) = value else { return };
    for (key, value) in new {
        let key = find(before, &key).unwrap_or(key);
        match (before.get_mut(&key), value) {
            (_, Value::Null) => {
                before.remove(&key);
            }
            (Some(Value::Object(inner)), value @ Value::Object(_)) => merge(inner, value),
            (_, value) => {
                before.insert(key, value);
            }
        }
    }
}

/// What an element must say to fit, as far as the filter asks for plain equality.
fn asked(filter: &Filter, made: &mut Map<String, Value>) {
    match filter {
        Filter::And(one, other) => {
            asked(one, made);
            asked(other, made);
        }
        Filter::Is(path, Operator::Equal, value) if path.steps().len() == 1 => {
            made.insert(path.first().to_owned(), value.clone());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
