//! SASL responses, as sent, in base64, and made of parts. Input: bytes; a line end cuts a name from a token.

use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis::sasl::{
    Bearer, Failure, MAX_RESPONSE, MAX_TOKEN, Mechanism, challenge, is_password_mechanism, parse,
};

pub fn run(data: &[u8]) {
    let encoded = STANDARD.encode(data);
    for mechanism in Mechanism::ALL {
        if let Ok(bearer) = parse(mechanism, data) {
            let decoded = STANDARD.decode(data).expect("it was base64");
            believed(&bearer, &decoded);
            assert_eq!(STANDARD.encode(&decoded).as_bytes(), data, "one response, one spelling");
        }
        if let Ok(bearer) = parse(mechanism, encoded.as_bytes()) {
            believed(&bearer, data);
        }
    }
    let Ok(text) = str::from_utf8(data) else { return };
    assert!(!is_password_mechanism(text) || Mechanism::from_name(text).is_none());
    written(text);
    let (user, token) = text.split_once('\n').unwrap_or((text, "token"));
    round(user, token);
}

/// What was read stands in the response.
fn believed(bearer: &Bearer, decoded: &[u8]) {
    let token = bearer.token.reveal();
    assert!(decoded.len() <= MAX_RESPONSE && !token.is_empty() && token.len() <= MAX_TOKEN);
    assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b)));
    assert!(memchr::memmem::find(decoded, token.as_bytes()).is_some());
    assert!(decoded.ends_with(b"\x01\x01") && !decoded.contains(&0));
    if let Some(user) = &bearer.user {
        assert!(!user.is_empty() && user.len() <= 1024 && !user.contains(['\0', '\x01']));
    }
}

/// A response made by the rules is read as it was meant.
fn round(user: &str, token: &str) {
    let escaped = user.replace('=', "=3D").replace(',', "=2C");
    // Without the separator in it, no part can pass for another.
    let plain = !format!("{user}{token}").contains('\x01');
    let body = token.trim_start_matches(' ').trim_end_matches('=');
    let fits = (1..=1024).contains(&escaped.len())
        && !user.contains('\0')
        && (1..=MAX_TOKEN).contains(&token.len())
        && !body.is_empty()
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b));
    for (mechanism, response) in [
        (Mechanism::Xoauth2, format!("user={user}\x01auth=Bearer {token}\x01\x01")),
        (Mechanism::OauthBearer, format!("n,a={escaped},\x01host=h\x01port=993\x01auth=Bearer {token}\x01\x01")),
    ] {
        match parse(mechanism, STANDARD.encode(&response).as_bytes()) {
            Ok(bearer) if plain => {
                let read = (bearer.user.as_deref(), bearer.token.reveal());
                assert_eq!(read, (Some(user), token.trim_start_matches(' ')));
            }
            Ok(_) => {}
            Err(error) => assert!(!plain || !fits, "{error}: {response:?}"),
        }
    }
}

/// The error challenge is JSON whatever the scope is.
fn written(scope: &str) {
    for mechanism in Mechanism::ALL {
        let sent = challenge(mechanism, Failure::InsufficientScope, scope, Some(scope));
        let body: serde_json::Value =
            serde_json::from_slice(&STANDARD.decode(sent).expect("base64")).expect("JSON");
        assert!(scope.is_empty() || body["scope"] == scope);
    }
}
