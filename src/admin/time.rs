//! Moments on the wire: RFC 3339, in UTC.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use utoipa::{PartialSchema, ToSchema, openapi};

use crate::model::UnixTime;

/// A moment, as `2026-11-22T08:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(UnixTime);

impl Time {
    /// As the rest of the house has it.
    pub fn unix(self) -> UnixTime {
        self.0
    }
}

impl From<UnixTime> for Time {
    fn from(at: UnixTime) -> Self {
        Self(at)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at = humantime::parse_rfc3339_weak(&text);
        at.map(|at| Self(at.into())).map_err(|_| D::Error::custom("write a moment as 2026-12-18T18:00:00Z"))
    }
}

impl PartialSchema for Time {
    fn schema() -> openapi::RefOr<openapi::Schema> {
        let format = openapi::SchemaFormat::KnownFormat(openapi::KnownFormat::DateTime);
        openapi::ObjectBuilder::new()
            .schema_type(openapi::schema::Type::String)
            .format(Some(format))
            .examples([serde_json::json!("2026-12-18T18:00:00Z")])
            .into()
    }
}

impl ToSchema for Time {}
