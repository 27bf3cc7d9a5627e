//! What is cleared away, given up or put off, and that nothing else is.

use super::*;

on_both! {
    a_notice_that_cannot_be_read_is_put_off_and_holds_up_nobody;
    a_notice_under_a_clock_far_back_takes_no_other_with_it_and_what_is_to_be_sent_stays;
    what_waits_for_a_channel_that_is_gone_is_given_up_and_goes_over_todays_when_asked;
    a_write_that_others_overtake_again_and_again_is_an_error;
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

async fn run(store: &Store, sql: &'static str) {
    sqlx::query(sql).execute(&store.pool).await.unwrap();
}

/// The numbers of all notices, the oldest first.
async fn left(store: &Store) -> Vec<i64> {
    let mut found = store.notices(&NoticeFilter::default(), None, 1_000).await.unwrap();
    found.reverse();
    found.iter().map(|notice| notice.id.0).collect()
}

async fn a_notice_that_cannot_be_read_is_put_off_and_holds_up_nobody(ground: Ground) {
    let store = store(&ground, &["email"]).await;
    post(&store, 2).await;
    run(&store, "UPDATE notices SET kind = 'from_tomorrow' WHERE number = 1").await;
    let taken = store.take_deliveries("email", 8, LEASE, NOW).await.unwrap().remove(0);
    assert_eq!(taken.notice.id, NoticeId(2));
    assert!(store.settle_delivery(&taken.lease, &Attempt::Sent, NOW).await.unwrap());
    for hours in 1..10 {
        assert_eq!(store.deliveries_waiting("email").await.unwrap(), 1, "a newer version may read it: {hours}");
        assert_eq!(store.take_deliveries("email", 8, LEASE, NOW + HOUR * hours).await.unwrap(), []);
    }
    assert_eq!(store.deliveries_waiting("email").await.unwrap(), 0, "but it is not tried for ever");
    let rows = store.audit_recent(&AuditFilter::default()).await.unwrap();
    let failed = rows.iter().find(|row| row.event == "notice.failed").unwrap().detail.clone().unwrap();
    assert_eq!(failed, "notice 1 by email: a notice has the kind of no version of ours");
}

async fn a_notice_under_a_clock_far_back_takes_no_other_with_it_and_what_is_to_be_sent_stays(ground: Ground) {
    let settings = Settings { notice_days: 10, ..with(&ground, &[]) };
    let store = Store::open(&settings).await.unwrap();
    post(&store, 3).await;
    run(&store, "UPDATE notices SET made_at = 0 WHERE number = 3").await;
    store.trim_notices(NOW).await.unwrap();
    assert_eq!(left(&store).await, [1, 2, 3]);

    let mailing = Store::open(&Settings { notice_days: 10, ..with(&ground, &["email"]) }).await.unwrap();
    post(&mailing, 2).await;
    let taken = mailing.take_deliveries("email", 1, LEASE, NOW).await.unwrap().remove(0);
    mailing.trim_notices(NOW + DAY * 11).await.unwrap();
    assert_eq!(left(&mailing).await, [4, 5], "one is being sent, one is to be sent");
    assert!(mailing.settle_delivery(&taken.lease, &Attempt::Sent, NOW).await.unwrap());
    mailing.trim_notices(NOW + DAY * 11).await.unwrap();
    assert_eq!(left(&mailing).await, [5]);
    assert_eq!(mailing.deliveries_waiting("email").await.unwrap(), 1);
}

async fn what_waits_for_a_channel_that_is_gone_is_given_up_and_goes_over_todays_when_asked(ground: Ground) {
    let old = store(&ground, &["webhook:old"]).await;
    post(&old, 3).await;
    let sending = old.take_deliveries("webhook:old", 1, LEASE, NOW).await.unwrap().remove(0);
    let none = Store::open(&with(&ground, &[])).await.unwrap();
    let today = Store::open(&with(&ground, &["email"])).await.unwrap();
    old.trim(NOW + DAY).await.unwrap();
    today.trim(NOW + HOUR).await.unwrap();
    assert_eq!(today.deliveries_waiting("webhook:old").await.unwrap(), 3, "a node may serve it yet");
    let late = NOW + HOUR + LEASE + Duration::from_secs(1);
    today.trim(late).await.unwrap();
    assert_eq!(today.deliveries_waiting("webhook:old").await.unwrap(), 0);
    assert!(!old.settle_delivery(&sending.lease, &Attempt::Sent, late).await.unwrap());
    let (notice, deliveries) = today.notice(NoticeId(1)).await.unwrap().unwrap();
    let problem = deliveries[0].problem.as_deref();
    assert_eq!((notice.state, problem), (NoticeState::Failed, Some("the channel is not configured any more")));
    let rows = today.audit_recent(&AuditFilter::default()).await.unwrap();
    let failed: Vec<_> = rows.iter().filter(|row| row.event == "notice.failed").collect();
    let said = "3 notices, 1 to 3, by webhook:old: the channel is not configured any more";
    assert_eq!((failed.len(), failed[0].detail.as_deref()), (1, Some(said)));

    assert_eq!(none.retry_notice(NoticeId(1), "root", late).await.unwrap(), Retried::NoChannel);
    assert_eq!(today.retry_notice(NoticeId(1), "root", late).await.unwrap(), Retried::Queued(1));
    let taken = today.take_deliveries("email", 8, LEASE, late).await.unwrap().remove(0);
    assert!(today.settle_delivery(&taken.lease, &Attempt::Sent, late).await.unwrap());
    let (notice, deliveries) = today.notice(NoticeId(1)).await.unwrap().unwrap();
    assert_eq!((notice.state, deliveries.len()), (NoticeState::Sent, 1));
    assert_eq!(today.retry_notice(NoticeId(1), "root", late).await.unwrap(), Retried::NothingFailed);
}

async fn a_write_that_others_overtake_again_and_again_is_an_error(ground: Ground) {
    let ours = store(&ground, &[]).await;
    let theirs = Store::open(&with(&ground, &[])).await.unwrap();
    free(&theirs).await;
    let error = ours.begin_beside("testing", 1).await.err().unwrap().to_string();
    assert!(error.ends_with("others change the policy without a pause while testing: try again"), "{error}");
    // Each try brings the snapshot up to where the database is.
    assert!(ours.begin_beside("testing", 1).await.is_ok());
}
