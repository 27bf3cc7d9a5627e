//! Access tokens as an issuer makes them (RFC 9068), and its key set (RFC 7517). Written apart from the gate's own
//! code on purpose: a mistake there must not cancel out here.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::{Value, json};

/// An ES256 key of the issuer.
pub struct SigningKey {
    /// Its `kid`.
    pub kid: String,
    pair: KeyPair,
}

impl SigningKey {
    /// A fresh key by this `kid`.
    pub fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap() }
    }

    /// The public half as a JWK.
    pub fn jwk(&self) -> Value {
        let point = self.pair.der_bytes(); // 0x04, x, y (SEC 1 section 2.3.3)
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
        })
    }

    /// The public half as PEM.
    pub fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// Signs `claims` with `typ: at+jwt`.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as("at+jwt", claims)
    }

    /// Signs `claims` with this `typ`.
    pub fn sign_as(&self, typ: &str, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        header.typ = Some(typ.to_owned());
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&self.pair.serialize_der())).unwrap()
    }
}

/// The key set file that holds these keys.
pub fn jwks(keys: &[&SigningKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

/// Seconds since 1970.
pub fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// The claims of a token for `user` through `app` that ends in `ttl_s` seconds.
pub fn claims(user: &str, app: &str, ttl_s: i64) -> Value {
    let now = now_s();
    json!({
        "iss": super::ISSUER, "aud": super::AUDIENCE, "sub": format!("id-of-{user}"), "email": user,
        "client_id": app, "azp": app, "scope": "openid mail", "jti": super::mail::unique_name(),
        "iat": now.min(now + ttl_s) - 1, "exp": now + ttl_s,
    })
}

/// A token for `user` through `app` that ends in `ttl_s` seconds.
pub fn mint(key: &SigningKey, user: &str, app: &str, ttl_s: i64) -> String {
    key.sign(&claims(user, app, ttl_s))
}
