//! Promises about the config file: what it says is what happens, and a mistake is told with its line and its remedy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::admin::MailServer;
use crate::model::UnixTime;
use crate::token::{Algorithm, ClaimRule, Rules};

const SHIPPED: &str = include_str!("../../config/portcullis.toml");

/// The least that works.
const LEAST: &str = r#"
hostname = "mail.example.com"
data_dir = "/var/lib/portcullis"
[listen]
imaps = ["[::]:993"]
[tls]
certificate = "certs/server.pem"
private_key = "certs/server.key"
[[issuer]]
url = "https://id.example.com"
audience = ["portcullis"]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/srv/gate/config/portcullis.toml"))
}

fn error(text: &str) -> String {
    parse(text).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn the_shipped_file_works_and_every_default_it_prints_is_the_default() {
    let shipped = parse(SHIPPED).unwrap();
    let is_key = |rest: &str| {
        rest.split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit()))
    };
    let printed = |line: &str| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line).to_owned();
    let uncommented = SHIPPED.lines().map(printed).collect::<Vec<_>>().join("\n");
    let all_written = parse(&uncommented).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        format!("{shipped:?}"),
        format!("{all_written:?}"),
        "a default in a comment differs from the code's"
    );
    for limit in Limits::ALL.iter().chain(Jwks::ALL).chain(NotifyLimits::ALL) {
        let line = format!("# {} = {}", limit.key, limit.default);
        assert!(SHIPPED.lines().any(|l| l == line), "config/portcullis.toml lacks the line {line:?}");
    }
    assert_eq!((shipped.limits, shipped.jwks), (Limits::default(), Jwks::default()));
}

#[test]
fn every_example_in_the_shipped_file_works() {
    let section_of = |at: usize| SHIPPED.lines().take(at + 1).filter(|line| line.starts_with('[')).count();
    for (line, example) in SHIPPED.lines().enumerate().filter_map(|(at, l)| Some((at, l.strip_prefix("#   ")?))) {
        let lines = SHIPPED.lines().enumerate().map(|(at, l)| if at == line { example } else { l });
        let key = example.split_once('=').map_or("", |(key, _)| key.trim());
        // An example that stands beside the real line of its section takes its place.
        let lines = lines.enumerate().filter(|(at, l)| {
            *at == line
                || section_of(*at) != section_of(line)
                || l.split_once('=').is_none_or(|(k, _)| k.trim() != key)
        });
        let text = lines.map(|(_, l)| l).collect::<Vec<_>>().join("\n");
        // Half of something: tested as a whole elsewhere.
        let half = ["certificate", "private_key"].contains(&key);
        let mut block = SHIPPED.lines().take(line + 1).collect::<Vec<_>>().into_iter().rev();
        let in_block = block.by_ref().map_while(|line| line.strip_prefix("#   ")).any(|line| line.starts_with('['));
        if !half && !in_block {
            parse(&text).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

/// The lines from this header on, without their marks.
fn block(header: &str) -> String {
    let lines = SHIPPED.lines().skip_while(|line| line.strip_prefix("#   ") != Some(header));
    lines.map_while(|line| line.strip_prefix("#   ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_introspection_block_of_the_shipped_file_works_when_its_marks_are_removed() {
    let block = block("[issuer.introspection]");
    let config = parse(&format!("{LEAST}{block}")).unwrap_or_else(|error| panic!("{error}"));
    assert!(config.issuers[0].introspection.is_some() && config.issuers[0].rules.introspection_needs_audience);
}

#[test]
fn the_blocks_for_notices_of_the_shipped_file_work_when_their_marks_are_removed() {
    let (smtp, webhook) = (block("[notify.smtp]"), block("[[notify.webhook]]"));
    let config = parse(&format!("{LEAST}{smtp}\n{webhook}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.notify.channels().len(), 2, "{smtp}{webhook}");
    assert!(config.notify.smtp.is_some_and(|smtp| smtp.login.is_some()));
}

#[test]
fn the_thunderbird_block_of_the_shipped_file_works_when_its_marks_are_removed() {
    let config =
        parse(&format!("{LEAST}{}", block("[setup.thunderbird]"))).unwrap_or_else(|error| panic!("{error}"));
    let [add_on] = config.setup.add_ons.as_slice() else { panic!("{:?}", config.setup) };
    assert_eq!((add_on.issuer.as_str(), add_on.scopes.len(), add_on.pkce), ("https://id.example.com", 3, true));
    assert_eq!(add_on.token_endpoint.as_deref(), Some("https://id.example.com/token"));
}

#[test]
fn people_are_told_what_the_config_implies_unless_it_says_otherwise() {
    let setup = parse(LEAST).unwrap().setup;
    let at = |server: &Option<MailServer>| server.as_ref().map(ToString::to_string);
    assert_eq!((at(&setup.imaps), at(&setup.pop3s)), (Some("mail.example.com:993".into()), None));
    assert!(setup.add_ons.is_empty() && setup.public_url.is_none() && setup.domains.is_empty());

    let config = parse(&format!(
        "{LEAST}scope = {{ imap = [\"mail\", \"imap\"], pop = [\"mail\"] }}\n[http]\npublic_url = \"https://Web.example.com/\"\n\
         [setup]\nimaps = \"IMAP.example.com:10993\"\nsmtp = \"smtp.example.com\"\ndomains = [\"Example.com\"]\n\
         [setup.thunderbird]\nclient_id = \"tb\"\n"
    ));
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let setup = &config.setup;
    assert_eq!(at(&setup.imaps).as_deref(), Some("imap.example.com:10993"));
    assert_eq!(at(&setup.smtp.as_ref().map(|smtp| smtp.server.clone())).as_deref(), Some("smtp.example.com:465"));
    assert_eq!(setup.public_url.as_deref(), Some("https://web.example.com"));
    assert_eq!(setup.add_ons[0].scopes, ["openid", "mail", "imap", "offline_access"]);
    assert_eq!(setup.add_ons[0].redirect, "http://127.0.0.1/");
    let hosts = config.admin_settings().hosts;
    assert_eq!(hosts, ["mail.example.com", "web.example.com", "autoconfig.example.com"]);
}

#[test]
fn the_sign_in_block_of_the_shipped_file_works_when_its_marks_are_removed() {
    let block = block("[http.signin]");
    let read = |text: &str| parse(text).unwrap_or_else(|error| panic!("{error}")).http.signin.unwrap();
    let all = read(&format!("{LEAST}{block}"));
    assert_eq!((all.issuer.as_str(), all.client_id.as_str()), ("https://id.example.com", "portcullis-console"));
    assert_eq!(all.client_secret_file.as_deref(), Some(Path::new("/srv/gate/config/signin.secret")));
    let least = read(&format!("{LEAST}[http.signin]\nclient_id = \"c\"\n"));
    assert_eq!((&least.issuer, &least.scope), (&all.issuer, &all.scope));
    assert_eq!(
        (least.idle_s, least.most_s),
        (all.idle_s, all.most_s),
        "a default in a comment differs from the code's"
    );
    assert_eq!((least.token_endpoint, least.client_secret_file), (None, None));
}

#[test]
fn people_are_asked_for_the_scope_that_brings_the_claim_which_names_them() {
    for (claim, scope) in [
        ("email", "openid email"),
        ("sub", "openid email"),
        ("preferred_username", "openid email profile"),
        ("upn", "openid email profile"),
    ] {
        let text = format!("{LEAST}user_claim = \"{claim}\"\n[http.signin]\nclient_id = \"c\"\n");
        let config = parse(&text).unwrap_or_else(|error| panic!("{claim}: {error}"));
        assert_eq!(config.http.signin.unwrap().scope, scope, "{claim}");
        let own = parse(&format!("{text}scope = \"openid upn\"\n")).unwrap();
        assert_eq!(own.http.signin.unwrap().scope, "openid upn", "what the operator writes stays");
    }
}

#[test]
fn the_least_file_gets_all_defaults() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.listen.imaps, ["[::]:993".parse().unwrap()]);
    assert_eq!(config.listen.pop3s, []);
    let issuer = &config.issuers[0];
    assert_eq!(issuer.keys, Some(KeySource::Discovery));
    assert_eq!(issuer.rules, Rules::new("https://id.example.com", ["portcullis"]));
    assert_eq!(config.database.url.reveal(), "sqlite:portcullis.db");
    assert_eq!((config.database.grace_s, config.policy_file), (300, None));
    assert!(config.audit.required);
    assert_eq!((config.log.level.as_str(), config.log.format), ("info", LogFormat::Text));
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn relative_paths_start_at_the_folder_above_config() {
    for (file, expected) in [
        ("/srv/gate/config/portcullis.toml", "/srv/gate/certs/server.pem"),
        ("/etc/portcullis/portcullis.toml", "/etc/portcullis/certs/server.pem"),
        ("/portcullis.toml", "/certs/server.pem"),
    ] {
        let config = Config::parse(LEAST, Path::new(file)).unwrap();
        assert_eq!(config.tls[0].certificate, Path::new(expected), "{file}");
    }
    let here = Config::parse(LEAST, Path::new("config/portcullis.toml")).unwrap();
    assert_eq!(here.tls[0].certificate, std::env::current_dir().unwrap().join("certs/server.pem"));
    let config =
        parse(&format!("{LEAST}jwks_file = \"config/jwks.json\"\n[policy]\nfile = \"/abs/policy.toml\"")).unwrap();
    let paths =
        config.paths().into_iter().map(|(key, path)| format!("{key}={}", path.display())).collect::<Vec<_>>();
    assert_eq!(
        paths,
        [
            "data_dir=/var/lib/portcullis",
            "tls.certificate=/srv/gate/certs/server.pem",
            "tls.private_key=/srv/gate/certs/server.key",
            "issuer.jwks_file=/srv/gate/config/jwks.json",
            "policy.file=/abs/policy.toml",
        ]
    );
}

#[test]
fn an_issuer_is_read_whole() {
    let config = parse(&format!(
        r#"{LEAST}
        algorithms = ["ES256", "EdDSA"]
        user_claim = "upn"
        app_claim = "software_id"
        local_part = "fold"
        token_type = "at+jwt"
        scope = {{ imap = ["mail", "mail.imap"], pop = "mail" }}
        leeway_s = 0
        service_account = {{ claim = "gty", equals = "client-credentials" }}
        private_key_file = "config/issuer.key"
        ca_file = "certs/id.pem"
        openid_configuration = "https://id.example.com/oidc"
        [issuer.introspection]
        endpoint = "https://id.example.com/introspect"
        client_id = "gate"
        client_secret = "hush"
        needs_audience = false
        [[issuer]]
        url = "http://127.0.0.1:1980"
        audience = "a"
        jwks_url = "http://localhost:1980/jwks"
        "#
    ))
    .unwrap();
    let [first, second] = &config.issuers[..] else { panic!("two issuers") };
    let mut rules = Rules::new("https://id.example.com", ["portcullis"]);
    rules.algorithms = vec![Algorithm::Es256, Algorithm::EdDsa];
    rules.user_claim = "upn".into();
    rules.app_claim = Some("software_id".into());
    (rules.fold_local_part, rules.only_at_jwt) = (true, true);
    rules.scope_imap = vec!["mail".into(), "mail.imap".into()];
    rules.scope_pop = vec!["mail".into()];
    rules.leeway_s = 0;
    rules.introspection_needs_audience = false;
    rules.service_account = Some(ClaimRule { claim: "gty".into(), equals: Some("client-credentials".into()) });
    assert_eq!(first.rules, rules);
    assert_eq!(first.private_key_file.as_deref(), Some(Path::new("/srv/gate/config/issuer.key")));
    assert_eq!(first.ca_file.as_deref(), Some(Path::new("/srv/gate/certs/id.pem")));
    assert_eq!(first.openid_configuration.as_deref(), Some("https://id.example.com/oidc"));
    assert_eq!(first.keys, None, "introspection alone");
    let introspection = first.introspection.as_ref().unwrap();
    assert_eq!(introspection.client_secret.as_ref().unwrap().reveal(), "hush");
    assert_eq!(second.keys, Some(KeySource::Url("http://localhost:1980/jwks".into())));
    assert_eq!(second.rules.audience, ["a"]);
}

#[test]
fn keys_and_introspection_go_together_when_both_are_asked_for() {
    let asked = "[issuer.introspection]\nendpoint = \"https://a.test\"\nclient_id = \"b\"\nclient_secret = \"c\"";
    for (line, expected) in [
        ("", None),
        ("discovery = true\n", Some(KeySource::Discovery)),
        ("jwks_url = \"https://a.test/jwks\"\n", Some(KeySource::Url("https://a.test/jwks".into()))),
    ] {
        let config = parse(&format!("{LEAST}{line}{asked}")).unwrap();
        assert_eq!(config.issuers[0].keys, expected, "{line}");
    }
}

#[test]
fn several_certificates_are_paired_in_order() {
    let text = LEAST
        .replace("\"certs/server.pem\"", "[\"a.pem\", \"b.pem\"]")
        .replace("\"certs/server.key\"", "[\"a.key\", \"b.key\"]");
    let config = parse(&text).unwrap();
    let b = PemFiles { certificate: "/srv/gate/b.pem".into(), private_key: "/srv/gate/b.key".into() };
    assert_eq!((config.tls.len(), &config.tls[1]), (2, &b));
}

#[test]
fn each_mistake_is_told_with_its_remedy() {
    let cases = [
        ("hostname = \"mail.example.com\"", "", "hostname is missing: write the name"),
        ("\"mail.example.com\"", "\"mail example\"", "hostname = \"mail example\" is no host name"),
        ("\"mail.example.com\"", "7", "hostname is of type integer: write a string in quotes"),
        ("\"mail.example.com\"", "\" \"", "hostname is empty"),
        ("data_dir", "datadir", "there is no key datadir: did you mean data_dir?"),
        ("data_dir", "datadir", "data_dir is missing"),
        ("imaps", "imap", "there is no key listen.imap: did you mean imaps?"),
        ("imaps", "imap", "there is nothing to listen on"),
        ("imaps = [\"[::]:993\"]", "imaps = []", "there is nothing to listen on"),
        ("imaps = [\"[::]:993\"]", "http = [\"127.0.0.1:1980\"]", "there is nothing to listen on"),
        ("[\"[::]:993\"]", "[\"[::]:993\"]\nhttp = [\"[::]:993\"]", "[::]:993 is in imaps and in http"),
        (
            "[tls]",
            "http = [\"192.0.2.1:1980\"]\n[http]\ntls = false\n[tls]",
            "http.tls = false, but listen.http has 192.0.2.1:1980, which others can reach: remove the line",
        ),
        (
            "[tls]",
            "[http]\nhosts = [\"https://a.test\"]\n[tls]",
            "\"https://a.test\" in http.hosts: write names alone",
        ),
        ("[tls]", "[http]\nscope = [\"a b\"]\n[tls]", "\"a b\" in http.scope: write scopes"),
        ("[tls]", "[http]\nhost = [\"a.test\"]\n[tls]", "there is no key http.host: did you mean hosts?"),
        ("[tls]", "[http]\nbody_bytes = 1\n[tls]", "http.body_bytes"),
        ("[tls]", "[http.signin]\n[tls]", "http.signin.client_id is missing: write the client ID"),
        (
            "[tls]",
            "[http.signin]\nclient_id = \"c\"\nissuer = \"https://a.test\"\n[tls]",
            "http.signin.issuer = \"https://a.test\" is none of [[issuer]]: write one of https://id.example.com",
        ),
        (
            "[tls]",
            "[http.signin]\nclient_id = \"c\"\nscope = \"email\"\n[tls]",
            "http.signin.scope = \"email\" cannot be asked for: write scopes between spaces, openid among them",
        ),
        (
            "[tls]",
            "[http.signin]\nclient_id = \"c\"\nclient_secret = \"s\"\nclient_secret_file = \"f\"\n[tls]",
            "http.signin has client_secret and client_secret_file: keep client_secret_file",
        ),
        ("[tls]", "[http.signin]\nclient_id = \"c\"\nidle_s = 0\n[tls]", "http.signin.idle_s is out of range"),
        ("[tls]", "[scim]\nunit = \"Staff\"\n[tls]", "scim.unit: unit path \"Staff\" must start with /"),
        ("[tls]", "[scim]\nunit_attribute = \"title\"\n[tls]", "scim.unit_attribute"),
        ("[tls]", "[scim]\nunits = \"/\"\n[tls]", "there is no key scim.units: did you mean unit?"),
        ("[::]:993", "localhost:1993", "write a number for the host: \"[::]:1993\""),
        ("[::]:993", "993", "\"993\" in listen.imaps: write address and port"),
        ("[\"[::]:993\"]", "[\"[::]:993\"]\npop3s = [\"[::]:993\"]", "[::]:993 is in imaps and in pop3s"),
        ("[tls]", "proxy_protocol_from = [\"10.0.0.0/33\"]\n[tls]", "write a network or an address"),
        ("certificate =", "certificates =", "there is no key tls.certificates: did you mean certificate?"),
        ("\"certs/server.key\"", "[]", "tls.private_key is missing: name a PEM file"),
        ("\"certs/server.key\"", "[\"a\", \"b\"]", "tls names 1 certificates and 2 keys"),
        ("url = \"https://id.example.com\"", "", "issuer.url is missing"),
        ("https://id", "http://id", "is not https: write https://..; http is for localhost only"),
        ("https://id.example.com", "id.example.com", "is no address"),
        ("https://id", "https://user:pw@id", "url holds a user, password or #fragment"),
        ("audience = [\"portcullis\"]", "", "issuer.audience is missing"),
        ("[\"portcullis\"]", "[]", "issuer.audience is missing"),
        ("[[issuer]]", "[issuer]", "issuer is of type table: write a list of tables, each headed [[issuer]]"),
    ];
    for (from, to, expected) in cases {
        let text = LEAST.replacen(from, to, 1);
        assert_ne!(text, LEAST, "{from:?} is not in the file");
        let told = error(&text);
        assert!(told.contains(expected), "{from:?} -> {to:?}\nexpected: {expected}\ntold: {told}");
    }
    let no_issuer = LEAST.split("[[issuer]]").next().unwrap();
    assert!(error(no_issuer).contains("[[issuer]] is missing"));
    for (more, expected) in [
        ("algorithms = [\"HS256\"]", "\"HS256\" in issuer.algorithms: known: RS256"),
        ("algorithms = []", "issuer.algorithms is an empty list"),
        ("scope = { imap = [\"a b\"] }", "write each scope on its own"),
        ("scope = { smtp = [\"a\"] }", "there is no key issuer.scope.smtp"),
        ("leeway_s = 601", "issuer.leeway_s is out of range: write a number from 0 to 600"),
        ("leeway_s = -1", "issuer.leeway_s is out of range"),
        ("leeway_s = 99999999999999999999", "issuer.leeway_s is out of range"),
        ("leeway_s = \"30\"", "issuer.leeway_s is of type string: write a whole number"),
        ("discovery = false", "there is no way to check this issuer's tokens"),
        ("discovery = true\njwks_file = \"a\"", "signing keys come from two places"),
        ("[limits]\nsearch_keys = 0", "limits.search_keys is out of range: write a number from 1 to 100000"),
        ("local_part = \"any\"", "write \"exact\" or \"fold\""),
        ("service_account = {}", "issuer.service_account.claim is missing"),
        ("jwks_file = \"a\"\njwks_url = \"https://a.test\"", "signing keys come from two places"),
        ("[[issuer]]\nurl = \"https://id.example.com\"\naudience = \"b\"", "stands here a second time"),
        (
            "[issuer.introspection]\nendpoint = \"https://a.test\"\nclient_id = \"b\"",
            "needs one of client_secret and client_secret_file",
        ),
        ("[issuer.introspection]\nclient_secret = \"b\"", "issuer.introspection.endpoint is missing"),
        ("[database]\nurl = \"mysql://root:hunter2@db\"", "database.url is of no known kind"),
        ("[database]\ngrace_s = 86401", "database.grace_s is out of range"),
        (
            "[mail]\ndefault = \"dovecot\"",
            "mail.default = \"dovecot\" is none of [[upstream]]: write \"maildir\", or remove the line",
        ),
        ("[[upstream]]\nimap = [\"a:993\"]", "upstream.name is missing: write what the policy calls it"),
        ("[audit]\nrequired = \"yes\"", "audit.required is of type string: write true or false"),
        ("[log]\nlevel = \"loud=very\"", "log.level = \"loud=very\""),
        ("[log]\nformat = \"xml\"", "write \"text\" or \"json\""),
        (
            "[limits]\nsesions_per_user = 3",
            "there is no key limits.sesions_per_user: did you mean sessions_per_user?",
        ),
        (
            "[limits]\nsessions_per_user = 0",
            "limits.sessions_per_user is out of range: write a number from 1 to 1000000",
        ),
        ("[limits]\nconnections = 10", "connections_without_login is 4000, more than connections, which is 10"),
        ("[limits]\ntoken_bytes = 65536", "more than line_before_login_bytes, which is 32768"),
        ("[jwks]\ntimeout_s = 61", "jwks.timeout_s is out of range"),
        ("[setup]\nimap = \"a\"", "there is no key setup.imap: did you mean imaps?"),
        ("[setup]\nimaps = \"a b\"", "setup.imaps = \"a b\" is no server: write name and port"),
        ("[setup]\nimaps = \"a.example.com:0\"", "setup.imaps = \"a.example.com:0\" is no server"),
        ("[setup]\npop3s = \"a.example.com\"", "setup.pop3s = \"a.example.com\", but listen.pop3s is off"),
        ("[setup]\nsmtp = \"smtp:x\"", "setup.smtp = \"smtp:x\" is no server"),
        ("[setup]\nsmtp_sign_in = \"plain\"", "setup.smtp_sign_in = \"plain\": write \"oauth\""),
        ("[setup]\ndomains = [\"ann@example.com\"]", "in setup.domains: write mail domains"),
        ("[setup.thunderbird]\nname = \"x\"", "setup.thunderbird.client_id is missing"),
        ("[setup.thunderbird]\nclient_id = \"a b\"", "write the client ID that the issuer gave"),
        ("[setup]\nthunderbird = 7", "setup.thunderbird is of type integer: write a table"),
        (
            "[setup.thunderbird]\nclient_id = \"a\"\nissuer = \"https://x.example.com\"",
            "is none of the [[issuer]]s",
        ),
        ("[setup.thunderbird]\nclient_id = \"a\"\nredirect = \"nowhere\"", "redirect = \"nowhere\" is no address"),
        (
            "[setup.thunderbird]\nclient_id = \"a\"\ntoken_endpoint = \"https://x.example.com/\"",
            "setup.thunderbird.authorization_endpoint is missing: write authorization_endpoint too, or remove",
        ),
        (
            "[[setup.thunderbird]]\nclient_id = \"a\"\n[[setup.thunderbird]]\nclient_id = \"b\"",
            "the issuer https://id.example.com has two Thunderbird add-ons",
        ),
        ("[http]\npublic_url = \"http://a.example.com\"", "is not https"),
        (
            "[http]\npublic_url = \"https://a.example.com/gate\"",
            "has a path or a query: write scheme and host alone",
        ),
        ("[console]\na = 1", "there is no key console: known here: hostname"),
        ("policy = \"config/policy.toml\"", "there is no key issuer.policy"),
        ("[policy]\nfile = 'a\u{0}b'", "no TOML"),
        ("[policy]\nfile = \"a\\u0000b\"", "policy.file holds a NUL character"),
    ] {
        let told = error(&format!("{LEAST}{more}\n"));
        assert!(told.contains(expected), "{more}\nexpected: {expected}\ntold: {told}");
        assert!(!told.contains("hunter2") || more.contains("mysql"), "{told}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_order_with_their_lines() {
    let text = LEAST.replacen("imaps", "imapz", 1).replacen("https://id", "ftp://id", 1);
    let told = error(&format!("{text}[log]\nformat = \"tëxt\"\n"));
    let places: Vec<_> =
        told.lines().filter(|line| line.starts_with("/srv/gate/config/portcullis.toml:")).collect();
    let starts = ["4:2", "5:1", "10:7", "13:10"].map(|place| format!("/srv/gate/config/portcullis.toml:{place}: "));
    assert_eq!(places.len(), starts.len(), "{told}");
    for (place, start) in places.iter().zip(&starts) {
        assert!(place.starts_with(start), "{place} does not start with {start}\n{told}");
    }
    let last: Vec<_> = told.lines().rev().take(2).collect();
    assert_eq!(last, ["   |          ^^^^^^", "13 | format = \"tëxt\""]);
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let told = error("hostname = \"mail.example.com\ndata_dir = 7\n");
    assert!(told.starts_with("/srv/gate/config/portcullis.toml:1:"), "{told}");
    assert!(told.contains("1 | hostname = \"mail.example.com\n"), "{told}");
}

#[test]
fn a_file_that_is_not_there_is_told_by_name() {
    let told = Config::load(Path::new("/nonexistent/portcullis.toml")).map(|_| ()).unwrap_err().to_string();
    assert!(
        told.starts_with("/nonexistent/portcullis.toml: the config file cannot be read (No such file"),
        "{told}"
    );
}

#[test]
fn a_config_does_not_print_its_secrets() {
    for url in ["sqlite:hunter2", "postgres://gate:hunter2@db/gate", "postgresql://gate:hunter2@db/gate"] {
        let kept = format!("{LEAST}[database]\nurl = \"{url}\"\n");
        let config = parse(&kept).unwrap();
        assert_eq!(config.database.url.reveal(), url);
        let printed = format!("{config:?} {:?}", config.store_settings());
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    for wrong in [
        "[database]\nurl = \"mysql://gate:hunter2@db/gate\"\n",
        "[issuer.introspection]\nclient_secret = \"hunter2\n",
        "[issuer.introspection]\nclient_secret = [\"hunter2\"]\n",
    ] {
        let told = error(&format!("{LEAST}{wrong}"));
        assert!(told.contains("portcullis.toml:") && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn certificates_are_read_with_what_clients_would_hold_against_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("portcullis.toml");
    let config = || Config::parse(LEAST, &file).unwrap();
    let now = UnixTime::from_secs(1_800_000_000);
    let errors = config().certificates(now).unwrap_err();
    let told = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(told.contains("certs/server.pem: tls.certificate cannot be read (No such file"), "{told}");
    assert!(told.contains("certs/README.md"), "{told}");

    let made = rcgen::generate_simple_self_signed(vec!["mail.example.com".to_owned()]).unwrap();
    fs::create_dir(dir.path().join("certs")).unwrap();
    fs::write(dir.path().join("certs/server.pem"), made.cert.pem()).unwrap();
    fs::write(dir.path().join("certs/server.key"), made.signing_key.serialize_pem()).unwrap();
    let (certificates, warnings) = config().certificates(now).unwrap();
    assert_eq!((certificates.pairs().len(), warnings), (1, vec![]));

    let other = Config { hostname: "imap.example.com".to_owned(), ..config() };
    let (_, warnings) = other.certificates(now).unwrap();
    assert_eq!(warnings, [PemWarning::Hostname { hostname: "imap.example.com".to_owned() }]);

    fs::write(dir.path().join("certs/server.key"), "nothing").unwrap();
    let told = config().certificates(now).unwrap_err()[0].to_string();
    assert!(
        told.ends_with(
            "certs/server.key: it holds no private key: give a PEM file with `-----BEGIN PRIVATE KEY-----`"
        ),
        "{told}"
    );
    fs::remove_file(dir.path().join("certs/server.key")).unwrap();
    fs::create_dir(dir.path().join("certs/server.key")).unwrap();
    assert!(config().certificates(now).unwrap_err()[0].to_string().contains("it is no file"));
}

proptest! {
    #[test]
    fn any_text_gives_an_answer(text in "\\PC{0,300}") {
        let _ = parse(&text).map_err(|error| error.to_string());
    }

    #[test]
    fn a_damaged_file_gives_an_answer_that_can_be_shown(at in 0usize..4000, with in "\\PC{0,3}", cut in 0usize..20) {
        let at = SHIPPED.floor_char_boundary(at);
        let end = SHIPPED.ceil_char_boundary((at + cut).min(SHIPPED.len()));
        let text = format!("{}{with}{}", &SHIPPED[..at], &SHIPPED[end..]);
        if let Err(error) = parse(&text) {
            prop_assert!(error.to_string().lines().all(|line| line.chars().count() < 400));
        }
    }
}
