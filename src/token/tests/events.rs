//! Identity events: what is believed, what it means, and that no token passes for another kind.

use proptest::prelude::*;

use super::*;
use crate::model::UserId;

const SECEVENT: &str = "secevent+jwt";
const LOGOUT: &str = "logout+jwt";
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";

fn header(typ: &Value) -> Value {
    let mut header = json!({ "alg": "ES256", "kid": KEY.kid(), "typ": typ });
    if typ.is_null() {
        header.as_object_mut().unwrap().remove("typ");
    }
    header
}

/// A session of ann's was revoked, with some claims set to other values; `"-"` takes one away.
fn revoked(changes: &Value) -> Value {
    let claims = json!({
        "iss": ISSUER, "aud": "portcullis", "iat": NOW.secs(), "jti": "e1",
        "sub_id": { "format": "iss_sub", "iss": ISSUER, "sub": "ann" },
        "events": { format!("{CAEP}session-revoked"): {} },
    });
    with(claims, changes)
}

fn logout(changes: &Value) -> Value {
    let events = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
    let claims = json!({
        "iss": ISSUER, "aud": "portcullis", "iat": NOW.secs(), "exp": NOW.secs() + 120, "jti": "l1",
        "sub": "ann", "sid": "s1", "events": events,
    });
    with(claims, changes)
}

fn with(mut claims: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
        if value == "-" {
            claims.as_object_mut().unwrap().remove(name);
        }
    }
    claims
}

fn examined(typ: &Value, claims: &Value, form: Form, rules: &Rules) -> Result<EventToken, TokenError> {
    let token = raw(&header(typ).to_string(), &claims.to_string());
    examine_event(&token, form, rules, &KEYS, NOW).and_then(Unproved::prove)
}

fn pushed(claims: &Value) -> Result<EventToken, TokenError> {
    examined(&json!(SECEVENT), claims, Form::SecurityEvent, &rules())
}

fn reason_of(answer: Result<EventToken, TokenError>) -> &'static str {
    answer.map_or_else(|error| error.reason(), |_| "ok")
}

fn account(sub: &str) -> Option<Whom> {
    Some(Whom::Account(Holder::Subject(sub.into())))
}

#[test]
fn an_event_token_tells_who_said_what_about_whom_and_when() {
    let told = pushed(&revoked(&json!({}))).unwrap();
    assert_eq!((told.issuer(), told.id(), told.key(), told.issued_at()), (ISSUER, "e1", KEY.kid(), NOW));
    let event = Event { what: Happening::SessionRevoked, whom: account("ann"), at: NOW };
    assert_eq!((told.events(), told.ignored()), (&[event][..], &[][..]));
}

#[test]
fn each_single_wrong_claim_of_an_event_has_its_own_reason() {
    let secs = |ahead: i64| json!(NOW.secs() + ahead);
    let many = |count: usize| -> Value {
        (0..count).map(|n| (format!("urn:{n}"), json!({}))).collect::<Map<_, _>>().into()
    };
    let stamped = |at: Value| json!({ format!("{CAEP}session-revoked"): { "event_timestamp": at } });
    let table = [
        ("unchanged", json!({}), "ok"),
        ("iss of another", json!({"iss": "https://evil.example"}), "token_issuer"),
        ("iss absent", json!({"iss": "-"}), "token_claim_missing"),
        ("aud of another", json!({"aud": ["other"]}), "token_audience"),
        ("aud in a list", json!({"aud": ["other", "portcullis"]}), "ok"),
        ("aud absent", json!({"aud": "-"}), "token_claim_missing"),
        ("iat absent", json!({"iat": "-"}), "token_claim_missing"),
        ("iat a text", json!({"iat": "1"}), "token_claim_type"),
        ("iat at the limit", json!({"iat": secs(-86_400)}), "ok"),
        ("iat past the limit", json!({"iat": secs(-86_401)}), "token_stale"),
        ("iat as far ahead as may be", json!({"iat": secs(60)}), "ok"),
        ("iat further ahead", json!({"iat": secs(61)}), "token_not_yet"),
        ("nbf ahead", json!({"nbf": secs(61)}), "token_not_yet"),
        ("exp passed", json!({"exp": secs(-30)}), "token_expired"),
        ("exp ahead", json!({"exp": secs(1)}), "ok"),
        ("jti absent", json!({"jti": "-"}), "token_claim_missing"),
        ("jti empty", json!({"jti": ""}), "token_claim_type"),
        ("jti as long as may be", json!({"jti": "j".repeat(512)}), "ok"),
        ("jti longer", json!({"jti": "j".repeat(513)}), "token_claim_type"),
        ("jti with a NUL", json!({"jti": "\0"}), "token_claim_type"),
        ("nonce", json!({"nonce": "n"}), "token_type"),
        ("at_hash", json!({"at_hash": "x"}), "token_type"),
        ("events absent", json!({"events": "-"}), "token_claim_missing"),
        ("events a list", json!({"events": []}), "token_claim_type"),
        ("events empty", json!({"events": {}}), "token_claim_type"),
        ("sixteen events", json!({"events": many(16)}), "ok"),
        ("seventeen events", json!({"events": many(17)}), "token_claim_type"),
        ("an event that is no object", json!({"events": {"urn:x": 1}}), "token_claim_type"),
        ("event_timestamp a text", json!({"events": stamped(json!("1"))}), "token_claim_type"),
        ("event_timestamp ahead", json!({"events": stamped(secs(61))}), "token_not_yet"),
        ("toe ahead", json!({"toe": secs(61)}), "token_not_yet"),
        ("sub_id absent", json!({"sub_id": "-"}), "token_claim_missing"),
        ("sub_id a text", json!({"sub_id": "ann"}), "token_claim_type"),
        ("sub_id without format", json!({"sub_id": {"sub": "ann"}}), "token_claim_missing"),
        ("sub_id without sub", json!({"sub_id": {"format": "iss_sub", "iss": ISSUER}}), "token_claim_missing"),
        ("no address", json!({"sub_id": {"format": "email", "email": "ann"}}), "token_user"),
        ("sub with a NUL", json!({"sub_id": {"format": "opaque", "id": "a\0"}}), "token_claim_type"),
        ("a user that is a text", json!({"sub_id": {"format": "complex", "user": "ann"}}), "token_claim_type"),
    ];
    for (name, changes, expected) in table {
        assert_eq!(reason_of(pushed(&revoked(&changes))), expected, "{name}");
    }
    let apart = Rules { event_audience: vec!["stream".into()], ..rules() };
    let answer = |aud: &str| {
        let claims = revoked(&json!({ "aud": aud }));
        reason_of(examined(&json!(SECEVENT), &claims, Form::SecurityEvent, &apart))
    };
    assert_eq!((answer("stream"), answer("portcullis")), ("ok", "token_audience"));
}

#[test]
fn only_the_issuers_own_signature_makes_an_event() {
    let token = raw(&header(&json!(SECEVENT)).to_string(), &revoked(&json!({})).to_string());
    let read = |token: &str, keys: &KeySet| {
        examine_event(token, Form::SecurityEvent, &rules(), keys, NOW).and_then(Unproved::prove)
    };
    assert_eq!(reason_of(read(&token, &KEYS)), "ok");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = raw(&header(&json!(SECEVENT)).to_string(), &revoked(&json!({"jti": "e2"})).to_string());
    let (_, of_other) = other.rsplit_once('.').unwrap();
    assert_eq!(reason_of(read(&format!("{signed}.{of_other}"), &KEYS)), "token_signature");
    assert_eq!(reason_of(read(&format!("{signed}."), &KEYS)), "token_malformed");
    assert_eq!(reason_of(read(&format!("{signed}.{signature}."), &KEYS)), "token_malformed");
    assert_eq!(reason_of(read(&token, &KeySet::default())), "token_unknown_key");
    for (name, change, expected) in [
        ("alg", json!("none"), "token_algorithm"),
        ("alg", json!("HS256"), "token_algorithm"),
        ("crit", json!(["exp"]), "token_critical"),
        ("kid", json!("other"), "token_unknown_key"),
    ] {
        let mut header = header(&json!(SECEVENT));
        header[name] = change;
        let token = raw(&header.to_string(), &revoked(&json!({})).to_string());
        assert_eq!(reason_of(read(&token, &KEYS)), expected, "{name}");
    }
}

#[test]
fn no_token_passes_for_another_kind() {
    let (event, logout) = (revoked(&json!({})), logout(&json!({})));
    let access = Value::Object(part(&token(), 1));
    // All that an access token has and all that the other two have.
    let mut everything = access.clone();
    for claims in [&event, &logout] {
        everything.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    }
    let typs = [
        json!("at+jwt"),
        json!("JWT"),
        json!(null),
        json!(SECEVENT),
        json!(LOGOUT),
        json!("application/logout+JWT"),
    ];
    for typ in &typs {
        for claims in [&event, &logout, &access, &everything] {
            let token = raw(&header(typ).to_string(), &claims.to_string());
            let as_access = verify(&token, &rules(), &KEYS, NOW).is_ok();
            let as_event = examined(typ, claims, Form::SecurityEvent, &rules()).is_ok();
            let as_logout = examined(typ, claims, Form::Logout, &rules()).is_ok();
            let kinds = [as_access, as_event, as_logout].into_iter().filter(|is| *is).count();
            assert!(kinds <= 1, "typ {typ} with {claims} is {as_access} {as_event} {as_logout}");
        }
    }
    let logged_out = |typ: &Value| reason_of(examined(typ, &logout, Form::Logout, &rules()));
    let answers: Vec<_> = typs.iter().map(logged_out).collect();
    assert_eq!(answers, ["token_type", "ok", "ok", "token_type", "ok", "ok"]);
    let told = |typ: &Value| reason_of(examined(typ, &event, Form::SecurityEvent, &rules()));
    let answers: Vec<_> = typs.iter().map(told).collect();
    assert_eq!(answers, ["token_type", "token_type", "token_type", "ok", "token_type", "token_type"]);
}

#[test]
fn a_logout_token_names_a_sign_in_or_an_account_or_both() {
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let of = Some(Holder::Subject("ann".into()));
    let table = [
        ("both", json!({}), Ok(Whom::Session { id: "s1".into(), of })),
        ("sid alone", json!({"sub": "-"}), Ok(Whom::Session { id: "s1".into(), of: None })),
        ("sub alone", json!({"sid": "-"}), Ok(Whom::Account(Holder::Subject("ann".into())))),
        ("exp absent", json!({"exp": "-", "sub": "-"}), Ok(Whom::Session { id: "s1".into(), of: None })),
        ("neither", json!({"sid": "-", "sub": "-"}), Err("token_claim_missing")),
        ("sid a number", json!({"sid": 1}), Err("token_claim_type")),
        ("sid empty", json!({"sid": ""}), Err("token_claim_type")),
        ("nonce", json!({"nonce": "n"}), Err("token_type")),
        ("exp passed", json!({"exp": NOW.secs() - 31}), Err("token_expired")),
        ("no events", json!({"events": "-"}), Err("token_claim_missing")),
        ("another event", json!({"events": {"urn:x": {}}}), Err("token_type")),
        ("an event that is null", json!({"events": {event: null}}), Err("token_claim_type")),
    ];
    for (name, changes, expected) in table {
        let answer = examined(&json!(LOGOUT), &logout(&changes), Form::Logout, &rules());
        let answer = answer.map(|token| token.events()[0].whom.clone().unwrap());
        assert_eq!(answer.map_err(|error| error.reason()), expected, "{name}");
    }
}

#[test]
fn subjects_are_read_in_every_form_that_tokens_can_tell_of() {
    let address = |text: &str| Holder::Address(UserId::parse(text).unwrap());
    let session = |id: &str, of| Some(Whom::Session { id: id.into(), of });
    let iss_sub = json!({"format": "iss_sub", "iss": ISSUER, "sub": "ann"});
    let foreign = json!({"format": "iss_sub", "iss": "https://other.example", "sub": "ann"});
    let opaque = |id: &str| json!({"format": "opaque", "id": id});
    let email = json!({"format": "email", "email": "ann@Example.com"});
    let complex = |user: &Value, session: &Value| json!({"format": "complex", "user": user, "session": session});
    let device = json!({"format": "complex", "device": opaque("d")});
    let phone = json!({"format": "phone_number", "phone_number": "+1"});
    let table = [
        ("session-revoked", iss_sub.clone(), account("ann")),
        ("session-revoked", email.clone(), Some(Whom::Account(address("ann@example.com")))),
        ("session-revoked", opaque("x"), Some(Whom::Opaque("x".into()))),
        ("session-revoked", complex(&iss_sub, &opaque("s")), session("s", Some(Holder::Subject("ann".into())))),
        ("session-revoked", complex(&email, &opaque("s")), session("s", Some(address("ann@example.com")))),
        ("session-revoked", complex(&opaque("u"), &opaque("s")), session("s", Some(Holder::Subject("u".into())))),
        ("session-revoked", json!({"format": "complex", "session": opaque("s")}), session("s", None)),
        ("session-revoked", json!({"format": "complex", "user": iss_sub, "device": opaque("d")}), account("ann")),
        (
            "session-revoked",
            complex(&iss_sub, &json!({"format": "jwt_id", "iss": ISSUER, "jti": "j"})),
            account("ann"),
        ),
        ("session-revoked", device.clone(), None),
        ("session-revoked", phone.clone(), None),
        ("session-revoked", foreign.clone(), None),
        ("session-revoked", complex(&foreign, &opaque("s")), None),
        ("credential-change", iss_sub.clone(), account("ann")),
    ];
    for (word, subject, expected) in table {
        let events = json!({ format!("{CAEP}{word}"): {} });
        let told = pushed(&revoked(&json!({ "events": events, "sub_id": subject }))).unwrap();
        let whom = told.events().first().and_then(|event| event.whom.clone());
        assert_eq!((whom, told.ignored().len()), (expected.clone(), usize::from(expected.is_none())), "{subject}");

        // Drafts had it in the event.
        let events = json!({ format!("{CAEP}{word}"): { "subject": subject } });
        let told = pushed(&revoked(&json!({ "events": events, "sub_id": "-" }))).unwrap();
        assert_eq!(told.events().first().and_then(|event| event.whom.clone()), expected, "{subject}");
    }
    let told = pushed(&revoked(&json!({ "sub_id": "-", "sub": "ann" }))).unwrap();
    assert_eq!(told.events()[0].whom, account("ann"));

    // What is about an account needs one.
    for (subject, expected) in [
        (opaque("x"), account("x")),
        (complex(&iss_sub, &opaque("s")), account("ann")),
        (json!({"format": "complex", "session": opaque("s")}), None),
    ] {
        for word in ["account-disabled", "account-enabled", "account-purged", "sessions-revoked"] {
            let events = json!({ format!("{RISC}{word}"): {} });
            let told = pushed(&revoked(&json!({ "events": events, "sub_id": subject }))).unwrap();
            assert_eq!(told.events().first().and_then(|event| event.whom.clone()), expected, "{word} {subject}");
            assert!(told.events().iter().all(|event| event.what.word() == word));
        }
    }
}

#[test]
fn the_events_own_time_counts_and_what_ends_nothing_is_told_apart() {
    let at = NOW.secs() - 100;
    let stamped = json!({ format!("{CAEP}session-revoked"): { "event_timestamp": at } });
    for (name, changes, expected) in [
        ("its own time", json!({"events": stamped, "toe": at + 50}), at),
        ("toe", json!({"toe": at + 50}), at + 50),
        ("iat", json!({}), NOW.secs()),
    ] {
        let told = pushed(&revoked(&changes)).unwrap();
        assert_eq!(told.events()[0].at, UnixTime::from_secs(expected), "{name}");
    }
    let verification = "https://schemas.openid.net/secevent/ssf/event-type/verification";
    let events = json!({
        verification: { "state": "abc" },
        format!("{CAEP}credential-change"): { "change_type": "create", "credential_type": "password" },
        format!("{CAEP}device-compliance-change"): {},
    });
    let told = pushed(&revoked(&json!({ "events": events }))).unwrap();
    assert_eq!(told.events(), [Event { what: Happening::Verification, whom: None, at: NOW }]);
    assert_eq!(told.ignored().len(), 2, "{:?}", told.ignored());
    for kind in ["revoke", "update", "delete", "anything else"] {
        let events = json!({ format!("{CAEP}credential-change"): { "change_type": kind } });
        let told = pushed(&revoked(&json!({ "events": events }))).unwrap();
        assert_eq!(told.events()[0].what, Happening::CredentialChange, "{kind}");
    }
}

/// JSON of any shape, with the names that are looked at in it.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z@.]{0,12}".prop_map(Value::from),
        Just(json!(ISSUER)),
        Just(json!(NOW.secs())),
    ];
    let name = prop_oneof![
        prop::sample::select(vec![
            "format",
            "iss",
            "sub",
            "id",
            "email",
            "user",
            "session",
            "subject",
            "event_timestamp",
            "change_type",
        ])
        .prop_map(str::to_owned),
        Just(format!("{CAEP}session-revoked")),
        Just(format!("{RISC}account-purged")),
        "[a-z]{0,4}",
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..4)
                .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_an_error_and_never_a_panic(text in ".{0,200}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        for token in [text, parts.join(".")] {
            for form in [Form::SecurityEvent, Form::Logout] {
                prop_assert!(examine_event(&token, form, &rules(), &KEYS, NOW).is_err());
            }
        }
    }

    #[test]
    fn any_claims_that_are_signed_are_read_or_refused_and_never_more_than_they_say(
        subject in anything(), events in anything(), sub in anything(), iat in anything(),
    ) {
        let claims = revoked(&json!({ "sub_id": subject, "events": events, "sub": sub, "iat": iat }));
        for (typ, form) in [(SECEVENT, Form::SecurityEvent), (LOGOUT, Form::Logout)] {
            match examined(&json!(typ), &claims, form, &rules()) {
                Ok(told) => {
                    let said = events.as_object().unwrap().len();
                    prop_assert_eq!(told.events().len() + told.ignored().len(), said.max(1));
                    prop_assert!(told.events().iter().all(|event| event.at.0 <= NOW.0 + 60_000));
                }
                Err(error) => prop_assert!(error.reason().starts_with("token_")),
            }
        }
    }
}
