//! Keys in a file, and the memory of tokens, which is the same for keys from anywhere.

use std::{fs, path::Path};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;

const ISSUER: &str = "https://id.example.com";

fn settings(file: &Path) -> Settings {
    Settings::new(Rules::new(ISSUER, ["portcullis"]), Some(KeySource::File(file.into())))
}

fn with_keys(keys: &[&SigningKey]) -> (TempDir, std::path::PathBuf, Arc<Issuers>) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("jwks.json");
    fs::write(&file, jwks(keys)).unwrap();
    let issuers = Issuers::with_limits(vec![settings(&file)], Limits::default(), NOW).unwrap();
    (dir, file, issuers)
}

#[tokio::test]
async fn a_token_is_believed_and_the_second_time_remembered() {
    let key = key();
    let (_dir, _file, issuers) = with_keys(&[&key]);
    let token = token(ISSUER, &key);
    let first = issuers.identify(&token, NOW).await.unwrap();
    assert!(issuers.holds(&first));
    assert_eq!(issuers.rules_of(&first).unwrap().url, ISSUER);
    // No place in the queue: a second signature check would be refused.
    issuers.queue.close();
    assert_eq!(issuers.identify(&token, later(60)).await, Ok(first));
    let other = token_at(ISSUER, &key, later(1));
    assert_eq!(reason(issuers.identify(&other, later(1)).await), "unavailable_busy");
}

#[tokio::test]
async fn a_remembered_token_still_ends_at_its_expiry_and_a_clock_set_back_is_noticed() {
    let key = key();
    let (_dir, _file, issuers) = with_keys(&[&key]);
    let token = token(ISSUER, &key);
    assert!(issuers.identify(&token, NOW).await.is_ok());
    let end = 100 * 3600;
    assert_eq!(reason(issuers.identify(&token, later(end + 29)).await), "ok");
    assert_eq!(reason(issuers.identify(&token, NOW - Duration::from_secs(61)).await), "token_not_yet");
    assert_eq!(reason(issuers.identify(&token, NOW).await), "ok");
    assert_eq!(reason(issuers.identify(&token, later(end + 30)).await), "token_expired");
    assert_eq!(reason(issuers.identify(&token, later(end + 31)).await), "token_expired");
}

#[tokio::test]
async fn refused_tokens_are_told_apart_from_each_other_and_from_outages() {
    let (known, unknown) = (key(), key());
    let (_dir, _file, issuers) = with_keys(&[&known]);
    for (name, token, expected) in [
        ("unknown key", token(ISSUER, &unknown), "token_unknown_key"),
        ("unknown issuer", token("https://evil.example", &known), "token_issuer"),
        ("opaque without introspection", Secret::new("ya29.opaque"), "token_malformed"),
        ("too long", Secret::new("a".repeat(16 * 1024 + 1)), "token_too_long"),
        ("empty", Secret::new(""), "token_malformed"),
    ] {
        assert_eq!(reason(issuers.identify(&token, NOW).await), expected, "{name}");
    }
}

#[tokio::test]
async fn a_key_taken_out_of_its_file_ends_what_it_signed_at_once() {
    let (old, new) = (key(), key());
    let (_dir, file, issuers) = with_keys(&[&old, &new]);
    let (by_old, by_new) = (token(ISSUER, &old), token(ISSUER, &new));
    let fallen = issuers.identify(&by_old, NOW).await.unwrap();
    let staying = issuers.identify(&by_new, NOW).await.unwrap();
    let mut withdrawals = issuers.withdrawals();
    assert!(!withdrawals.has_changed().unwrap());

    fs::write(&file, jwks(&[&new])).unwrap();
    assert!(issuers.reload(NOW).is_empty());
    assert!(withdrawals.has_changed().unwrap());
    assert_eq!(*withdrawals.borrow_and_update(), 1);
    assert!(!issuers.holds(&fallen) && issuers.holds(&staying));
    assert_eq!(reason(issuers.identify(&by_old, NOW).await), "token_unknown_key");
    assert_eq!(reason(issuers.identify(&by_new, NOW).await), "ok");

    // Its token is forgotten, and would not count if it were still there.
    assert!(issuers.memory.recall(fallen.fingerprint()).is_none());
    assert!(issuers.memory.recall(staying.fingerprint()).is_some());
    issuers.memory.keep(&fallen, 0, None, NOW);
    assert_eq!(reason(issuers.identify(&by_old, NOW).await), "token_unknown_key");

    // The same key under another name is the same key.
    let renamed = jwks(&[&new]).replace(&format!("\"kid\":\"{}\"", new.kid()), "\"kid\":\"renamed\"");
    fs::write(&file, renamed).unwrap();
    assert!(issuers.reload(NOW).is_empty());
    assert!(issuers.holds(&staying) && !withdrawals.has_changed().unwrap());
}

#[tokio::test]
async fn a_broken_key_file_changes_nothing_and_names_file_and_remedy() {
    let key = key();
    let (_dir, file, issuers) = with_keys(&[&key]);
    let token = token(ISSUER, &key);
    for broken in ["", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"] {
        fs::write(&file, broken).unwrap();
        let errors = issuers.reload(NOW);
        let text = errors[0].to_string();
        assert!(text.contains("jwks.json") && text.contains("RFC 7517") && text.contains(ISSUER), "{text}");
        assert_eq!(reason(issuers.identify(&token, NOW).await), "ok");
    }
    fs::remove_file(&file).unwrap();
    assert!(issuers.reload(NOW)[0].to_string().contains("jwks_url"));
    let fresh = Issuers::with_limits(vec![settings(&file)], Limits::default(), NOW);
    assert!(matches!(fresh, Err(IssuerError::KeyFile { .. })));
    // A file does not grow old.
    assert_eq!(reason(issuers.identify(&token_at(ISSUER, &key, later(90_000)), later(90_000)).await), "ok");
}

#[tokio::test]
async fn a_changed_key_file_is_noticed_within_a_second() {
    let (old, new) = (key(), key());
    let (_dir, file, issuers) = with_keys(&[&old]);
    let fallen = issuers.identify(&token(ISSUER, &old), NOW).await.unwrap();
    let mut withdrawals = issuers.withdrawals();
    let stop = CancellationToken::new();
    let running = tokio::spawn(issuers.clone().run(stop.clone()));
    tokio::time::sleep(Duration::from_millis(20)).await;
    fs::write(&file, jwks(&[&new])).unwrap();
    tokio::time::timeout(Duration::from_secs(1), withdrawals.changed()).await.unwrap().unwrap();
    assert!(!issuers.holds(&fallen));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(1), running).await.unwrap().unwrap();
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused_with_a_remedy() {
    let key = key();
    let (_dir, file, _) = with_keys(&[&key]);
    let good = || settings(&file);
    let asking = |url: &str| {
        let mut one = good();
        one.rules.url = url.into();
        one.introspection = Some(Introspection::new("https://id.example.com/introspect", "gate", Secret::new("s")));
        one
    };
    let mut keyless = good();
    keyless.keys = None;
    let mut deaf = good();
    deaf.rules.audience.clear();
    let mut plain = good();
    plain.keys = Some(KeySource::Url("http://id.example.com/jwks".into()));
    for (name, list, word) in [
        ("the same issuer twice", vec![good(), good()], "twice"),
        ("neither keys nor introspection", vec![keyless], "neither"),
        ("no audience", vec![deaf], "audience"),
        ("http to elsewhere", vec![plain], "https"),
        ("two that take opaque tokens", vec![asking("https://a.example"), asking("https://b.example")], "opaque"),
    ] {
        let error = Issuers::with_limits(list, Limits::default(), NOW).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|text| text.contains(word)), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn the_explanation_of_a_pasted_token_uses_the_same_keys() {
    let (known, unknown) = (key(), key());
    let (_dir, _file, issuers) = with_keys(&[&known]);
    let verdict = async |token: Secret| {
        issuers.diagnose(&token, NOW).await.unwrap().verdict.map_or_else(|error| error.reason(), |_| "ok")
    };
    assert_eq!(verdict(token(ISSUER, &known)).await, "ok");
    assert_eq!(verdict(token(ISSUER, &unknown)).await, "token_unknown_key");
    assert_eq!(verdict(token("https://evil.example", &known)).await, "token_issuer");
    assert_eq!(verdict(Secret::new("x.y")).await, "token_malformed");
}

#[tokio::test]
async fn the_hint_for_the_error_challenge_comes_from_the_issuer() {
    let key = key();
    let (_dir, file, _) = with_keys(&[&key]);
    let mut one = settings(&file);
    one.rules.scope_imap = vec!["mail".into(), "imap".into()];
    one.openid_configuration = Some("https://id.example.com/oc".into());
    let issuers = Issuers::with_limits(vec![one], Limits::default(), NOW).unwrap();
    assert_eq!(issuers.hint(None, Service::Imap), ("mail imap".into(), Some("https://id.example.com/oc")));
    let who = issuers.identify(&token(ISSUER, &key), NOW).await.unwrap();
    assert_eq!(issuers.hint(Some(&who), Service::Pop), (String::new(), Some("https://id.example.com/oc")));
    assert!(issuers.scope_suffices(&who, Service::Imap));
}
