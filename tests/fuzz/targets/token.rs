//! Tokens: nobody comes in who was not signed in, and a signed token says what its claims say. Input: one letter, then
//! `t` a token; `c` claims that are signed under a header without `typ`, `a` under `at+jwt`; `h` a header that is signed
//! with good claims; `i` an introspection answer; `k` a key set; `e` claims that are signed as a security event token, `l`
//! as a logout token.

use std::sync::LazyLock;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use portcullis::{
    model::{Service, UnixTime},
    token::{
        ClaimRule, Fingerprint, Form, Happening, Identity, KeySet, Rules, Unproved, diagnose, examine_event,
        from_introspection, peek_issuer, verify,
    },
};
use serde_json::Value;

/// Made for this file, and good for nothing else.
const PRIVATE_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg1e6dXXuPZoizHVZQ1qPry6bY2496/WNMbZb955VN7vuhRANCAATBXJ/8N2j1EiEOVSlUA1ogHxIoqBtQzYdGvH+5QABD8TKg27qjib/IQx+tm0rnWjH6OUwF65B+5mBTxO2BGluB";
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"ec","use":"sig","x":"wVyf_Ddo9RIhDlUpVANaIB8SKKgbUM2HRrx_uUAAQ_E","y":"MqDbuqOJv8hDH62bSudaMfo5TAXrkH7mYFPE7YEaW4E"},{"kty":"RSA","kid":"rsa","n":"4RJbKu1OLiDs8P-MN7QLrlIZLqKVjeJbTiyL2tIKV_k58yPJByLlyEtGzBHxQPlC-kRF-vAU9GD2CNbeZSpMxoK_VNDIDa1OAY9F7IvyzdF3f237phLmH7hgqmazStHpO_CVHoc7Rv8-hSHa80QQRfh5y1u1zKYdhvqmeS9PwHnL66vUwZsL-ecJX-N5IJjoNwJla2-iMKP3JhzrkZA8gC7XewXI3t8MHyF6yfIWnpqgko5qMdwjtIjWds3j8KwXTY_k0fDg13-6JPTjYNYDX2Jgl4zYQ6WUmyaM5Dh2xtirsMFynMw8XZxpj0rkVEIgcoydONn8bSjcWJLT397c7w","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"-G6G1zA7QNo7VZEdf3-3j-RdsFcxBJ78h5vfm47rjsE"}]}"#;

const NOW: UnixTime = UnixTime::from_secs(1_790_000_000);
const URL: &str = "https://id.example.com";
const HEADER: &str = r#"{"alg":"ES256","kid":"ec"}"#;
const AT_HEADER: &str = r#"{"alg":"ES256","kid":"ec","typ":"at+jwt"}"#;
const EVENT_HEADER: &str = r#"{"alg":"ES256","kid":"ec","typ":"secevent+jwt"}"#;
const LOGOUT_HEADER: &str = r#"{"alg":"ES256","kid":"ec","typ":"logout+jwt"}"#;
const CLAIMS: &str = r#"{"iss":"https://id.example.com","aud":"portcullis","exp":1790003600,"email":"ann@example.com","client_id":"mail-app"}"#;

struct Setting {
    key: EcdsaKeyPair,
    keys: KeySet,
    rules: [Rules; 2],
    /// Header and claims that were signed by the key's holder: `seeds/token` has tokens with these.
    signed: [String; 2],
}

static SETTING: LazyLock<Setting> = LazyLock::new(|| {
    let der = STANDARD.decode(PRIVATE_KEY).expect("base64");
    let plain = Rules::new(URL, ["portcullis", "other"]);
    let special = Rules {
        user_claim: "upn".into(),
        fold_local_part: true,
        service_account: Some(ClaimRule { claim: "gty".into(), equals: Some("svc".into()) }),
        introspection_needs_audience: false,
        scope_imap: vec!["mail".into()],
        ..plain.clone()
    };
    Setting {
        key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).expect("a key"),
        keys: KeySet::parse(KEYS.as_bytes()).expect("keys").0,
        rules: [plain, special],
        signed: [HEADER, AT_HEADER].map(|header| signing_input(header.as_bytes(), CLAIMS.as_bytes())),
    }
});

pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind {
        b't' => token(rest),
        b'c' => claims(HEADER, rest),
        b'a' => claims(AT_HEADER, rest),
        b'h' => header(rest),
        b'i' => introspection(rest),
        b'k' => key_set(rest),
        b'e' => event(EVENT_HEADER, Form::SecurityEvent, rest),
        b'l' => event(LOGOUT_HEADER, Form::Logout, rest),
        _ => {}
    }
}

fn signing_input(header: &[u8], claims: &[u8]) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

fn sign(header: &[u8], claims: &[u8]) -> String {
    let input = signing_input(header, claims);
    let signature = SETTING.key.sign(&SystemRandom::new(), input.as_bytes()).expect("a signature");
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The identity under the first or second rules. `explain` and `verify` never disagree.
fn read(token: &str, rules: &Rules) -> Option<Identity> {
    let verdict = verify(token, rules, &SETTING.keys, NOW);
    let peeked = peek_issuer(token, rules.max_token);
    let diagnosis = diagnose(token, rules, &SETTING.keys, NOW);
    assert_eq!(diagnosis.verdict, verdict);
    diagnosis.steps.iter().for_each(|step| assert!(!step.to_string().is_empty()));
    match verdict {
        Ok(identity) => {
            assert_eq!(peeked.map(|peek| peek.issuer).as_deref(), Ok(URL));
            assert!(identity.check_time(NOW).is_ok());
            Some(identity)
        }
        Err(error) => {
            assert!(error.to_string().len() < 64 * 1024 && error.reason().starts_with("token_"), "{error}");
            let _ = error.blame();
            None
        }
    }
}

fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for rules in &SETTING.rules {
        if read(&text, rules).is_some() {
            let (input, _) = text.rsplit_once('.').expect("a signature");
            assert!(SETTING.signed.iter().any(|signed| signed == input), "a forged token was believed: {text}");
        }
    }
}

fn claims(header: &str, bytes: &[u8]) {
    let token = sign(header.as_bytes(), bytes);
    for rules in &SETTING.rules {
        let Some(identity) = read(&token, rules) else { continue };
        let claims: Value = serde_json::from_slice(bytes).expect("JSON");
        said(&identity, &claims, rules, true);
        assert_eq!(claims["iss"], URL);
        assert_eq!(identity.key(), "ec");
        if header == HEADER {
            let foreign = ["nonce", "at_hash", "c_hash", "s_hash", "events"];
            assert!(foreign.iter().all(|name| claims.get(name).is_none()), "an ID token was believed");
        }
    }
}

fn header(bytes: &[u8]) {
    let Some(identity) = read(&sign(bytes, CLAIMS.as_bytes()), &SETTING.rules[0]) else { return };
    let header: Value = serde_json::from_slice(bytes).expect("JSON");
    assert_eq!(header["alg"], "ES256");
    assert!(header.get("crit").is_none());
    assert!(header.get("kid").is_none_or(|kid| kid == "ec"), "{header}");
    let typ = header.get("typ").map(|typ| typ.as_str().expect("a string").to_ascii_lowercase());
    let known = ["at+jwt", "application/at+jwt", "jwt", "application/jwt"];
    assert!(typ.is_none_or(|typ| known.contains(&&*typ)));
    assert_eq!(identity.user().as_str(), "ann@example.com");
}

fn introspection(bytes: &[u8]) {
    for rules in &SETTING.rules {
        match from_introspection(bytes, rules, Fingerprint::of("opaque"), NOW) {
            Ok(identity) => {
                let answer: Value = serde_json::from_slice(bytes).expect("JSON");
                assert_eq!(answer["active"], true);
                said(&identity, &answer, rules, rules.introspection_needs_audience);
            }
            Err(error) => assert!(error.to_string().len() < 64 * 1024 && !error.reason().is_empty()),
        }
    }
}

/// Read by another reader, the claims say the same.
fn said(identity: &Identity, claims: &Value, rules: &Rules, needs_audience: bool) {
    let address = claims[&rules.user_claim].as_str().expect("a user");
    let (local, domain) = address.split_once('@').expect("an address");
    let domain = domain.to_ascii_lowercase();
    let local = if rules.fold_local_part { local.to_ascii_lowercase() } else { local.to_owned() };
    assert_eq!(identity.user().as_str(), format!("{local}@{domain}"));
    let apps: Vec<&str> = ["azp", "client_id"].iter().filter_map(|name| claims.get(name)?.as_str()).collect();
    assert!(!apps.is_empty() && apps.iter().all(|app| *app == identity.app().as_str()));
    let ours = |name: &Value| rules.audience.iter().any(|ours| name == ours.as_str());
    match claims.get("aud") {
        Some(Value::Array(list)) => assert!(list.iter().any(ours)),
        Some(one) => assert!(ours(one)),
        None => assert!(!needs_audience),
    }
    let now = NOW.secs() as f64;
    let time = |name: &str| claims.get(name).map(|time| time.as_f64().expect("a number"));
    assert!(time("exp").is_some_and(|exp| exp > now - 31.0));
    assert!(time("nbf").is_none_or(|nbf| nbf < now + 61.0) && time("iat").is_none_or(|iat| iat < now + 61.0));
    assert!(claims.get("cnf").is_none(), "a bound token is no bearer token");
    if rules.user_claim == "email" {
        assert_ne!(claims.get("email_verified"), Some(&Value::Bool(false)));
    }
    let _ = rules.scope_suffices(identity, Service::Imap);
}

/// An event says what its claims say, and is of one kind alone.
fn event(header: &str, form: Form, bytes: &[u8]) {
    let token = sign(header.as_bytes(), bytes);
    let read = |form| examine_event(&token, form, &SETTING.rules[0], &SETTING.keys, NOW).and_then(Unproved::prove);
    let other = if form == Form::Logout { Form::SecurityEvent } else { Form::Logout };
    assert!(read(other).is_err() && verify(&token, &SETTING.rules[0], &SETTING.keys, NOW).is_err());
    match read(form) {
        Ok(told) => {
            let claims: Value = serde_json::from_slice(bytes).expect("JSON");
            assert_eq!((told.issuer(), told.key()), (URL, "ec"));
            assert_eq!((claims["iss"].as_str(), claims["jti"].as_str()), (Some(URL), Some(told.id())));
            assert!(claims.get("nonce").is_none());
            let said = claims["events"].as_object().expect("events").len();
            assert!((1..=16).contains(&said) && told.events().len() + told.ignored().len() <= said);
            let latest = NOW + std::time::Duration::from_secs(60);
            for event in told.events() {
                assert!(event.at <= latest && (event.whom.is_some() || event.what == Happening::Verification));
            }
        }
        Err(error) => assert!(error.to_string().len() < 64 * 1024 && error.reason().starts_with("token_")),
    }
}

fn key_set(bytes: &[u8]) {
    match KeySet::parse(bytes) {
        Ok((keys, skipped)) => {
            assert!(!keys.keys().is_empty());
            for key in keys.keys() {
                assert!(keys.contains(key.thumbprint()) && keys.names(key.name()) && !key.name().is_empty());
            }
            skipped.iter().for_each(|key| assert!(!key.to_string().is_empty()));
            let token = sign(HEADER.as_bytes(), CLAIMS.as_bytes());
            let _ = verify(&token, &SETTING.rules[0], &keys, NOW);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
