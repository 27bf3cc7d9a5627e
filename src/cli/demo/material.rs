//! What the demo is made of: certificate authority and certificate, issuer key, config, policy, mail. Each piece is
//! made when it is missing and left alone when it is there.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context;
use aws_lc_rs::rand::SystemRandom;

use super::certificates;
use crate::maildir::{self, Mail};
use crate::model::UserId;
use crate::serve;
use crate::token::SigningKey;

/// The demo's user with mail.
pub(super) const USER: &str = "ann@example.com";
/// The demo's user whose unit has both services off.
pub(super) const REFUSED: &str = "bob@example.com";
/// The demo's app.
pub(super) const APP: &str = "demo-app";

const MAIL: [(&str, &str); 3] = [
    ("1-welcome", include_str!("mail/1-welcome.eml")),
    ("2-attachment", include_str!("mail/2-attachment.eml")),
    ("3-forwarded", include_str!("mail/3-forwarded.eml")),
];

/// Where things are.
pub(super) struct Made {
    pub(super) config: PathBuf,
    pub(super) ca: PathBuf,
    /// Where `serve` writes the one-time secret while nobody administers.
    pub(super) bootstrap: PathBuf,
}

/// Makes what is missing in `dir`.
pub(super) fn make(dir: &Path, port_base: u16) -> anyhow::Result<Made> {
    let certs = dir.join("certs");
    let data = dir.join("data");
    private_dir(&data)?;
    let material = certificates::make(&certs, SystemTime::now().into())?;
    issuer_key(dir)?;
    let config = dir.join("portcullis.toml");
    write_once(&config, config_text(port_base).as_bytes(), 0o644)?;
    write_once(&dir.join("policy.toml"), POLICY.as_bytes(), 0o644)?;
    mail(&data)?;
    let bootstrap = data.join(serve::BOOTSTRAP);
    Ok(Made { config, ca: material.ca, bootstrap })
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

/// The user's mailbox with its folders, and the sample mail, delivered as any other program would.
fn mail(data: &Path) -> anyhow::Result<()> {
    let user = UserId::parse(USER)?;
    // Only mail from the first start on: what the user has since moved or deleted does not come back.
    let mark = data.join("sample-mail-delivered");
    if mark.exists() {
        return Ok(());
    }
    let home = crate::cli::block_on(async {
        let mail = Mail::new(maildir::Settings { root: data.join("mail"), limits: maildir::Limits::default() })?;
        Ok(mail.provision(&user).await?)
    })?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    for (number, (name, text)) in MAIL.iter().enumerate() {
        let name = format!("{now}.M{number}P{}_{name}.demo", std::process::id());
        let aside = home.join("tmp").join(&name);
        write(&aside, text.as_bytes(), 0o600)?;
        fs::rename(&aside, home.join("new").join(&name))?;
    }
    write(&mark, b"", 0o600)
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
http = ["127.0.0.1:{http}", "[::1]:{http}"]

# An access token for the API: portcullis token --user U --app A --scope portcullis
[http]
scope = ["portcullis"]

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
        http = port_base + 80,
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
