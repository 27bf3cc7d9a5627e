//! An OpenID provider that no one here wrote (npm `oidc-provider`, certified) and the gate: keys by discovery, a token
//! from a real authorization code flow, key rotation, and a provider that goes away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use support::{
    ANN, Gate, program,
    provider::Provider,
    wire::{Imap, Pop, oauthbearer, xoauth2},
};

fn sign_in(gate: &Gate, token: &str) -> String {
    Imap::connect(gate).command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(ANN, token))).status
}

#[test]
fn a_token_by_authorization_code_opens_the_mailbox_with_keys_found_by_discovery() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let mut provider = Provider::start();
    let gate = provider.gate();
    let token = provider.token(ANN);
    let status = sign_in(&gate, &token);
    assert!(status.starts_with("OK"), "{status}");
    let reply = Pop::connect(&gate).authenticate("OAUTHBEARER", &oauthbearer(ANN, &token));
    assert!(reply.starts_with("+OK"), "{reply}");

    // Another's token does not open ann's mailbox, and an ID token opens nothing.
    let status = sign_in(&gate, &provider.token("olaf@example.com"));
    assert!(status.starts_with("NO [AUTHORIZATIONFAILED]"), "{status}");
    let id_token = provider.ask(&format!("id-token {ANN}"), "token ");
    let status = sign_in(&gate, &id_token);
    assert!(status.starts_with("NO [AUTHENTICATIONFAILED]"), "{status}");
}

#[test]
fn a_rotated_key_is_found_at_once_and_the_old_one_ends_its_sessions() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let mut provider = Provider::start();
    let gate = provider.gate();
    let old = provider.token(ANN);
    let mut idle = Imap::connect(&gate);
    idle.xoauth2(ANN, &old);
    idle.ok("SELECT INBOX");
    idle.idle();

    std::thread::sleep(Duration::from_millis(1100)); // the gap that the gate keeps between two forced refreshes
    provider.ask("rotate", "rotated ");
    let new = provider.token(ANN);
    let began = Instant::now();
    let status = sign_in(&gate, &new);
    assert!(status.starts_with("OK"), "{status}");
    // That sign-in made the gate read the keys again; the session of the withdrawn key goes.
    let (text, at) = idle.bye();
    assert!(at - began < Duration::from_secs(2), "took {:?}", at - began);
    assert!(text.starts_with("[AUTHENTICATIONFAILED]"), "{text}");
    let status = sign_in(&gate, &old);
    assert!(status.starts_with("NO [AUTHENTICATIONFAILED]"), "{status}");
}

#[test]
fn who_signs_out_at_the_provider_is_out_of_their_mail_within_a_second() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let mut provider = Provider::start();
    let gate = provider.gate();
    let http = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1;
    provider.ask(&format!("tell http://{http}/backchannel-logout"), "told ");
    let token = provider.token(ANN);
    let mut idle = Imap::connect(&gate);
    idle.xoauth2(ANN, &token);
    idle.ok("SELECT INBOX");
    idle.idle();

    let began = Instant::now();
    assert_eq!(provider.ask(&format!("logout {ANN}"), "logout "), "200");
    let (text, at) = idle.bye();
    assert!(text.starts_with("[AUTHENTICATIONFAILED] Your sign-in was withdrawn."), "{text}");
    // The provider's own part of it is in here too.
    assert!(at - began < Duration::from_secs(1), "took {:?}", at - began);
    let status = sign_in(&gate, &token);
    assert!(status.starts_with("NO [AUTHENTICATIONFAILED]"), "{status}");
    std::thread::sleep(Duration::from_millis(1100)); // tokens say the second in which they were issued
    let status = sign_in(&gate, &provider.token(ANN));
    assert!(status.starts_with("OK"), "{status}");
}

#[test]
fn known_keys_stay_good_while_the_provider_is_away() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let mut provider = Provider::start();
    let gate = provider.gate();
    let (first, second) = (provider.token(ANN), provider.token(ANN));
    let status = sign_in(&gate, &first);
    assert!(status.starts_with("OK"), "{status}");
    provider.ask("down", "down");
    let status = sign_in(&gate, &second); // not seen before, so its signature is checked
    assert!(status.starts_with("OK"), "{status}");
}
