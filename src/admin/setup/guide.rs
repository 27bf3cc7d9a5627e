//! What each mail program is told: as a page, and as text for `portcullis setup`. Only programs that the tests run against a
//! gateway, with the settings with which they do.

use std::{fmt, sync::Arc};

use askama::Template;
use axum::{extract::State, response::Response};

use super::{
    page::page,
    settings::{MailServer, SetupSettings, Smtp, SmtpSignIn},
};
use crate::admin::{Control, problem::Problem};

/// The settings, and the names they are for.
#[derive(Clone, Debug)]
pub struct Guide<'a> {
    /// The gateway's own name.
    pub hostname: &'a str,
    /// What people connect to.
    pub setup: &'a SetupSettings,
}

/// One mail program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it is called.
    pub name: &'static str,
    /// What to know of it.
    pub about: &'static str,
    /// What to write, into which file.
    pub settings: String,
}

/// A line for a domain's zone file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    name: String,
    kind: &'static str,
    value: String,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<40} IN {:<5} {}", self.name, self.kind, self.value)
    }
}

impl Smtp {
    /// How it is reached, for people.
    fn in_words(&self) -> &'static str {
        match (self.server.port == 465, self.sign_in) {
            (true, SmtpSignIn::OAuth) => "TLS from the first byte, sign-in by OAuth2",
            (true, SmtpSignIn::Password) => "TLS from the first byte, with the password of that server",
            (true, SmtpSignIn::Nothing) => "TLS from the first byte, without sign-in",
            (false, SmtpSignIn::OAuth) => "STARTTLS, sign-in by OAuth2",
            (false, SmtpSignIn::Password) => "STARTTLS, with the password of that server",
            (false, SmtpSignIn::Nothing) => "STARTTLS, without sign-in",
        }
    }
}

impl Guide<'_> {
    /// Every program but Thunderbird, which needs an add-on.
    pub fn programs(&self) -> Vec<Program> {
        let mut programs = Vec::new();
        if let Some(server) = &self.setup.imaps {
            programs.extend(imap_programs(server));
        }
        if let Some(server) = &self.setup.pop3s {
            programs.extend(pop_programs(server));
        }
        programs
    }

    /// What the zones of the mail domains should say. Source: RFC 6186 section 3, RFC 8314 section 5.1.
    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for domain in &self.setup.domains {
            let services = [("_imaps", &self.setup.imaps), ("_pop3s", &self.setup.pop3s)];
            for (service, server) in services {
                // A service that is off says so with a dot (RFC 2782): then nobody goes on guessing.
                let value = match server {
                    Some(MailServer { host, port }) => format!("0 1 {port} {host}."),
                    None => "0 0 0 .".to_owned(),
                };
                records.push(Record { name: format!("{service}._tcp.{domain}."), kind: "SRV", value });
            }
            for service in ["_imap", "_pop3"] {
                let (name, value) = (format!("{service}._tcp.{domain}."), "0 0 0 .".to_owned());
                records.push(Record { name, kind: "SRV", value });
            }
            let (name, value) = (format!("autoconfig.{domain}."), format!("{}.", self.hostname));
            records.push(Record { name, kind: "CNAME", value });
        }
        records
    }
}

fn imap_programs(server: &MailServer) -> [Program; 5] {
    let MailServer { host, port } = server;
    [
        Program {
            name: "mbsync (isync)",
            about: "~/.mbsyncrc. It takes its XOAUTH2 from a SASL plugin: on Debian, libsasl2-modules-kdexoauth2.",
            settings: format!(
                "IMAPAccount mail\nHost {host}\nPort {port}\nUser YOU@EXAMPLE.COM\nPassCmd \"TOKEN-COMMAND\"\n\
                 AuthMechs XOAUTH2\nSSLType IMAPS"
            ),
        },
        Program {
            name: "mutt and neomutt",
            about: "~/.muttrc. neomutt takes tokens of up to 4,095 characters, and with oauthbearer only of up to 511.",
            settings: format!(
                "set folder = \"imaps://{host}:{port}/\"\nset spoolfile = \"imaps://{host}:{port}/INBOX\"\n\
                 set imap_user = \"YOU@EXAMPLE.COM\"\nset imap_authenticators = \"xoauth2\"\n\
                 set imap_oauth_refresh_command = \"TOKEN-COMMAND\"\nset ssl_force_tls = yes"
            ),
        },
        Program {
            name: "offlineimap3",
            about: "~/.offlineimaprc, in the remote repository.",
            settings: format!(
                "type = IMAP\nremotehost = {host}\nremoteport = {port}\nremoteuser = YOU@EXAMPLE.COM\nssl = yes\n\
                 sslcacertfile = OS-DEFAULT\nauth_mechanisms = XOAUTH2\n\
                 oauth2_access_token_eval = __import__(\"subprocess\").getoutput(\"TOKEN-COMMAND\")"
            ),
        },
        Program {
            name: "getmail6 over IMAP",
            about: "~/.config/getmail/getmailrc.",
            settings: format!(
                "[retriever]\ntype = SimpleIMAPSSLRetriever\nserver = {host}\nport = {port}\n\
                 username = YOU@EXAMPLE.COM\nuse_xoauth2 = True\npassword_command = (\"/bin/sh\", \"-c\", \"TOKEN-COMMAND\")\nmailboxes = ALL"
            ),
        },
        Program {
            name: "curl over IMAP",
            about: "Reads the first message of the inbox.",
            settings: format!(
                "curl --url 'imaps://{host}:{port}/INBOX;MAILINDEX=1' --user YOU@EXAMPLE.COM \\\n    \
                 --oauth2-bearer \"$(TOKEN-COMMAND)\""
            ),
        },
    ]
}

fn pop_programs(server: &MailServer) -> [Program; 4] {
    let MailServer { host, port } = server;
    [
        Program {
            name: "mpop",
            about: "~/.mpoprc.",
            settings: format!(
                "account mail\nhost {host}\nport {port}\nuser YOU@EXAMPLE.COM\nauth xoauth2\n\
                 passwordeval \"TOKEN-COMMAND\"\ntls on\ntls_starttls off"
            ),
        },
        Program {
            name: "getmail6 over POP3",
            about: "~/.config/getmail/getmailrc. Version 6.20 or later.",
            settings: format!(
                "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = {host}\nport = {port}\n\
                 username = YOU@EXAMPLE.COM\nuse_xoauth2 = True\npassword_command = (\"/bin/sh\", \"-c\", \"TOKEN-COMMAND\")"
            ),
        },
        Program {
            name: "mutt over POP3",
            about: "~/.muttrc.",
            settings: format!(
                "set spoolfile = \"pops://{host}:{port}/\"\nset pop_user = \"YOU@EXAMPLE.COM\"\n\
                 set pop_authenticators = \"xoauth2\"\nset pop_oauth_refresh_command = \"TOKEN-COMMAND\"\n\
                 set ssl_force_tls = yes"
            ),
        },
        Program {
            name: "curl over POP3",
            about: "Reads the first message.",
            settings: format!(
                "curl --url pop3s://{host}:{port}/1 --user YOU@EXAMPLE.COM \\\n    \
                 --oauth2-bearer \"$(TOKEN-COMMAND)\""
            ),
        },
    ]
}

#[derive(Template)]
#[template(path = "guide.html", config = "src/admin/setup/templates/askama.toml")]
struct GuidePage<'a> {
    guide: Guide<'a>,
}

/// How to set up a mail program
#[utoipa::path(get, path = "/setup", tag = "set-up help", security(()), responses(
    (status = 200, description = "A page for people", body = str, content_type = "text/html"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
pub(super) async fn guide(State(control): State<Arc<Control>>) -> Result<Response, Problem> {
    let hostname = control.settings.hosts.first().map_or("", String::as_str);
    page(&GuidePage { guide: Guide { hostname, setup: &control.settings.setup } })
}
