//! The two mail servers that are compared, behind one face: start, stop, sign in, mail on disk, CPU time.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::ClientConfig;

use super::{dovecot, family, gateway, tls, wire::Wire};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Side {
    /// The gateway with its embedded store.
    Portcullis,
    /// Dovecot from the distribution.
    Dovecot,
}

enum Host {
    Portcullis(gateway::Place),
    Dovecot(dovecot::Home),
}

enum Running {
    Portcullis(gateway::Process),
    Dovecot(dovecot::Dovecot),
}

/// One of the two.
pub struct Server {
    host: Host,
    running: Option<Running>,
    tls: Arc<ClientConfig>,
}

/// Both or only one of them, with one certificate and these users.
pub fn all<'u>(users: impl Iterator<Item = &'u str>, only: Option<Side>) -> anyhow::Result<Vec<Server>> {
    let place = gateway::Place::with_pop()?;
    place.let_in(users)?;
    let tls = tls::even(place.path())?;
    let mut servers = Vec::new();
    if only != Some(Side::Portcullis) {
        let home = dovecot::Home::new(place.path())?;
        println!("# Dovecot {}", home.version()?);
        servers.push(Server { host: Host::Dovecot(home), running: None, tls: Arc::clone(&tls) });
    }
    if only != Some(Side::Dovecot) {
        servers.push(Server { host: Host::Portcullis(place), running: None, tls });
    }
    Ok(servers)
}

impl Server {
    /// Which of the two.
    pub fn side(&self) -> Side {
        match self.host {
            Host::Portcullis(_) => Side::Portcullis,
            Host::Dovecot(_) => Side::Dovecot,
        }
    }

    /// Where this user's Maildir is.
    pub fn mail(&self, user: &str) -> PathBuf {
        match &self.host {
            Host::Portcullis(place) => {
                let (local, domain) = user.split_once('@').unwrap_or((user, ""));
                place.path().join("data/mail").join(domain).join(local)
            }
            Host::Dovecot(home) => home.mail(user),
        }
    }

    /// After mail was put there.
    pub fn hand_over(&self) -> anyhow::Result<()> {
        match &self.host {
            Host::Portcullis(_) => Ok(()),
            Host::Dovecot(home) => home.hand_over(),
        }
    }

    /// Starts it anew. `fsync` is for Dovecot.
    pub fn start(&mut self, fsync: Option<&str>) -> anyhow::Result<()> {
        self.stop();
        self.running = Some(match &self.host {
            Host::Portcullis(place) => Running::Portcullis(place.serve()?),
            Host::Dovecot(home) => Running::Dovecot(home.serve(fsync)?),
        });
        eprintln!("{:?} runs as process {}", self.side(), self.id()?);
        Ok(())
    }

    /// Stops it.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Its process, or the first of them.
    pub fn id(&self) -> anyhow::Result<u32> {
        match self.running.as_ref().context("not running")? {
            Running::Portcullis(process) => Ok(process.id()),
            Running::Dovecot(dovecot) => Ok(dovecot.id()),
        }
    }

    /// CPU time so far of all its processes, read when it has come to rest: what it does behind its answer counts.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        family::cpu_at_rest(self.id()?)
    }

    /// Takes away what the server keeps beside the mail of this user: its index, its cache, its list of UIDs. To be done
    /// while it is stopped.
    pub fn forget(&self, user: &str) -> anyhow::Result<()> {
        let home = self.mail(user);
        forget_in(&home)?;
        for entry in fs::read_dir(&home)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") && entry.file_type()?.is_dir() {
                forget_in(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Takes away this user's mail. To be done while it is stopped.
    pub fn wipe(&self, user: &str) -> anyhow::Result<()> {
        Ok(fs::remove_dir_all(self.mail(user))?)
    }

    /// An IMAP session of this user.
    pub fn imap(&self, user: &str) -> anyhow::Result<Wire> {
        let running = self.running.as_ref().context("not running")?;
        let (at, words) = match (&self.host, running) {
            (Host::Portcullis(place), Running::Portcullis(process)) => {
                (process.address, format!("AUTHENTICATE XOAUTH2 {}", bearer(place, user)?))
            }
            (_, Running::Dovecot(dovecot)) => (dovecot.imap, format!("AUTHENTICATE PLAIN {}", plain(user))),
            _ => anyhow::bail!("the wrong server runs"),
        };
        let mut wire = Wire::connect(at, &self.tls)?;
        wire.imap(&words).context("signing in")?;
        Ok(wire)
    }

    /// A POP3 session of this user.
    pub fn pop(&self, user: &str) -> anyhow::Result<Wire> {
        let running = self.running.as_ref().context("not running")?;
        let (at, words) = match (&self.host, running) {
            (Host::Portcullis(place), Running::Portcullis(process)) => {
                (process.pop.context("no POP3 listener")?, format!("AUTH XOAUTH2 {}", bearer(place, user)?))
            }
            (_, Running::Dovecot(dovecot)) => (dovecot.pop, format!("AUTH PLAIN {}", plain(user))),
            _ => anyhow::bail!("the wrong server runs"),
        };
        let mut wire = Wire::connect(at, &self.tls)?;
        wire.pop(&words).context("signing in")?;
        Ok(wire)
    }
}

fn forget_in(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let own =
            [b"dovecot".as_slice(), b"portcullis-"].iter().any(|own| name.as_encoded_bytes().starts_with(own));
        if !own {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn bearer(place: &gateway::Place, user: &str) -> anyhow::Result<String> {
    let token = place.token(user)?;
    Ok(STANDARD.encode(format!("user={user}\x01auth=Bearer {}\x01\x01", token.reveal())))
}

fn plain(user: &str) -> String {
    STANDARD.encode(format!("\0{user}\0{}", dovecot::PASSWORD))
}
