//! A good token passes, and each single wrong thing about it is refused for its own reason.

use proptest::prelude::*;

use super::*;

#[test]
fn a_good_token_names_its_user_app_times_scopes_and_key() {
    let token = token();
    let who = verify(&token, &rules(), &KEYS, NOW).unwrap();
    assert_eq!(who.user().as_str(), "ann@example.com");
    assert_eq!(who.app().as_str(), "thunderbird");
    assert_eq!(who.issuer(), ISSUER);
    assert_eq!(who.key(), KEY.kid());
    assert_eq!(who.thumbprint(), Some(KEY.kid()));
    assert_eq!(who.issued_at(), Some(NOW));
    assert_eq!(who.expires_at(), NOW + Duration::from_secs(3600));
    assert_eq!(who.scopes(), ["mail", "openid"]);
    assert_eq!(who.fingerprint(), Fingerprint::of(&token));
    assert!(!who.service_account());
}

#[test]
fn each_single_wrong_member_of_the_header_has_its_own_reason() {
    let none = json!({});
    let cases = [
        ("unchanged", json!({}), "ok"),
        ("typ absent", json!({"typ": "-"}), "ok"),
        ("typ JWT", json!({"typ": "JWT"}), "ok"),
        ("typ in another letter case", json!({"typ": "AT+JWT"}), "ok"),
        ("typ with its prefix", json!({"typ": "application/at+jwt"}), "ok"),
        ("unknown member", json!({"x": [null]}), "ok"),
        ("jku is not looked at", json!({"jku": "https://evil.example"}), "ok"),
        ("typ of another kind", json!({"typ": "logout+jwt"}), "token_type"),
        ("typ empty", json!({"typ": ""}), "token_type"),
        ("typ a number", json!({"typ": 1}), "token_claim_type"),
        ("typ null", json!({"typ": null}), "token_claim_type"),
        ("crit", json!({"crit": ["exp"]}), "token_critical"),
        ("crit empty", json!({"crit": []}), "token_critical"),
        ("crit null", json!({"crit": null}), "token_critical"),
        ("alg none", json!({"alg": "none"}), "token_algorithm"),
        ("alg HMAC", json!({"alg": "HS256"}), "token_algorithm"),
        ("alg of another key type", json!({"alg": "RS256"}), "token_algorithm"),
        ("alg of another curve", json!({"alg": "ES384"}), "token_algorithm"),
        ("alg in another letter case", json!({"alg": "es256"}), "token_algorithm"),
        ("alg absent", json!({"alg": "-"}), "token_claim_missing"),
        ("alg a list", json!({"alg": ["ES256"]}), "token_claim_type"),
        ("kid unknown", json!({"kid": "other"}), "token_unknown_key"),
        ("kid absent, one key", json!({"kid": "-"}), "ok"),
        ("kid a number", json!({"kid": 7}), "token_claim_type"),
        ("kid too long", json!({"kid": "k".repeat(513)}), "token_claim_type"),
    ];
    for (name, header, expected) in cases {
        assert_eq!(reason(&changed(header, none.clone()), &rules()), expected, "{name}");
    }
}

#[test]
fn each_single_wrong_claim_has_its_own_reason() {
    let at = |secs: i64| json!(NOW.secs() + secs);
    let cases = [
        ("aud a list", json!({"aud": ["a", "portcullis"]}), "ok"),
        ("aud a string", json!({"aud": "portcullis"}), "ok"),
        ("aud another", json!({"aud": ["other"]}), "token_audience"),
        ("aud nearly ours", json!({"aud": "Portcullis"}), "token_audience"),
        ("aud empty", json!({"aud": []}), "token_audience"),
        ("aud absent", json!({"aud": "-"}), "token_claim_missing"),
        ("aud a number", json!({"aud": 1}), "token_claim_type"),
        ("aud with a number", json!({"aud": ["portcullis", 1]}), "token_claim_type"),
        ("iss another", json!({"iss": "https://evil.example"}), "token_issuer"),
        ("iss with a slash more", json!({"iss": format!("{ISSUER}/")}), "token_issuer"),
        ("iss absent", json!({"iss": "-"}), "token_claim_missing"),
        ("iss a list", json!({"iss": [ISSUER]}), "token_claim_type"),
        ("exp at the leeway", json!({"exp": at(-30)}), "token_expired"),
        ("exp within the leeway", json!({"exp": at(-29)}), "ok"),
        ("exp with a fraction", json!({"exp": NOW.secs() as f64 + 0.5}), "ok"),
        ("exp absent", json!({"exp": "-"}), "token_claim_missing"),
        ("exp null", json!({"exp": null}), "token_claim_type"),
        ("exp a string", json!({"exp": "9999999999"}), "token_claim_type"),
        ("exp beyond all dates", json!({"exp": 1e300}), "token_claim_type"),
        ("exp negative", json!({"exp": -1}), "token_claim_type"),
        ("nbf at the skew", json!({"nbf": at(60)}), "ok"),
        ("nbf past the skew", json!({"nbf": at(61)}), "token_not_yet"),
        ("nbf a string", json!({"nbf": "0"}), "token_claim_type"),
        ("iat at the skew", json!({"iat": at(60)}), "ok"),
        ("iat past the skew", json!({"iat": at(61)}), "token_not_yet"),
        ("iat absent", json!({"iat": "-"}), "ok"),
        ("iat a list", json!({"iat": []}), "token_claim_type"),
        ("azp agrees", json!({"azp": "thunderbird"}), "ok"),
        ("azp alone", json!({"azp": "mutt", "client_id": "-"}), "ok"),
        ("azp differs", json!({"azp": "mutt"}), "token_app"),
        ("azp differs in letter case", json!({"azp": "Thunderbird"}), "token_app"),
        ("azp null", json!({"azp": null}), "token_claim_type"),
        ("no app", json!({"client_id": "-"}), "token_claim_missing"),
        ("app with a space", json!({"client_id": "a b"}), "token_app"),
        ("app empty", json!({"client_id": ""}), "token_app"),
        ("user absent", json!({"email": "-"}), "token_claim_missing"),
        ("user a list", json!({"email": ["ann@example.com"]}), "token_claim_type"),
        ("user no address", json!({"email": "ann"}), "token_user"),
        ("user with a line end", json!({"email": "ann@example.com\n"}), "token_user"),
        ("user with NUL", json!({"email": "ann@example.com\u{0}"}), "token_user"),
        ("user verified", json!({"email_verified": true}), "ok"),
        ("user not verified", json!({"email_verified": false}), "token_user"),
        ("verified as text", json!({"email_verified": "true"}), "token_claim_type"),
        ("sub a number", json!({"sub": 7}), "token_claim_type"),
        ("scope a list", json!({"scope": ["mail"]}), "ok"),
        ("scope a number", json!({"scope": 1}), "token_claim_type"),
        ("scp with a number", json!({"scp": ["mail", 1]}), "token_claim_type"),
        ("bound to a certificate", json!({"cnf": {"x5t#S256": "x"}}), "token_bound"),
        ("bound to a key", json!({"cnf": {"jkt": "x"}}), "token_bound"),
        ("bound to nothing", json!({"cnf": null}), "token_bound"),
        ("unknown claims of any shape", json!({"a": null, "b": {"c": [1.5]}, "nonce2": 1}), "ok"),
    ];
    for (name, claims, expected) in cases {
        assert_eq!(reason(&changed(json!({}), claims), &rules()), expected, "{name}");
    }
}

#[test]
fn an_id_token_is_not_an_access_token() {
    let marks = [
        json!({"nonce": "n"}),
        json!({"at_hash": "h"}),
        json!({"c_hash": "h"}),
        json!({"events": {}}),
        json!({"token_use": "id"}),
        json!({"typ": "ID"}),
        json!({"typ": "Refresh"}),
    ];
    for claims in marks {
        for typ in ["JWT", "-"] {
            assert_eq!(reason(&changed(json!({"typ": typ}), claims.clone()), &rules()), "token_type", "{claims}");
        }
        assert_eq!(reason(&changed(json!({}), claims.clone()), &rules()), "ok", "at+jwt {claims}");
    }
    for claims in [json!({"token_use": "access"}), json!({"typ": "Bearer"}), json!({"auth_time": 1})] {
        assert_eq!(reason(&changed(json!({"typ": "JWT"}), claims.clone()), &rules()), "ok", "{claims}");
    }
    let strict = Rules { only_at_jwt: true, ..rules() };
    assert_eq!(reason(&token(), &strict), "ok");
    assert_eq!(reason(&changed(json!({"typ": "JWT"}), json!({})), &strict), "token_type");
    assert_eq!(reason(&changed(json!({"typ": "-"}), json!({})), &strict), "token_type");
}

#[test]
fn the_outside_of_a_token_has_one_form_only() {
    let good = token();
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let swapped: String = signature
        .chars()
        .enumerate()
        .map(|(i, c)| if i == 5 { if c == 'A' { 'B' } else { 'A' } } else { c })
        .collect();
    let cases = [
        ("good", good.clone(), "ok"),
        ("empty", String::new(), "token_malformed"),
        ("two parts", format!("{header}.{claims}"), "token_malformed"),
        ("four parts", format!("{good}.x"), "token_malformed"),
        ("five parts", format!("{good}.x.x"), "token_malformed"),
        ("no signature", format!("{header}.{claims}."), "token_malformed"),
        ("no header", format!(".{claims}.{signature}"), "token_malformed"),
        ("padding", format!("{header}.{claims}.{signature}="), "token_malformed"),
        ("line end", format!("{good}\n"), "token_malformed"),
        ("space", format!(" {good}"), "token_malformed"),
        (
            "another base64 alphabet",
            format!("{header}.{claims}.{}", signature.replace('_', "/") + "/"),
            "token_malformed",
        ),
        ("header is no JSON", raw("alg", "{}"), "token_malformed"),
        ("header is a list", raw("[]", "{}"), "token_malformed"),
        ("claims are no JSON", raw("{\"alg\":\"ES256\"}", "iss"), "token_malformed"),
        (
            "claims are deep",
            raw("{\"alg\":\"ES256\"}", &format!("{{\"a\":{}{}}}", "[".repeat(16), "]".repeat(16))),
            "token_malformed",
        ),
        ("header member twice", raw("{\"alg\":\"ES256\",\"alg\":\"ES256\"}", "{}"), "token_duplicate"),
        ("claim twice", raw("{\"alg\":\"ES256\"}", "{\"iss\":\"a\",\"iss\":\"b\"}"), "token_duplicate"),
        ("claim twice far down", raw("{\"alg\":\"ES256\"}", "{\"x\":[{\"y\":1,\"y\":2}]}"), "token_duplicate"),
        (
            "signature of other claims",
            format!("{header}.{}.{signature}", token().split('.').nth(1).unwrap().to_owned() + "AAAA"),
            "token_malformed",
        ),
        ("signature changed", format!("{header}.{claims}.{swapped}"), "token_signature"),
        ("signature cut", format!("{header}.{claims}.{}", &signature[..40]), "token_signature"),
        ("signature of zeros", format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([0; 64])), "token_signature"),
    ];
    for (name, token, expected) in cases {
        assert_eq!(reason(&token, &rules()), expected, "{name}");
    }
}

#[test]
fn another_key_under_the_same_kid_and_another_issuers_token_do_not_pass() {
    let other = SigningKey::generate(&SystemRandom::new()).unwrap();
    let good = token();
    let header = part(&good, 0);
    let claims = Value::Object(part(&good, 1)).to_string();
    let forged = other.compact(&Value::Object(header).to_string(), &claims).unwrap();
    assert_eq!(reason(forged.reveal(), &rules()), "token_signature");
    let honest = sign(&mint(), &other).unwrap();
    assert_eq!(reason(honest.reveal(), &rules()), "token_unknown_key");
}

#[test]
fn a_token_of_the_limit_is_read_and_one_byte_more_is_not() {
    let token = token();
    let limit = |max_token| Rules { max_token, ..rules() };
    assert_eq!(reason(&token, &limit(token.len())), "ok");
    assert_eq!(reason(&token, &limit(token.len() - 1)), "token_too_long");
    assert_eq!(peek_issuer(&token, token.len() - 1).map_err(|e| e.reason()), Err("token_too_long"));
    assert_eq!(rules().max_token, 16 * 1024);
}

#[test]
fn the_app_is_named_by_the_issuers_claim_where_the_token_has_it() {
    let named = Rules { app_claim: Some("software_id".into()), ..rules() };
    let app = |claims: serde_json::Value, rules: &Rules| {
        let token = changed(json!({}), claims);
        verify(&token, rules, &KEYS, NOW).map(|who| who.app().to_string()).map_err(|error| error.reason())
    };
    let plain = verify(&token(), &rules(), &KEYS, NOW).unwrap().app().to_string();
    for (claims, expected) in [
        (json!({"software_id": "vendor.mail"}), Ok("vendor.mail".to_owned())),
        // Without the claim the app is its client ID, as for any issuer.
        (json!({}), Ok(plain.clone())),
        (json!({"software_id": 7}), Err("token_claim_type")),
        (json!({"software_id": null}), Err("token_claim_type")),
        (json!({"software_id": ""}), Err("token_app")),
        (json!({"software_id": "two words"}), Err("token_app")),
        (json!({"software_id": "vendor.mail", "azp": "a", "client_id": "b"}), Err("token_app")),
    ] {
        assert_eq!(app(claims.clone(), &named), expected, "{claims}");
    }
    assert_eq!(
        app(json!({"software_id": "vendor.mail"}), &rules()),
        Ok(plain),
        "only where the issuer's rules say so"
    );
}

#[test]
fn the_issuers_list_of_algorithms_and_its_claims_for_user_scope_and_service_account_decide() {
    let only_rsa = Rules { algorithms: vec![Algorithm::Rs256], ..rules() };
    assert_eq!(reason(&token(), &only_rsa), "token_algorithm");
    assert_eq!(reason(&token(), &Rules { algorithms: vec![], ..rules() }), "token_algorithm");
    assert_eq!(reason(&token(), &Rules { audience: vec![], ..rules() }), "token_audience");

    let upn = Rules { user_claim: "upn".into(), ..rules() };
    assert_eq!(reason(&token(), &upn), "token_claim_missing");
    let who = verify(&changed(json!({}), json!({"upn": "Bob@EXAMPLE.com"})), &upn, &KEYS, NOW).unwrap();
    assert_eq!(who.user().as_str(), "Bob@example.com");

    let rule = ClaimRule { claim: "act_as".into(), equals: Some("service".into()) };
    let service = Rules { service_account: Some(rule), ..rules() };
    for (claims, expected) in
        [(json!({"act_as": "service"}), true), (json!({"act_as": "x"}), false), (json!({}), false)]
    {
        let who = verify(&changed(json!({}), claims.clone()), &service, &KEYS, NOW).unwrap();
        assert_eq!(who.service_account(), expected, "{claims}");
    }

    use crate::model::Service::{Imap, Pop};
    let scoped = Rules { scope_imap: vec!["imap".into(), "mail".into()], scope_pop: vec!["pop".into()], ..rules() };
    let both = json!({"scope": "a  pop", "scp": ["b", "imap c"]});
    let who = verify(&changed(json!({}), both), &scoped, &KEYS, NOW).unwrap();
    assert_eq!(who.scopes(), ["a", "pop", "b", "imap", "c"]);
    assert!(scoped.scope_suffices(&who, Imap) && scoped.scope_suffices(&who, Pop));
    let who = verify(&token(), &scoped, &KEYS, NOW).unwrap();
    assert!(scoped.scope_suffices(&who, Imap) && !scoped.scope_suffices(&who, Pop));
    assert!(rules().scope_suffices(&who, Pop));
    assert_eq!(scoped.scope_text(Imap), "imap mail");
}

#[test]
fn an_explanation_lists_every_check_and_agrees_with_the_verdict() {
    let good = diagnose(&token(), &rules(), &KEYS, NOW);
    assert_eq!(good.steps.len(), Check::ALL.len());
    assert!(good.steps.iter().all(|step| matches!(step.outcome, Outcome::Passed(_))), "{good:?}");
    assert!(good.verdict.is_ok());

    let cases = [
        (changed(json!({}), json!({"aud": "x"})), Check::Audience),
        (changed(json!({}), json!({"exp": 1})), Check::Expiry),
        (changed(json!({"kid": "x"}), json!({})), Check::Key),
        (changed(json!({"alg": "none"}), json!({})), Check::Algorithm),
        (changed(json!({}), json!({"email": 1})), Check::User),
        (token() + "AA", Check::Signature),
        ("opaque".into(), Check::Shape),
    ];
    for (token, failing) in cases {
        let told = diagnose(&token, &rules(), &KEYS, NOW);
        assert_eq!(told.verdict, verify(&token, &rules(), &KEYS, NOW));
        let place = told.steps.iter().position(|step| matches!(step.outcome, Outcome::Failed(_))).unwrap();
        assert_eq!(told.steps[place].check, failing, "{told:?}");
        assert!(told.steps[..place].iter().all(|step| matches!(step.outcome, Outcome::Passed(_))));
        assert!(told.steps[place + 1..].iter().all(|step| step.outcome == Outcome::NotReached));
        assert!(told.steps[place].to_string().starts_with("FAIL"));
    }
}

#[test]
fn nothing_a_token_says_begins_a_line_of_its_own_in_a_log_or_an_explanation() {
    let evil = "x\nINFO signed in\u{1b}[2J";
    let members =
        ["iss", "aud", "exp", "nbf", "azp", "client_id", "email", "scope", "token_use", "typ", "nonce", "sub"];
    let mut tokens: Vec<String> = members.iter().map(|name| changed(json!({}), json!({ *name: evil }))).collect();
    tokens.extend([
        changed(json!({}), json!({"cnf": {evil: "x"}})),
        changed(json!({}), json!({evil: {evil: evil}})),
        changed(json!({"kid": evil}), json!({})),
        changed(json!({"alg": evil}), json!({})),
        changed(json!({"typ": evil}), json!({})),
        raw(&format!("{{{0:?}:1,{0:?}:2}}", "x\n"), "{}"),
    ]);
    for token in tokens {
        let told = diagnose(&token, &rules(), &KEYS, NOW);
        let error = told.verdict.as_ref().err().map(ToString::to_string).unwrap_or_default();
        for line in told.steps.iter().map(ToString::to_string).chain([error]) {
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
    let key = json!({"keys": [{"kty": "oct", "kid": evil}]}).to_string();
    assert!(!KeySet::parse(key.as_bytes()).unwrap_err().to_string().contains(char::is_control));
}

#[test]
fn no_error_text_holds_the_token() {
    let secret = "s3cr3tpayload";
    for token in [
        changed(json!({"kid": "x"}), json!({"jti": secret})),
        changed(json!({}), json!({"aud": "other", "jti": secret})),
        format!("{}.x", changed(json!({}), json!({"jti": secret}))),
    ] {
        let error = verify(&token, &rules(), &KEYS, NOW).unwrap_err();
        let (shown, debugged) = (error.to_string(), format!("{error:?}"));
        let signature = token.split('.').nth(2).unwrap();
        assert!(!shown.contains(secret) && !shown.contains(signature) && !debugged.contains(signature));
        assert_eq!(error.blame(), crate::model::Blame::Peer);
    }
}

#[test]
fn the_unverified_issuer_can_be_read_for_choosing_whom_to_ask() {
    let peek = peek_issuer(&token(), 16 * 1024).unwrap();
    assert_eq!((peek.issuer.as_str(), peek.kid.as_deref()), (ISSUER, Some(KEY.kid())));
    let reason = |token: &str| peek_issuer(token, 16 * 1024).map_err(|error| error.reason());
    assert_eq!(reason("ya29.opaque"), Err("token_malformed"));
    assert_eq!(reason(&changed(json!({}), json!({"iss": "-"}))), Err("token_claim_missing"));
    assert_eq!(reason(&changed(json!({}), json!({"iss": 1}))), Err("token_claim_type"));
}

#[test]
fn a_signing_key_survives_its_pem_file() {
    let again = SigningKey::from_pem(KEY.to_pem().reveal()).unwrap();
    assert_eq!(again.kid(), KEY.kid());
    assert_eq!(again.jwks(), KEY.jwks());
    assert_eq!(reason(sign(&mint(), &again).unwrap().reveal(), &rules()), "ok");
    assert_eq!(SigningKey::from_pem("nothing").err(), Some(SignError::Pem));
    let other = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(SigningKey::from_pem(other).err(), Some(SignError::Key));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_text_is_answered_without_a_panic(text in ".{0,300}") {
        let _ = verify(&text, &rules(), &KEYS, NOW);
        let _ = verify(&raw("{\"alg\":\"ES256\"}", &text), &rules(), &KEYS, NOW);
    }

    #[test]
    fn a_token_with_any_one_byte_changed_is_refused(at in 0usize..2000, to in "[A-Za-z0-9_.-]") {
        let mut bytes = token().into_bytes();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != to.as_bytes()[0]);
        bytes[at] = to.as_bytes()[0];
        let mutant = String::from_utf8(bytes).unwrap();
        prop_assert!(verify(&mutant, &rules(), &KEYS, NOW).is_err());
    }
}
