//! ID tokens: what opens a session of the console, and that no other token does.

use super::*;

const ASKED: Asked<'static> = Asked { client_id: "console", nonce: "n-0" };

fn answer(header: &Value, changes: &Value) -> Result<Vouched, TokenError> {
    let mut claims = json!({
        "iss": ISSUER, "sub": "ann", "aud": "console", "nonce": "n-0", "email": "ann@example.com", "sid": "s1",
        "iat": NOW.secs(), "exp": NOW.secs() + 300,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
        if value == "-" {
            claims.as_object_mut().unwrap().remove(name);
        }
    }
    let token = raw(&header.to_string(), &claims.to_string());
    examine_id_token(&token, ASKED, &rules(), &KEYS, NOW).and_then(Unproved::prove)
}

fn head(typ: &str) -> Value {
    json!({ "alg": "ES256", "kid": KEY.kid(), "typ": typ })
}

#[test]
fn an_id_token_for_this_sign_in_names_the_person_and_the_names_to_take_it_back_by() {
    for changes in [
        json!({}),
        json!({ "aud": ["console"] }),
        json!({ "aud": ["console", "other"], "azp": "console" }),
        json!({ "email_verified": true, "at_hash": "x", "auth_time": 1 }),
    ] {
        let sign_in = answer(&head("JWT"), &changes).unwrap().sign_in().unwrap();
        assert_eq!((sign_in.user.as_str(), sign_in.subject.as_str()), ("ann@example.com", "ann"), "{changes}");
        assert_eq!((sign_in.session.as_deref(), sign_in.issued_at), (Some("s1"), NOW));
        assert_eq!(sign_in.issuer, ISSUER);
    }
    assert!(answer(&json!({ "alg": "ES256", "kid": KEY.kid() }), &json!({ "sid": "-" })).is_ok());
}

#[test]
fn no_other_token_passes_for_an_id_token_of_this_sign_in() {
    for (changes, expected) in [
        (json!({ "iss": "https://other.example.com" }), "token_issuer"),
        (json!({ "aud": "thunderbird" }), "token_audience"),
        (json!({ "aud": "-" }), "token_claim_missing"),
        (json!({ "aud": ["console", "other"] }), "token_type"),
        (json!({ "azp": "other" }), "token_type"),
        (json!({ "nonce": "n-1" }), "token_type"),
        (json!({ "nonce": "-" }), "token_claim_missing"),
        (json!({ "nonce": 7 }), "token_claim_type"),
        (json!({ "exp": NOW.secs() - 31 }), "token_expired"),
        (json!({ "exp": "-" }), "token_claim_missing"),
        (json!({ "iat": "-" }), "token_claim_missing"),
        (json!({ "iat": NOW.secs() + 61 }), "token_not_yet"),
        (json!({ "nbf": NOW.secs() + 61 }), "token_not_yet"),
        (json!({ "sub": "-" }), "token_claim_missing"),
        (json!({ "sub": "" }), "token_claim_type"),
        (json!({ "events": {} }), "token_type"),
        (json!({ "email_verified": false }), "token_user"),
        (json!({ "email": "ann" }), "token_user"),
    ] {
        assert_eq!(answer(&head("JWT"), &changes).unwrap_err().reason(), expected, "{changes}");
    }
    for typ in ["at+jwt", "logout+jwt", "secevent+jwt", "application/at+jwt"] {
        assert_eq!(answer(&head(typ), &json!({})).unwrap_err().reason(), "token_type", "{typ}");
    }
    let other = SigningKey::generate(&SystemRandom::new()).unwrap();
    let unknown = json!({ "alg": "ES256", "kid": other.kid(), "typ": "JWT" });
    assert_eq!(answer(&unknown, &json!({})).unwrap_err().reason(), "token_unknown_key");
    for alg in ["none", "HS256"] {
        let header = json!({ "alg": alg, "kid": KEY.kid() });
        assert_eq!(answer(&header, &json!({})).unwrap_err().reason(), "token_algorithm", "{alg}");
    }
    // An access token of the same issuer and person, and an ID token as an access token.
    let token = token();
    let error = examine_id_token(&token, ASKED, &rules(), &KEYS, NOW).err().unwrap();
    assert!(matches!(error.reason(), "token_type" | "token_audience"), "{error}");
    let mut wide = rules();
    wide.audience.push("console".into());
    let claims = json!({ "iss": ISSUER, "aud": "console", "nonce": "n-0", "email": "ann@example.com", "azp": "console",
        "iat": NOW.secs(), "exp": NOW.secs() + 300 });
    assert_eq!(reason(&raw(&head("JWT").to_string(), &claims.to_string()), &wide), "token_type");
}

#[test]
fn where_the_token_does_not_name_the_user_the_userinfo_answer_about_the_same_sub_does() {
    let vouched = || answer(&head("JWT"), &json!({ "email": "-" })).unwrap().sign_in().unwrap_err();
    let told = |body: Value| vouched().with_userinfo(body.to_string().as_bytes(), &rules());
    let sign_in = told(json!({ "sub": "ann", "email": "ann@example.com" })).unwrap();
    assert_eq!((sign_in.user.as_str(), sign_in.subject.as_str()), ("ann@example.com", "ann"));
    for (body, expected) in [
        (json!({ "sub": "bea", "email": "ann@example.com" }), "token_type"),
        (json!({ "email": "ann@example.com" }), "token_claim_missing"),
        (json!({ "sub": "ann" }), "token_claim_missing"),
        (json!({ "sub": "ann", "email": "ann@example.com", "email_verified": false }), "token_user"),
        (json!([]), "token_malformed"),
    ] {
        assert_eq!(told(body.clone()).unwrap_err().reason(), expected, "{body}");
    }
}
