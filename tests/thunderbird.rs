//! Thunderbird, set up with nothing but what the gateway hands out: the add-on made for the issuer and the autoconfig file.
//! A person signs in at a real OpenID provider, consent page included, in Thunderbird's own window.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{
    ANN, APP, Gate, POLICY, Setup,
    mail::{self, Stored},
    program,
    provider::Provider,
    thunderbird::{self, Thunderbird},
    wire::Imap,
};

/// What people connect to; Thunderbird looks an issuer up only for names with a dot.
const HOST: &str = "mail.example.test";
/// Where the gateway's pages are.
const WEB: &str = "web.example.test";
/// Where Thunderbird looks for the settings of ann's domain.
const AUTOCONFIG: &str = "autoconfig.example.com";

fn gate(issuer: String, endpoints: &str) -> Gate {
    let more = format!(
        r#"[http]
scope = ["mail"]
public_url = "https://{WEB}"
tls = true
[setup]
imaps = "{HOST}"
pop3s = "{HOST}"
smtp = "{HOST}:465"
domains = ["example.com"]
[setup.thunderbird]
client_id = "{APP}"
redirect = "http://127.0.0.1/done"
scopes = ["mail"]
{endpoints}"#
    );
    let listen = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned();
    let certificates = vec![("mail", vec![HOST]), ("web", vec![WEB, AUTOCONFIG])];
    Gate::with_mail(Setup { listen, issuer: Some(issuer), more, certificates, ..Setup::default() })
}

fn thunderbird(gate: &Gate) -> Thunderbird {
    let mut thunderbird = Thunderbird::start(gate, &[HOST, WEB, AUTOCONFIG]);
    thunderbird.call("findWebAt", json!([web_port(gate)]));
    thunderbird
}

fn web_port(gate: &Gate) -> u16 {
    gate.listening.iter().find(|(name, _)| name == "http").unwrap().1.port()
}

/// Adds ann's IMAP account as Thunderbird finds it, and signs in.
fn add_account(thunderbird: &mut Thunderbird) {
    thunderbird.call("install", json!([format!("https://{WEB}/setup/thunderbird.xpi")]));
    thunderbird.call("addAccount", json!(["imap", "Ann", ANN]));
    thunderbird.call("connect", json!([]));
    thunderbird.sign_in(ANN);
    thunderbird.until("the folders are there", "folders", json!([]), |folders| folders[0] == "INBOX");
}

fn letter(subject: &str) -> Vec<u8> {
    format!(
        "From: Olaf <olaf@example.com>\r\nTo: {ANN}\r\nSubject: {subject}\r\nMessage-ID: <{}@example.com>\r\n\
         Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nHello.\r\n",
        subject.replace(' ', "-")
    )
    .into_bytes()
}

#[test]
fn thunderbird_signs_in_by_what_the_gateway_hands_out_reads_mail_and_hears_when_that_ends() {
    if thunderbird::have() && program::have("node:oidc-provider") {
        thunderbird::using(first_day);
    }
}

fn first_day() {
    let mut provider = Provider::start();
    let gate = gate(provider.table(), "");
    gate.deliver(ANN, &letter("first letter"));
    let mut thunderbird = thunderbird(&gate);

    let add_on = thunderbird.call("install", json!([format!("https://{WEB}/setup/thunderbird.xpi")]));
    assert_eq!((&add_on["isActive"], &add_on["version"]), (&json!(true), &json!("1.1")), "{add_on}");
    let known = thunderbird.call("signInOf", json!([HOST]));
    assert_eq!((&known["issuerIdentifier"], &known["clientId"]), (&json!(provider.issuer), &json!(APP)), "{known}");

    let account = thunderbird.call("addAccount", json!(["imap", "Ann", ANN]));
    let from = "xml-from-isp-https";
    assert_eq!(account, json!({ "host": HOST, "port": gate.imaps, "user": ANN, "from": from }));
    thunderbird.call("connect", json!([]));
    thunderbird.sign_in(ANN);
    thunderbird.until("the folders are there", "folders", json!([]), |folders| folders[0] == "INBOX");
    thunderbird.call("checkMail", json!(["imap"]));
    thunderbird
        .until("mail is there", "subjects", json!(["imap"]), |subjects| *subjects == json!(["first letter"]));

    // News comes by itself, and nobody is asked to sign in again.
    gate.deliver(ANN, &letter("second letter"));
    let both = json!(["first letter", "second letter"]);
    thunderbird.until("news is there", "subjects", json!(["imap"]), |subjects| *subjects == both);
    // The same over POP3, with the sign-in that there is.
    let account = thunderbird.call("addAccount", json!(["pop3", "Ann", ANN]));
    assert_eq!(account, json!({ "host": HOST, "port": gate.pop3s, "user": ANN, "from": from }));
    thunderbird.call("checkMail", json!(["pop3"]));
    thunderbird.until("mail is there", "subjects", json!(["pop3"]), |subjects| *subjects == both);
    assert_eq!(thunderbird.call("isSigningIn", json!([])), json!(false));
    let rows = gate.audit_with(&["--user", ANN], 1, |row| row["event"] == "login");
    let mut logins = rows.iter().filter(|row| row["event"] == "login");
    assert!(logins.all(|row| row["outcome"] == "yes" && row["app"] == APP), "{rows:?}");

    gate.set_policy(&POLICY.replacen("imap = \"any\"", "imap = \"off\"", 1));
    let off = |row: &serde_json::Value| row["reason"] == "policy_service_off";
    gate.audit_with(&["--user", ANN], 1, |row| row["event"] == "session.ended" && off(row));
    thunderbird.call("checkMail", json!(["imap"]));
    gate.audit_with(&["--user", ANN], 1, |row| row["event"] == "login" && off(row));
    // Thunderbird has words of its own for most refusals, and shows the server's where they come as an alert.
    thunderbird.until("the refusal is shown", "alerts", json!([]), |alerts| {
        alerts.to_string().contains("Authentication failure while connecting to server")
    });
    gate.set_policy(POLICY);
    let url = format!("https://localhost:{}", web_port(&gate));
    let mut switch = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
    switch.args(["me", "switch", "imap", "off", "--url", &url, "--ca"]).arg(gate.ca());
    let switched = switch.env("PORTCULLIS_TOKEN", provider.token(ANN)).output().unwrap();
    assert!(switched.status.success(), "{switched:?}");
    thunderbird.call("checkMail", json!(["imap"]));
    let told = thunderbird.until("the reason is shown", "alerts", json!([]), |alerts| {
        alerts.to_string().contains("Your account is not enabled for IMAP use.")
    });
    assert!(told.to_string().contains("See https://web.example.test/help/ref/"), "{told}");
    assert_eq!(thunderbird.call("isSigningIn", json!([])), json!(false), "the sign-in itself is good");
}

#[test]
fn an_add_on_whose_settings_changed_updates_itself() {
    if thunderbird::have() {
        thunderbird::using(update);
    }
}

fn update() {
    let issuer =
        "[[issuer]]\nurl = \"https://id.example.com\"\naudience = [\"portcullis\"]\njwks_file = \"jwks.json\"\n";
    let endpoints = "authorization_endpoint = \"https://id.example.com/authorize\"\n\
                     token_endpoint = \"https://id.example.com/token\"\n";
    let mut gate = gate(issuer.to_owned(), endpoints);
    let mut thunderbird = thunderbird(&gate);
    let add_on = thunderbird.call("install", json!([format!("https://{WEB}/setup/thunderbird/1.xpi")]));
    assert_eq!(thunderbird.call("update", json!([add_on["id"]])), json!(null), "there is nothing new");

    let config = std::fs::read_to_string(gate.config()).unwrap();
    std::fs::write(gate.config(), config.replace(&format!("client_id = \"{APP}\""), "client_id = \"new-id\""))
        .unwrap();
    gate.crash_and_restart();
    thunderbird.call("findWebAt", json!([web_port(&gate)]));
    assert_eq!(thunderbird.call("update", json!([add_on["id"]])), json!("1.2"));
    assert_eq!(thunderbird.call("signInOf", json!([HOST]))["clientId"], "new-id");
}

/// How many messages the mailbox has.
const MANY: usize = 300;

/// A message of some kilobytes; one in a hundred speaks of zebras.
fn long_letter(number: usize) -> Vec<u8> {
    let mut text = letter(&format!("letter {number:03}"));
    text.extend(if number % 100 == 7 { b"A zebra.\r\n" } else { b"A horse.\r\n" });
    text.extend("Nothing else happened that day.\r\n".repeat(100).bytes());
    text
}

/// Waits until Thunderbird knows that the server did what was asked of the inbox. It shows a copy or a move at once, tells the
/// server half a second later, and forgets what it is asked between then and the server's answer.
fn all_told(thunderbird: &mut Thunderbird) {
    thunderbird.until("everything is told", "hasMoreToTell", json!(["Inbox"]), |more| more == false);
}

fn has(all: &[Stored], folder: &str, subject: &str) -> bool {
    all.iter().any(|mail| mail.folder == folder && mail.subject == subject)
}

#[test]
fn thunderbird_reads_flags_copies_moves_deletes_and_searches_a_mailbox_of_hundreds() {
    if thunderbird::have() && program::have("node:oidc-provider") {
        thunderbird::using(daily_work);
    }
}

fn daily_work() {
    let mut provider = Provider::start();
    let gate = gate(provider.table(), "");
    Imap::connect(&gate).xoauth2(ANN, &provider.token(ANN)); // the first sign-in makes Sent and the others
    for number in 0..MANY {
        gate.deliver(ANN, &long_letter(number));
    }
    let mut thunderbird = thunderbird(&gate);
    add_account(&mut thunderbird);
    thunderbird.call("look", json!(["Inbox"]));
    thunderbird.until("all mail is listed", "counted", json!(["Inbox"]), |count| count[0] == MANY);
    let root = gate.maildir(ANN);
    let when = |what: &str, good: &dyn Fn(&[Stored]) -> bool| mail::stored_when(what, &root, good);
    let flagged = |subject: &'static str, flag: char| {
        move |all: &[Stored]| all.iter().any(|mail| mail.subject == subject && mail.is(flag))
    };

    // Reading: a click shows the text, and marks the message.
    thunderbird.call("show", json!(["Inbox"]));
    thunderbird.until("the row is there", "choose", json!(["letter 007"]), |there| there == true);
    thunderbird.until("the text is shown", "shown", json!([]), |text| text.to_string().contains("A zebra."));
    when("the message is read", &flagged("letter 007", 'S'));
    thunderbird.call("star", json!(["Inbox", "letter 008"]));
    when("the star is there", &flagged("letter 008", 'F'));
    thunderbird.call("tag", json!(["Inbox", "letter 009", "$label2"]));
    let mut imap = Imap::connect(&gate);
    imap.xoauth2(ANN, &provider.token(ANN));
    imap.ok("EXAMINE INBOX");
    let began = Instant::now();
    while imap.ok("SEARCH KEYWORD $label2 SUBJECT \"letter 009\"").lines().iter().all(|line| line == "* SEARCH") {
        assert!(began.elapsed() < Duration::from_secs(30), "never: the tag is there");
        std::thread::sleep(Duration::from_millis(100));
    }
    let found = thunderbird.call("searchOnServer", json!(["Inbox", "ZEBRA"]));
    assert_eq!(found, json!(["letter 007", "letter 107", "letter 207"]));

    // Folders, and messages between them.
    thunderbird.call("makeFolder", json!(["Pläne"]));
    thunderbird.until("the folder is there", "folders", json!([]), |all| all.to_string().contains("Pläne"));
    let plans = "Pl&AOQ-ne";
    thunderbird.call("bring", json!(["Inbox", ["letter 010", "letter 011"], "Pläne", false]));
    when("copies are there", &|all| ["INBOX", plans].iter().all(|folder| has(all, folder, "letter 011")));
    all_told(&mut thunderbird);
    let many: Vec<String> = (20..120).map(|number| format!("letter {number:03}")).collect();
    thunderbird.call("bring", json!(["Inbox", many, "Pläne", true]));
    when("the moved are there", &|all| many.iter().all(|m| has(all, plans, m) && !has(all, "INBOX", m)));
    all_told(&mut thunderbird);
    thunderbird.call("look", json!(["Pläne"]));
    thunderbird.until("the moved are listed", "counted", json!(["Pläne"]), |count| count[0] == 102);
    thunderbird.until("Sent is listed", "folders", json!([]), |all| all.to_string().contains("Sent"));
    let sent = String::from_utf8(letter("by Thunderbird")).unwrap();
    thunderbird.call("keep", json!(["Sent", sent]));
    let all = when("the copy of what was sent is there", &|all| has(all, "Sent", "by Thunderbird"));
    assert!(all.iter().any(|mail| mail.folder == "Sent" && mail.is('S')), "{}", mail::listed(&all));
    assert!(imap.read_all("Sent").iter().any(|(_, bytes)| bytes == sent.as_bytes()));

    // To the deleted, and away for good.
    thunderbird.call("remove", json!(["Inbox", ["letter 012"], false]));
    when("it is among the deleted", &|all| has(all, "Trash", "letter 012"));
    all_told(&mut thunderbird);
    thunderbird.call("remove", json!(["Inbox", ["letter 013", "letter 014"], true]));
    // It goes on before the server has heard of it, and its next command may come by another connection.
    when("they are marked", &|all| flagged("letter 013", 'T')(all) && flagged("letter 014", 'T')(all));
    thunderbird.call("compact", json!(["Inbox"]));
    let gone = ["letter 012", "letter 013", "letter 014"];
    when("they are gone", &|all| gone.iter().all(|mail| !has(all, "INBOX", mail)));
    thunderbird.until("it knows so", "counted", json!(["Inbox"]), |count| count[0] == MANY - 103);

    // Everything is kept for a journey; what is done there reaches the server afterwards.
    thunderbird.call("download", json!(["Inbox"]));
    let rest = json!([MANY - 103, MANY - 103]);
    thunderbird.until("all of it is kept", "counted", json!(["Inbox"]), |count| *count == rest);
    thunderbird.call("goOffline", json!([]));
    let text = thunderbird.call("source", json!(["Inbox", "letter 207"]));
    // It puts two headers of its own in front of what it keeps.
    let kept = mail::with_lf(text.as_str().unwrap().as_bytes());
    assert!(kept.ends_with(&mail::with_lf(&long_letter(207))), "{text}");
    thunderbird.call("star", json!(["Inbox", "letter 299"]));
    thunderbird.call("bring", json!(["Inbox", ["letter 298"], "Pläne", true]));
    gate.deliver(ANN, &letter("news"));
    let all = mail::stored(&root);
    assert!(has(&all, "INBOX", "letter 298") && !flagged("letter 299", 'F')(&all), "no network yet");
    thunderbird.call("goOnline", json!([]));
    when("the star is there", &flagged("letter 299", 'F'));
    when("the moved is there", &|all| has(all, plans, "letter 298") && !has(all, "INBOX", "letter 298"));
    thunderbird.call("look", json!(["Inbox"]));
    thunderbird.until("news is there", "subjectsIn", json!(["Inbox"]), |all| {
        all.as_array().unwrap().contains(&json!("news"))
    });

    let all = mail::stored(&root);
    for number in (0..MANY).filter(|number| ![10, 11, 13, 14].contains(number)) {
        let subject = format!("letter {number:03}");
        assert_eq!(
            all.iter().filter(|mail| mail.subject == subject).count(),
            1,
            "{subject}:\n{}",
            mail::listed(&all)
        );
    }
}
