//! What the operations of one request may cost together, so that a small request cannot ask for much work or memory.

use serde_json::Value;

use super::error::{ScimError, ScimType};

/// Most that a request may cost, in about bytes.
const MOST: usize = 4 * 1024 * 1024;
/// What an object with anything in it takes, whatever that is.
const OBJECT: usize = 600;

/// What is left of it. Every value is paid for at each place that it is written to, and everything that is gone through
/// to find the places.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MOST)
    }
}

impl Budget {
    /// Pays for something; an error where not enough is left. `place` is the attribute, for people.
    pub(super) fn spend(&mut self, cost: usize, place: &str) -> Result<(), ScimError> {
        let Some(left) = self.0.checked_sub(cost) else {
            let detail = format!("{place}: the operations are too much work together: send less at once");
            return Err(ScimError::new(ScimType::InvalidValue, detail));
        };
        self.0 = left;
        Ok(())
    }
}

/// What a value takes in memory, about.
pub(super) fn weight(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(weight).sum(),
        Value::Object(map) if !map.is_empty() => {
            OBJECT + map.iter().map(|(key, value)| key.len() + weight(value)).sum::<usize>()
        }
        _ => 0,
    };
    32 + inner
}
