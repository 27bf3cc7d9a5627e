//! Key sets keep what can be trusted to verify, skip the rest alone, and every algorithm verifies with its own key
//! only.

use aws_lc_rs::{
    rsa::KeySize,
    signature::{
        self, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair,
    },
};

use super::*;

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn set(keys: Value) -> Result<(KeySet, Vec<SkippedKey>), KeySetError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

/// The test's own P-256 key as JWK, with members changed.
fn good_key(changes: Value) -> Value {
    let whole: Value = serde_json::from_str(&KEY.jwks()).unwrap();
    let mut members = whole["keys"][0].as_object().unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        members.insert(name.clone(), value.clone());
        if value == "-" {
            members.remove(name);
        }
    }
    Value::Object(members)
}

fn rsa_jwk(pair: &RsaKeyPair, kid: &str) -> Value {
    let public = pair.public_key();
    let n: Vec<u8> = public.modulus().big_endian_without_leading_zero().to_vec();
    let e: Vec<u8> = public.exponent().big_endian_without_leading_zero().to_vec();
    json!({"kty": "RSA", "kid": kid, "n": b64(&n), "e": b64(&e)})
}

fn ec(alg: &'static EcdsaSigningAlgorithm, crv: &str, size: usize) -> (EcdsaKeyPair, Value) {
    let pair = EcdsaKeyPair::generate(alg).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let (x, y) = point[1..].split_at(size);
    (pair, json!({"kty": "EC", "crv": crv, "kid": crv, "x": b64(x), "y": b64(y)}))
}

#[test]
fn every_algorithm_verifies_with_its_own_key_and_with_no_other() {
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let (p384, p384_jwk) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48);
    let (p521, p521_jwk) = ec(&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521", 66);
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(ed.public_key().as_ref())});
    let (keys, skipped) =
        set(json!([rsa_jwk(&rsa, "rsa"), p384_jwk, p521_jwk, ed_jwk, good_key(json!({"kid": "P-256"}))])).unwrap();
    assert_eq!(skipped, []);

    let claims = b64(Value::Object(part(&token(), 1)).to_string().as_bytes());
    let with = |alg: &str, kid: &str, make: &dyn Fn(&[u8]) -> Vec<u8>| {
        let header = b64(json!({"alg": alg, "kid": kid}).to_string().as_bytes());
        let signed = format!("{header}.{claims}");
        let signature = b64(&make(signed.as_bytes()));
        verify(&format!("{signed}.{signature}"), &rules(), &keys, NOW).map_or_else(|e| e.reason(), |_| "ok")
    };
    let rsa_with = |encoding: &'static dyn signature::RsaEncoding| {
        let rsa = &rsa;
        move |bytes: &[u8]| {
            let mut signature = vec![0; rsa.public_modulus_len()];
            rsa.sign(encoding, &SystemRandom::new(), bytes, &mut signature).unwrap();
            signature
        }
    };
    assert_eq!(with("RS256", "rsa", &rsa_with(&signature::RSA_PKCS1_SHA256)), "ok");
    assert_eq!(with("RS384", "rsa", &rsa_with(&signature::RSA_PKCS1_SHA384)), "ok");
    assert_eq!(with("RS512", "rsa", &rsa_with(&signature::RSA_PKCS1_SHA512)), "ok");
    assert_eq!(with("PS256", "rsa", &rsa_with(&signature::RSA_PSS_SHA256)), "ok");
    assert_eq!(with("PS384", "rsa", &rsa_with(&signature::RSA_PSS_SHA384)), "ok");
    assert_eq!(with("PS512", "rsa", &rsa_with(&signature::RSA_PSS_SHA512)), "ok");
    assert_eq!(with("PS256", "rsa", &rsa_with(&signature::RSA_PKCS1_SHA256)), "token_signature");
    assert_eq!(with("ES256", "rsa", &rsa_with(&signature::RSA_PKCS1_SHA256)), "token_algorithm");
    let es = |pair: &EcdsaKeyPair, bytes: &[u8]| pair.sign(&random, bytes).unwrap().as_ref().to_vec();
    assert_eq!(with("ES384", "P-384", &|bytes| es(&p384, bytes)), "ok");
    assert_eq!(with("ES512", "P-521", &|bytes| es(&p521, bytes)), "ok");
    assert_eq!(with("ES512", "P-521", &|bytes| es(&p384, bytes)), "token_signature");
    assert_eq!(with("ES512", "P-384", &|bytes| es(&p384, bytes)), "token_algorithm");
    assert_eq!(with("EdDSA", "ed", &|bytes| ed.sign(bytes).as_ref().to_vec()), "ok");
    assert_eq!(with("Ed25519", "ed", &|bytes| ed.sign(bytes).as_ref().to_vec()), "ok");
    assert_eq!(with("EdDSA", "P-256", &|bytes| ed.sign(bytes).as_ref().to_vec()), "token_algorithm");
    // The oldest attack: the public key as an HMAC secret (RFC 8725 section 2.1).
    assert_eq!(with("HS256", "rsa", &|bytes| bytes.to_vec()), "token_algorithm");
}

#[test]
fn published_signatures_verify() {
    let cases = [
        (
            "RFC 7515 appendix A.3",
            json!({"kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
            Algorithm::Es256,
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            "RFC 8037 appendix A.4",
            json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
            Algorithm::EdDsa,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ];
    for (name, jwk, algorithm, signed, signature) in cases {
        let (keys, _) = set(json!([jwk])).unwrap();
        assert!(keys.keys()[0].verifies(algorithm, signed, signature), "{name}");
        assert!(!keys.keys()[0].verifies(algorithm, &format!("{signed}A"), signature), "{name}");
    }
}

#[test]
fn a_key_without_a_name_goes_by_its_rfc_7638_thumbprint() {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let (keys, _) = set(json!([{"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256"}])).unwrap();
    assert_eq!(keys.keys()[0].name(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    let ed =
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "a"});
    let (keys, _) = set(json!([ed])).unwrap();
    assert_eq!(keys.keys()[0].name(), "a");
    assert_eq!(keys.keys()[0].thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");

    let (keys, _) = set(json!([good_key(json!({"kid": "-"}))])).unwrap();
    assert!(verify(&token(), &rules(), &keys, NOW).is_ok(), "the token's kid is the thumbprint");
}

#[test]
fn an_unusable_key_is_skipped_alone_and_says_why() {
    let weak = json!({"kty": "RSA", "kid": "weak", "n": b64(&[0xc1; 128]), "e": "AQAB"});
    let even = json!({"kty": "RSA", "kid": "even", "n": b64(&[0xc1; 256]), "e": "AQAA"});
    let zero = json!({"kty": "RSA", "kid": "zero", "n": b64(&[&[0][..], &[0xc1; 256]].concat()), "e": "AQAB"});
    let cases = [
        ("for encryption", good_key(json!({"use": "enc"})), "use"),
        ("operations without verify", good_key(json!({"key_ops": ["sign"]})), "key_ops"),
        ("operations of the wrong type", good_key(json!({"key_ops": "verify"})), "key_ops"),
        ("alg of encryption", good_key(json!({"alg": "RSA-OAEP"})), "alg"),
        ("alg of another curve", good_key(json!({"alg": "ES384"})), "alg"),
        ("alg HMAC", good_key(json!({"alg": "HS256"})), "alg"),
        ("private part", good_key(json!({"d": "AAAA"})), "private"),
        ("symmetric", json!({"kty": "oct", "k": "AAAA"}), "symmetric"),
        ("unknown type", json!({"kty": "AKP", "pub": "AAAA"}), "type"),
        ("no type", json!({"n": "AAAA"}), "type"),
        ("no object", json!("key"), "object"),
        ("kid empty", good_key(json!({"kid": ""})), "kid"),
        ("kid a number", good_key(json!({"kid": 1})), "wrong type"),
        ("weak RSA", weak, "bits"),
        ("even exponent", even, "RSA"),
        ("leading zero", zero, "zero byte"),
        ("point off the curve", good_key(json!({"x": b64(&[1; 32])})), "curve"),
        ("short coordinate", good_key(json!({"x": b64(&[1; 31])})), "length"),
        ("unknown curve", good_key(json!({"crv": "secp256k1"})), "curve"),
        ("coordinate with padding", good_key(json!({"x": format!("{}=", b64(&[1; 32]))})), "base64url"),
        ("no coordinate", good_key(json!({"y": "-"})), "missing"),
        ("X25519", json!({"kty": "OKP", "crv": "X25519", "x": b64(&[9; 32])}), "curve"),
    ];
    for (name, bad, word) in cases {
        let (keys, skipped) = set(json!([bad, good_key(json!({}))])).unwrap();
        assert_eq!((keys.keys().len(), skipped.len()), (1, 1), "{name}");
        assert!(skipped[0].problem.contains(word), "{name}: {}", skipped[0]);
        assert!(matches!(set(json!([bad])), Err(KeySetError::NoKey { .. })), "{name} alone");
    }
}

#[test]
fn of_two_keys_with_one_name_the_first_stands_unless_their_algorithms_differ() {
    let other = SigningKey::generate(&SystemRandom::new()).unwrap();
    let other: Value = serde_json::from_str(&other.jwks()).unwrap();
    let mut other = other["keys"][0].clone();
    other["kid"] = json!(KEY.kid());
    let (keys, skipped) = set(json!([good_key(json!({})), other])).unwrap();
    assert_eq!((keys.keys().len(), skipped.len()), (1, 1));
    assert!(keys.contains(KEY.kid()));

    let rsa = rsa_jwk(&RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), KEY.kid());
    let (keys, skipped) = set(json!([rsa, good_key(json!({}))])).unwrap();
    assert_eq!((keys.keys().len(), skipped.len()), (2, 0));
    assert!(verify(&token(), &rules(), &keys, NOW).is_ok());
}

#[test]
fn a_token_that_names_no_key_needs_exactly_one_that_fits() {
    let nameless = changed(json!({"kid": "-"}), json!({}));
    let other = SigningKey::generate(&SystemRandom::new()).unwrap();
    let other: Value = serde_json::from_str(&other.jwks()).unwrap();
    let (two, _) = set(json!([good_key(json!({})), other["keys"][0]])).unwrap();
    let error = verify(&nameless, &rules(), &two, NOW).unwrap_err();
    assert_eq!(error, TokenError::KeyNotNamed { candidates: 2, issuer: ISSUER.into() });
    let rsa = rsa_jwk(&RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), "rsa");
    let (mixed, _) = set(json!([rsa, good_key(json!({}))])).unwrap();
    assert!(verify(&nameless, &rules(), &mixed, NOW).is_ok());
}

#[test]
fn bytes_that_are_no_key_set_are_refused_whole() {
    let parse = |text: &str| KeySet::parse(text.as_bytes()).map(|_| ());
    assert_eq!(parse("{}"), Err(KeySetError::NoList));
    assert_eq!(parse("{\"keys\":{}}"), Err(KeySetError::NoList));
    assert_eq!(parse("{\"keys\":[]}"), Err(KeySetError::NoKey { skipped: vec![] }));
    assert_eq!(parse("<html>"), Err(KeySetError::Json(JsonError::Syntax)));
    assert!(matches!(parse("{\"keys\":[],\"keys\":[]}"), Err(KeySetError::Json(JsonError::Duplicate { .. }))));
    let padded = |length: usize| format!("{}{}", KEY.jwks(), " ".repeat(length - KEY.jwks().len()));
    assert!(parse(&padded(1024 * 1024)).is_ok());
    assert!(matches!(parse(&padded(1024 * 1024 + 1)), Err(KeySetError::TooLong { .. })));
}
