//! The demonstration's certificate authority and its server certificate for this machine. Called by `demo`.
//!
//! The authority can vouch for this machine's own names and addresses only (RFC 5280 section 4.2.1.10), so that whoever
//! makes a mail program trust it has not made it trust more. Its key never leaves the folder.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::Datelike as _;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};

use crate::model::UnixTime;
use crate::tls::Pair;

/// What a mail program on this machine may call the server.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a new authority and a new server certificate are good. Apple's programs take at most 825 days for the latter.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const SERVER_LIFE: Duration = Duration::from_secs(397 * 24 * 3600);

/// What has less than this left is made again.
const SPARE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The files, and whether they had to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// The authority's certificate, for `curl --cacert`.
    pub ca: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub private_key: PathBuf,
    /// True if the authority is new: programs that trusted an older one have to be told.
    pub ca_is_new: bool,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The crypto library refused.
    #[error("a certificate cannot be made: {0}")]
    Made(#[from] rcgen::Error),
    /// The folder cannot be used.
    #[error("{}: {source}: name another folder with --dir, or let yourself write there", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes `ca.pem`, `ca.key`, `server.pem` and `server.key` in `dir`, or takes what an earlier start made and what is
/// still good at the moment `now`.
pub fn make(dir: &Path, now: UnixTime) -> Result<Material, MaterialError> {
    fs::create_dir_all(dir).map_err(|source| MaterialError::File { file: dir.to_owned(), source })?;
    let file = |name: &str| dir.join(name);
    let (ca_cert, ca_key) = (file("ca.pem"), file("ca.key"));
    let (certificate, private_key) = (file("server.pem"), file("server.key"));

    let kept = good(&ca_cert, &ca_key, now).and_then(|_| {
        let key = fs::read_to_string(&ca_key).ok()?;
        KeyPair::from_pem(&key).ok()
    });
    let ca_is_new = kept.is_none();
    let ca = match kept {
        Some(key) => Issuer::new(ca_params(now), key),
        None => {
            let key = KeyPair::generate()?;
            let params = ca_params(now);
            let pem = params.self_signed(&key)?.pem();
            write(&ca_key, &key.serialize_pem(), 0o600)?;
            write(&ca_cert, &pem, 0o644)?;
            Issuer::new(params, key)
        }
    };
    let covers = |pair: &Pair| NAMES.iter().all(|name| pair.covers(name));
    if ca_is_new || !good(&certificate, &private_key, now).is_some_and(|pair| covers(&pair)) {
        let key = KeyPair::generate()?;
        let pem = server_params(now)?.signed_by(&key, &ca)?.pem();
        write(&private_key, &key.serialize_pem(), 0o600)?;
        write(&certificate, &pem, 0o644)?;
    }
    Ok(Material { ca: ca_cert, certificate, private_key, ca_is_new })
}

/// The pair in these files, if they are there, belong together and are good for a while.
fn good(certificate: &Path, key: &Path, now: UnixTime) -> Option<Pair> {
    let pair = Pair::from_pem(&fs::read(certificate).ok()?, &fs::read(key).ok()?).ok()?;
    let (from, to) = pair.validity();
    (from <= now && now + SPARE < to).then_some(pair)
}

/// Depends on `now` in its dates only, so that a kept key goes on signing under the same name.
fn ca_params(now: UnixTime) -> CertificateParams {
    let mut params = lasting(CertificateParams::default(), now, CA_LIFE);
    params.distinguished_name.push(DnType::CommonName, "Portcullis demonstration CA (this machine only)");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".to_owned()),
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(core::net::Ipv6Addr::LOCALHOST.octets(), 128)),
        ],
        excluded_subtrees: Vec::new(),
    });
    params
}

fn server_params(now: UnixTime) -> Result<CertificateParams, MaterialError> {
    let mut params = lasting(CertificateParams::new(NAMES.map(String::from))?, now, SERVER_LIFE);
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Valid from yesterday, for programs whose clock is a little behind.
fn lasting(mut params: CertificateParams, now: UnixTime, life: Duration) -> CertificateParams {
    let date = |time: UnixTime| {
        let day = chrono::DateTime::from_timestamp_millis(time.0).unwrap_or_default();
        rcgen::date_time_ymd(
            day.year(),
            u8::try_from(day.month()).unwrap_or(1),
            u8::try_from(day.day()).unwrap_or(1),
        )
    };
    params.not_before = date(now - DAY);
    params.not_after = date(now + life);
    // rcgen starts with a name of its own.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

/// Whole or not at all, and never readable by others in between: a start that is killed leaves no half key.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), MaterialError> {
    let wrong = |source| MaterialError::File { file: file.to_owned(), source };
    let part = file.with_extension("part");
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(error)),
        _ => {}
    }
    let mut open = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part).map_err(wrong)?;
    open.write_all(text.as_bytes()).and_then(|()| open.sync_all()).map_err(wrong)?;
    fs::rename(&part, file).map_err(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_795_000_000);

    fn read(material: &Material) -> [Vec<u8>; 3] {
        [&material.ca, &material.certificate, &material.private_key].map(|file| fs::read(file).unwrap())
    }

    fn pair(material: &Material) -> Pair {
        let [_, certificate, key] = read(material);
        Pair::from_pem(&certificate, &key).unwrap()
    }

    #[test]
    fn a_second_start_takes_what_the_first_one_made() {
        let dir = tempfile::tempdir().unwrap();
        let first = make(&dir.path().join("certs"), NOW).unwrap();
        assert!(first.ca_is_new);
        let before = read(&first);
        let second = make(&dir.path().join("certs"), NOW + 30 * DAY).unwrap();
        assert_eq!(second, Material { ca_is_new: false, ..first.clone() });
        assert_eq!(read(&second), before);
        assert_eq!(pair(&first).names(), NAMES);
        assert_eq!(pair(&first).warning(NOW), None);
        let mode =
            |name: &str| dir.path().join("certs").join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("ca.key"), mode("server.key")), (0o600, 0o600));
    }

    #[test]
    fn a_certificate_near_its_end_is_made_again_by_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let first = make(dir.path(), NOW).unwrap();
        let before = read(&first);
        let later = NOW + 380 * DAY;
        let second = make(dir.path(), later).unwrap();
        let after = read(&second);
        assert!(!second.ca_is_new);
        assert_eq!(before.first(), after.first(), "programs that trust the authority go on");
        assert_ne!(before.get(1), after.get(1));
        assert_eq!(pair(&second).warning(later), None);
        assert_verifies(&second, later);
    }

    #[test]
    fn a_damaged_file_is_made_again() {
        for name in ["ca.pem", "ca.key", "server.pem", "server.key"] {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path(), NOW).unwrap();
            fs::write(dir.path().join(name), "-----BEGIN").unwrap();
            let again = make(dir.path(), NOW).unwrap();
            assert_eq!(again.ca_is_new, name.starts_with("ca"), "{name}");
            assert_verifies(&again, NOW);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let told = make(&dir.path().join("file/certs"), NOW).unwrap_err().to_string();
        assert!(told.contains("file/certs: Not a directory") && told.contains("--dir"), "{told}");
    }

    /// As a mail program sees it, by a library that is not ours: OpenSSL, where it is installed.
    fn assert_verifies(material: &Material, at: UnixTime) {
        for name in [["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"], ["-verify_ip", "::1"]] {
            let mut verify = Command::new("openssl");
            verify.args(["verify", "-x509_strict", "-purpose", "sslserver", "-attime", &at.secs().to_string()]);
            verify.args(name).arg("-CAfile").arg(&material.ca).arg(&material.certificate);
            let Ok(output) = verify.output() else { return };
            assert!(output.status.success(), "{name:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
