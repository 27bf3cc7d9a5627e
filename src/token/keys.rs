//! An issuer's public keys, from a JWK Set (RFC 7517). A key that cannot be used is skipped alone, with the reason.

use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey,
    jwk::{Jwk, ThumbprintHash},
};
use serde_json::{Map, Value};

use super::{Algorithm, JsonError, TokenError, error::short, json, jws::MAX_KID};

/// Largest key set that is ever read, in bytes. Whoever reads one for us has a lower limit, which can be set.
pub(super) const MAX_SET: usize = 1024 * 1024;
/// Deepest nesting of a key set: a key is an object in a list in an object, and may have lists in it.
const MAX_DEPTH: usize = 16;

/// The usable keys of one issuer: at least one if it was read, none by default.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// One usable key. A clone shares the contents.
#[derive(Clone, Debug)]
pub struct Key(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    /// `kid`, or the thumbprint of a key without.
    name: Arc<str>,
    thumbprint: Arc<str>,
    /// What it may verify: all algorithms of its type, or the one that its `alg` names.
    algorithms: Vec<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    /// Checked by jsonwebtoken.
    Library(DecodingKey),
    /// An uncompressed point of P-521, which jsonwebtoken does not know.
    P521(Vec<u8>),
}

/// A key that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {position} ({}) skipped: {problem}", .kid.as_deref().unwrap_or("no kid"))]
pub struct SkippedKey {
    /// Its place in the set, from 1.
    pub position: usize,
    /// Its `kid`, cut at 100 characters.
    pub kid: Option<String>,
    /// Why it cannot be used.
    pub problem: &'static str,
}

/// Why bytes are not a usable key set. Nothing of an earlier set is given up for one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Over the limit.
    #[error("the key set has {length} bytes (limit {limit})")]
    TooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Not one JSON object.
    #[error("the key set {0}")]
    Json(#[from] JsonError),
    /// No list `keys` (RFC 7517 section 5.1).
    #[error("the key set has no list named \"keys\"")]
    NoList,
    /// Not one key can be used.
    #[error("the key set has no usable key{}", list(.skipped))]
    NoKey {
        /// Those that were there.
        skipped: Vec<SkippedKey>,
    },
}

fn list(skipped: &[SkippedKey]) -> String {
    skipped.iter().take(5).map(|key| format!("; {key}")).collect()
}

impl KeySet {
    /// Reads a JWK Set, RFC 7517 section 5.
    ///
    /// Kept are asymmetric signature keys: `use` absent or `sig`, `key_ops` absent or with `verify`, `alg` absent
    /// or one of [`Algorithm`] that fits the key, RSA of 2048 to 8192 bits, points on P-256, P-384, P-521, Ed25519.
    /// A key published with its private part is no secret any more and is skipped. Of two keys with one `kid` that
    /// could verify one algorithm the first stands.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Vec<SkippedKey>), KeySetError> {
        if bytes.len() > MAX_SET {
            return Err(KeySetError::TooLong { length: bytes.len(), limit: MAX_SET });
        }
        let members = json::object(bytes, MAX_DEPTH)?;
        let Some(Value::Array(entries)) = members.get("keys") else { return Err(KeySetError::NoList) };
        let mut set = Self::default();
        let mut skipped = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let read = Key::read(entry).and_then(|key| set.admit(key));
            if let Err(problem) = read {
                let kid = entry.get("kid").and_then(Value::as_str).map(short);
                skipped.push(SkippedKey { position: index + 1, kid, problem });
            }
        }
        if set.keys.is_empty() {
            return Err(KeySetError::NoKey { skipped });
        }
        Ok((set, skipped))
    }

    fn admit(&mut self, key: Key) -> Result<(), &'static str> {
        let overlaps = |other: &Key| {
            other.name() == key.name() && other.0.algorithms.iter().any(|algorithm| key.fits(*algorithm))
        };
        if self.keys.iter().any(overlaps) {
            return Err("another key before it has the same kid");
        }
        self.keys.push(key);
        Ok(())
    }

    /// The keys, in the set's order.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// True if a key with this RFC 7638 thumbprint is in the set.
    pub fn contains(&self, thumbprint: &str) -> bool {
        self.keys.iter().any(|key| key.thumbprint() == thumbprint)
    }

    /// True if a key has this name.
    pub fn names(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.name() == kid)
    }

    /// The key for a token's header. A token without `kid` gets a key only if exactly one could have signed it.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm, issuer: &str) -> Result<&Key, TokenError> {
        let Some(kid) = kid else {
            let mut fitting = self.keys.iter().filter(|key| key.fits(algorithm));
            return match (fitting.next(), fitting.count()) {
                (Some(key), 0) => Ok(key),
                (first, more) => Err(TokenError::KeyNotNamed {
                    candidates: more + usize::from(first.is_some()),
                    issuer: issuer.into(),
                }),
            };
        };
        let named = || self.keys.iter().filter(|key| key.name() == kid);
        match named().find(|key| key.fits(algorithm)) {
            Some(key) => Ok(key),
            None if named().next().is_some() => {
                Err(TokenError::KeyAlgorithm { key: short(kid), alg: algorithm.name() })
            }
            None => Err(TokenError::UnknownKey { kid: short(kid), issuer: issuer.into() }),
        }
    }
}

impl Key {
    /// Its `kid`, or its thumbprint if it has none.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// RFC 7638 thumbprint, SHA-256, base64url: the same for the same key, whatever its `kid`.
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    pub(super) fn shared_names(&self) -> (Arc<str>, Arc<str>) {
        (self.0.name.clone(), self.0.thumbprint.clone())
    }

    /// Whether it may verify signatures of this algorithm: the key decides, not the token (RFC 8725 section 3.1).
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.0.algorithms.contains(&algorithm)
    }

    /// Whether `signature` (base64url) over `signed` is this key's. Tens of microseconds and more: not for an I/O
    /// thread.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &str, signature: &str) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        match (&self.0.material, algorithm.library()) {
            (Material::Library(key), Some(algorithm)) => {
                jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, algorithm).unwrap_or(false)
            }
            (Material::P521(point), None) => URL_SAFE_NO_PAD.decode(signature).is_ok_and(|signature| {
                ECDSA_P521_SHA512_FIXED.verify_sig(point, signed.as_bytes(), &signature).is_ok()
            }),
            _ => false,
        }
    }

    fn read(entry: &Value) -> Result<Self, &'static str> {
        let members = entry.as_object().ok_or("it is not a JSON object")?;
        let text = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err("a member has the wrong type"),
        };
        if ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|name| members.contains_key(*name)) {
            return Err("it is published with its private part, so anyone can sign with it");
        }
        if text("use")?.is_some_and(|purpose| purpose != "sig") {
            return Err("its use is not \"sig\"");
        }
        match members.get("key_ops") {
            None => {}
            Some(Value::Array(uses)) if uses.iter().any(|purpose| purpose == "verify") => {}
            Some(_) => return Err("its key_ops does not list \"verify\""),
        }
        let kid = text("kid")?;
        if kid.is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID) {
            return Err("its kid is empty or longer than 512 bytes");
        }
        let (fitting, point) = match text("kty")? {
            Some("RSA") => (rsa(members)?, None),
            Some("EC") => curve(members)?,
            Some("OKP") => (edwards(members)?, None),
            Some("oct") => return Err("it is a symmetric key"),
            _ => return Err("its key type is unknown"),
        };
        let algorithms = match text("alg")? {
            None => fitting.to_vec(),
            Some(name) => match Algorithm::from_name(name) {
                Some(algorithm) if fitting.contains(&algorithm) => vec![algorithm],
                _ => return Err("its alg is not a signature algorithm that fits it"),
            },
        };
        let jwk = only_key_members(members)?;
        let thumbprint: Arc<str> =
            jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| "its members do not make a key")?.into();
        let material = match point {
            Some(point) => Material::P521(point),
            None => Material::Library(DecodingKey::from_jwk(&jwk).map_err(|_| "its members do not make a key")?),
        };
        let name = kid.map_or_else(|| thumbprint.clone(), Arc::from);
        Ok(Self(Arc::new(Parts { name, thumbprint, algorithms, material })))
    }
}

/// The members that RFC 7638 section 3.2 calls required, as jsonwebtoken reads them; the rest of the entry cannot
/// disturb.
fn only_key_members(members: &Map<String, Value>) -> Result<Jwk, &'static str> {
    let kept: Map<String, Value> = members
        .iter()
        .filter(|(name, _)| ["kty", "crv", "x", "y", "n", "e"].contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    serde_json::from_value(Value::Object(kept)).map_err(|_| "its members do not make a key")
}

fn number(members: &Map<String, Value>, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = members.get(name).and_then(Value::as_str).ok_or("a member of the key is missing")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "a member of the key is not base64url")
}

/// RSA: 2048 bits or more (RFC 7518 section 3.3), an odd exponent of at least 3, both without leading zeros
/// (section 6.3.1).
fn rsa(members: &Map<String, Value>) -> Result<&'static [Algorithm], &'static str> {
    let (n, e) = (number(members, "n")?, number(members, "e")?);
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if n.first() == Some(&0) || e.first() == Some(&0) {
        return Err("its modulus or exponent begins with a zero byte");
    }
    if !(2048..=8192).contains(&bits) {
        return Err("its modulus does not have 2048 to 8192 bits");
    }
    if e.last().is_none_or(|last| last % 2 == 0) || e == [1] || n.last().is_some_and(|last| last % 2 == 0) {
        return Err("its modulus or exponent is no RSA key's");
    }
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| "its modulus or exponent is no RSA key's")?;
    use Algorithm::*;
    Ok(&[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512])
}

/// EC: coordinates of full length (RFC 7518 section 6.2.1), the point on the curve. Also the point, for P-521.
fn curve(members: &Map<String, Value>) -> Result<(&'static [Algorithm], Option<Vec<u8>>), &'static str> {
    let (verifier, length, fitting): (&'static dyn VerificationAlgorithm, usize, &'static [Algorithm]) =
        match members.get("crv").and_then(Value::as_str) {
            Some("P-256") => (&ECDSA_P256_SHA256_FIXED, 32, &[Algorithm::Es256]),
            Some("P-384") => (&ECDSA_P384_SHA384_FIXED, 48, &[Algorithm::Es384]),
            Some("P-521") => (&ECDSA_P521_SHA512_FIXED, 66, &[Algorithm::Es512]),
            _ => return Err("its curve is unknown"),
        };
    let (x, y) = (number(members, "x")?, number(members, "y")?);
    if x.len() != length || y.len() != length {
        return Err("its coordinates do not have the curve's length");
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    ParsedPublicKey::new(verifier, &point).map_err(|_| "its point is not on the curve")?;
    Ok((fitting, (length == 66).then_some(point)))
}

/// OKP: Ed25519, 32 bytes (RFC 8037 section 2).
fn edwards(members: &Map<String, Value>) -> Result<&'static [Algorithm], &'static str> {
    if members.get("crv").and_then(Value::as_str) != Some("Ed25519") {
        return Err("its curve is unknown");
    }
    let x = number(members, "x")?;
    if x.len() != 32 || ParsedPublicKey::new(&ED25519, &x).is_err() {
        return Err("its point is not on the curve");
    }
    Ok(&[Algorithm::EdDsa])
}
