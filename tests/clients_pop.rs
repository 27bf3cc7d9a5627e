//! Real mail programs read a mailbox over POP3S: every message byte for byte, and each refusal in the words its user
//! should see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::{
    ANN, APP, Gate, OTHER_APP,
    mail::{self, Mail},
    program::{self, Home, Outcome, run},
};

/// A gate whose `ann` has all hard cases in INBOX.
fn gate_with_mail() -> Gate {
    let gate = Gate::start();
    for mail in mail::hard_cases() {
        gate.deliver(ANN, &mail.wire);
    }
    gate
}

/// The hard cases as POP3 hands them out: RFC 1939 section 3 ends a message with CRLF whether it has one or not.
fn hard_cases() -> Vec<Mail> {
    let mut mails = mail::hard_cases();
    for mail in &mut mails {
        if !mail.wire.ends_with(b"\r\n") {
            mail.wire.extend_from_slice(b"\r\n");
        }
    }
    mails
}

/// Runs `program` for each sign-in that must fail; it must show the words that tell the user why.
fn shows_every_refusal(name: &str, program: impl Fn(Home) -> Outcome) {
    let gate = Gate::start();
    let cases = [
        ("an expired token", ANN, gate.token_for(ANN, APP, -3600), ["[AUTH]", "token"]),
        (
            "POP off for the unit",
            "olaf@example.com",
            gate.token("olaf@example.com", APP),
            ["[SYS/PERM]", "POP access is disabled for your domain."],
        ),
        (
            "an app that is not on the list",
            "lisa@example.com",
            gate.token("lisa@example.com", OTHER_APP),
            ["Other Mail", OTHER_APP],
        ),
    ];
    for (case, user, token, words) in cases {
        let outcome = program(Home::for_user(&gate, user, &token));
        for word in words {
            outcome.expect_text(&format!("{name}, {case}"), word);
        }
    }
}

/// Runs `program` as it was set up before OAuth; the gate must say that it takes no passwords, before it has read one.
fn hears_that_passwords_are_not_accepted(name: &str, program: impl Fn(Home) -> Outcome) {
    let gate = Gate::start();
    let outcome = program(Home::for_user(&gate, ANN, "").with("PASSWORD", "hunter2"));
    assert!(!outcome.good, "{name}");
    outcome.expect_text(name, "Passwords are not accepted");
    assert!(!gate.log().contains("hunter2"));
}

// ---- curl ----

fn curl(home: &Home, arguments: &[&str]) -> Outcome {
    let mut command = home.command("curl");
    let (ca, user, token) = (home.value("CA"), home.value("USER"), home.value("TOKEN"));
    command.args(["--silent", "--show-error", "--verbose", "--max-time", "30", "--cacert", ca]);
    command.args(["--user", user, "--oauth2-bearer", token]).args(arguments);
    run(&mut command)
}

#[test]
fn curl_reads_every_message_with_oauthbearer() {
    if !program::have("curl") {
        return;
    }
    let gate = gate_with_mail();
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    let base = format!("pop3s://localhost:{}/", gate.pop3s);
    let listed = curl(&home, &[&base]).expect_good("curl LIST");
    listed.expect_text("curl", "AUTH OAUTHBEARER");
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), hard_cases().len());
    let got =
        (1..=hard_cases().len()).map(|n| curl(&home, &[&format!("{base}{n}")]).expect_good("curl RETR").stdout);
    mail::assert_same("curl", got.collect(), &hard_cases());

    curl(&home, &[&format!("{base}1"), "--request", "DELE", "--head"]).expect_good("curl DELE");
    let listed = curl(&home, &[&base]).expect_good("curl LIST");
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), hard_cases().len() - 1);
}

#[test]
fn libcurl_reads_every_message_with_xoauth2() {
    if !program::have("python3:pycurl") {
        return;
    }
    let gate = gate_with_mail();
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    let urls = (1..=hard_cases().len()).map(|n| format!("pop3s://localhost:{}/{n}", gate.pop3s));
    run(home.python("curl_xoauth2.py").args(urls)).expect_good("libcurl");
    mail::assert_same("libcurl", mail::from_maildirs(home.path()), &hard_cases());
}

#[test]
fn curl_shows_why_it_is_refused() {
    if !program::have("curl") {
        return;
    }
    shows_every_refusal("curl", |home| curl(&home, &[&format!("pop3s://localhost:{}/", home.value("POP3S"))]));
    // With a password it looks at what CAPA offers, and sends nothing.
    let gate = Gate::start();
    let home = Home::for_user(&gate, ANN, "");
    let mut command = home.command("curl");
    command.args(["--silent", "--show-error", "--verbose", "--max-time", "30", "--cacert", home.value("CA")]);
    command.args(["--user", "ann@example.com:hunter2", &format!("pop3s://localhost:{}/", gate.pop3s)]);
    let outcome = run(&mut command);
    assert!(!outcome.good);
    outcome.expect_text("curl with a password", "No known authentication mechanisms supported");
    assert!(!gate.log().contains("hunter2"));
}

// ---- mpop ----

fn mpop(home: &Home, config: &str) -> Outcome {
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(home.path().join("mail").join(part)).unwrap();
    }
    run(home.command("mpop").arg("--file").arg(home.config(config)).arg("--debug"))
}

#[test]
fn mpop_copies_every_message_once_with_either_mechanism() {
    if !program::have("mpop") {
        return;
    }
    for mechanism in ["xoauth2", "oauthbearer"] {
        let gate = gate_with_mail();
        let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP)).with("AUTH", mechanism);
        mpop(&home, "mpop.rc").expect_good("mpop");
        mail::assert_same("mpop", mail::from_maildirs(&home.path().join("mail")), &hard_cases());
        // UIDLs that stay: nothing is fetched again, and what is new is.
        gate.deliver(ANN, b"Subject: new\r\n\r\nnew\r\n");
        mpop(&home, "mpop.rc").expect_good("mpop, second run");
        assert_eq!(mail::from_maildirs(&home.path().join("mail")).len(), hard_cases().len() + 1);
    }
}

#[test]
fn mpop_shows_why_it_is_refused() {
    if !program::have("mpop") {
        return;
    }
    for mechanism in ["xoauth2", "oauthbearer"] {
        shows_every_refusal("mpop", |home| mpop(&home.with("AUTH", mechanism), "mpop.rc"));
    }
    hears_that_passwords_are_not_accepted("mpop with a password", |home| mpop(&home, "mpop-password.rc"));
}

// ---- getmail ----

fn getmail(home: &Home, config: &str) -> Outcome {
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(home.path().join("mail").join(part)).unwrap();
    }
    let file = home.config(config);
    run(home.command(program::tool("getmail")).arg("--getmaildir").arg(home.path()).arg("--rcfile").arg(file))
}

#[test]
fn getmail_copies_every_message_once() {
    if !program::have("tool:getmail") {
        return;
    }
    let gate = gate_with_mail();
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    getmail(&home, "getmail-pop.rc").expect_good("getmail");
    let got = mail::from_maildirs(&home.path().join("mail")).into_iter();
    let got = got.map(|bytes| mail::without_header(&bytes, b"Return-Path: <unknown>")).collect();
    mail::assert_same("getmail", got, &program::as_python_writes("getmail", &home, hard_cases()));
    gate.deliver(ANN, b"Subject: new\r\n\r\nnew\r\n");
    getmail(&home, "getmail-pop.rc").expect_good("getmail, second run");
    assert_eq!(mail::from_maildirs(&home.path().join("mail")).len(), hard_cases().len() + 1);
}

#[test]
fn getmail_shows_why_it_is_refused() {
    if !program::have("tool:getmail") {
        return;
    }
    shows_every_refusal("getmail", |home| getmail(&home, "getmail-pop.rc"));
    hears_that_passwords_are_not_accepted("getmail with a password", |home| {
        getmail(&home, "getmail-pop-password.rc")
    });
}

// ---- Python's poplib ----

#[test]
fn poplib_reads_every_message_and_deletes_at_quit_only() {
    if !program::have("python3") {
        return;
    }
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        let gate = gate_with_mail();
        let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP)).with("AUTH", mechanism);
        run(&mut home.python("poplib_all.py")).expect_good("poplib").expect_text("poplib", "done");
        mail::assert_same("poplib", mail::from_maildirs(home.path()), &hard_cases());
    }
}

#[test]
fn poplib_shows_why_it_is_refused() {
    if !program::have("python3") {
        return;
    }
    shows_every_refusal("poplib", |home| run(&mut home.python("poplib_all.py")));
    shows_every_refusal("poplib with OAUTHBEARER", |home| {
        run(home.python("poplib_all.py").env("AUTH", "OAUTHBEARER"))
    });
    hears_that_passwords_are_not_accepted("poplib with a password", |home| run(&mut home.python("poplib_all.py")));
}

// ---- mutt ----

#[test]
fn mutt_reads_mail_over_pop() {
    if !program::have("mutt") {
        return;
    }
    let gate = gate_with_mail();
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP)).with("AUTH", "xoauth2");
    let file = home.config("mutt-pop.rc");
    std::fs::create_dir_all(home.path().join("mail")).unwrap();
    let outcome = run(&mut home.on_a_terminal("mutt", &format!("-n -F {}", file.display())));
    let copies = mail::from_maildirs(&home.path().join("mail")).len();
    assert_eq!(copies, hard_cases().len(), "mutt copied {copies} messages\n{}", outcome.text);
}

#[test]
fn mutt_over_pop_shows_why_it_is_refused() {
    if !program::have("mutt") {
        return;
    }
    shows_every_refusal("mutt", |home| {
        let file = home.config("mutt-pop-refused.rc");
        run(&mut home.on_a_terminal("mutt", &format!("-n -F {}", file.display())))
    });
}
