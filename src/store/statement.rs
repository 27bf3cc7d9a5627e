//! Statements put together from fixed words, and the condition that cuts a list to a subtree. Used by the reports: apps seen and
//! who still tries passwords.

use sqlx::{Any, AssertSqlSafe, Transaction, any::AnyRow};

use crate::model::UnitPath;

/// A unit and everything below it, as a condition on its path.
#[derive(Clone, Debug)]
pub(super) struct Subtree {
    path: String,
    below: String,
}

impl Subtree {
    /// None for the root: everything is below it.
    pub(super) fn of(unit: &UnitPath) -> Option<Self> {
        let path = unit.as_str().to_owned();
        (path != "/").then(|| Self { below: format!("{path}/"), path })
    }

    /// For `(unit = $ OR substr(unit, 1, $) = $)`.
    pub(super) fn values(&self) -> [Value; 3] {
        let length = i64::try_from(self.below.chars().count()).unwrap_or(i64::MAX);
        [Value::Text(self.path.clone()), Value::Number(length), Value::Text(self.below.clone())]
    }
}

/// What a place of a statement takes.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Number(i64),
}

/// A statement put together from fixed words; each `$` in them becomes the next numbered place.
pub(super) struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    pub(super) fn and(&mut self, words: &str, values: impl IntoIterator<Item = Value>) {
        self.text.push_str(" AND ");
        self.push(words, values);
    }

    pub(super) fn push(&mut self, words: &str, values: impl IntoIterator<Item = Value>) {
        let mut number = self.values.len();
        for (index, piece) in words.split('$').enumerate() {
            if index > 0 {
                number += 1;
                self.text.push_str(&format!("${number}"));
            }
            self.text.push_str(piece);
        }
        self.values.extend(values);
    }

    pub(super) async fn fetch(self, pool: &sqlx::AnyPool) -> Result<Vec<AnyRow>, sqlx::Error> {
        self.query().fetch_all(pool).await
    }

    pub(super) async fn fetch_in(self, tx: &mut Transaction<'static, Any>) -> Result<Vec<AnyRow>, sqlx::Error> {
        self.query().fetch_all(&mut **tx).await
    }

    fn query(self) -> sqlx::query::Query<'static, Any, sqlx::any::AnyArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        })
    }
}
