//! Tokens that only their issuer can read.

use super::*;

const ASK: &str = "/introspect";

fn opaque(fake: &Fake) -> Settings {
    let mut settings = fake.settings();
    settings.keys = None;
    settings.introspection = Some(Introspection::new(format!("{}{ASK}", fake.base), "gate", Secret::new("s:e/c")));
    settings
}

fn active(fake: &Fake) -> String {
    json!({
        "active": true, "iss": fake.base, "aud": "portcullis", "client_id": "thunderbird",
        "email": "ann@example.com", "exp": later(3600).secs(), "scope": "mail",
    })
    .to_string()
}

fn issuers(settings: Settings) -> Arc<Issuers> {
    Issuers::with_limits(vec![settings], Limits::default(), NOW).unwrap()
}

#[tokio::test]
async fn an_opaque_token_is_asked_about_once_and_again_after_a_minute() {
    let fake = Fake::start().await;
    fake.set(ASK, Does::Late(Duration::from_millis(50), active(&fake)));
    let issuers = issuers(opaque(&fake));
    let token = Secret::new("ya29.a0+/=");
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (issuers, token) = (issuers.clone(), token.clone());
        all.spawn(async move { reason(issuers.identify(&token, NOW).await) });
    }
    assert!(all.join_all().await.into_iter().all(|answer| answer == "ok"));
    assert_eq!(fake.asked(ASK), 1);
    let request = fake.last(ASK);
    assert!(request.starts_with("POST "), "{request}");
    assert!(request.contains("token=ya29.a0%2B%2F%3D&token_type_hint=access_token"), "{request}");
    use base64::{Engine, engine::general_purpose::STANDARD};
    assert!(request.contains(&format!("Basic {}", STANDARD.encode("gate:s%3Ae%2Fc"))), "{request}");

    assert_eq!(reason(issuers.identify(&token, later(59)).await), "ok");
    assert_eq!(fake.asked(ASK), 1);
    assert_eq!(reason(issuers.identify(&token, later(60)).await), "ok");
    assert_eq!(fake.asked(ASK), 2);
}

#[tokio::test]
async fn a_no_is_remembered_for_ten_seconds_and_ends_what_was_a_yes() {
    let fake = Fake::start().await;
    fake.set(ASK, Does::Answer(active(&fake)));
    let issuers = issuers(opaque(&fake));
    let token = Secret::new("opaque");
    let who = issuers.identify(&token, NOW).await.unwrap();
    assert!(issuers.holds(&who));
    let withdrawals = issuers.withdrawals();
    fake.set(ASK, Does::Answer("{\"active\":false}".into()));
    assert_eq!(reason(issuers.identify(&token, later(60)).await), "token_inactive");
    assert!(!issuers.holds(&who));
    assert!(withdrawals.has_changed().unwrap());
    for (secs, questions) in [(61, 2), (69, 2), (70, 3)] {
        assert_eq!(reason(issuers.identify(&token, later(secs)).await), "token_inactive");
        assert_eq!(fake.asked(ASK), questions, "after {secs} s");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_an_outage_and_not_the_tokens_fault() {
    let fake = Fake::start().await;
    let mut settings = opaque(&fake);
    settings.timeout = Duration::from_millis(300);
    let issuers = issuers(settings);
    let token = Secret::new("opaque");
    fake.set(ASK, Does::Answer(active(&fake)));
    let who = issuers.identify(&token, NOW).await.unwrap();
    for (name, does) in [
        ("our login is refused", Does::Status(401, "{\"active\":true}".into())),
        ("error", Does::Status(500, String::new())),
        ("redirect", Does::Redirect(format!("{}/else", fake.base))),
        ("no JSON", Does::Answer("<html>".into())),
        ("too large", Does::Endless),
        ("too late", Does::Late(Duration::from_secs(3), active(&fake))),
        ("hang up", Does::HangUp),
    ] {
        fake.set(ASK, does);
        assert_eq!(reason(issuers.identify(&token, later(60)).await), "unavailable_introspection", "{name}");
        assert!(issuers.holds(&who), "{name}");
    }
    assert_eq!(fake.asked("/else"), 0);
}

#[tokio::test]
async fn an_answer_for_one_token_is_not_used_for_another_and_a_jwt_goes_to_its_issuers_keys() {
    let (fake, other, key) = (Fake::start().await, Fake::start().await, key());
    other.publish(&[&key]);
    let yes = active(&fake);
    fake.set(
        ASK,
        Does::ByBody(Arc::new(move |body| match body.starts_with("token=good&") {
            true => yes.clone(),
            false => "{\"active\":false}".into(),
        })),
    );
    let list = vec![other.settings(), opaque(&fake)];
    let issuers = Issuers::with_limits(list, Limits::default(), NOW).unwrap();
    assert_eq!(reason(issuers.identify(&Secret::new("good"), NOW).await), "ok");
    assert_eq!(reason(issuers.identify(&Secret::new("goods"), NOW).await), "token_inactive");
    assert_eq!(fake.asked(ASK), 2);
    assert_eq!(reason(issuers.identify(&token(&other.base, &key), NOW).await), "ok");
    assert_eq!(fake.asked(ASK), 2, "a JWT of the other issuer is not shown to this one");
    // A JWT of an issuer without keys is for its introspection.
    assert_eq!(reason(issuers.identify(&token(&fake.base, &key), NOW).await), "token_inactive");
    assert_eq!(fake.asked(ASK), 3);
}

#[tokio::test]
async fn too_many_questions_at_once_are_refused_for_now() {
    let fake = Fake::start().await;
    fake.set(ASK, Does::Late(Duration::from_millis(200), active(&fake)));
    let limits = Limits { questions: 1, ..Limits::default() };
    let issuers = Issuers::with_limits(vec![opaque(&fake)], limits, NOW).unwrap();
    let first = {
        let issuers = issuers.clone();
        tokio::spawn(async move { reason(issuers.identify(&Secret::new("one"), NOW).await) })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(reason(issuers.identify(&Secret::new("two"), NOW).await), "unavailable_busy");
    assert_eq!(first.await.unwrap(), "ok");
    assert_eq!(reason(issuers.identify(&Secret::new("two"), NOW).await), "ok");
}
