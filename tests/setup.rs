//! Set-up help: what a stranger may read, that it tells nobody which addresses exist, and what a refusal's reference tells
//! whom.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{
    ANN, APP, Gate, OTHER_APP, Setup,
    api::{Answer, Api},
    program::{self, Home, run},
    wire::{Imap, xoauth2},
};

const ENDPOINTS: &str = "authorization_endpoint = \"https://id.example.com/authorize\"\n\
                         token_endpoint = \"https://id.example.com/token\"\n";

/// A gate with these lines behind `[setup]`.
fn gate(lines: &str) -> Gate {
    let listen = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned();
    let more = format!("[http]\nscope = [\"mail\"]\npublic_url = \"https://web.example.com\"\n[setup]\n{lines}");
    Gate::with(Setup { listen, more, ..Setup::default() })
}

fn add_on(lines: &str) -> String {
    format!("[setup.thunderbird]\nclient_id = \"tb\"\n{ENDPOINTS}{lines}")
}

/// The one file in a zip file whose files are stored as they are, read by the format's own fields (APPNOTE 4.3.7).
fn only_file(zip: &[u8]) -> (String, Vec<u8>) {
    let number =
        |at: usize, size: usize| zip[at..at + size].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte));
    assert_eq!((&zip[..4], number(8, 2)), (&b"PK\x03\x04"[..], 0), "not a stored file");
    let (size, name, extra) = (number(18, 4), number(26, 2), number(28, 2));
    let content = 30 + name + extra;
    (String::from_utf8(zip[30..30 + name].to_vec()).unwrap(), zip[content..content + size].to_vec())
}

fn manifest(zip: &[u8]) -> Value {
    let (name, content) = only_file(zip);
    assert_eq!(name, "manifest.json");
    serde_json::from_slice(&content).unwrap()
}

/// The same answer but for the time it was made at.
fn same(one: &Answer, other: &Answer) -> bool {
    (one.status, &one.text) == (other.status, &other.text)
}

#[test]
fn autoconfig_tells_the_servers_by_domain_and_nothing_of_addresses() {
    let gate = gate("imaps = \"mail.example.com\"\nsmtp = \"smtp.example.com:587\"\n");
    let stranger = Api::stranger(&gate);
    let ask = |query: &str| stranger.get(&format!("/mail/config-v1.1.xml{query}"));
    let ann = ask(&format!("?emailaddress={ANN}"));
    assert_eq!(ann.status, StatusCode::OK, "{}", ann.text);
    assert_eq!(ann.headers["content-type"], "text/xml; charset=utf-8");
    for piece in [
        "<domain>example.com</domain>",
        &format!("<hostname>mail.example.com</hostname>\n      <port>{}</port>", gate.imaps),
        &format!("<hostname>localhost</hostname>\n      <port>{}</port>", gate.pop3s),
        "<hostname>smtp.example.com</hostname>\n      <port>587</port>\n      <socketType>STARTTLS</socketType>",
        "<username>%EMAILADDRESS%</username>\n      <authentication>OAuth2</authentication>",
        "<documentation url=\"https://web.example.com/setup\">",
    ] {
        assert!(ann.text.contains(piece), "{piece} is not in\n{}", ann.text);
    }
    assert!(same(&ann, &ask("?emailaddress=nobody.at.all@EXAMPLE.com")), "it tells who exists");
    for path in ["/.well-known/autoconfig/mail/config-v1.1.xml", "/.well-known/mail-v1.xml"] {
        assert!(same(&ann, &stranger.get(&format!("{path}?emailaddress={ANN}"))), "{path}");
    }
    for foreign in ["ann@example.org", "ann@", "@", "", "ann%40example.com%3Cx%3E", "ann@<domain>"] {
        let answer = ask(&format!("?emailaddress={foreign}"));
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{foreign}: {}", answer.text);
        assert_eq!(answer.problem(), "not-found");
    }
    // Without an address the host that is asked stands for the domain.
    assert_eq!(ask("").status, StatusCode::NOT_FOUND);
}

#[test]
fn autoconfig_answers_for_the_domains_that_the_config_names_where_it_names_some() {
    let gate = gate("domains = [\"example.net\", \"example.org\"]\n");
    let stranger = Api::stranger(&gate);
    let all = stranger.get("/mail/config-v1.1.xml").text;
    assert!(all.contains("<domain>example.net</domain>\n    <domain>example.org</domain>"), "{all}");
    let one = stranger.get("/mail/config-v1.1.xml?emailaddress=x@example.org").text;
    assert!(one.contains("<domain>example.org</domain>") && !one.contains("example.net"), "{one}");
    let ann = stranger.get(&format!("/mail/config-v1.1.xml?emailaddress={ANN}"));
    assert_eq!(ann.status, StatusCode::NOT_FOUND, "example.com is not named");
    // Programs ask at this name, which nobody had to write under http.hosts.
    let named = Api::stranger(&gate).by_name("autoconfig.example.net").get("/mail/config-v1.1.xml");
    assert_eq!(named.status, StatusCode::OK, "{}", named.text);
    let guide = stranger.get("/setup").text;
    assert!(
        guide.contains(&format!("_imaps._tcp.example.net.                 IN SRV   0 1 {} localhost.", gate.imaps)),
        "{guide}"
    );
    assert!(guide.contains("_imap._tcp.example.net.                  IN SRV   0 0 0 ."), "{guide}");
}

#[test]
fn the_add_on_is_the_same_everywhere_and_its_version_grows_with_its_content() {
    let mut gate = gate(&format!("imaps = \"mail.example.com\"\n{}", add_on("name = \"A <mail> & \\\"co\\\"\"\n")));
    let stranger = Api::stranger(&gate);
    let (first, headers) = stranger.bytes("/setup/thunderbird.xpi");
    assert_eq!(headers["content-type"], "application/x-xpinstall");
    assert_eq!(stranger.bytes("/setup/thunderbird/1.xpi").0, first);
    let made = manifest(&first);
    assert_eq!(made["version"], "1.1");
    assert_eq!(made["name"], "A <mail> & \"co\"");
    let provider = &made["oauth_provider"];
    assert_eq!(
        *provider,
        json!({
            "issuer": "mail.example.com", "clientId": "tb", "redirectionEndpoint": "http://127.0.0.1/",
            "authorizationEndpoint": "https://id.example.com/authorize",
            "tokenEndpoint": "https://id.example.com/token", "usePKCE": true,
            "hostnames": ["mail.example.com", "localhost"], "scopes": "openid mail offline_access",
        })
    );
    let gecko = &made["browser_specific_settings"]["gecko"];
    assert_eq!(gecko["update_url"], "https://web.example.com/setup/thunderbird/1.json");
    let page = stranger.get("/setup").text;
    assert!(
        page.contains("<a href=\"/setup/thunderbird/1.xpi\">A &#60;mail&#62; &#38; &#34;co&#34;</a>"),
        "{page}"
    );

    // What Thunderbird asks about updates: the version, and the hash of the very file.
    let updates = stranger.get("/setup/thunderbird/1.json").json();
    let update = &updates["addons"][gecko["id"].as_str().unwrap()]["updates"][0];
    assert_eq!(
        (&update["version"], &update["update_link"]),
        (&made["version"], &json!("https://web.example.com/setup/thunderbird/1.xpi"))
    );
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &first);
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(update["update_hash"], format!("sha256:{hash}"));

    let file = gate.dir().join("tb.xpi");
    let run = gate.portcullis(&["setup", "thunderbird", "-o", file.to_str().unwrap()]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(std::fs::read(&file).unwrap(), first);

    let config = std::fs::read_to_string(gate.config()).unwrap();
    std::fs::write(gate.config(), config.replace("client_id = \"tb\"", "client_id = \"other\"")).unwrap();
    gate.crash_and_restart();
    let second = manifest(&Api::stranger(&gate).bytes("/setup/thunderbird.xpi").0);
    assert_eq!((&second["version"], &second["oauth_provider"]["clientId"]), (&json!("1.2"), &json!("other")));
    assert_eq!(second["browser_specific_settings"]["gecko"]["id"], gecko["id"]);
}

#[test]
fn each_issuer_has_an_add_on_of_its_own() {
    let issuer = |name: &str| {
        format!(
            "[[issuer]]\nurl = \"https://{name}.example.com\"\naudience = [\"portcullis\"]\njwks_file = \"jwks.json\"\n"
        )
    };
    let add_on = |name: &str| {
        format!(
            "[[setup.thunderbird]]\nissuer = \"https://{name}.example.com\"\nclient_id = \"{name}-tb\"\n{ENDPOINTS}"
        )
    };
    let listen = "imaps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned();
    let (issuers, more) = (issuer("one") + &issuer("two"), add_on("one") + &add_on("two"));
    let gate = Gate::with(Setup { listen, more, issuer: Some(issuers), ..Setup::default() });
    let stranger = Api::stranger(&gate);
    let [one, two] = [1, 2].map(|number| manifest(&stranger.bytes(&format!("/setup/thunderbird/{number}.xpi")).0));
    assert_eq!(one["oauth_provider"]["clientId"], "one-tb");
    assert_eq!(two["oauth_provider"]["clientId"], "two-tb");
    let id = |manifest: &Value| manifest["browser_specific_settings"]["gecko"]["id"].clone();
    assert_ne!(id(&one), id(&two));
    assert_eq!(one["browser_specific_settings"]["gecko"]["update_url"], Value::Null, "there is no public_url");
    assert_eq!(stranger.get("/setup/thunderbird/3.xpi").status, StatusCode::NOT_FOUND);
    assert!(stranger.get("/setup").text.contains("(for people who sign in at https://two.example.com)"));

    let run = gate.portcullis(&["setup", "thunderbird", "-o", "-", "--issuer", "https://two.example.com"]);
    assert_eq!(manifest(&run.stdout), two, "{}", String::from_utf8_lossy(&run.stderr));
    let run = gate.portcullis(&["setup", "thunderbird", "-o", "-"]);
    assert!(String::from_utf8_lossy(&run.stderr).contains("name one with --issuer"));
}

#[test]
fn an_add_on_that_cannot_be_made_says_so_without_telling_strangers_why() {
    let gate = gate("");
    let stranger = Api::stranger(&gate);
    for path in [
        "/setup/thunderbird.xpi",
        "/setup/thunderbird/1.xpi",
        "/setup/thunderbird/0.xpi",
        "/setup/thunderbird/1.zip",
    ] {
        assert_eq!(stranger.get(path).status, StatusCode::NOT_FOUND, "{path}");
    }
    let told = String::from_utf8_lossy(&gate.portcullis(&["setup", "thunderbird", "-o", "x"]).stderr).into_owned();
    assert!(told.contains("there is no [setup.thunderbird]; write it with client_id"), "{told}");

    // Nobody listens where the endpoints should be told.
    let (listen, more) =
        ("imaps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n", "[setup.thunderbird]\nclient_id = \"tb\"\n");
    let issuer =
        "[[issuer]]\nurl = \"http://127.0.0.1:1\"\naudience = [\"portcullis\"]\njwks_file = \"jwks.json\"\n";
    let setup = Setup { listen: listen.into(), more: more.into(), issuer: Some(issuer.into()), ..Setup::default() };
    let gate = Gate::with(setup);
    let answer = Api::stranger(&gate).get("/setup/thunderbird.xpi");
    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
    assert!(!answer.text.contains("127.0.0.1:1"), "{}", answer.text);
    let run = gate.portcullis(&["setup", "thunderbird", "-o", "x"]);
    let told = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{told}");
    assert!(
        told.contains("no answer from http://127.0.0.1:1/") && told.contains("write authorization_endpoint"),
        "{told}"
    );
}

#[test]
fn endpoints_are_asked_of_the_issuer_once_for_many_who_want_the_add_on() {
    let issuer = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", issuer.local_addr().unwrap());
    let body = json!({
        "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
        "authorization_response_iss_parameter_supported": true,
    })
    .to_string();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in issuer.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    let table = format!("[[issuer]]\nurl = \"{url}\"\naudience = [\"portcullis\"]\njwks_file = \"jwks.json\"\n");
    let listen = "imaps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned();
    let more = "[setup.thunderbird]\nclient_id = \"tb\"\n".to_owned();
    let gate = Gate::with(Setup { listen, more, issuer: Some(table), ..Setup::default() });
    let stranger = Api::stranger(&gate);
    for _ in 0..5 {
        let provider = &manifest(&stranger.bytes("/setup/thunderbird.xpi").0)["oauth_provider"];
        assert_eq!(provider["tokenEndpoint"], format!("{url}/token"));
        assert_eq!(provider["issuerIdentifier"], url);
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// The reply to a sign-in that is refused, and its reference.
fn refused(gate: &Gate, user: &str, token: &str) -> (String, String) {
    let status = Imap::connect(gate).command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(user, token))).status;
    assert!(status.starts_with("NO "), "{status}");
    let reference = status.split("(ref ").nth(1).unwrap_or_else(|| panic!("{status}"))[..6].to_owned();
    (status, reference)
}

#[test]
fn a_reference_tells_a_stranger_nothing_and_its_own_person_the_cause() {
    let gate = gate("");
    let (lisa, olaf) = ("lisa@example.com", "olaf@example.com");
    let (status, reference) = refused(&gate, lisa, &gate.token(lisa, OTHER_APP));
    assert!(
        status.ends_with(&format!("(ref {reference}) See https://web.example.com/help/ref/{reference}")),
        "{status}"
    );
    gate.audit_with(&["--user", lisa], 1, |row| row["reference"] == reference.as_str());

    let stranger = Api::stranger(&gate);
    let page = |api: &Api, reference: &str| api.get(&format!("/help/ref/{reference}"));
    let real = page(&stranger, &reference);
    assert_eq!(real.status, StatusCode::OK);
    assert!(real.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert!(!real.text.contains("<script") && !real.text.contains("style="), "{}", real.text);
    let made_up = page(&stranger, "000000").text.replace("000000", &reference);
    assert_eq!(real.text, made_up, "a stranger learns which references exist");
    assert!(!real.text.contains(OTHER_APP), "{}", real.text);
    assert_eq!(page(&stranger, "nonsense").status, StatusCode::OK);

    // Only the person who was refused, and who reads the audit log, is told more.
    let own = Api::with(&gate, &gate.token(lisa, APP));
    let told = own.get(&format!("/api/v1/me/refusals/{reference}"));
    assert_eq!(told.status, StatusCode::OK, "{}", told.text);
    let told = told.json();
    assert_eq!(
        (&told["cause"], &told["app"], &told["service"]),
        (&json!("policy_app"), &json!(OTHER_APP), &json!("imap"))
    );
    assert!(
        told["detail"].as_str().unwrap().contains("is not on the list for IMAP (set at unit \"/Listed\")"),
        "{told}"
    );
    assert!(told["remedy"].as_str().unwrap().contains("allow this one"), "{told}");
    let shown = page(&own, &reference.to_lowercase()).text;
    assert!(shown.contains("Your refusal") && shown.contains("policy_app"), "{shown}");
    assert!(page(&Api::first(&gate), &reference).text.contains("policy_app"));

    let other = Api::with(&gate, &gate.token(ANN, APP));
    let (theirs, nobodys) =
        (other.get(&format!("/api/v1/me/refusals/{reference}")), other.get("/api/v1/me/refusals/000000"));
    assert_eq!(theirs.status, StatusCode::NOT_FOUND);
    assert_eq!(theirs.text.replace(&reference, "000000"), nobodys.text);
    assert!(!page(&other, &reference).text.contains("policy_app"));
    assert_eq!(other.get("/api/v1/me/refusals/7F").status, StatusCode::BAD_REQUEST);
    assert_eq!(stranger.get(&format!("/api/v1/me/refusals/{reference}")).status, StatusCode::UNAUTHORIZED);

    let http = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1;
    let command = |reference: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["me", "refusal", reference, "--url", &format!("http://{http}")]);
        command.env("PORTCULLIS_TOKEN", gate.token(lisa, APP)).output().unwrap()
    };
    let shown = command(&reference);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("policy_app"), "{shown:?}");
    assert_eq!(command("000000").status.code(), Some(1));

    // A token that proved nothing: whoever it was meant for may know of it.
    let (_, expired) = refused(&gate, ANN, &gate.token_for(ANN, APP, -100));
    gate.audit_with(&["--user", ANN], 1, |row| row["reference"] == expired.as_str());
    assert_eq!(other.get(&format!("/api/v1/me/refusals/{expired}")).json()["cause"], "token_expired");
    assert_eq!(own.get(&format!("/api/v1/me/refusals/{expired}")).status, StatusCode::NOT_FOUND);
    // And one who was refused in another's name is told that it was theirs.
    let (_, foreign) = refused(&gate, ANN, &gate.token(olaf, APP));
    gate.audit_with(&["--user", olaf], 1, |row| row["reference"] == foreign.as_str());
    assert_eq!(other.get(&format!("/api/v1/me/refusals/{foreign}")).status, StatusCode::NOT_FOUND);
}

#[test]
fn help_explains_a_pasted_message_and_shows_it_as_text() {
    let gate = gate("");
    let stranger = Api::stranger(&gate);
    let said = "NO%20%5BCONTACTADMIN%5D%20IMAP%20access%20is%20disabled%20for%20your%20domain.%20(ref%207F3K2Q)";
    let page = stranger.get(&format!("/help?said={said}")).text;
    assert!(page.contains("The reference is <code>7F3K2Q</code>"), "{page}");
    let yours = page.split("class=\"yours\"").nth(1).unwrap();
    assert!(
        yours.trim_start_matches('>').trim_start().starts_with("<h3>“access is disabled for your domain”"),
        "{yours}"
    );
    let page = stranger.get("/help?said=%3Cscript%3Ealert(1)%3C%2Fscript%3E%3C%2Ftextarea%3E").text;
    assert!(page.contains("&#60;script&#62;alert(1)&#60;/script&#62;&#60;/textarea&#62;"), "{page}");
    assert!(page.contains("That is no message of this gateway"), "{page}");
    let long = stranger.get(&format!("/help?said={}", "%C3%A4".repeat(2_000)));
    assert_eq!(long.status, StatusCode::OK);
    assert!(long.text.matches('ä').count() <= 1_024, "{}", long.text.len());
}

#[test]
fn the_commands_text_and_the_page_tell_the_same() {
    let gate = gate(&format!("imaps = \"mail.example.com:993\"\ndomains = [\"example.com\"]\n{}", add_on("")));
    let page = Api::stranger(&gate).get("/setup").text.replace("&#39;", "'").replace("&#34;", "\"");
    let run = gate.portcullis(&["setup"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(text.contains("IMAP       mail.example.com:993") && text.contains("Scope      mail"), "{text}");
    let imap = text.lines().filter(|line| line.contains("mail.example.com") && line.starts_with("    "));
    let mut count = 0;
    for line in imap {
        assert!(page.contains(line.trim()), "{line} is not in\n{page}");
        count += 1;
    }
    assert!(count > 6, "{text}");
    assert!(gate.portcullis(&["setup", "thunderbird"]).status.code() == Some(2), "without --output");
}

/// What stands under this heading in the text of `portcullis setup`, for `user`, with a token from `command`.
fn settings(gate: &Gate, heading: &str, user: &str, command: &str) -> String {
    let text = String::from_utf8(gate.portcullis(&["setup"]).stdout).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    let lines: Vec<&str> = lines.map_while(|line| line.strip_prefix("    ")).collect();
    assert!(!lines.is_empty(), "{heading} is not in\n{text}");
    lines.join("\n").replace("YOU@EXAMPLE.COM", user).replace("TOKEN-COMMAND", command)
}

/// The settings that people are given, not those of the other tests, with nothing added but the tests' authority.
#[test]
fn programs_read_mail_with_the_very_settings_that_people_are_told() {
    let programs = ["curl", "mbsync", "file:sasl2/libkdexoauth2.so", "mpop", "offlineimap", "tool:getmail"];
    if !programs.iter().all(|name| program::have(name)) {
        return;
    }
    let listen = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\n".to_owned();
    let gate = Gate::with(Setup { listen, ..Setup::default() });
    let letter = b"From: olaf@example.com\r\nSubject: as told\r\n\r\nHello.\r\n";
    gate.deliver(ANN, letter);
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    let told = |heading: &str, port: u16| {
        let command = format!("cat {}", home.value("TOKEN_FILE"));
        // The config leaves the ports to the system, and only the gateway knows which they are.
        [":", "ort ", "ort = "].iter().fold(settings(&gate, heading, ANN, &command), |text, before| {
            text.replace(&format!("{before}0"), &format!("{before}{port}"))
        })
    };
    for (heading, port) in [("curl over IMAP", gate.imaps), ("curl over POP3", gate.pop3s)] {
        let line = format!("{} --silent --show-error --cacert {}", told(heading, port), home.value("CA"));
        let got = run(home.command("sh").args(["-c", &line])).expect_good(heading);
        assert_eq!(got.stdout, letter, "{line}");
    }
    let here = |text: &str| text.replace("@CA@", home.value("CA")).replace("@HOME@", home.value("HOME"));
    let write = |file: &str, text: &str| {
        let file = home.path().join(file);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        file
    };
    let arrived = |folder: &str| {
        let files = ["new", "cur"].map(|part| home.path().join(folder).join(part).read_dir().unwrap());
        let files: Vec<_> = files.into_iter().flatten().map(|file| file.unwrap().path()).collect();
        let [only] = files.as_slice() else { panic!("{folder}: {files:?}") };
        assert!(std::fs::read_to_string(only).unwrap().contains("Subject: as told"), "{folder}");
    };

    let rest = "\nCertificateFile @CA@\nSystemCertificates no\n\nIMAPStore far\nAccount mail\n\nMaildirStore near\n\
                Path @HOME@/mbsync/\nInbox @HOME@/mbsync/INBOX\nSubFolders Verbatim\n\nChannel all\nFar :far:\n\
                Near :near:\nPatterns INBOX\nCreate Near\nSyncState *\n";
    std::fs::create_dir(home.path().join("mbsync")).unwrap();
    let file = write("mbsyncrc", &(told("mbsync", gate.imaps) + &here(rest)));
    run(home.command("mbsync").arg("-c").arg(file).arg("-a")).expect_good("mbsync");
    arrived("mbsync/INBOX");

    let first = "[general]\naccounts = a\nmetadata = @HOME@/.offlineimap\nui = basic\n\n[Account a]\nlocalrepository = near\n\
                 remoterepository = far\n\n[Repository near]\ntype = Maildir\nlocalfolders = @HOME@/offlineimap\n\n\
                 [Repository far]\n";
    // The tests' authority is none of the system's.
    let far = told("offlineimap3", gate.imaps).replace("OS-DEFAULT", home.value("CA"));
    let file = write("offlineimaprc", &(here(first) + &far + "\n"));
    run(home.command("offlineimap").args(["-o", "-c"]).arg(file)).expect_good("offlineimap");
    arrived("offlineimap/INBOX");

    let rest = "\nca_certs = @CA@\n\n[destination]\ntype = MDA_external\npath = /bin/sh\n\
                arguments = (\"-c\", \"cat > $(mktemp @HOME@/FOLDER/new/XXXXXXXX)\")\nallow_root_commands = true\n\n\
                [options]\nread_all = true\ndelete = false\ndelivered_to = false\nreceived = false\n";
    for (heading, port, folder) in
        [("getmail6 over IMAP", gate.imaps, "getmail-imap"), ("getmail6 over POP3", gate.pop3s, "getmail-pop")]
    {
        for part in ["new", "cur"] {
            std::fs::create_dir_all(home.path().join(folder).join(part)).unwrap();
        }
        let file = write("getmailrc", &(told(heading, port) + &here(rest).replace("FOLDER", folder)));
        let mut getmail = home.command(program::tool("getmail"));
        run(getmail.arg("--getmaildir").arg(home.path()).arg("--rcfile").arg(file)).expect_good(heading);
        arrived(folder);
    }

    let rest = "\ntls_trust_file @CA@\ndelivery maildir @HOME@/mpop\nuidls_file @HOME@/uidls\nkeep on\n\n\
                account default : mail\n";
    for part in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(home.path().join("mpop").join(part)).unwrap();
    }
    let file = write("mpoprc", &(told("mpop", gate.pop3s) + &here(rest)));
    run(home.command("mpop").arg("-C").arg(&file)).expect_good("mpop");
    arrived("mpop");
}
