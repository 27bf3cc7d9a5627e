//! PATCH (RFC 7644 section 3.5.2), with what Entra and Okta send beside it: operations in capitals, names with dots in an
//! object without a path, a removal that names the values to remove.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{
    budget::{Budget, weight},
    document::{MOST_ELEMENTS, is_own, too_many},
    error::{ScimError, ScimType},
    filter::{Filter, Operator},
    matches::fits,
    path::AttributePath,
    schema::{self, Attribute},
};

/// Most operations of a request, those of an object without a path counted one by one.
const MOST: usize = 1_000;

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
    /// Whether it came as a key of an object without a path.
    is_key: bool,
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
                operations.push(Operation { verb, target, value, is_key: false });
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
                    operations.push(Operation { verb, target, value: Some(value), is_key: true });
                }
            }
            _ => return Err(ScimError::new(ScimType::InvalidValue, "without a path the value is an object")),
        }
    }
    Ok(operations)
}

/// Carries an operation out on a resource, which is to be checked afterwards. The budget is the whole request's.
pub(super) fn apply(
    document: &mut Map<String, Value>,
    operation: Operation,
    attributes: &'static [Attribute],
    budget: &mut Budget,
) -> Result<(), ScimError> {
    let Operation { verb, target: Target { path, filter, sub }, value, is_key } = operation;
    // `urn:..:2.0:User` reads as an attribute `User`, but an extension of that name may be meant.
    let whole = path.whole();
    let there = |name: &str| schema::find(attributes, name).is_some() || find(document, name).is_some();
    let is_new = is_key && value.as_ref().is_some_and(Value::is_object) && !there(path.first());
    let is_extension = path.steps().len() == 2 && path.first().contains(':') && (is_new || there(&whole));
    let steps = if is_extension { vec![whole] } else { path.steps().to_vec() };
    let cost = value.as_ref().map_or(0, weight);
    let change = Change { verb, filter, sub, value, cost, place: steps.join(".") };
    change.descend(document, &steps, attributes, budget)
}

struct Change {
    verb: Verb,
    filter: Option<Filter>,
    sub: Option<String>,
    value: Option<Value>,
    /// What it costs to write the value once.
    cost: usize,
    place: String,
}

/// The key that an attribute has here, whatever its letter case.
fn find(map: &Map<String, Value>, name: &str) -> Option<String> {
    map.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned()
}

impl Change {
    fn descend(
        &self,
        map: &mut Map<String, Value>,
        steps: &[String],
        attributes: &'static [Attribute],
        budget: &mut Budget,
    ) -> Result<(), ScimError> {
        let Some((step, below)) = steps.split_first() else { return Ok(()) };
        budget.spend(map.len(), &self.place)?;
        let attribute = schema::find(attributes, step);
        let key = find(map, step).unwrap_or_else(|| attribute.map_or(step.as_str(), |found| found.name).to_owned());
        let many = attribute.is_some_and(|attribute| attribute.many);
        if below.is_empty() {
            return match &self.filter {
                Some(filter) => self.in_list(filter, map, &key, budget),
                None => self.at(map, &key, many, budget),
            };
        }
        let subs = attribute.map_or(&[][..], |attribute| attribute.subs);
        match map.get_mut(&key) {
            Some(Value::Object(inner)) => self.descend(inner, below, subs, budget),
            Some(Value::Array(list)) => {
                // A part of a list without a filter is that part of each element.
                self.short(list.len())?;
                budget.spend(list.len(), &self.place)?;
                let inner = list.iter_mut().filter_map(Value::as_object_mut);
                inner.into_iter().try_for_each(|inner| self.descend(inner, below, subs, budget))
            }
            _ if self.verb == Verb::Remove => Ok(()),
            _ => {
                let mut inner = Map::new();
                self.descend(&mut inner, below, subs, budget)?;
                map.insert(key, if many { Value::Array(vec![inner.into()]) } else { inner.into() });
                Ok(())
            }
        }
    }

    /// A whole attribute.
    fn at(
        &self,
        map: &mut Map<String, Value>,
        key: &str,
        many: bool,
        budget: &mut Budget,
    ) -> Result<(), ScimError> {
        budget.spend(self.cost, &self.place)?;
        let value = self.value.clone().unwrap_or_default();
        let there = map.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        let new = value.as_array().map_or(0, Vec::len);
        self.short(new.saturating_add(there))?;
        // Each element of one list is compared with each of the other.
        budget.spend(16 * there * new.max(1), &self.place)?;
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
            (_, Some(Value::Object(before))) if value.is_object() => self.merge(before, value, budget)?,
            (_, _) => {
                map.insert(key.to_owned(), if many { Value::Array(elements(value)) } else { value });
            }
        }
        Ok(())
    }

    /// A list that is gone through element by element is short.
    fn short(&self, elements: usize) -> Result<(), ScimError> {
        if elements > 2 * MOST_ELEMENTS { Err(too_many(&self.place)) } else { Ok(()) }
    }

    /// The elements of a list that fit the filter.
    fn in_list(
        &self,
        filter: &Filter,
        map: &mut Map<String, Value>,
        key: &str,
        budget: &mut Budget,
    ) -> Result<(), ScimError> {
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
        self.short(list.len())?;
        let whole: usize = list.iter().map(weight).sum();
        budget.spend(whole.saturating_mul(filter.terms()) / 16, &self.place)?;
        let mut met = None;
        if self.verb == Verb::Remove && self.sub.is_none() {
            list.retain(|element| !fits(filter, element));
        } else {
            for (at, element) in list.iter_mut().enumerate().filter(|(_, element)| fits(filter, element)) {
                met = Some(at);
                if let Some(inner) = element.as_object_mut() {
                    self.change_element(self.verb, inner, budget)?;
                }
            }
            match (met, self.verb) {
                (Some(_), _) | (None, Verb::Remove) => {}
                (None, Verb::Add) => {
                    // Entra adds so what is not there yet: what the filter asks for becomes part of it.
                    let mut made = Map::new();
                    asked(filter, &mut made);
                    self.change_element(Verb::Add, &mut made, budget)?;
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

    fn change_element(
        &self,
        verb: Verb,
        inner: &mut Map<String, Value>,
        budget: &mut Budget,
    ) -> Result<(), ScimError> {
        budget.spend(self.cost, &self.place)?;
        match (verb, self.sub.as_deref(), self.value.clone()) {
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
            (_, None, Some(value @ Value::Object(_))) => self.merge(inner, value, budget)?,
            (_, None, _) => {}
        }
        Ok(())
    }

    /// What an object says goes into another; the value itself is paid for.
    fn merge(&self, before: &mut Map<String, Value>, value: Value, budget: &mut Budget) -> Result<(), ScimError> {
        let Value::Object(new) = value else { return Ok(()) };
        // The keys that are there, by their letters: with many keys, each is not compared with each.
        budget.spend(before.keys().map(|key| 64 + key.len()).sum(), &self.place)?;
        let mut keys: HashMap<String, String> =
            before.keys().map(|key| (key.to_ascii_lowercase(), key.clone())).collect();
        for (key, value) in new {
            let key = keys.entry(key.to_ascii_lowercase()).or_insert(key).clone();
            match (before.get_mut(&key), value) {
                (_, Value::Null) => {
                    before.remove(&key);
                }
                (Some(Value::Object(inner)), value @ Value::Object(_)) => self.merge(inner, value, budget)?,
                (_, value) => {
                    before.insert(key, value);
                }
            }
        }
        Ok(())
    }
}

fn elements(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        one => vec![one],
    }
}

/// Whether two elements of a list are the same one: by all they say, or by `value` where one says nothing else of weight.
fn same<'v>(element: &'v Value, gone: &'v Value) -> bool {
    let part = |of: &'v Value, name: &str| of.as_object().and_then(|map| super::matches::member(map, name));
    let (value, kind) = (|of| part(of, "value"), |of| part(of, "type"));
    let named = value(gone).or_else(|| gone.is_string().then_some(gone));
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
