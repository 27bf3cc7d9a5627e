//! Promises about `[[upstream]]`: nothing goes unprotected to another machine, no secret stands in the file or is printed,
//! and a mistake is told with its remedy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{fs, path::Path};

use super::*;
use crate::sasl::Mechanism;
use crate::upstream::{ClientAddress, LoginBy};

const LEAST: &str = "hostname = \"mail.example.com\"\ndata_dir = \"data\"\nlisten = { imaps = [\"[::]:993\"] }\n\
     tls = { certificate = \"a.pem\", private_key = \"a.key\" }\n\
     [[issuer]]\nurl = \"https://id.example.com\"\naudience = [\"portcullis\"]\n";
const SHIPPED: &str = include_str!("../../config/portcullis.toml");

fn parse_in(dir: &Path, more: &str) -> Result<Config, String> {
    Config::parse(&format!("{LEAST}{more}"), &dir.join("portcullis.toml")).map_err(|error| error.to_string())
}

fn parse(more: &str) -> Result<Config, String> {
    parse_in(Path::new("/srv/gate"), more)
}

/// An upstream with these lines in place of its own with the same keys.
fn upstream(more: &[&str]) -> String {
    let key = |line: &str| line.split('=').next().unwrap_or("").trim().to_owned();
    let own = ["name = \"dovecot\"", "imap = [\"mail1.internal:993\"]", "login = { by = \"token\" }"];
    let own = own.iter().filter(|line| !more.iter().any(|other| key(other) == key(line)));
    let lines: Vec<&str> = std::iter::once(&"[[upstream]]").chain(own).chain(more).copied().collect();
    lines.join("\n") + "\n"
}

#[test]
fn the_block_of_the_shipped_file_works_when_its_marks_are_removed_and_tells_the_defaults() {
    let block = SHIPPED.lines().skip_while(|line| *line != "#   [[upstream]]");
    let block: Vec<&str> = block.map_while(|line| line.strip_prefix("#   ")).collect();
    let config = parse(&block.join("\n")).unwrap_or_else(|error| panic!("{error}"));
    let [shown] = config.upstreams.as_slice() else { panic!("{:?}", config.upstreams) };
    assert_eq!((shown.imap.len(), shown.pop3.len(), shown.server_name.is_some()), (2, 2, true));
    let least = &parse(&upstream(&[])).unwrap().upstreams[0];
    let defaults = |own: &Upstream| {
        let numbers = (own.connect_s, own.login_s, own.connections, own.health_s);
        (own.tls, own.proxy_protocol, own.client_address, numbers, format!("{:?}", own.login))
    };
    assert_eq!(defaults(least), defaults(shown), "a default in the block differs from the code's");
    assert!(block.iter().filter(|line| line.ends_with("# default")).count() >= 6);
    // The ways to sign in that stand there as comments.
    let ways = block.iter().filter_map(|line| line.trim().strip_prefix("#     {"));
    let ways: Vec<String> = ways.map(|rest| format!("login = {{{rest}")).collect();
    assert_eq!(ways.len(), 3);
    for way in ways {
        parse(&upstream(&[&way])).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn what_the_file_says_reaches_the_room() {
    let text = upstream(&[
        "imap = [\"127.0.0.1:143\", \"[::1]:143\"]",
        "pop3 = \"localhost:110\"",
        "tls = false",
        "login = { by = \"token\", mechanism = \"OAUTHBEARER\" }",
        "proxy_protocol = true",
        "client_address = \"id\"",
        "connect_s = 1\nlogin_s = 2\nconnections = 3\nhealth_s = 0",
    ]);
    let config = parse(&format!("{text}[mail]\ndefault = \"dovecot\"\n")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.mail_default, "dovecot");
    let settings = config.upstream_settings().unwrap();
    let own = &settings[0];
    let texts = |list: &[crate::upstream::Address]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&own.imap), ["127.0.0.1:143", "[::1]:143"]);
    assert_eq!(texts(&own.pop), ["localhost:110"]);
    assert!(own.tls.is_none() && own.proxy_protocol && own.health.is_none());
    assert_eq!((own.client_address, own.connections), (ClientAddress::Id, 3));
    assert_eq!((own.connect.as_secs(), own.login_limit.as_secs()), (1, 2));
    assert!(matches!(own.login, LoginBy::Token { mechanism: Some(Mechanism::OauthBearer) }));
    let none = parse("").unwrap();
    assert_eq!((none.upstreams.len(), none.mail_default.as_str()), (0, "maildir"));
    // The room's own defaults are those of a table that says nothing.
    let least = parse(&upstream(&[])).unwrap().upstream_settings().unwrap().remove(0);
    let mut own = crate::upstream::Settings::new("dovecot", LoginBy::Token { mechanism: None });
    own.imap = least.imap.clone();
    assert_eq!(format!("{least:?}"), format!("{own:?}"));
}

#[test]
fn each_mistake_is_told_with_its_remedy() {
    let long = format!("name = \"{}\"", "x".repeat(65));
    let cases: &[(&[&str], &str)] = &[
        (&["name = \"maildir\""], "\"maildir\" is the embedded store's name: write another one"),
        (&["name = \"a b\""], "is no name: write 1 to 64 of ASCII letters, digits, - _ and ."),
        (&[&long], "is no name"),
        (&["imap = []"], "upstream.imap is missing: name its servers"),
        (
            &["imap = [\"mail1.internal\"]"],
            "in upstream.imap is no server: write host and port: \"mail1.internal:993\"",
        ),
        (&["imap = [\"::1:993\"]"], "in upstream.imap is no server"),
        (&["imap = [\"imaps://a:993\"]"], "in upstream.imap is no server"),
        (&["pop3 = [\"a:995\", \"A:995\"]"], "\"A:995\" in upstream.pop3 stands there twice: remove one"),
        (&["imaps = [\"a:993\"]"], "there is no key upstream.imaps: did you mean imap?"),
        (&["tls = false"], "upstream.tls is false, but mail1.internal:993 is another machine: write tls = true"),
        (
            &["imap = [\"localhost:143\"]", "pop3 = [\"192.0.2.1:110\"]", "tls = false"],
            "but 192.0.2.1:110 is another machine",
        ),
        (
            &["imap = [\"[::1]:143\"]", "tls = false", "ca_file = \"a.pem\""],
            "upstream.ca_file is for TLS, but upstream.tls is false",
        ),
        (&["server_name = \"a b\""], "is no name that a certificate can bear"),
        (&["login = { }"], "upstream.login.by is missing: say how the gateway signs in there"),
        (&["login = \"token\""], "upstream.login is of type string"),
        (&["login = { by = \"password\" }"], "write \"token\" or \"master\" or \"certificate\""),
        (&["login = { by = \"token\", mechanism = \"PLAIN\" }"], "write \"XOAUTH2\" or \"OAUTHBEARER\""),
        (&["login = { by = \"token\", user = \"a\" }"], "there is no key upstream.login.user"),
        (&["login = { by = \"master\", user = \"gate\" }"], "needs one of secret_file and secret_env"),
        (&["login = { by = \"master\", secret_file = \"a\" }"], "upstream.login.user is missing"),
        (
            &["login = { by = \"master\", user = \"gate\", secret_file = \"a\", secret_env = \"B\" }"],
            "needs one of secret_file and secret_env",
        ),
        (
            &["login = { by = \"master\", user = \"gate\", secret_file = \"a\", form = \"{user}\" }"],
            "it needs {owner} once, and {user} at most once: write \"{owner}*{user}\"",
        ),
        (&["login = { by = \"certificate\", certificate = \"a\" }"], "upstream.login.private_key is missing"),
        (
            &[
                "imap = [\"[::1]:143\"]",
                "tls = false",
                "login = { by = \"certificate\", certificate = \"a\", private_key = \"b\" }",
            ],
            "is by certificate, but upstream.tls is false",
        ),
        (&["client_address = \"xclient\""], "write \"none\" or \"id\""),
        (&["connections = 0"], "upstream.connections is out of range: write a number from 1 to 1000000"),
        (&["connect_s = 61"], "upstream.connect_s is out of range"),
    ];
    for (lines, expected) in cases {
        let told = parse(&upstream(lines)).map(|_| ()).unwrap_err();
        assert!(
            told.contains(expected) && told.contains("portcullis.toml:"),
            "{lines:?}\nexpected: {expected}\n{told}"
        );
    }
    let told = parse("[[upstream]]\nname = \"a\"\nimap = [\"a:993\"]\n").map(|_| ()).unwrap_err();
    assert!(told.contains("upstream.login is missing: say how the gateway signs in there"), "{told}");
    let told = parse(&upstream(&[]).repeat(2)).map(|_| ()).unwrap_err();
    assert!(told.contains("the upstream dovecot stands here a second time"), "{told}");
    let other = format!("{}[mail]\ndefault = \"cyrus\"\n", upstream(&[]));
    let told = parse(&other).map(|_| ()).unwrap_err();
    assert!(told.contains("none of [[upstream]]: write \"maildir\" or \"dovecot\""), "{told}");
    let half = format!("{}[mail]\ndefault = \"dovecot\"\n", upstream(&["connect_s = 0"]));
    let told = parse(&half).map(|_| ()).unwrap_err();
    assert!(!told.contains("mail.default"), "its name is known, whatever else is wrong with it: {told}");
}

#[test]
fn no_secret_is_printed() {
    for wrong in [
        "login = { by = \"master\", user = \"gate\", secret = \"hunter2\" }",
        "login = { by = \"master\", user = \"gate\", password = \"hunter2\" }",
        "login = { by = \"master\", user = \"gate\", secret_env = \"$hunter2\" }",
        "login = { by = \"master\", user = 7, secret_env = \"hunter2\" }",
    ] {
        let told = parse(&upstream(&[wrong])).map(|_| ()).unwrap_err();
        assert!(told.contains("portcullis.toml:") && !told.contains("hunter2"), "{told}");
    }
    let dir = tempfile::tempdir().unwrap();
    let text = upstream(&["login = { by = \"master\", user = \"gate\", secret_file = \"gate.secret\" }"]);
    let config = parse_in(dir.path(), &text).unwrap();
    fs::write(dir.path().join("gate.secret"), "hunter2\n").unwrap();
    let settings = config.upstream_settings().unwrap();
    assert!(matches!(&settings[0].login, LoginBy::Master { secret, .. } if secret.reveal() == "hunter2"));
    assert!(!format!("{config:?} {settings:?}").contains("hunter2"));
}

#[test]
fn files_and_variables_that_cannot_be_used_are_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let told = |line: &str| {
        let config = parse_in(dir.path(), &upstream(&[line])).unwrap_or_else(|error| panic!("{error}"));
        let errors = config.upstream_settings().map(|_| ()).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let made = rcgen::generate_simple_self_signed(vec!["gate.example.com".to_owned()]).unwrap();
    file("empty", "");
    file("two.secret", "one\ntwo\n");
    file("gate.pem", &made.cert.pem());
    file("gate.key", &made.signing_key.serialize_pem());
    let master = |more: &str| format!("login = {{ by = \"master\", user = \"gate\", {more} }}");
    let shown = |certificate: &str, key: &str| {
        format!("login = {{ by = \"certificate\", certificate = \"{certificate}\", private_key = \"{key}\" }}")
    };
    for (line, expected) in [
        ("ca_file = \"none.pem\"".to_owned(), "none.pem: upstream.ca_file cannot be read (No such file"),
        ("ca_file = \"empty\"".to_owned(), "empty: it holds no certificate: give the certificate, in PEM"),
        ("ca_file = \"gate.key\"".to_owned(), "gate.key: it holds no certificate"),
        (master("secret_file = \"none\""), "none: the secret of upstream dovecot cannot be read (No such file"),
        (master("secret_file = \"empty\""), "it is empty"),
        (master("secret_file = \"two.secret\""), "more than one line"),
        (
            master("secret_env = \"PORTCULLIS_NOT_SET\""),
            "it is not set): set the environment variable PORTCULLIS_NOT_SET",
        ),
        (shown("none", "gate.key"), "none: upstream.login.certificate cannot be read"),
        (shown("gate.pem", "none"), "none: upstream.login.private_key cannot be read"),
        (shown("gate.key", "gate.pem"), "it holds a private key, and no certificate: swap"),
        (shown("gate.pem", "empty"), "empty: it holds no private key"),
    ] {
        let told = told(&line);
        assert!(told.contains(expected), "{line}\nexpected: {expected}\ntold: {told}");
    }
    let good =
        parse_in(dir.path(), &upstream(&["ca_file = \"gate.pem\"", &shown("gate.pem", "gate.key")])).unwrap();
    let settings = good.upstream_settings().unwrap();
    assert!(settings[0].tls.as_ref().is_some_and(|trust| trust.certificate.is_some() && trust.roots.is_some()));
    let keys: Vec<_> =
        good.paths().into_iter().map(|(key, _)| key).filter(|key| key.starts_with("upstream")).collect();
    assert_eq!(keys, ["upstream.ca_file", "upstream.login.certificate", "upstream.login.private_key"]);
    // Whatever runs the tests has a search path.
    let environment = parse(&upstream(&[&master("secret_env = \"PATH\"")])).unwrap().upstream_settings().unwrap();
    let path = std::env::var("PATH").unwrap();
    assert!(matches!(&environment[0].login, LoginBy::Master { secret, .. } if secret.reveal() == path));
}
