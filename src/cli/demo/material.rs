//! What the demo is made of: certificate authority and certificate, issuer key, config, policy, mail. Each piece is
//! made when it is missing and left alone when it is there.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use aws_lc_rs::rand::SystemRandom;
use chrono::{Datelike, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::token::SigningKey;

/// The demo's user with mail.
pub(super) const USER: &str = "ann@example.com";
/// The demo's user whose unit has both services off.
pub(super) const REFUSED: &str = "bob@example.com";
/// The demo's app.
pub(super) const APP: &str = "demo-app";

/// How long the demo's certificate is good. Mail programs by Apple take no more than 825 days.
const CERTIFICATE_DAYS: u64 = 800;
/// The certificate is made anew when it is older than this, well before it ends.
const RENEW_AFTER_DAYS: u64 = 700;

const MAIL: [(&str, &str); 3] = [
    ("1-welcome", include_str!("mail/1-welcome.eml")),
    ("2-attachment", include_str!("mail/2-attachment.eml")),
    ("3-forwarded", include_str!("mail/3-forwarded.eml")),
];

/// Where things are.
pub(super) struct Made {
    pub(super) config: PathBuf,
    pub(super) ca: PathBuf,
}

/// Makes what is missing in `dir`.
pub(super) fn make(dir: &Path, port_base: u16) -> anyhow::Result<Made> {
    let certs = dir.join("certs");
    let data = dir.join("data");
    fs::create_dir_all(&certs)?;
    private_dir(&data)?;
    certificates(&certs)?;
    issuer_key(dir)?;
    let config = dir.join("portcullis.toml");
    write_once(&config, config_text(port_base).as_bytes(), 0o644)?;
    write_once(&dir.join("policy.toml"), POLICY.as_bytes(), 0o644)?;
    mail(&data)?;
    Ok(Made { config, ca: certs.join("ca.pem") })
}

fn certificates(certs: &Path) -> anyhow::Result<()> {
    let server = certs.join("server.pem");
    if server.exists() && certs.join("server.key").exists() && certs.join("ca.pem").exists() && !old(&server) {
        return Ok(());
    }
    let now = chrono::DateTime::<Utc>::from(SystemTime::now());
    let day = |date: chrono::DateTime<Utc>| {
        let (month, day) = (u8::try_from(date.month()).unwrap_or(1), u8::try_from(date.day()).unwrap_or(1));
        date_time_ymd(date.year(), month, day)
    };
    // From yesterday on, so that clocks may differ.
    let (from, until) = (day(now - chrono::Days::new(1)), day(now + chrono::Days::new(CERTIFICATE_DAYS)));
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "Portcullis demo CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    (ca.not_before, ca.not_after) = (from, until);
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (from, until);
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;

    // The authority's key is dropped here: nobody can make another certificate that the demo's ca.pem vouches for.
    write(&certs.join("ca.pem"), ca_certificate.pem().as_bytes(), 0o644)?;
    write(&certs.join("server.key"), key.serialize_pem().as_bytes(), 0o600)?;
    write(&server, certificate.pem().as_bytes(), 0o644)?;
    Ok(())
}

fn old(file: &Path) -> bool {
    let age = fs::metadata(file).and_then(|meta| meta.modified()).map(|at| at.elapsed().unwrap_or_default());
    age.is_ok_and(|age| age > Duration::from_secs(RENEW_AFTER_DAYS * 24 * 3600))
}

/// The signing key and the JWK Set that goes with it.
fn issuer_key(dir: &Path) -> anyhow::Result<()> {
    let (private, public) = (dir.join("issuer.key"), dir.join("jwks.json"));
    let key = match fs::read_to_string(&private) {
        Ok(pem) => SigningKey::from_pem(&pem).with_context(|| private.display().to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SigningKey::generate(&SystemRandom::new())?;
            write(&private, key.to_pem().reveal().as_bytes(), 0o600)?;
            // A JWK Set of an earlier key would refuse every token of this one.
            write(&public, key.jwks().as_bytes(), 0o644)?;
            key
        }
        Err(error) => return Err(error).with_context(|| private.display().to_string()),
    };
    write_once(&public, key.jwks().as_bytes(), 0o644)
}

fn mail(data: &Path) -> anyhow::Result<()> {
    let folder = data.join("mail/example.com/ann");
    if folder.exists() {
        return Ok(());
    }
    // Built aside and renamed, so that an interrupted first start does not leave half a mailbox behind.
    let aside = data.join("mail/.ann.new");
    let _ = fs::remove_dir_all(&aside);
    for sub in ["cur", "new", "tmp"] {
        fs::create_dir_all(aside.join(sub))?;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    for (number, (name, text)) in MAIL.iter().enumerate() {
        let file = aside.join("new").join(format!("{}.M{number}P{}_{name}.demo", now, std::process::id()));
        write(&file, text.as_bytes(), 0o600)?;
    }
    fs::create_dir_all(data.join("mail/example.com"))?;
    fs::rename(&aside, &folder)?;
    Ok(())
}

fn private_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn write_once(file: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    if file.exists() { Ok(()) } else { write(file, bytes, mode) }
}

/// Written aside and renamed: a piece is whole or missing.
fn write(file: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let aside = file.with_extension("new");
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&aside)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&aside, file).with_context(|| format!("{}: cannot write", file.display()))
}

fn config_text(port_base: u16) -> String {
    format!(
        r#"# Made by `portcullis demo`. The source's config/portcullis.toml explains each key.
hostname = "localhost"
data_dir = "data"

[listen]
imaps = ["127.0.0.1:{imaps}", "[::1]:{imaps}"]
pop3s = ["127.0.0.1:{pop3s}", "[::1]:{pop3s}"]

[tls]
certificate = "certs/server.pem"
private_key = "certs/server.key"

# An issuer of the demo's own: `portcullis token` signs with its key.
[[issuer]]
url = "https://issuer.demo.invalid"
audience = ["portcullis"]
jwks_file = "jwks.json"
private_key_file = "issuer.key"
user_claim = "email"
scope = {{ imap = ["mail"], pop = ["mail"] }}

[policy]
file = "policy.toml"
"#,
        imaps = port_base + 93,
        pop3s = port_base + 95,
    )
}

const POLICY: &str = r#"# Save a change here and every open session it touches falls within a second.
[unit."/"]
imap = "off"
pop  = "off"

[unit."/Staff"]
imap = ["demo-app"]
pop  = ["demo-app"]

[unit."/Guests"]

[user."ann@example.com"]
unit = "/Staff"

[user."bob@example.com"]
unit = "/Guests"

[app."demo-app"]
name  = "Demo mail program"
trust = "trusted"
"#;
