//! Members of a group, as requests name them: lists, additions and removals by id.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    error::{ScimError, ScimType},
    filter::{Filter, Operator},
    matches::member,
    patch::{Operation, Verb},
};
use crate::admin::Control;
use crate::model::UserId;
use crate::store::GroupPatch;

/// What becomes of a group's members, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// Exactly these, if there is such a list.
    all: Option<BTreeSet<String>>,
    /// These too.
    add: BTreeSet<String>,
    /// These no more.
    remove: BTreeSet<String>,
}

impl Members {
    /// Exactly the members of this list.
    pub(super) fn exactly(list: Value) -> Result<Self, ScimError> {
        Ok(Self { all: Some(ids(list)?), ..Self::default() })
    }

    /// Whether nothing is said of members.
    pub(super) fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// One more operation on `members`, after those before it.
    pub(super) fn change(&mut self, operation: Operation) -> Result<(), ScimError> {
        let Operation { verb, target, value, .. } = operation;
        if target.path.steps().len() > 1 || target.sub.is_some() {
            let detail = "members are added and removed as a whole; nothing else of them is kept";
            return Err(ScimError::new(ScimType::InvalidPath, detail));
        }
        let value = value.filter(|value| !value.is_null());
        match (verb, target.filter, value) {
            (Verb::Add, None, Some(list)) => ids(list)?.into_iter().for_each(|id| self.add(id)),
            (Verb::Replace, None, list) => *self = Self::exactly(list.unwrap_or(Value::Array(Vec::new())))?,
            (Verb::Remove, None, Some(list)) => ids(list)?.into_iter().for_each(|id| self.remove(id)),
            (Verb::Remove, None, None) => *self = Self { all: Some(BTreeSet::new()), ..Self::default() },
            (Verb::Remove, Some(filter), _) => {
                let mut gone = BTreeSet::new();
                if !named(&filter, &mut gone) {
                    let detail = "members are chosen by their id only: members[value eq \"ID\"]";
                    return Err(ScimError::new(ScimType::InvalidFilter, detail));
                }
                gone.into_iter().for_each(|id| self.remove(id));
            }
            (Verb::Add, None, None) => {
                return Err(ScimError::new(ScimType::InvalidValue, "members: there is no value to add"));
            }
            (Verb::Add | Verb::Replace, Some(_), _) => {
                let detail = "a member is added or removed; there is nothing in it to change";
                return Err(ScimError::new(ScimType::InvalidPath, detail));
            }
        }
        Ok(())
    }

    fn add(&mut self, id: String) {
        match &mut self.all {
            Some(all) => {
                all.insert(id);
            }
            None => {
                self.remove.remove(&id);
                self.add.insert(id);
            }
        }
    }

    fn remove(&mut self, id: String) {
        match &mut self.all {
            Some(all) => {
                all.remove(&id);
            }
            None => {
                self.add.remove(&id);
                self.remove.insert(id);
            }
        }
    }
}

/// The ids that a filter of members names, if it does nothing else.
fn named(filter: &Filter, ids: &mut BTreeSet<String>) -> bool {
    match filter {
        Filter::Or(one, other) => named(one, ids) && named(other, ids),
        Filter::Is(path, Operator::Equal, Value::String(id)) if path.is(&["value"]) => {
            ids.insert(id.clone());
            true
        }
        _ => false,
    }
}

fn ids(list: Value) -> Result<BTreeSet<String>, ScimError> {
    let list = match list {
        Value::Array(list) => list,
        one => vec![one],
    };
    let wrong = || ScimError::new(ScimType::InvalidValue, "members: send a list of { \"value\": \"ID\" }");
    list.into_iter()
        .map(|item| match item {
            Value::String(id) => Ok(id),
            Value::Object(map) => {
                let kind = member(&map, "type").and_then(Value::as_str).unwrap_or("User");
                if kind.eq_ignore_ascii_case("group") {
                    let detail = "members: a group in a group is not taken; send its users";
                    return Err(ScimError::new(ScimType::InvalidValue, detail));
                }
                member(&map, "value").and_then(Value::as_str).map(str::to_owned).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        })
        .collect()
}

impl Control {
    /// The same with addresses. Who is to be removed and is nobody is passed over; who is to be a member must be there.
    pub(super) async fn scim_members(&self, members: &Members) -> Result<GroupPatch, ScimError> {
        let Members { all, add, remove } = members;
        let named: Vec<&str> = all.iter().flatten().chain(add).chain(remove).map(String::as_str).collect();
        let known: BTreeMap<String, UserId> = self
            .store
            .scim_addresses(&named)
            .await?
            .into_iter()
            .map(|(id, address)| (id.as_str().to_owned(), address))
            .collect();
        let all_of = |ids: &BTreeSet<String>| {
            let address = |id: &String| {
                known.get(id).cloned().ok_or_else(|| {
                    let id: String = id.chars().take(100).collect();
                    let detail = format!("members: there is no user with the id {id:?}: make the user first");
                    ScimError::new(ScimType::InvalidValue, detail)
                })
            };
            ids.iter().map(address).collect::<Result<Vec<_>, _>>()
        };
        Ok(GroupPatch {
            members: all.as_ref().map(all_of).transpose()?,
            add: all_of(add)?,
            remove: remove.iter().filter_map(|id| known.get(id).cloned()).collect(),
            ..GroupPatch::default()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::admin::scim::patch;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    fn after(operations: Value) -> Result<Members, ScimError> {
        let mut members = Members::default();
        for operation in patch::read(&json!({ "Operations": operations }))? {
            members.change(operation)?;
        }
        Ok(members)
    }

    #[test]
    fn operations_on_members_come_to_one_change_in_their_order() {
        for (operations, all, add, remove) in [
            // Entra.
            (
                json!([{ "op": "Add", "path": "members", "value": [{ "$ref": null, "value": "a" }, { "value": "b" }] }]),
                None,
                set(&["a", "b"]),
                set(&[]),
            ),
            (
                json!([{ "op": "Remove", "path": "members", "value": [{ "$ref": null, "value": "a" }] }]),
                None,
                set(&[]),
                set(&["a"]),
            ),
            // Okta.
            (json!([{ "op": "remove", "path": "members[value eq \"a\"]" }]), None, set(&[]), set(&["a"])),
            (
                json!([{ "op": "replace", "path": "members", "value": [{ "value": "a", "display": "A" }] }]),
                Some(set(&["a"])),
                set(&[]),
                set(&[]),
            ),
            (json!([{ "op": "remove", "path": "members" }]), Some(set(&[])), set(&[]), set(&[])),
            (
                json!([
                    { "op": "add", "path": "members", "value": "a" },
                    { "op": "remove", "path": "members[value eq \"a\" or value eq \"c\"]" },
                    { "op": "add", "value": { "members": [{ "value": "b" }] } },
                ]),
                None,
                set(&["b"]),
                set(&["a", "c"]),
            ),
            (
                json!([
                    { "op": "replace", "path": "members", "value": [{ "value": "a" }, { "value": "b" }] },
                    { "op": "remove", "path": "members[value eq \"a\"]" },
                    { "op": "add", "path": "members", "value": [{ "value": "c" }] },
                ]),
                Some(set(&["b", "c"])),
                set(&[]),
                set(&[]),
            ),
        ] {
            assert_eq!(after(operations.clone()).unwrap(), Members { all, add, remove }, "{operations}");
        }
    }

    #[test]
    fn what_cannot_be_done_to_members_is_refused() {
        for (operation, word) in [
            (json!({ "op": "add", "path": "members", "value": [7] }), "invalidValue"),
            (json!({ "op": "add", "path": "members", "value": [{ "display": "x" }] }), "invalidValue"),
            (
                json!({ "op": "add", "path": "members", "value": [{ "value": "x", "type": "Group" }] }),
                "invalidValue",
            ),
            (json!({ "op": "add", "path": "members", "value": null }), "invalidValue"),
            (json!({ "op": "remove", "path": "members[display eq \"x\"]" }), "invalidFilter"),
            (json!({ "op": "remove", "path": "members[value eq \"x\" and type pr]" }), "invalidFilter"),
            (json!({ "op": "replace", "path": "members[value eq \"x\"].display", "value": "y" }), "invalidPath"),
            (json!({ "op": "remove", "path": "members[value eq \"x\"].display" }), "invalidPath"),
            (json!({ "op": "add", "path": "members.value", "value": "y" }), "invalidPath"),
        ] {
            assert_eq!(after(json!([operation])).unwrap_err().word(), word, "{operation}");
        }
    }
}
