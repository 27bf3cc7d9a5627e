//! Thunderbird, set up with nothing but what the gateway hands out: the add-on made for the issuer and the autoconfig file.
//! A person signs in at a real OpenID provider, consent page included, in Thunderbird's own window.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::json;
use support::{
    ANN, APP, Gate, POLICY, Setup, program,
    provider::Provider,
    thunderbird::{self, Thunderbird},
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
    Gate::with(Setup { listen, issuer: Some(issuer), more, certificates, ..Setup::default() })
}

fn thunderbird(gate: &Gate) -> Thunderbird {
    let mut thunderbird = Thunderbird::start(gate, &[HOST, WEB, AUTOCONFIG]);
    thunderbird.call("findWebAt", json!([web_port(gate)]));
    thunderbird
}

fn web_port(gate: &Gate) -> u16 {
    gate.listening.iter().find(|(name, _)| name == "http").unwrap().1.port()
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
    if !thunderbird::have() || !program::have("node:oidc-provider") {
        return;
    }
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
    if !thunderbird::have() {
        return;
    }
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
