//! The attributes of users and groups (RFC 7643 sections 4.1 to 4.3): what bodies are checked against, and what `/Schemas`
//! tells.

use serde_json::{Map, Value, json};

/// `schemas` of a user.
pub(super) const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
/// `schemas` of a group.
pub(super) const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
/// The extension with what an organisation says of its people.
pub(super) const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Flag,
    Reference,
    Binary,
    Complex,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Flag => "boolean",
            Self::Reference => "reference",
            Self::Binary => "binary",
            Self::Complex => "complex",
        }
    }
}

/// One attribute.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) many: bool,
    pub(super) exact: bool,
    required: bool,
    unique: bool,
    pub(super) subs: &'static [Attribute],
}

const fn of(name: &'static str, kind: Kind) -> Attribute {
    Attribute { name, kind, many: false, exact: false, required: false, unique: false, subs: &[] }
}

const fn text(name: &'static str) -> Attribute {
    of(name, Kind::Text)
}

const fn complex(name: &'static str, subs: &'static [Attribute]) -> Attribute {
    Attribute { subs, ..of(name, Kind::Complex) }
}

const fn many(name: &'static str, subs: &'static [Attribute]) -> Attribute {
    Attribute { many: true, ..complex(name, subs) }
}

const VALUES: &[Attribute] = &[text("value"), text("display"), text("type"), of("primary", Kind::Flag)];
const LINKS: &[Attribute] =
    &[of("value", Kind::Reference), text("display"), text("type"), of("primary", Kind::Flag)];
const BLOBS: &[Attribute] = &[of("value", Kind::Binary), text("display"), text("type"), of("primary", Kind::Flag)];
const NAME: &[Attribute] = &[
    text("formatted"),
    text("familyName"),
    text("givenName"),
    text("middleName"),
    text("honorificPrefix"),
    text("honorificSuffix"),
];
const ADDRESS: &[Attribute] = &[
    text("formatted"),
    text("streetAddress"),
    text("locality"),
    text("region"),
    text("postalCode"),
    text("country"),
    text("type"),
    of("primary", Kind::Flag),
];
const MANAGER: &[Attribute] = &[text("value"), of("$ref", Kind::Reference), text("displayName")];
const MEMBER: &[Attribute] =
    &[Attribute { exact: true, ..text("value") }, of("$ref", Kind::Reference), text("type"), text("display")];

const EXTERNAL_ID: Attribute = Attribute { exact: true, ..text("externalId") };

/// What a user's body may hold and we look at; what else it holds is kept as it is.
pub(super) const USER_ATTRIBUTES: &[Attribute] = &[
    EXTERNAL_ID,
    // The local part of an address is compared exactly everywhere else, so here too.
    Attribute { exact: true, required: true, unique: true, ..text("userName") },
    complex("name", NAME),
    text("displayName"),
    text("nickName"),
    of("profileUrl", Kind::Reference),
    text("title"),
    text("userType"),
    text("preferredLanguage"),
    text("locale"),
    text("timezone"),
    of("active", Kind::Flag),
    many("emails", VALUES),
    many("phoneNumbers", VALUES),
    many("ims", VALUES),
    many("photos", LINKS),
    many("addresses", ADDRESS),
    many("entitlements", VALUES),
    many("roles", VALUES),
    many("x509Certificates", BLOBS),
    complex(ENTERPRISE, ENTERPRISE_ATTRIBUTES),
];

const ENTERPRISE_ATTRIBUTES: &[Attribute] = &[
    text("employeeNumber"),
    text("costCenter"),
    text("organization"),
    text("division"),
    text("department"),
    complex("manager", MANAGER),
];

/// What a group's body may hold and we look at.
pub(super) const GROUP_ATTRIBUTES: &[Attribute] =
    &[EXTERNAL_ID, Attribute { required: true, unique: true, ..text("displayName") }, many("members", MEMBER)];

/// What the gateway itself says of a resource; a body's own word on it is passed over (RFC 7643 section 7, `readOnly`), and
/// a password is never looked at, kept or logged.
pub(super) const NOT_TAKEN: [&str; 5] = ["id", "meta", "schemas", "groups", "password"];

/// The attribute of this name, whatever its letter case.
pub(super) fn find(attributes: &'static [Attribute], name: &str) -> Option<&'static Attribute> {
    attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
}

/// The schemas, as `/Schemas` tells them. `at` is where the service is.
pub(super) fn schemas(at: &str) -> Vec<Value> {
    let plain = |attributes: &'static [Attribute]| {
        attributes.iter().filter(|attribute| attribute.name != ENTERPRISE).map(told).collect::<Vec<_>>()
    };
    [
        (USER, "User", "A user of the gateway", plain(USER_ATTRIBUTES)),
        (GROUP, "Group", "A group of users", plain(GROUP_ATTRIBUTES)),
        (ENTERPRISE, "Enterprise user", "What an organisation says of its people", plain(ENTERPRISE_ATTRIBUTES)),
    ]
    .into_iter()
    .map(|(id, name, description, attributes)| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
            "id": id, "name": name, "description": description, "attributes": attributes,
            "meta": { "resourceType": "Schema", "location": format!("{at}/Schemas/{id}") },
        })
    })
    .collect()
}

fn told(attribute: &Attribute) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("name", attribute.name.into());
    put("type", attribute.kind.word().into());
    put("multiValued", attribute.many.into());
    put("description", description(attribute.name).into());
    put("required", attribute.required.into());
    put("mutability", "readWrite".into());
    put("returned", "default".into());
    match attribute.kind {
        Kind::Text | Kind::Reference | Kind::Binary => {
            put("caseExact", (attribute.exact || attribute.kind != Kind::Text).into());
            put("uniqueness", if attribute.unique { "server" } else { "none" }.into());
        }
        Kind::Complex => {
            put("subAttributes", attribute.subs.iter().map(told).collect::<Vec<_>>().into());
        }
        Kind::Flag => {}
    }
    if attribute.kind == Kind::Reference {
        put("referenceTypes", json!(["external", "uri"]));
    }
    map.into()
}

fn description(name: &str) -> &'static str {
    match name {
        "userName" => "The user's address, as tokens carry it",
        "active" => "false suspends the user: open sessions end, nobody comes in",
        "members" => "Users of this service, by id",
        "displayName" => "What people call it; the group's name, with - for white space",
        "externalId" => "The provider's own id",
        _ => "Kept as it was sent",
    }
}

/// `/ServiceProviderConfig` (RFC 7643 section 5).
pub(super) fn provider(at: &str, most: usize) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": { "supported": true },
        "bulk": { "supported": false, "maxOperations": 0, "maxPayloadSize": 0 },
        "filter": { "supported": true, "maxResults": most },
        "changePassword": { "supported": false },
        "sort": { "supported": true },
        "etag": { "supported": true },
        "authenticationSchemes": [{
            "type": "oauthbearertoken", "name": "API token", "primary": true,
            "description": "An API token of Portcullis, with the scope scim",
            "specUri": "https://www.rfc-editor.org/info/rfc6750",
        }],
        "meta": { "resourceType": "ServiceProviderConfig", "location": format!("{at}/ServiceProviderConfig") },
    })
}

/// `/ResourceTypes` (RFC 7643 section 6).
pub(super) fn resource_types(at: &str) -> Vec<Value> {
    let one = |name: &str, endpoint: &str, schema: &str, extensions: Value| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": name, "name": name, "endpoint": endpoint, "schema": schema, "schemaExtensions": extensions,
            "meta": { "resourceType": "ResourceType", "location": format!("{at}/ResourceTypes/{name}") },
        })
    };
    vec![
        one("User", "/Users", USER, json!([{ "schema": ENTERPRISE, "required": false }])),
        one("Group", "/Groups", GROUP, json!([])),
    ]
}
