//! Notices as e-mail (RFC 5321, 5322). One connection for each: notices are few, and a connection that broke says exactly
//! which of them is in doubt.
//!
//! The commands are given one by one, because what a refusal means depends on which of them was refused: of the connection,
//! the sign-in or the sender it is the operator's to mend and the notice waits; of the recipient or the message it is final.

use std::{path::PathBuf, time::Duration};

use lettre::{
    Address, Message,
    message::{
        Mailbox, SinglePart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailParameter},
    },
};

use tokio::time::timeout;

use super::{Handed, Settings, Smtp, SmtpTls, letter};
use crate::store::Notice;

/// How long a server may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why e-mail cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The sender is no address.
    #[error("from = {from:?} is no address: write \"Portcullis <gate@example.com>\"")]
    From {
        /// What was written.
        from: String,
    },
    /// The certificates are of no use.
    #[error("{}: {problem}: name a PEM file with certificates in ca_file", file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS cannot be set up for this host.
    #[error("TLS to {host}: {problem}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong.
        problem: String,
    },
}

/// Checks an address that mail is from.
pub(super) fn from(text: &str) -> Result<Mailbox, MailError> {
    text.parse().map_err(|_| MailError::From { from: text.to_owned() })
}

/// The mail server.
pub(super) struct Mailer {
    smtp: Smtp,
    from: Mailbox,
    tls: Option<TlsParameters>,
    hello: ClientId,
    hostname: String,
    answer: Duration,
    accept: Duration,
}

impl Mailer {
    pub(super) fn new(smtp: &Smtp, settings: &Settings) -> Result<Self, MailError> {
        let tls = match smtp.tls {
            SmtpTls::Plain => None,
            SmtpTls::Implicit | SmtpTls::StartTls => Some(tls(smtp)?),
        };
        Ok(Self {
            from: from(&smtp.from)?,
            tls,
            hello: ClientId::Domain(settings.hostname.clone()),
            hostname: settings.hostname.clone(),
            answer: settings.answer,
            accept: settings.accept,
            smtp: smtp.clone(),
        })
    }

    /// Sends one notice.
    pub(super) async fn send(&self, notice: &Notice) -> Handed {
        match self.message(notice) {
            Ok(message) => self.hand_over(&message).await,
            Err(problem) => Handed::Never(problem),
        }
    }

    fn message(&self, notice: &Notice) -> Result<Message, String> {
        let to: Address = notice
            .recipient
            .as_str()
            .parse()
            .map_err(|error| format!("{} cannot be written to: {error}", notice.recipient))?;
        let own = |name, value: &str| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned());
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(letter::subject(notice))
            .message_id(Some(format!("<{}@{}>", notice.unique_id(), self.hostname)))
            .date_now()
            // RFC 3834: so that no vacation program answers.
            .raw_header(own("Auto-Submitted", "auto-generated"))
            .singlepart(SinglePart::plain(letter::text(notice, &self.hostname)))
            .map_err(|error| error.to_string())
    }

    async fn hand_over(&self, message: &Message) -> Handed {
        let ready = async {
            let mut connection = self.connect().await.map_err(Handed::NotNow)?;
            let refused = prepare(&mut connection, message).await.err();
            Ok((connection, refused))
        };
        let (mut connection, refused) = match timeout(self.answer, ready).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(handed)) => return handed,
            Err(_) => return Handed::NotNow(format!("no answer within {} s", self.answer.as_secs())),
        };
        let handed = match refused {
            Some(refused) => refused,
            None => self.give(&mut connection, message).await,
        };
        // Taken is taken, whatever becomes of the goodbye.
        let _ = timeout(GOODBYE, connection.abort()).await;
        handed
    }

    /// The message itself. Whoever hangs up before the server has said that it took it may send it twice (RFC 5321 section
    /// 4.5.3.2.6), so this has a time of its own.
    async fn give(&self, connection: &mut AsyncSmtpConnection, message: &Message) -> Handed {
        match timeout(self.accept, connection.message(&message.formatted())).await {
            Ok(Ok(_)) => Handed::Taken,
            Ok(Err(error)) => refused("message", &error),
            Err(_) => Handed::NotNow(format!("message: no answer within {} s", self.accept.as_secs())),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, String> {
        let Smtp { host, port, tls, login, .. } = &self.smtp;
        let failed = |error: lettre::transport::smtp::Error| format!("{host}:{port}: {}", reason(&error));
        let first = self.tls.clone().filter(|_| *tls == SmtpTls::Implicit);
        let server = (host.as_str(), *port);
        let connection = AsyncSmtpConnection::connect_tokio1(server, Some(self.answer), &self.hello, first, None);
        let mut connection = connection.await.map_err(failed)?;
        if let (SmtpTls::StartTls, Some(parameters)) = (tls, &self.tls) {
            // Without it this is an error: nothing has been sent yet, and nothing will.
            connection.starttls(parameters.clone(), &self.hello).await.map_err(failed)?;
        }
        if let Some((user, password)) = login {
            let credentials = Credentials::new(user.clone(), password.reveal().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(failed)?;
        }
        Ok(connection)
    }
}

/// Everything up to the message: who it is from and to.
async fn prepare(connection: &mut AsyncSmtpConnection, message: &Message) -> Result<(), Handed> {
    let envelope = message.envelope();
    let mut options = Vec::new();
    if envelope.to().iter().chain(envelope.from()).any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(Handed::Never("the mail server takes no addresses beyond ASCII".to_owned()));
        }
        options.push(MailParameter::SmtpUtfEight);
    }
    if let Err(error) = connection.command(Mail::new(envelope.from().cloned(), options)).await {
        return Err(Handed::NotNow(format!("sender: {}", reason(&error))));
    }
    for to in envelope.to() {
        if let Err(error) = connection.command(Rcpt::new(to.clone(), Vec::new())).await {
            return Err(refused("recipient", &error));
        }
    }
    connection.command(Data).await.map(drop).map_err(|error| refused("message", &error))
}

/// 5yz of the recipient or the message is final, but for those that speak of our own sign-in (RFC 4954 section 6).
fn refused(what: &str, error: &lettre::transport::smtp::Error) -> Handed {
    let problem = format!("{what}: {}", reason(error));
    let code = error.status().map(u16::from);
    let own = matches!(code, Some(530 | 534 | 535 | 538));
    if error.is_permanent() && !own { Handed::Never(problem) } else { Handed::NotNow(problem) }
}

fn tls(smtp: &Smtp) -> Result<TlsParameters, MailError> {
    let mut builder = TlsParameters::builder(smtp.host.clone());
    if let Some(file) = &smtp.ca_file {
        let wrong = |problem: String| MailError::CaFile { file: file.clone(), problem };
        let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        if !pem.windows(10).any(|bytes| bytes == b"-----BEGIN") {
            return Err(wrong("there is no certificate in it".to_owned()));
        }
        builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|error| wrong(reason(&error)))?);
    }
    builder.build_rustls().map_err(|error| MailError::Tls { host: smtp.host.clone(), problem: reason(&error) })
}

/// The error and its causes, in one line without control characters: a part of it is the server's own words.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;
    use crate::notify::letter::tests::notice;
    use crate::store::{Deed, NoticeKind};

    fn mailer() -> Mailer {
        let smtp = Smtp {
            host: "localhost".into(),
            port: 25,
            tls: SmtpTls::Plain,
            login: None,
            from: "Portcullis <gate@example.com>".into(),
            ca_file: None,
        };
        let settings = Settings {
            hostname: "mail.example.com".into(),
            smtp: Some(smtp.clone()),
            webhooks: Vec::new(),
            attempts: 3,
            retry: Duration::from_secs(1),
            retry_most: Duration::from_secs(1),
            lease: Duration::from_secs(60),
            answer: Duration::from_millis(500),
            accept: Duration::from_secs(10),
            at_once: 1,
        };
        Mailer::new(&smtp, &settings).unwrap()
    }

    /// The header lines before the empty one, unfolded.
    fn headers(message: &[u8]) -> Vec<String> {
        let text = String::from_utf8(message.to_vec()).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        head.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn a_letter_has_our_headers_alone_whatever_outsiders_are_called() {
        let mailer = mailer();
        for words in [
            "x",
            "a\r\nBcc: all@example.com",
            "x\r\n\r\n.\r\nRCPT TO:<x@y>",
            "ü\u{202e}",
            "\r\nSubject: y",
            "=?utf-8?q?=0aBcc:x?=",
        ] {
            let message = mailer.message(&notice(NoticeKind::AccessChange, Deed::Removed, words)).unwrap();
            let formatted = message.formatted();
            assert!(formatted.is_ascii(), "{words:?}");
            let headers = headers(&formatted);
            let names: Vec<&str> = headers.iter().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
            assert_eq!(
                names,
                [
                    "From",
                    "To",
                    "Subject",
                    "Message-ID",
                    "Date",
                    "Auto-Submitted",
                    "MIME-Version",
                    "Content-Type",
                    "Content-Transfer-Encoding"
                ],
                "{words:?}"
            );
            assert!(headers.contains(&"To: ann@example.com".to_owned()), "{headers:?}");
            assert!(headers.contains(&"Subject: A mail app of yours was disconnected".to_owned()), "{headers:?}");
            assert!(headers.contains(&"Auto-Submitted: auto-generated".to_owned()), "{headers:?}");
            assert_eq!(message.envelope().to().len(), 1);
        }
    }

    #[test]
    fn a_second_try_has_the_message_id_of_the_first_and_another_notice_another() {
        let mailer = mailer();
        let id = |message: Message| {
            headers(&message.formatted()).into_iter().find(|line| line.starts_with("Message-ID"))
        };
        let mut notice = notice(NoticeKind::AccessChange, Deed::Removed, "x");
        let first = id(mailer.message(&notice).unwrap());
        assert!(first.is_some());
        assert_eq!(first, id(mailer.message(&notice).unwrap()));
        notice.id.0 += 1;
        assert_ne!(first, id(mailer.message(&notice).unwrap()));
    }

    /// What takes a message by the book, a little late, and then says nothing more.
    async fn slow_server(listener: tokio::net::TcpListener, hesitation: Duration) {
        let (stream, _) = listener.accept().await.unwrap();
        let mut wire = BufReader::new(stream);
        wire.write_all(b"220 post.test\r\n").await.unwrap();
        let mut in_message = false;
        loop {
            let mut line = String::new();
            wire.read_line(&mut line).await.unwrap();
            let answer: &[u8] = match line.trim_end() {
                "." if in_message => {
                    tokio::time::sleep(hesitation).await;
                    in_message = false;
                    b"250 taken\r\n"
                }
                _ if in_message => continue,
                "QUIT" => return std::future::pending().await,
                "DATA" => {
                    in_message = true;
                    b"354 go on\r\n"
                }
                _ => b"250 post.test\r\n",
            };
            wire.write_all(answer).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_the_server_took_is_sent_however_long_it_thought_about_it_and_says_no_goodbye() {
        let notice = notice(NoticeKind::AccessChange, Deed::Removed, "x");
        let mut mailer = mailer();
        for (accept, taken) in [(Duration::from_secs(10), true), (Duration::from_millis(50), false)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            mailer.smtp.host = "127.0.0.1".into();
            mailer.smtp.port = listener.local_addr().unwrap().port();
            mailer.accept = accept;
            let server = tokio::spawn(slow_server(listener, mailer.answer + Duration::from_millis(300)));
            let handed = mailer.send(&notice).await;
            server.abort();
            assert_eq!(handed == Handed::Taken, taken, "{handed:?}");
        }
    }

    #[test]
    fn who_cannot_be_written_to_is_told_of_and_not_tried() {
        let mut notice = notice(NoticeKind::AccessChange, Deed::Removed, "x");
        notice.recipient = crate::model::UserId::parse("a<b>,c@example.com").unwrap();
        let problem = mailer().message(&notice).unwrap_err();
        assert!(problem.starts_with("a<b>,c@example.com cannot be written to"), "{problem}");
    }
}
