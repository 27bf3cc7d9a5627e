//! Keys fetched from an address or by discovery: rotation, unknown names, outages, lies.

use super::*;

#[tokio::test]
async fn the_first_token_fetches_the_keys_and_later_ones_do_not() {
    let (fake, key) = (Fake::start().await, key());
    fake.publish(&[&key]);
    let issuers = fake.issuers(|_| {});
    let standing = |keys, age_s: Option<u64>| {
        vec![Standing { issuer: &fake.base, usable_keys: Some(keys), age: age_s.map(Duration::from_secs) }]
    };
    assert_eq!(issuers.standing(NOW), standing(0, None));
    for second in 0..3 {
        let token = token_at(&fake.base, &key, later(second));
        assert_eq!(reason(issuers.identify(&token, later(second)).await), "ok");
    }
    assert_eq!(fake.asked("/jwks"), 1);
    assert_eq!(issuers.standing(later(5)), standing(1, Some(5)));
    assert_eq!(issuers.standing(later(24 * 3600 + 1)), standing(0, Some(24 * 3600 + 1)));
}

#[tokio::test]
async fn a_new_key_is_fetched_once_however_many_ask_and_an_old_one_falls() {
    let (fake, old, new) = (Fake::start().await, key(), key());
    fake.publish(&[&old]);
    let issuers = fake.issuers(|_| {});
    let by_old = token(&fake.base, &old);
    let fallen = issuers.identify(&by_old, NOW).await.unwrap();
    let withdrawals = issuers.withdrawals();

    fake.set("/jwks", Does::Late(Duration::from_millis(100), jwks(&[&new])));
    let mut all = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (issuers, token) = (issuers.clone(), token_at(&fake.base, &new, later(number)));
        all.spawn(async move { reason(issuers.identify(&token, later(60)).await) });
    }
    assert!(all.join_all().await.into_iter().all(|answer| answer == "ok"));
    assert_eq!(fake.asked("/jwks"), 2);
    assert!(withdrawals.has_changed().unwrap());
    assert!(!issuers.holds(&fallen));
    assert_eq!(reason(issuers.identify(&by_old, later(60)).await), "token_unknown_key");
}

#[tokio::test]
async fn unknown_key_names_cause_at_most_one_question_per_thirty_seconds() {
    let (fake, key) = (Fake::start().await, key());
    fake.publish(&[&key]);
    let issuers = fake.issuers(|_| {});
    assert_eq!(reason(issuers.identify(&token(&fake.base, &key), NOW).await), "ok");
    assert_eq!(fake.asked("/jwks"), 1, "the first keys");
    let stranger = |secs| token_at(&fake.base, &super::key(), later(secs));
    for _ in 0..20 {
        assert_eq!(reason(issuers.identify(&stranger(29), later(29)).await), "token_unknown_key");
    }
    assert_eq!(fake.asked("/jwks"), 1, "within 30 s of the first question");
    for _ in 0..20 {
        assert_eq!(reason(issuers.identify(&stranger(30), later(30)).await), "token_unknown_key");
    }
    assert_eq!(fake.asked("/jwks"), 2);
    assert_eq!(reason(issuers.identify(&stranger(60), later(60)).await), "token_unknown_key");
    assert_eq!(fake.asked("/jwks"), 3);
    // A known key never waits for any of this, nor does a token that is wrong in another way.
    assert_eq!(reason(issuers.identify(&token(&fake.base, &key), later(61)).await), "ok");
    let expired = token_at(&fake.base, &super::key(), NOW - Duration::from_secs(101 * 3600));
    assert_eq!(reason(issuers.identify(&expired, later(200)).await), "token_expired");
    assert_eq!(fake.asked("/jwks"), 3);
}

#[tokio::test]
async fn a_name_just_found_missing_is_not_asked_for_again_until_a_minute_has_passed() {
    let (fake, key, stranger) = (Fake::start().await, key(), super::key());
    fake.publish(&[&key]);
    let issuers = fake.issuers(|settings| settings.forced_gap = Duration::ZERO);
    assert_eq!(reason(issuers.identify(&token(&fake.base, &key), NOW).await), "ok");
    let unknown = token(&fake.base, &stranger);
    for (secs, questions) in [(0, 2), (1, 2), (59, 2), (60, 3)] {
        assert_eq!(reason(issuers.identify(&unknown, later(secs)).await), "token_unknown_key");
        assert_eq!(fake.asked("/jwks"), questions, "after {secs} s");
    }
    fake.publish(&[&key, &stranger]);
    assert_eq!(issuers.refresh(later(61)).await, 0);
    assert_eq!(reason(issuers.identify(&unknown, later(61)).await), "ok");
}

#[tokio::test]
async fn while_the_issuer_is_down_known_keys_are_good_for_a_day_and_unknown_ones_are_an_outage() {
    let (fake, key) = (Fake::start().await, key());
    fake.publish(&[&key]);
    let issuers = fake.issuers(|_| {});
    let remembered = token(&fake.base, &key);
    assert_eq!(reason(issuers.identify(&remembered, NOW).await), "ok");
    fake.set("/jwks", Does::HangUp);
    let day = 24 * 3600;
    assert_eq!(issuers.refresh(later(600)).await, 1);
    assert_eq!(reason(issuers.identify(&token_at(&fake.base, &key, later(day)), later(day)).await), "ok");
    let stranger = token_at(&fake.base, &super::key(), later(day));
    assert_eq!(reason(issuers.identify(&stranger, later(day)).await), "unavailable_keys");
    assert_eq!(
        reason(issuers.identify(&stranger, later(day)).await),
        "unavailable_keys",
        "without a second question"
    );
    // A millisecond more than a day: neither new nor remembered tokens, until the issuer is back.
    let past = later(day) + Duration::from_millis(1);
    assert_eq!(reason(issuers.identify(&token_at(&fake.base, &key, past), past).await), "unavailable_keys");
    assert_eq!(reason(issuers.identify(&remembered, past).await), "unavailable_keys");
    fake.publish(&[&key]);
    assert_eq!(reason(issuers.identify(&remembered, later(day + 29)).await), "unavailable_keys", "no question yet");
    assert_eq!(reason(issuers.identify(&remembered, later(day + 30)).await), "ok");
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_changes_nothing() {
    let (fake, evil, key, other) = (Fake::start().await, Fake::start().await, key(), super::key());
    fake.publish(&[&key]);
    evil.publish(&[&other]);
    let issuers = fake.issuers(|settings| settings.timeout = Duration::from_millis(300));
    assert_eq!(issuers.refresh(NOW).await, 0);
    let who = issuers.identify(&token(&fake.base, &key), NOW).await.unwrap();
    let good = jwks(&[&other]);
    let answers = [
        ("status 500", Does::Status(500, good.clone())),
        ("status 203", Does::Status(203, good.clone())),
        ("redirect elsewhere", Does::Redirect(format!("{}/jwks", evil.base))),
        ("redirect to itself", Does::Redirect(format!("{}/other", fake.base))),
        ("no JSON", Does::Answer("<html>".into())),
        ("no key", Does::Answer("{\"keys\":[]}".into())),
        ("too large", Does::Answer(format!("{good}{}", " ".repeat(256 * 1024)))),
        ("endless", Does::Endless),
        ("too late", Does::Late(Duration::from_secs(3), good.clone())),
        ("hang up", Does::HangUp),
    ];
    fake.set("/other", Does::Answer(good));
    for (name, does) in answers {
        fake.set("/jwks", does);
        assert_eq!(issuers.refresh(NOW).await, 1, "{name}");
        assert!(issuers.holds(&who), "{name}");
        assert_eq!(reason(issuers.identify(&token_at(&fake.base, &key, later(1)), NOW).await), "ok", "{name}");
    }
    assert_eq!((evil.asked("/jwks"), fake.asked("/other")), (0, 0));
    assert!(!issuers.withdrawals().has_changed().unwrap());
}

#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_is_an_outage_and_is_found_when_it_is_back() {
    let (fake, key) = (Fake::start().await, key());
    let issuers = fake.issuers(|_| {});
    let token = token(&fake.base, &key);
    assert_eq!(reason(issuers.identify(&token, NOW).await), "unavailable_keys");
    assert_eq!(reason(issuers.identify(&token, later(29)).await), "unavailable_keys");
    assert_eq!(fake.asked("/jwks"), 1);
    fake.publish(&[&key]);
    assert_eq!(reason(issuers.identify(&token, later(30)).await), "ok");
}

const WELL_KNOWN: &str = "/.well-known/openid-configuration";

#[tokio::test]
async fn discovery_takes_the_issuers_own_document_with_keys_at_its_own_origin() {
    let (fake, elsewhere, key) = (Fake::start().await, Fake::start().await, key());
    fake.publish(&[&key]);
    elsewhere.publish(&[&key]);
    let issuers = fake.issuers(|settings| settings.keys = Some(KeySource::Discovery));
    let document = |issuer: &str, jwks_uri: &str| json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string();
    let own = format!("{}/jwks", fake.base);
    let bad = [
        ("another issuer", document("https://id.example.com", &own)),
        ("a slash more", document(&format!("{}/", fake.base), &own)),
        ("keys at another origin", document(&fake.base, &format!("{}/jwks", elsewhere.base))),
        ("keys inside the network", document(&fake.base, "http://169.254.169.254/jwks")),
        ("keys in a file", document(&fake.base, "file:///etc/passwd")),
        ("no keys", json!({"issuer": fake.base}).to_string()),
        ("issuer twice", format!("{{\"issuer\":\"x\",\"issuer\":\"{}\",\"jwks_uri\":\"{own}\"}}", fake.base)),
        ("no JSON", "<html>".into()),
    ];
    for (name, text) in bad {
        fake.set(WELL_KNOWN, Does::Answer(text));
        assert_eq!(issuers.refresh(NOW).await, 1, "{name}");
    }
    assert_eq!((fake.asked("/jwks"), elsewhere.asked("/jwks")), (0, 0));
    fake.set(WELL_KNOWN, Does::Answer(document(&fake.base, &own)));
    assert_eq!(issuers.refresh(NOW).await, 0);
    let who = issuers.identify(&token(&fake.base, &key), NOW).await.unwrap();
    let (_, address) = issuers.hint(Some(&who), Service::Imap);
    assert_eq!(address, Some(format!("{}{WELL_KNOWN}", fake.base).as_str()));
}

#[tokio::test]
async fn the_issuer_is_chosen_by_exact_name_among_several() {
    let (one, two, key) = (Fake::start().await, Fake::start().await, key());
    one.publish(&[&key]);
    two.publish(&[&super::key()]);
    let issuers = Issuers::with_limits(vec![one.settings(), two.settings()], Limits::default(), NOW).unwrap();
    assert_eq!(reason(issuers.identify(&token(&one.base, &key), NOW).await), "ok");
    assert_eq!(two.asked("/jwks"), 0);
    assert_eq!(reason(issuers.identify(&token(&two.base, &key), NOW).await), "token_unknown_key");
    assert_eq!(reason(issuers.identify(&token(&format!("{}/", one.base), &key), NOW).await), "token_issuer");
}

#[tokio::test]
async fn the_background_keeps_keys_fresh_and_stops_when_told() {
    let (fake, old, new) = (Fake::start().await, key(), key());
    fake.publish(&[&old]);
    let issuers = fake.issuers(|settings| settings.refresh = Duration::from_millis(50));
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(issuers.clone().run(stop.clone()));
    let now = UnixTime::from(std::time::SystemTime::now());
    let who = issuers.identify(&token_at(&fake.base, &old, now), now).await.unwrap();
    let mut withdrawals = issuers.withdrawals();
    fake.publish(&[&new]);
    tokio::time::timeout(Duration::from_secs(2), withdrawals.changed()).await.unwrap().unwrap();
    assert!(!issuers.holds(&who));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(1), running).await.unwrap().unwrap();
    let asked = fake.asked("/jwks");
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(fake.asked("/jwks"), asked);
}

#[tokio::test]
async fn a_full_queue_of_signatures_says_come_back_later() {
    let (fake, key) = (Fake::start().await, key());
    fake.publish(&[&key]);
    let limits = Limits { queue: 2, workers: 1, ..Limits::default() };
    let issuers = Issuers::with_limits(vec![fake.settings()], limits, NOW).unwrap();
    assert_eq!(issuers.refresh(NOW).await, 0);
    let held = issuers.queue.clone().acquire_many_owned(2).await.unwrap();
    assert_eq!(reason(issuers.identify(&token(&fake.base, &key), NOW).await), "unavailable_busy");
    drop(held);
    assert_eq!(reason(issuers.identify(&token(&fake.base, &key), NOW).await), "ok");
}
