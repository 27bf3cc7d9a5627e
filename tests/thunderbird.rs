//! Thunderbird, set up with nothing but what the gateway hands out: the add-on made for the issuer and the autoconfig file.
//! A person signs in at a real OpenID provider, consent page included, in Thunderbird's own window.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::json;
use support::{
    ANN, APP, Gate, POLICY, Setup,
    api::Api,
    program,
    provider::Provider,
    thunderbird::{self, Thunderbird},
};

/// What people connect to; Thunderbird looks an issuer up only for names with a dot.
const HOST: &str = "mail.example.test";

fn gate(provider: &Provider) -> Gate {
    let more = format!(
        r#"[http]
scope = ["mail"]
public_url = "https://web.example.test"
[setup]
imaps = "{HOST}"
pop3s = "{HOST}"
smtp = "{HOST}:465"
[setup.thunderbird]
client_id = "{APP}"
redirect = "http://127.0.0.1/done"
scopes = ["mail"]
"#
    );
    let listen = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned();
    let certificates = vec![("mail", vec![HOST])];
    Gate::with(Setup { listen, issuer: Some(provider.table()), more, certificates, ..Setup::default() })
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
    let gate = gate(&provider);
    gate.deliver(ANN, &letter("first letter"));
    let http = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1;
    let mut thunderbird = Thunderbird::start(&gate, &[HOST]);

    let add_on = thunderbird.call("install", json!([format!("http://{http}/setup/thunderbird.xpi")]));
    assert_eq!((&add_on["isActive"], &add_on["version"]), (&json!(true), &json!("1.1")), "{add_on}");
    let known = thunderbird.call("signInOf", json!([HOST]));
    assert_eq!((&known["issuerIdentifier"], &known["clientId"]), (&json!(provider.issuer), &json!(APP)), "{known}");

    let autoconfig = format!("http://{http}/mail/config-v1.1.xml?emailaddress={ANN}");
    let account = thunderbird.call("addAccount", json!([autoconfig, "Ann", ANN]));
    assert_eq!(account, json!({ "type": "imap", "host": HOST, "port": gate.imaps, "user": ANN }));
    thunderbird.call("connect", json!([]));
    thunderbird.sign_in(ANN);
    thunderbird.until("the folders are there", "folders", json!([]), |folders| folders[0] == "INBOX");
    thunderbird.call("checkMail", json!([]));
    thunderbird.until("mail is there", "subjects", json!([]), |subjects| *subjects == json!(["first letter"]));

    // News comes by itself, and nobody is asked to sign in again.
    gate.deliver(ANN, &letter("second letter"));
    let both = json!(["first letter", "second letter"]);
    thunderbird.until("news is there", "subjects", json!([]), |subjects| *subjects == both);
    assert_eq!(thunderbird.call("isSigningIn", json!([])), json!(false));
    let rows = gate.audit_with(&["--user", ANN], 1, |row| row["event"] == "login");
    let mut logins = rows.iter().filter(|row| row["event"] == "login");
    assert!(logins.all(|row| row["outcome"] == "yes" && row["app"] == APP), "{rows:?}");

    gate.set_policy(&POLICY.replacen("imap = \"any\"", "imap = \"off\"", 1));
    let off = |row: &serde_json::Value| row["reason"] == "policy_service_off";
    gate.audit_with(&["--user", ANN], 1, |row| row["event"] == "session.ended" && off(row));
    thunderbird.call("checkMail", json!([]));
    gate.audit_with(&["--user", ANN], 1, |row| row["event"] == "login" && off(row));
    // Thunderbird has words of its own for most refusals, and shows the server's where they come as an alert.
    thunderbird.until("the refusal is shown", "alerts", json!([]), |alerts| {
        alerts.to_string().contains("Authentication failure while connecting to server")
    });
    gate.set_policy(POLICY);
    let own = Api::with(&gate, &provider.token(ANN));
    assert_eq!(own.put("/api/v1/me/services/imap", &json!({ "off": true })).status, 200);
    thunderbird.call("checkMail", json!([]));
    let told = thunderbird.until("the reason is shown", "alerts", json!([]), |alerts| {
        alerts.to_string().contains("Your account is not enabled for IMAP use.")
    });
    assert!(told.to_string().contains("See https://web.example.test/help/ref/"), "{told}");
    assert_eq!(thunderbird.call("isSigningIn", json!([])), json!(false), "the sign-in itself is good");
}
