//! Notices of the real binary: who is told when access is lost, by e-mail, webhook and API; that nothing is lost when
//! something is down or crashes, and nothing sent twice by two nodes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/post.rs"]
#[allow(dead_code)]
mod post;
mod support;

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use post::{Cover, Mood, Posted, Receiver, Smtp, certificate, wait};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{ANN, APP, Gate, OTHER_APP, POLICY, Setup, api::Api, database, postgres, token};

const LISTEN: &str = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n";
const BEA: &str = "bea@example.com";
const ROOT: &str = "root@example.com";
const TEAM: &str = "team@example.com";
const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

/// Units and users that the file does not keep are made by the tests.
fn policy() -> String {
    format!(
        "{POLICY}\n[user.\"{ROOT}\"]\nunit = \"/\"\n[mailbox.\"{TEAM}\"]\nunit = \"/Listed\"\nmembers = [\"{ANN}\"]\n"
    )
}

/// A gate that sends to these, tries each second, and its files.
fn setup(dir: &tempfile::TempDir, smtp: Option<&Smtp>, hook: Option<&Receiver>) -> Setup {
    let secret = dir.path().join("webhook.secret");
    fs::write(&secret, format!("whsec_{}\n", STANDARD.encode(SECRET))).unwrap();
    let mut more = "[http]\nscope = [\"portcullis\"]\n[notify]\nretry_s = 1\nretry_most_s = 1\nanswer_s = 2\n\
                    accept_s = 2\nlease_s = 5\nattempts = 3\n"
        .to_owned();
    if let Some(smtp) = smtp {
        more.push_str(&format!(
            "[notify.smtp]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"Gate <gate@example.com>\"\n",
            smtp.address.port()
        ));
    }
    if let Some(hook) = hook {
        more.push_str(&format!(
            "[[notify.webhook]]\nurl = \"http://{}/hook?key=hush\"\nsecret_file = \"{}\"\nallow_private = true\n",
            hook.address,
            secret.display()
        ));
    }
    Setup { listen: LISTEN.to_owned(), policy: policy(), more, ..Setup::default() }
}

/// A person's own token for the API.
fn person(gate: &Gate, user: &str) -> Api {
    let mut claims = token::claims(user, "console", 3600);
    claims["scope"] = json!("openid portcullis");
    Api::with(gate, &gate.key.sign(&claims))
}

fn ok(answer: &support::api::Answer) -> Value {
    assert!(answer.status.is_success(), "{}: {}", answer.status, answer.text);
    if answer.text.is_empty() { Value::Null } else { answer.json() }
}

/// Signs `user` in once, so that there is a grant, and removes it as an admin.
fn cut(gate: &Gate, first: &Api, user: &str, app: &str) {
    drop(gate.imap(user, app));
    let grants = ok(&first.get(&format!("/api/v1/grants?user={user}&app={app}")));
    let path = format!("/api/v1/grants/{}", grants["items"][0]["id"]);
    ok(&first.patch(&path, &json!({ "state": "removed", "yes": true, "reason": "lost phone" })));
}

fn state(first: &Api, id: i64) -> String {
    ok(&first.get(&format!("/api/v1/notices/{id}")))["state"].as_str().unwrap().to_owned()
}

fn wait_for_state(first: &Api, id: i64, wanted: &str) {
    wait(&format!("notice {id} is {wanted}"), || (state(first, id) == wanted).then_some(()));
}

/// Checks the signature as a receiver would, by the text of the specification.
fn is_signed(posted: &Posted) {
    let (id, at) = (posted.header("webhook-id"), posted.header("webhook-timestamp"));
    let mut text = format!("{id}.{at}.").into_bytes();
    text.extend_from_slice(&posted.body);
    let signature = STANDARD.decode(posted.header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), &text, &signature).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(at.parse().unwrap()) < 60, "{at}");
}

#[test]
fn a_grant_cut_by_an_admin_is_told_by_mail_by_webhook_and_on_the_users_own_page() {
    let dir = tempfile::tempdir().unwrap();
    let (smtp, hook) = (Smtp::start(), Receiver::start(&["204 No Content"]));
    let gate = Gate::with(setup(&dir, Some(&smtp), Some(&hook)));
    let first = Api::first(&gate);
    cut(&gate, &first, ANN, APP);

    let letter = smtp.wait_for(1).remove(0);
    assert_eq!(letter.envelope.0, "MAIL FROM:<gate@example.com>");
    assert_eq!(letter.envelope.1, ["RCPT TO:<ann@example.com>"]);
    assert_eq!(letter.header("To").as_deref(), Some(ANN));
    assert_eq!(letter.header("Subject").as_deref(), Some("A mail app of yours was disconnected"));
    assert_eq!(letter.header("MIME-Version").as_deref(), Some("1.0"));
    assert_eq!(letter.header("Auto-Submitted").as_deref(), Some("auto-generated"));
    let body = letter.body();
    for part in
        ["Test Mail (test-mail)", "Reason given: lost phone", "By: token 1 (bootstrap)", "sign in with it anew"]
    {
        assert!(body.contains(part), "{part:?} is not in {body}");
    }

    let posted = hook.wait_for(1).remove(0);
    assert_eq!(posted.first, "POST /hook?key=hush HTTP/1.1");
    is_signed(&posted);
    let told = posted.json();
    assert_eq!(told["type"], "notice.access_change");
    assert_eq!((&told["data"]["recipient"], &told["data"]["lost"][0]["app"]), (&json!(ANN), &json!(APP)));

    wait_for_state(&first, 1, "sent");
    let whole = ok(&first.get("/api/v1/notices/1"));
    let channels: Vec<_> = whole["deliveries"].as_array().unwrap().iter().map(|d| d["state"].clone()).collect();
    assert_eq!(channels, [json!("sent"), json!("sent")], "{whole}");
    assert!(!whole.to_string().contains("hush"), "a webhook's URL may be a secret: {whole}");
    assert!(!gate.log().contains("hush"));
    let rows = gate.audit_with(&[], 2, |row| row["event"] == "notice.sent");
    let sent = rows.iter().find(|row| row["event"] == "notice.sent").unwrap();
    assert_eq!(sent["user"], ANN);
    let metrics = first.get("/metrics").text;
    assert!(metrics.contains("portcullis_notices_total{channel=\"email\",outcome=\"sent\"} 1"), "{metrics}");

    // Her own page has it too, and nobody else's.
    let ann = person(&gate, ANN);
    let own = ok(&ann.get("/api/v1/me/notices?unread=true"));
    assert_eq!((&own["items"][0]["id"], own["items"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!(ann.get("/api/v1/notices").status, StatusCode::FORBIDDEN);
    let olaf = person(&gate, "olaf@example.com");
    assert_eq!(ok(&olaf.get("/api/v1/me/notices"))["items"], json!([]));
    assert_eq!(olaf.patch("/api/v1/me/notices/1", &json!({ "read": true })).status, StatusCode::NOT_FOUND);
    let read = ok(&ann.patch("/api/v1/me/notices/1", &json!({ "read": true })));
    assert!(read["read_at"].is_string(), "{read}");
    assert!(read["deliveries"].is_null(), "how it is delivered is the operator's business: {read}");
    assert_eq!(ok(&ann.get("/api/v1/me/notices?unread=true"))["items"], json!([]));
    assert_eq!(ann.patch("/api/v1/me/notices/1", &json!({ "read": false })).problem(), "bad-request");

    // What she cuts herself she knows.
    drop(gate.imap(ANN, OTHER_APP));
    let grants = ok(&ann.get("/api/v1/me/grants"));
    let mine = grants["items"].as_array().unwrap().iter().find(|grant| grant["app"] == OTHER_APP).unwrap();
    ok(&ann.patch(&format!("/api/v1/me/grants/{}", mine["id"]), &json!({ "state": "removed", "yes": true })));
    assert_eq!(ok(&first.get("/api/v1/notices"))["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_server_that_cannot_take_it_now_gets_it_later_and_a_final_no_is_told_and_tried_again_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start();
    let gate = Gate::with(setup(&dir, Some(&smtp), None));
    let first = Api::first(&gate);
    smtp.set(Mood::RefusesRecipient("451 4.3.0 later, please"));
    cut(&gate, &first, ANN, APP);
    let waiting = wait("a try that was put off", || {
        let whole = ok(&first.get("/api/v1/notices/1"));
        whole["deliveries"][0]["problem"].is_string().then_some(whole)
    });
    let problem = waiting["deliveries"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("later, please"), "{problem}");
    assert_eq!(first.post("/api/v1/notices/1/retry", &json!({})).problem(), "conflict");
    smtp.set(Mood::Takes);
    assert_eq!(smtp.wait_for(1).len(), 1);
    wait_for_state(&first, 1, "sent");

    // A final no: one try, an audit row, and nothing more by itself.
    smtp.set(Mood::RefusesRecipient("550 5.1.1 nobody\u{7}here"));
    let tries = smtp.tries();
    cut(&gate, &first, ANN, OTHER_APP);
    wait_for_state(&first, 2, "failed");
    let rows = gate.audit_with(&[], 1, |row| row["event"] == "notice.failed");
    let failed = rows.iter().find(|row| row["event"] == "notice.failed").unwrap();
    assert!(failed["detail"].as_str().unwrap().starts_with("notice 2 by email: recipient: "), "{failed}");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(smtp.tries(), tries + 1);
    smtp.set(Mood::Takes);
    let failed = ok(&first.get("/api/v1/notices?state=failed"));
    assert_eq!(failed["items"].as_array().unwrap().len(), 1, "{failed}");
    ok(&first.post("/api/v1/notices/2/retry", &json!({})));
    assert_eq!(smtp.wait_for(2).len(), 2);
    wait_for_state(&first, 2, "sent");

    // Who may send at all is the operator's to mend, so the notice waits, but not for ever.
    smtp.set(Mood::RefusesSender("550 5.7.1 not from you"));
    let tries = smtp.tries();
    drop(gate.imap("lisa@example.com", APP));
    ok(&first.post("/api/v1/grants/revoke", &json!({ "user": "lisa@example.com" })));
    wait_for_state(&first, 3, "failed");
    assert_eq!(smtp.tries(), tries + 3, "notify.attempts");
    let whole = ok(&first.get("/api/v1/notices/3"));
    let problem = whole["deliveries"][0]["problem"].as_str().unwrap();
    assert!(problem.ends_with("given up after 3 tries"), "{problem}");
}

#[test]
fn what_a_crash_leaves_in_doubt_is_sent_again_with_the_same_id_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (smtp, hook) = (Smtp::start(), Receiver::start(&["503 Busy"]));
    let mut gate = Gate::with(setup(&dir, Some(&smtp), Some(&hook)));
    let first = Api::first(&gate);
    let token = token_of(&first);
    // The message is taken, and the gate dies before it hears so.
    smtp.set(Mood::Hesitates(Duration::from_secs(30)));
    cut(&gate, &first, ANN, APP);
    let taken = smtp.wait_for(1).remove(0);
    hook.wait_for(1);
    gate.crash_and_restart();
    smtp.set(Mood::Takes);
    hook.set("200 OK");
    let first = Api::with(&gate, &token);
    assert!(matches!(state(&first, 1).as_str(), "sending" | "queued"), "it is still to be done");
    let letters = smtp.wait_for(2);
    assert_eq!(taken.header("Message-ID"), letters[1].header("Message-ID"), "known as the same by its receiver");
    assert!(taken.header("Message-ID").unwrap().ends_with("@localhost>"));
    wait_for_state(&first, 1, "sent");
    let posted = hook.posted();
    let ids: BTreeSet<&str> = posted.iter().map(|posted| posted.header("webhook-id")).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    posted.iter().for_each(is_signed);

    // The connection breaks in the same place: nobody knows, so it is sent again, under the same id.
    smtp.set(Mood::HangsUp);
    cut(&gate, &first, ANN, OTHER_APP);
    smtp.wait_for(3);
    smtp.set(Mood::Takes);
    let letters = smtp.wait_for(4);
    assert_eq!(letters[2].header("Message-ID"), letters[3].header("Message-ID"));
    wait_for_state(&first, 2, "sent");
    thread::sleep(Duration::from_secs(8));
    assert_eq!(smtp.letters().len(), 4, "what is known to be sent is not sent again, leases or not");
}

/// An API token that outlives the caller.
fn token_of(first: &Api) -> String {
    let made = ok(&first.post("/api/v1/tokens", &json!({ "name": "test", "role": "super" })));
    made["token"].as_str().unwrap().to_owned()
}

#[test]
fn whoever_loses_access_by_a_change_is_told_if_it_is_asked_for_and_a_preview_tells_how_many() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start();
    let gate = Gate::with(setup(&dir, Some(&smtp), None));
    let first = Api::first(&gate);
    ok(&first.post("/api/v1/units", &json!({ "path": "/Sales" })));
    for user in [BEA, "bob@example.com"] {
        ok(&first.post("/api/v1/users", &json!({ "address": user, "set": { "unit": "/Sales" } })));
        drop(gate.imap(user, APP));
    }
    drop(gate.imap(ANN, APP));
    let (path, off) = ("/api/v1/units/%2FSales", json!({ "set": { "imap": "off" } }));
    let any = first.if_match("*");
    let tried = ok(&any.patch(&format!("{path}?preview=true&notify=true"), &off));
    assert_eq!(tried["told"], 2, "{tried}");
    assert_eq!(ok(&first.get("/api/v1/notices"))["items"], json!([]), "a preview tells nobody");
    ok(&any.patch(&format!("{path}?notify=true&reason=old%0D%0ABcc:%20x@y"), &off));
    let letters = smtp.wait_for(2);
    let to: BTreeSet<_> = letters.iter().map(|letter| letter.header("To").unwrap()).collect();
    assert_eq!(to, BTreeSet::from([BEA.to_owned(), "bob@example.com".to_owned()]));
    for letter in &letters {
        assert_eq!(letter.header("Subject").as_deref(), Some("A mail app of yours has lost access"));
        assert_eq!(letter.header("Bcc"), None);
        let body = letter.body();
        for part in ["Test Mail (test-mail) by IMAP", "Your unit: /Sales", "Reason given: old  Bcc: x@y"] {
            assert!(body.contains(part), "{part:?} is not in {body}");
        }
    }

    // An admin sees the notices to the people of their unit and no others; an auditor reads; a role is not enough alone.
    cut(&gate, &first, ANN, APP);
    for (user, role) in [
        (ROOT, json!({ "role": "auditor" })),
        (BEA, json!({ "role": "account_access", "unit": "/Sales" })),
        ("lisa@example.com", json!({ "role": "admin", "unit": "/Listed" })),
    ] {
        ok(&first.put(&format!("/api/v1/admins/{user}"), &role));
    }
    let count = |api: &Api| ok(&api.get("/api/v1/notices"))["items"].as_array().unwrap().len();
    let (auditor, keeper, stranger) =
        (person(&gate, ROOT), person(&gate, "lisa@example.com"), person(&gate, "olaf@example.com"));
    assert_eq!((count(&first), count(&auditor), count(&keeper)), (3, 3, 0));
    assert_eq!(stranger.get("/api/v1/notices").problem(), "forbidden");
    assert_eq!(auditor.post("/api/v1/notices/1/retry", &json!({})).problem(), "forbidden");
    assert_eq!(keeper.get("/api/v1/notices/1").problem(), "not-found");
    assert_eq!(keeper.post("/api/v1/notices/1/retry", &json!({})).problem(), "not-found");
    assert_eq!(first.get("/api/v1/notices/99").problem(), "not-found");
    for wrong in ["kind=x", "state=x", "user=x", "cursor=x", "limit=0", "colour=red"] {
        assert_eq!(first.get(&format!("/api/v1/notices?{wrong}")).problem(), "bad-request", "{wrong}");
    }
    // Page by page it is the whole list, the newest first.
    let page = ok(&first.get("/api/v1/notices?limit=2"));
    let rest = ok(&first.get(&format!("/api/v1/notices?limit=2&cursor={}", page["next"].as_str().unwrap())));
    let ids = |page: &Value| page["items"].as_array().unwrap().iter().map(|i| i["id"].clone()).collect::<Vec<_>>();
    assert_eq!((ids(&page), ids(&rest)), (vec![json!(3), json!(2)], vec![json!(1)]));
    assert!(rest["next"].is_null());
}

#[test]
fn a_team_grant_that_is_cut_reaches_super_admins_account_access_admins_and_who_connected_it() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start();
    let gate = Gate::with(setup(&dir, Some(&smtp), None));
    let first = Api::first(&gate);
    for (user, role) in [
        (ROOT, json!({ "role": "super" })),
        ("lisa@example.com", json!({ "role": "account_access", "unit": "/Listed" })),
        ("olaf@example.com", json!({ "role": "account_access", "unit": "/Off" })),
    ] {
        ok(&first.put(&format!("/api/v1/admins/{user}"), &role));
    }
    let mut imap = support::wire::Imap::connect(&gate);
    imap.xoauth2(TEAM, &gate.token(ANN, APP));
    // By the admin of the unit the person is in; the mailbox's keepers hear of it.
    let grants = ok(&first.get(&format!("/api/v1/grants?owner={TEAM}")));
    ok(&first.patch(&format!("/api/v1/grants/{}", grants["items"][0]["id"]), &json!({ "state": "disabled" })));
    imap.bye();
    let letters = smtp.wait_for(3);
    let to: BTreeSet<_> = letters.iter().map(|letter| letter.header("To").unwrap()).collect();
    assert_eq!(to, [ANN, "lisa@example.com", ROOT].map(str::to_owned).into());
    assert_eq!(letters[0].header("Subject").as_deref(), Some("An app was disconnected from a shared mailbox"));
    let line = "Test Mail (test-mail), mailbox team@example.com, connected by ann@example.com";
    assert!(letters[0].body().replace('\n', " ").contains(line), "{}", letters[0].body());
    // An account-access admin looks after grants, and nothing else.
    let lisa = person(&gate, "lisa@example.com");
    assert_eq!(lisa.get("/api/v1/units").problem(), "forbidden");
    assert_eq!(lisa.get("/api/v1/sessions").problem(), "forbidden");
    assert_eq!(ok(&lisa.get("/api/v1/grants"))["items"], json!([]), "ann is not in her unit");
}

#[test]
fn an_admin_of_a_subtree_sees_of_a_notice_what_is_in_the_subtree() {
    const LISA: &str = "lisa@example.com";
    let dir = tempfile::tempdir().unwrap();
    let mut setup = setup(&dir, None, None);
    setup.policy =
        policy().replace(&format!("members = [\"{ANN}\"]"), &format!("members = [\"{ANN}\", \"{LISA}\"]"));
    let gate = Gate::with(setup);
    let first = Api::first(&gate);
    ok(&first.post("/api/v1/units", &json!({ "path": "/Sales" })));
    ok(&first.post("/api/v1/users", &json!({ "address": BEA, "set": { "unit": "/Sales" } })));
    ok(&first.put(&format!("/api/v1/admins/{LISA}"), &json!({ "role": "super" })));
    ok(&first.put(&format!("/api/v1/admins/{BEA}"), &json!({ "role": "admin", "unit": "/Listed" })));
    let revoke = |members: &[&str]| {
        for member in members {
            let mut imap = support::wire::Imap::connect(&gate);
            imap.xoauth2(TEAM, &gate.token(member, APP));
        }
        ok(&first.post("/api/v1/grants/revoke", &json!({ "app": APP })));
    };
    revoke(&[ANN, LISA]);
    let all = ok(&first.get("/api/v1/notices"));
    let all = all["items"].as_array().unwrap();
    assert_eq!(all.len(), 3, "{all:?}");
    let of = |who: &str| all.iter().find(|notice| notice["recipient"] == who).unwrap();
    assert_eq!((of(LISA)["lost_count"].as_i64(), of(LISA)["lost"].as_array().unwrap().len()), (Some(2), 2));

    let keeper = person(&gate, BEA);
    let seen = ok(&keeper.get("/api/v1/notices"));
    let items = seen["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{seen}");
    assert_eq!((&items[0]["recipient"], &items[0]["lost_count"]), (&json!(LISA), &json!(1)), "{seen}");
    assert_eq!(items[0]["lost"].as_array().unwrap().len(), 1, "{seen}");
    assert!(!seen.to_string().contains(ANN), "ann is not in /Listed: {seen}");
    let whole = ok(&keeper.get(&format!("/api/v1/notices/{}", of(LISA)["id"])));
    assert!(!whole.to_string().contains(ANN), "{whole}");
    for who in [ANN, BEA] {
        let path = format!("/api/v1/notices/{}", of(who)["id"]);
        assert_eq!(keeper.get(&path).problem(), "not-found", "{who}");
        assert_eq!(keeper.post(&format!("{path}/retry"), &json!({})).problem(), "not-found", "{who}");
    }
    // What she is told herself she sees whole.
    assert_eq!(ok(&keeper.get("/api/v1/me/notices"))["items"][0]["lost_count"], 2);
}

fn portcullis(gate: &Gate, arguments: &[&str], policy: &str) -> Output {
    let file = gate.dir().join("next.toml");
    fs::write(&file, policy).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(arguments).arg("--config").arg(gate.config()).arg(file);
    command.output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_plan_can_warn_people_ahead_and_applying_it_can_tell_them() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start();
    let gate = Gate::with(setup(&dir, Some(&smtp), None));
    let first = Api::first(&gate);
    let session = gate.imap("lisa@example.com", APP);
    let less = policy().replace("imap = [\"test-mail\"]", "imap = [\"new-mail\"]");
    for (arguments, said) in [
        (&["policy", "plan", "--notify", "--on", "2020-01-01"][..], "it has passed"),
        (&["policy", "plan", "--notify", "--on", "Friday"], "2026-12-18"),
        (&["policy", "plan", "--on", "2099-12-18"], "--notify"),
        (&["policy", "apply", "--yes", "--reason", "x"], "--notify"),
        (&["policy", "apply", "--yes", "--notify", "--reason", " "], "it is empty"),
    ] {
        let output = portcullis(&gate, arguments, &less);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", out(&output));
        assert!(out(&output).contains(said), "{arguments:?}: {}", out(&output));
    }
    assert_eq!(ok(&first.get("/api/v1/notices"))["items"], json!([]));
    let plan = ["policy", "plan", "--notify", "--on", "2099-12-18", "--reason", "old apps go"];
    let output = portcullis(&gate, &plan, &less);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    assert!(out(&output).contains("a notice to 1 person is queued"), "{}", out(&output));
    assert!(out(&output).contains("\n1 open session would end\n"), "{}", out(&output));
    assert!(out(&output).contains(" of lisa@example.com by imap on "), "{}", out(&output));
    let letter = smtp.wait_for(1).remove(0);
    assert_eq!(letter.header("To").as_deref(), Some("lisa@example.com"));
    assert_eq!(letter.header("Subject").as_deref(), Some("A mail app of yours will lose access"));
    let body = letter.body();
    assert!(body.starts_with("From 2099-12-18T00:00:00Z on these apps may no longer read your mail:"), "{body}");
    drop(session);
    assert!(gate.admits("lisa@example.com", APP), "a plan changes nothing");

    let output = portcullis(&gate, &["policy", "plan", "--json", "--notify"], &policy());
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).unwrap()["told"], 0);
    let output = portcullis(&gate, &["policy", "apply", "--yes", "--notify"], &less);
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    assert!(out(&output).contains("a notice to 1 person is queued"), "{}", out(&output));
    let letter = smtp.wait_for(2).remove(1);
    assert_eq!(letter.header("Subject").as_deref(), Some("A mail app of yours has lost access"));
    wait_for_state(&first, 2, "sent");

    // The command shows them as the API does.
    let (token, url) = (token_of(&first), gate.listening.iter().find(|(name, _)| name == "http").unwrap().1);
    let notices = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("notices").args(arguments).arg("--url").arg(format!("http://{url}"));
        command.env("PORTCULLIS_TOKEN", &token).output().unwrap()
    };
    let list = notices(&["list"]);
    assert_eq!(list.status.code(), Some(0), "{}", out(&list));
    assert_eq!(out(&list).lines().count(), 3, "{}", out(&list));
    let shown = out(&notices(&["show", "1"]));
    for part in ["old apps go", "planned", "test-mail", "email", "sent"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let refused = notices(&["retry", "1"]);
    assert_eq!(refused.status.code(), Some(1), "{}", out(&refused));
    assert!(out(&refused).contains("only what has failed is sent again"), "{}", out(&refused));
}

#[test]
fn mail_and_password_go_through_tls_to_the_server_that_was_named_or_nowhere() {
    let (pem, tls) = certificate(&["localhost"]);
    let (_, stranger) = certificate(&["localhost"]);
    let (other_pem, other) = certificate(&["smtp.example.com"]);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let (ca, other_ca, password) = (file("ca", &pem), file("other", &other_pem), file("password", "hush\n"));
    for (name, cover, mode, ca, taken) in [
        ("TLS", Cover::Tls(Arc::clone(&tls)), "implicit", &ca, true),
        ("STARTTLS", Cover::StartTls(Arc::clone(&tls)), "starttls", &ca, true),
        ("no STARTTLS there", Cover::Plain, "starttls", &ca, false),
        ("a certificate of somebody else", Cover::Tls(stranger), "implicit", &ca, false),
        ("a certificate for another name", Cover::Tls(other), "implicit", &other_ca, false),
    ] {
        let smtp = Smtp::start_with(cover);
        let mut setup = setup(&dir, None, None);
        setup.more.push_str(&format!(
            "[notify.smtp]\nhost = \"localhost\"\nport = {}\ntls = \"{mode}\"\nfrom = \"gate@example.com\"\n\
             user = \"gate\"\npassword_file = \"{password}\"\nca_file = \"{ca}\"\n",
            smtp.address.port()
        ));
        let gate = Gate::with(setup);
        let first = Api::first(&gate);
        cut(&gate, &first, ANN, APP);
        wait_for_state(&first, 1, if taken { "sent" } else { "failed" });
        let commands = smtp.commands();
        let login = format!("AUTH PLAIN {} (tls)", STANDARD.encode("\0gate\0hush"));
        assert_eq!(commands.contains(&login), taken, "{name}: {commands:?}");
        let open = commands.iter().find(|command| {
            let harmless = command.starts_with("EHLO") || *command == "STARTTLS" || *command == "QUIT";
            !harmless && !command.ends_with(" (tls)")
        });
        assert_eq!(open, None, "{name}: {commands:?}");
        assert_eq!(smtp.letters().len(), usize::from(taken), "{name}");
        assert!(!gate.log().contains("hush"), "{name}");
    }
}

#[test]
fn a_gate_that_is_stopped_finishes_what_it_is_sending_and_sends_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let smtp = Smtp::start();
    let mut gate = Gate::with(setup(&dir, Some(&smtp), None));
    let first = Api::first(&gate);
    let token = token_of(&first);
    smtp.set(Mood::Hesitates(Duration::from_secs(1)));
    cut(&gate, &first, ANN, APP);
    smtp.wait_for(1);
    gate.signal("TERM");
    assert!(gate.wait(Duration::from_secs(10)).success());
    gate.crash_and_restart();
    let first = Api::with(&gate, &token);
    assert_eq!(state(&first, 1), "sent");
    thread::sleep(Duration::from_secs(8));
    assert_eq!(smtp.letters().len(), 1);
}

#[test]
fn a_webhook_that_redirects_is_not_followed_and_given_up_and_can_be_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = Receiver::start(&["200 OK"]);
    let hook = Receiver::start(&[&format!("307 Over There\r\nlocation: http://{}/", elsewhere.address)]);
    let gate = Gate::with(setup(&dir, None, Some(&hook)));
    let first = Api::first(&gate);
    cut(&gate, &first, ANN, APP);
    wait_for_state(&first, 1, "failed");
    assert_eq!(hook.posted().len(), 3, "notify.attempts");
    assert!(elsewhere.posted().is_empty());
    hook.set("410 Gone");
    ok(&first.post("/api/v1/notices/1/retry", &json!({})));
    wait_for_state(&first, 1, "failed");
    wait("a try", || (hook.posted().len() == 4).then_some(()));
    hook.set("200 OK");
    ok(&first.post("/api/v1/notices/1/retry", &json!({})));
    wait_for_state(&first, 1, "sent");
    assert_eq!(hook.posted().len(), 5);
}

#[test]
fn two_nodes_never_both_send_a_notice() {
    let Some(server) = postgres::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (smtp, hook) = (Smtp::start(), Receiver::start(&["200 OK"]));
    let url = server.database();
    let with = || Setup { database: database(&url), ..setup(&dir, Some(&smtp), Some(&hook)) };
    let one = Gate::with(with());
    let first = Api::first(&one);
    let two = Gate::with(with());
    ok(&first.post("/api/v1/units", &json!({ "path": "/Sales" })));
    let people: Vec<String> = (0..40).map(|number| format!("user{number}@example.com")).collect();
    let changes: Vec<Value> = people
        .iter()
        .map(|user| json!({ "kind": "user", "name": user, "action": "make", "set": { "unit": "/Sales" } }))
        .collect();
    ok(&first.post("/api/v1/changes", &json!({ "changes": changes })));
    people.iter().for_each(|user| drop(one.imap(user, APP)));
    let off = json!({ "set": { "imap": "off" } });
    // A preview counts the sessions of the other node, and a plan in the database those of both.
    let (mut here, mut there) = (one.imap(&people[0], APP), two.imap(&people[1], APP));
    let tried = ok(&first.if_match("*").patch("/api/v1/units/%2FSales?preview=true", &off));
    assert_eq!((&tried["sessions"]["count"], &tried["sessions"]["complete"]), (&json!(2), &json!(true)), "{tried}");
    let less = policy().replacen("imap = \"any\"", "imap = \"off\"", 1);
    let plan = portcullis(&one, &["policy", "plan", "--json"], &less);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!((&plan["sessions"]["count"], &plan["sessions"]["complete"]), (&json!(2), &json!(true)), "{plan}");
    let users: BTreeSet<Option<&str>> =
        plan["sessions"]["first"].as_array().unwrap().iter().map(|fall| fall["user"].as_str()).collect();
    assert_eq!(users.len(), 2, "{plan}");

    ok(&first.if_match("*").patch("/api/v1/units/%2FSales?notify=true", &off));
    here.bye();
    there.bye();
    let sent = || ok(&first.get("/api/v1/notices?state=sent&limit=100"))["items"].as_array().unwrap().len();
    wait("all are sent", || (sent() == 40).then_some(()));
    thread::sleep(Duration::from_secs(8));
    let letters = smtp.letters();
    let ids: BTreeSet<_> = letters.iter().map(|letter| letter.header("Message-ID")).collect();
    assert_eq!((letters.len(), ids.len()), (40, 40));
    let posted = hook.posted();
    let ids: BTreeSet<_> = posted.iter().map(|posted| posted.header("webhook-id").to_owned()).collect();
    assert_eq!((posted.len(), ids.len()), (40, 40));
}

#[test]
fn check_tells_what_is_wrong_with_the_channels_and_who_is_told_without_them() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Receiver::start(&["200 OK"]);
    let gate = Gate::with(setup(&dir, None, Some(&hook)));
    let good = gate.portcullis(&["check"]);
    assert!(out(&good).contains("notices go by webhook:127.0.0.1:"), "{}", out(&good));
    assert!(!out(&good).contains("hush"), "{}", out(&good));
    fs::write(dir.path().join("webhook.secret"), "short\n").unwrap();
    let bad = gate.portcullis(&["check"]);
    assert_eq!(bad.status.code(), Some(2), "{}", out(&bad));
    assert!(out(&bad).contains("openssl rand -base64 32"), "{}", out(&bad));

    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::with(setup(&dir, None, None));
    let first = Api::first(&gate);
    cut(&gate, &first, ANN, APP);
    assert_eq!(state(&first, 1), "console");
    assert_eq!(ok(&person(&gate, ANN).get("/api/v1/me/notices"))["items"][0]["state"], "console");
    assert_eq!(first.post("/api/v1/notices/1/retry", &json!({})).problem(), "conflict");
}
