//! `[notify]`: where notices go. Reads the section, and the files with secrets that it names. Used by `sections` and
//! `serve`.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Config, NotifyLimits,
    read::{At, Reader, Section},
    rooms::read_secret,
};
use crate::notify::{self, SmtpTls, WebhookSecret};

/// `[notify]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Its numbers.
    pub limits: NotifyLimits,
    /// The mail server, if notices go by e-mail.
    pub smtp: Option<Smtp>,
    /// Who is told by HTTP.
    pub webhooks: Vec<Webhook>,
}

/// `[notify.smtp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// User, and the file that holds the password.
    pub login: Option<(String, PathBuf)>,
    /// Who the mail is from.
    pub from: String,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[[notify.webhook]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is posted to.
    pub url: String,
    /// The file that holds what it is signed with.
    pub secret_file: PathBuf,
    /// Whether addresses that are not public may be asked.
    pub allow_private: bool,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// A secret of `[notify]` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotifySecretError {
    /// The file cannot be read.
    #[error(
        "{}: {key} cannot be read ({source}): put it there, readable by the gateway's user only, or correct the path",
        file.display()
    )]
    File {
        /// Which key names it.
        key: &'static str,
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A webhook's secret has the wrong shape.
    #[error(
        "{}: the secret of a webhook {problem}: write whsec_ and the base64 of 32 random bytes, as \
         `echo whsec_$(openssl rand -base64 32)` prints",
        file.display()
    )]
    Shape {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Reads the section.
pub(super) fn read(reader: &mut Reader<'_>, top: Section<'_, '_>, base: &Path) -> Notify {
    let section = reader.section(top, "notify", "notify");
    let limits = NotifyLimits::read(reader, section, &["smtp", "webhook"]);
    for (small_key, times, small, large_key, large) in [
        ("retry_s", "", limits.retry_s, "retry_most_s", limits.retry_most_s),
        ("answer_s", "twice ", 2 * limits.answer_s + 1, "lease_s", limits.lease_s),
    ] {
        if small > large {
            let value = section.value(small_key).or_else(|| section.value(large_key));
            let span = value.map_or(section.span(), |value| value.span());
            let what = format!("{times}notify.{small_key} does not fit under notify.{large_key}, which is {large}");
            reader.wrong::<()>(span, what, "lower the first or raise the second");
        }
    }
    let inner = reader.section(section, "smtp", "notify.smtp");
    let smtp = if inner.is_present() { smtp(reader, inner, base) } else { None };
    let hooks = reader.sections(section, "webhook");
    let webhooks: Vec<Webhook> = hooks.into_iter().filter_map(|hook| webhook(reader, hook, base)).collect();
    let urls: Vec<&str> = webhooks.iter().map(|hook| hook.url.as_str()).collect();
    if urls.iter().enumerate().any(|(at, url)| urls.iter().take(at).any(|earlier| earlier == url)) {
        reader.wrong::<()>(section.span(), "two [[notify.webhook]] have one url", "remove one of them");
    }
    Notify { limits, smtp, webhooks }
}

fn smtp(reader: &mut Reader<'_>, section: Section<'_, '_>, base: &Path) -> Option<Smtp> {
    reader.only(section, &["host", "port", "tls", "user", "password_file", "from", "ca_file"]);
    let host = reader.string(section, "host");
    if section.value("host").is_none() {
        reader.missing::<()>(section, "host", "name the mail server: \"smtp.example.com\"");
    }
    let from = reader.string(section, "from");
    if section.value("from").is_none() {
        reader.missing::<()>(section, "from", "write who the mail is from: \"Portcullis <gate@example.com>\"");
    }
    let words = [("implicit", SmtpTls::Implicit), ("starttls", SmtpTls::StartTls), ("none", SmtpTls::Plain)];
    let tls = reader.word(section, "tls", &words).unwrap_or(SmtpTls::Implicit);
    let usual = match tls {
        SmtpTls::Implicit => 465,
        SmtpTls::StartTls => 587,
        SmtpTls::Plain => 25,
    };
    let port = reader.number(section, "port", 1..=65_535).map_or(usual, |at| at.value);
    let user = reader.string(section, "user").map(|at| at.value);
    let password = reader.string(section, "password_file").map(|at| base.join(at.value));
    if section.value("user").is_some() != section.value("password_file").is_some() {
        let value = section.value("user").or_else(|| section.value("password_file"));
        let span = value.map_or(section.span(), |value| value.span());
        let what = "notify.smtp has one of user and password_file";
        reader.wrong::<()>(span, what, "write both, or none");
    }
    let ca_file = reader.string(section, "ca_file").map(|at| base.join(at.value));
    let (host, from) = (host?, from?);
    if tls == SmtpTls::Plain && !is_loopback(&host.value) {
        let what = format!("notify.smtp.tls is \"none\", but {:?} is another machine", host.value);
        return reader.wrong(host.span, what, "write \"implicit\" or \"starttls\"");
    }
    if let Err(error) = notify::check_from(&from.value) {
        return reader.wrong(from.span, format!("notify.smtp.{error}"), "write name and address, or the address");
    }
    let port = u16::try_from(port).unwrap_or(465);
    Some(Smtp { host: host.value, port, tls, login: user.zip(password), from: from.value, ca_file })
}

fn webhook(reader: &mut Reader<'_>, section: Section<'_, '_>, base: &Path) -> Option<Webhook> {
    reader.only(section, &["url", "secret_file", "allow_private", "ca_file"]);
    for (key, remedy) in [
        ("url", "write where notices are posted to: \"https://hooks.example.com/portcullis\""),
        ("secret_file", "name the file with the secret that they are signed with"),
    ] {
        if section.value(key).is_none() {
            reader.missing::<()>(section, key, remedy);
        }
    }
    let allow_private = reader.boolean(section, "allow_private").unwrap_or(false);
    let ca_file = reader.string(section, "ca_file").map(|at| base.join(at.value));
    let secret_file = reader.string(section, "secret_file").map(|at| base.join(at.value));
    let At { value: url, span } = reader.string(section, "url")?;
    if let Err(error) = notify::check_webhook(&url, allow_private) {
        return reader.wrong(span, format!("webhook.url: {error}"), "correct the url");
    }
    Some(Webhook { url, secret_file: secret_file?, allow_private, ca_file })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Notify {
    /// The channels by name, without opening any file.
    pub fn channels(&self) -> Vec<String> {
        let email = self.smtp.iter().map(|_| notify::EMAIL.to_owned());
        email.chain(self.webhooks.iter().map(|hook| notify::webhook_channel(&hook.url))).collect()
    }

    /// Every file it names, with its key.
    pub(super) fn paths(&self) -> Vec<(&'static str, &Path)> {
        let mut paths: Vec<(&'static str, &Path)> = Vec::new();
        if let Some(smtp) = &self.smtp {
            paths.extend(smtp.login.iter().map(|(_, file)| ("notify.smtp.password_file", &**file)));
            paths.extend(smtp.ca_file.iter().map(|file| ("notify.smtp.ca_file", &**file)));
        }
        for hook in &self.webhooks {
            paths.push(("notify.webhook.secret_file", &hook.secret_file));
            paths.extend(hook.ca_file.iter().map(|file| ("notify.webhook.ca_file", &**file)));
        }
        paths
    }
}

impl Config {
    /// For `Channels::new`; reads the files that hold secrets.
    pub fn notify_settings(&self) -> Result<notify::Settings, NotifySecretError> {
        let Notify { limits, smtp, webhooks } = &self.notify;
        let file = |key, file: &Path| {
            let failed = |source| NotifySecretError::File { key, file: file.to_owned(), source };
            read_secret(file).map_err(failed)
        };
        let smtp = smtp.as_ref().map(|own| {
            let login =
                own.login.as_ref().map(|(user, path)| Ok((user.clone(), file("notify.smtp.password_file", path)?)));
            Ok(notify::Smtp {
                host: own.host.clone(),
                port: own.port,
                tls: own.tls,
                login: login.transpose()?,
                from: own.from.clone(),
                ca_file: own.ca_file.clone(),
            })
        });
        let hook = |own: &Webhook| {
            let secret = file("notify.webhook.secret_file", &own.secret_file)?;
            let shape = |problem| NotifySecretError::Shape { file: own.secret_file.clone(), problem };
            Ok(notify::Webhook {
                url: own.url.clone(),
                secret: WebhookSecret::parse(secret.reveal()).map_err(shape)?,
                allow_private: own.allow_private,
                ca_file: own.ca_file.clone(),
            })
        };
        Ok(notify::Settings {
            hostname: self.hostname.clone(),
            smtp: smtp.transpose()?,
            webhooks: webhooks.iter().map(hook).collect::<Result<_, _>>()?,
            attempts: u32::try_from(limits.attempts).unwrap_or(u32::MAX),
            retry: Duration::from_secs(limits.retry_s),
            retry_most: Duration::from_secs(limits.retry_most_s),
            lease: Duration::from_secs(limits.lease_s),
            answer: Duration::from_secs(limits.answer_s),
            accept: Duration::from_secs(limits.accept_s),
            at_once: u32::try_from(limits.at_once).unwrap_or(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::fs;

    use super::*;

    const LEAST: &str = "hostname = \"mail.example.com\"\ndata_dir = \"data\"\nlisten = { imaps = [\"[::]:993\"] }\n\
         tls = { certificate = \"a.pem\", private_key = \"a.key\" }\n\
         [[issuer]]\nurl = \"https://id.example.com\"\naudience = [\"portcullis\"]\n";
    const SMTP: &str = "[notify.smtp]\nhost = \"smtp.example.com\"\nfrom = \"Gate <gate@example.com>\"\n";

    fn parse(more: &str) -> Result<Config, String> {
        Config::parse(&format!("{LEAST}{more}"), Path::new("/srv/gate/portcullis.toml"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_the_section_there_is_no_channel_and_with_it_each_has_a_name() {
        assert_eq!(parse("").unwrap().notify.channels(), [""; 0]);
        let hook = "[[notify.webhook]]\nurl = \"https://hooks.example.com/a\"\nsecret_file = \"hook.secret\"\n";
        let config = parse(&format!("{SMTP}{hook}")).unwrap();
        let channels = config.notify.channels();
        assert_eq!(channels[0], "email");
        assert!(channels[1].starts_with("webhook:hooks.example.com:"), "{channels:?}");
        assert_eq!(config.store_settings().channels, channels);
        let smtp = config.notify.smtp.as_ref().unwrap();
        assert_eq!((smtp.port, smtp.tls), (465, SmtpTls::Implicit));
        assert!(config.paths().contains(&("notify.webhook.secret_file", Path::new("/srv/gate/hook.secret"))));
        let starttls = parse(&format!("{SMTP}tls = \"starttls\"\n")).unwrap();
        assert_eq!(starttls.notify.smtp.unwrap().port, 587);
    }

    #[test]
    fn what_would_send_mail_in_the_clear_or_into_private_networks_is_an_error_with_its_line() {
        let hook = |url: &str, more: &str| {
            format!("[[notify.webhook]]\nurl = \"{url}\"\nsecret_file = \"hook.secret\"\n{more}")
        };
        for (text, said) in [
            (format!("{SMTP}tls = \"none\"\n"), "is another machine"),
            (format!("{SMTP}user = \"gate\"\n"), "one of user and password_file"),
            (format!("{SMTP}password_file = \"x\"\n"), "one of user and password_file"),
            (format!("{SMTP}port = 0\n"), "write a number from 1 to 65535"),
            (format!("{SMTP}pasword_file = \"x\"\n"), "did you mean password_file?"),
            ("[notify.smtp]\nhost = \"smtp.example.com\"\n".into(), "notify.smtp.from is missing"),
            ("[notify.smtp]\nfrom = \"gate@example.com\"\n".into(), "notify.smtp.host is missing"),
            ("[notify.smtp]\nhost = \"localhost\"\nfrom = \"a@b.c\\r\\nBcc: x@y\"\n".into(), "is no address"),
            (hook("http://hooks.example.com/", ""), "write https://.."),
            (hook("https://10.0.0.1/", ""), "is no public address"),
            (hook("https://hooks.example.com/", "allow_privat = true\n"), "did you mean allow_private?"),
            ("[[notify.webhook]]\nurl = \"https://hooks.example.com/\"\n".into(), "secret_file is missing"),
            (format!("{0}{0}", hook("https://hooks.example.com/", "")), "have one url"),
            (
                "[notify]\nanswer_s = 30\nlease_s = 60\n".into(),
                "twice notify.answer_s does not fit under notify.lease_s",
            ),
            ("[notify]\nretry_s = 600\nretry_most_s = 60\n".into(), "does not fit under notify.retry_most_s"),
            ("[notify]\nkeep_days = 0\n".into(), "write a number from 1"),
        ] {
            let error = parse(&text).map(|_| ()).unwrap_err();
            assert!(error.contains(said) && error.contains("portcullis.toml:"), "{text}: {error}");
        }
        assert!(parse(&hook("https://10.0.0.1/", "allow_private = true\n")).is_ok());
        assert!(parse("[notify.smtp]\nhost = \"127.0.0.1\"\ntls = \"none\"\nfrom = \"a@b.c\"\n").is_ok());
    }

    #[test]
    fn secrets_are_read_from_their_files_and_have_the_right_shape() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        let text = format!(
            "{SMTP}user = \"gate\"\npassword_file = \"{}\"\n[[notify.webhook]]\nurl = \"https://hooks.example.com/\"\n\
             secret_file = \"{}\"\n",
            file("password"),
            file("secret")
        );
        let config = parse(&text).unwrap();
        let told = || config.notify_settings().map(|_| ()).unwrap_err().to_string();
        assert!(told().contains("notify.smtp.password_file cannot be read (No such file"), "{}", told());
        fs::write(file("password"), "hush\n").unwrap();
        assert!(told().contains("notify.webhook.secret_file cannot be read"), "{}", told());
        fs::write(file("secret"), "hush\n").unwrap();
        assert!(told().contains("does not begin with whsec_"), "{}", told());
        fs::write(file("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let settings = config.notify_settings().unwrap();
        assert_eq!(settings.smtp.as_ref().unwrap().login.as_ref().unwrap().1.reveal(), "hush");
        assert!(!format!("{settings:?}").contains("hush") && !format!("{settings:?}").contains("MfKQ"));
    }
}
