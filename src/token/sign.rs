//! Signing tokens with a key of our own, for the demonstration, `portcullis token` and tests: ES256, `typ: at+jwt`
//! (RFC 9068).

use std::time::Duration;

use aws_lc_rs::{
    rand::SecureRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{
    EncodingKey,
    jwk::{Jwk, ThumbprintHash},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::model::{Secret, UnixTime};

/// A private key on P-256, whose `kid` is its RFC 7638 thumbprint.
pub struct SigningKey {
    pkcs8: Zeroizing<Vec<u8>>,
    key: EncodingKey,
    kid: String,
    public: Map<String, Value>,
}

/// Why a key could not be used for signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The text has no `BEGIN PRIVATE KEY` block.
    #[error("there is no PEM block \"PRIVATE KEY\" (PKCS #8) in the file")]
    Pem,
    /// The key is of another kind, or damaged.
    #[error("the key is not a private key on the curve P-256")]
    Key,
    /// The crypto library failed.
    #[error("the crypto library could not make a key or a signature")]
    Crypto,
}

impl SigningKey {
    /// A new key, made from `random`.
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, SignError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, random)
            .map_err(|_| SignError::Crypto)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads what [`SigningKey::to_pem`] writes, or any other PKCS #8 key on P-256 (RFC 5958, RFC 7468).
    pub fn from_pem(text: &str) -> Result<Self, SignError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| SignError::Pem)?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, SignError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| SignError::Key)?;
        let point = pair.public_key().as_ref();
        let (x, y) = point.get(1..).and_then(|rest| rest.split_at_checked(32)).ok_or(SignError::Key)?;
        let required = json!({
            "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        let jwk: Jwk = serde_json::from_value(required.clone()).map_err(|_| SignError::Key)?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| SignError::Key)?;
        let Value::Object(mut public) = required else { return Err(SignError::Key) };
        for (name, value) in [("kid", kid.as_str()), ("use", "sig"), ("alg", "ES256")] {
            public.insert(name.into(), value.into());
        }
        Ok(Self { pkcs8: Zeroizing::new(der.to_vec()), key: EncodingKey::from_ec_der(der), kid, public })
    }

    /// The private key as PKCS #8 in PEM. The caller writes it where only its owner can read it.
    pub fn to_pem(&self) -> Secret {
        let body = Zeroizing::new(STANDARD.encode(&*self.pkcs8));
        let mut text = String::from("-----BEGIN PRIVATE KEY-----\n");
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, behind) = rest.split_at_checked(64).unwrap_or((rest, ""));
            text.push_str(line);
            text.push('\n');
            rest = behind;
        }
        text.push_str("-----END PRIVATE KEY-----\n");
        Secret::new(text)
    }

    /// The `kid` that tokens signed with this key carry.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Signs a header and claims just as they are, in the compact serialization of RFC 7515 section 3.1.
    pub(super) fn compact(&self, header: &str, claims: &str) -> Result<Secret, SignError> {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, jsonwebtoken::Algorithm::ES256)
            .map_err(|_| SignError::Crypto)?;
        Ok(Secret::new(format!("{signed}.{signature}")))
    }

    /// The public key as a JWK Set of one key, ready for `jwks.json`.
    pub fn jwks(&self) -> String {
        format!("{:#}\n", json!({ "keys": [self.public] }))
    }
}

/// What a token is to say.
#[derive(Clone, Debug)]
pub struct Mint {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: Vec<String>,
    /// The name of the claim for the user: the issuer's `user_claim`.
    pub user_claim: String,
    /// The user's address; also `sub`.
    pub user: String,
    /// `client_id`.
    pub app: String,
    /// `scope`; empty: left out.
    pub scope: String,
    /// `iat`.
    pub issued_at: UnixTime,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
    /// `jti`: 128 random bits or more, in any printable form.
    pub id: String,
    /// More claims; one of these replaces one of the above.
    pub extra: Map<String, Value>,
}

/// Signs a token: ES256, `typ: at+jwt`, with the claims of RFC 9068 section 2.2.
pub fn sign(mint: &Mint, key: &SigningKey) -> Result<Secret, SignError> {
    let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": key.kid });
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.into(), value);
    put("iss", json!(mint.issuer));
    put("aud", json!(mint.audience));
    put("sub", json!(mint.user));
    put(&mint.user_claim, json!(mint.user));
    put("client_id", json!(mint.app));
    put("iat", json!(mint.issued_at.secs()));
    put("exp", json!((mint.issued_at + mint.lifetime).secs()));
    put("jti", json!(mint.id));
    if !mint.scope.is_empty() {
        put("scope", json!(mint.scope));
    }
    claims.extend(mint.extra.clone());
    key.compact(&header.to_string(), &Value::Object(claims).to_string())
}
