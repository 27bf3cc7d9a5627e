//! An issuer's answer about an opaque token is read as strictly as claims.

use super::*;

fn answer(changes: Value) -> String {
    let mut members = json!({
        "active": true, "iss": ISSUER, "aud": "portcullis", "client_id": "thunderbird", "email": "ann@example.com",
        "exp": NOW.secs() + 60, "iat": NOW.secs(), "scope": "mail", "token_type": "Bearer",
    })
    .as_object()
    .unwrap()
    .clone();
    for (name, value) in changes.as_object().unwrap() {
        members.insert(name.clone(), value.clone());
        if value == "-" {
            members.remove(name);
        }
    }
    Value::Object(members).to_string()
}

fn read(json: &str, rules: &Rules) -> Result<Identity, TokenError> {
    from_introspection(json.as_bytes(), rules, Fingerprint::of("opaque"), NOW)
}

#[test]
fn an_active_answer_names_the_identity() {
    let who = read(&answer(json!({})), &rules()).unwrap();
    assert_eq!((who.user().as_str(), who.app().as_str()), ("ann@example.com", "thunderbird"));
    assert_eq!((who.key(), who.thumbprint()), ("introspection", None));
    assert_eq!(who.fingerprint(), Fingerprint::of("opaque"));
    assert_eq!(who.scopes(), ["mail"]);
}

#[test]
fn each_single_wrong_member_of_an_answer_has_its_own_reason() {
    let cases = [
        ("iss absent", json!({"iss": "-"}), "ok"),
        ("token_type in lower case", json!({"token_type": "bearer"}), "ok"),
        ("not active", json!({"active": false}), "token_inactive"),
        ("active as text", json!({"active": "true"}), "token_claim_type"),
        ("active absent", json!({"active": "-"}), "token_claim_missing"),
        ("iss another", json!({"iss": "https://evil.example"}), "token_issuer"),
        ("DPoP", json!({"token_type": "DPoP"}), "token_type"),
        ("refresh token", json!({"token_use": "refresh_token"}), "token_type"),
        ("aud another", json!({"aud": "other"}), "token_audience"),
        ("aud absent", json!({"aud": "-"}), "token_claim_missing"),
        ("expired", json!({"exp": NOW.secs() - 30}), "token_expired"),
        ("exp absent", json!({"exp": "-"}), "token_claim_missing"),
        ("user absent", json!({"email": "-"}), "token_claim_missing"),
        ("app absent", json!({"client_id": "-"}), "token_claim_missing"),
        ("bound", json!({"cnf": {"jkt": "x"}}), "token_bound"),
    ];
    for (name, changes, expected) in cases {
        let found = read(&answer(changes), &rules()).map_or_else(|error| error.reason(), |_| "ok");
        assert_eq!(found, expected, "{name}");
    }
    for text in ["", "[]", "{\"active\":true,\"active\":true}"] {
        assert!(matches!(read(text, &rules()), Err(TokenError::Json { .. })), "{text}");
    }
    let without = Rules { introspection_needs_audience: false, ..rules() };
    assert!(read(&answer(json!({"aud": "-"})), &without).is_ok());
    assert!(read(&answer(json!({"aud": "other"})), &without).is_err());
}
