//! What is found out about messages, when, and how often.

use std::sync::Mutex;

use rustix::io::Errno;

use super::*;
use crate::maildir::seam::{Call, Faults};
use crate::policy::Quota;

const TEXT: &str = "Subject: x\n\none\ntwo\r\n";
/// The same on the wire.
const WIRE: &[u8] = b"Subject: x\r\n\r\none\r\ntwo\r\n";

/// Names of message files that were opened, as the test asks for them.
#[derive(Clone, Default)]
struct Opened(Arc<Mutex<Vec<String>>>);

impl Opened {
    fn seam(&self) -> Faults {
        let names = Arc::clone(&self.0);
        Some(Arc::new(move |call, name: &[u8]| {
            let name = String::from_utf8_lossy(name);
            if call == Call::Open && name.contains(".host") {
                names.lock().unwrap().push(name.into_owned());
            }
            None
        }))
    }

    fn take(&self) -> usize {
        std::mem::take(&mut *self.0.lock().unwrap()).len()
    }
}

/// Messages named with these sizes, all with the same text.
fn fill(world: &World, names: &[&str]) {
    for name in names {
        fs::write(world.home().join("cur").join(name), TEXT).unwrap();
    }
}

fn numbers(view: &View) -> Vec<u32> {
    (1..=view.len()).collect()
}

fn sizes(view: &View) -> Vec<(u64, bool)> {
    numbers(view).iter().filter_map(|number| view.message(*number)).map(|m| (m.size, m.measured)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_opened_without_a_look_at_files_whose_names_tell_and_each_is_measured_once() {
    let opened = Opened::default();
    let world = World::new().await;
    fill(&world, &["1.host,S=21,W=24:2,S", "2.host,S=21,W=24:2,", "3.host:2,"]);
    let world = world.restart_with(opened.seam()).await;
    let view = world.inbox().await;
    assert_eq!(opened.take(), 1, "the one whose name does not tell");
    assert_eq!(sizes(&view), [(24, false), (24, false), (24, true)]);
    view.measure(&[2]).await.unwrap();
    assert_eq!((opened.take(), sizes(&view)), (1, vec![(24, false), (24, true), (24, true)]));
    assert_eq!(bytes(&view, 1).await, WIRE);
    assert_eq!((opened.take(), sizes(&view)), (1, vec![(24, true); 3]), "reading measures");
    view.measure(&numbers(&view)).await.unwrap();
    assert_eq!(opened.take(), 0);
    let date = view.message(1).unwrap().internal_date;
    // Recorded a moment later, with nothing else to be recorded.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    drop(view);
    let world = world.restart_with(opened.seam()).await;
    let view = world.inbox().await;
    assert_eq!((sizes(&view), view.message(1).unwrap().internal_date), (vec![(24, true); 3], date));
    assert_eq!(opened.take(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_out_is_recorded_with_the_next_commit_and_stays_in_a_compacted_index() {
    let world = World::new().await;
    fill(&world, &["1.host,S=21,W=24:2,", "2.host,S=21,W=25:2,", "3.host,S=21,W=24:2,"]);
    let mut view = world.inbox().await;
    view.measure(&[1, 2]).await.unwrap();
    view.store_flags(&[3], FlagOp::Add, Flags::NONE, &["Work"]).await.unwrap();
    let known = [(24, true), (24, true), (24, false)];
    assert_eq!(sizes(&view), known);
    drop(view);
    let world = world.restart().await;
    let view = world.inbox().await;
    assert_eq!(sizes(&view), known);
    view.compact().await;
    drop(view);
    let world = world.restart().await;
    let view = world.inbox().await;
    assert_eq!(sizes(&view), known);
    assert_eq!(view.message(3).unwrap().keywords, ["Work".into()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_claim_of_a_name_is_ever_told() {
    let world = World::new().await;
    // True, W= wrong, S= wrong, wire form wrongly claimed, both too large.
    let names =
        ["1.host,S=21,W=24", "2.host,S=21,W=22", "3.host,S=20,W=24", "4.host,S=24,W=24", "5.host,S=90,W=99"];
    fill(&world, &names);
    let status = world.mail.measured_status("INBOX").await.unwrap();
    assert_eq!((status.messages, status.size), (5, 5 * 24));
    assert_eq!(world.mail.usage().await.unwrap().1, Usage { bytes: 5 * 24, messages: 5 });
    let view = world.inbox().await;
    for (number, name) in (1..).zip(names) {
        let mut reader = view.read(number).await.unwrap();
        assert_eq!((reader.size(), reader.all(1000).await.unwrap().as_slice()), (24, WIRE), "{name}");
    }
    assert_eq!(sizes(&view), [(24, true); 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_message_with_a_wrong_name_is_read_in_any_range_as_it_is() {
    let world = World::new().await;
    let line = "all lines are alike\n";
    let text = line.repeat(20_000);
    fs::write(world.home().join("cur/1.host,S=400000,W=410000:2,"), &text).unwrap();
    let view = world.inbox().await;
    let mut reader = view.read(1).await.unwrap();
    assert_eq!(reader.size(), 420_000);
    reader.select(210_000..210_042);
    assert_eq!(reader.all(100).await.unwrap(), "all lines are alike\r\n".repeat(2).as_bytes());
    assert_eq!(view.message(1).unwrap().size, 420_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_count_against_the_quota_until_the_truth_is_known() {
    let world = World::new().await;
    let ann = UserId::parse("ann@example.com").unwrap();
    fill(&world, &["1.host,S=500,W=900:2,"]);
    world.store.as_ref().unwrap().limit(&ann, Quota { bytes: Some(1000), messages: None });
    assert_eq!(world.mail.usage().await.unwrap().1, Usage { bytes: 900, messages: 1 });
    let view = world.inbox().await;
    let append = async || {
        let mut appending = world.mail.append("INBOX").await?;
        appending.write(&[b'x'; 200]).await?;
        appending.finish(Flags::NONE, &[], None).await.map(drop)
    };
    assert_eq!(append().await, Err(MailError::OverQuota));
    view.measure(&[1]).await.unwrap();
    assert_eq!(append().await, Ok(()));
    assert_eq!(world.mail.usage().await.unwrap().1, Usage { bytes: 224, messages: 2 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_one_id_whether_it_was_measured_before_it_was_copied_or_not() {
    let world = World::new().await;
    fill(&world, &["1.host,S=21,W=24:2,", "2.host,S=21,W=99:2,"]);
    let view = world.inbox().await;
    view.copy(&[1, 2], "Archive").await.unwrap();
    let archive = world.mail.view("Archive", Mode::ReadOnly).await.unwrap();
    view.measure(&[1, 2]).await.unwrap();
    for number in [1, 2] {
        let (here, there) = (view.message(number).unwrap(), archive.message(number).unwrap());
        assert_eq!((here.id, here.size, here.internal_date), (there.id, there.size, there.internal_date));
        assert_eq!(bytes(&archive, number).await, WIRE);
    }
    let ids = [1, 2].map(|number| view.message(number).unwrap().id);
    drop((view, archive));
    fs::remove_file(world.home().join("portcullis-index")).unwrap();
    let world = world.restart().await;
    let view = world.inbox().await;
    view.measure(&[1, 2]).await.unwrap();
    assert_eq!([1, 2].map(|number| view.message(number).unwrap().id), ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_moved_are_found_and_measured_and_those_that_are_gone_or_unreadable_are_not() {
    let locked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let shut = Arc::clone(&locked);
    let world = World::new().await;
    fill(&world, &["1.host,S=21,W=24:2,", "2.host,S=21,W=24:2,", "3.host,S=21,W=24:2,", "4.host,S=21,W=24:2,"]);
    let faults: Faults = Some(Arc::new(move |call, name: &[u8]| {
        let hit = call == Call::Open && name.starts_with(b"4.") && shut.load(std::sync::atomic::Ordering::Relaxed);
        hit.then_some(Errno::ACCESS)
    }));
    let world = world.restart_with(faults).await;
    let view = world.inbox().await;
    let cur = world.home().join("cur");
    view.unwatch();
    fs::rename(cur.join("1.host,S=21,W=24:2,"), cur.join("1.host,S=21,W=24:2,F")).unwrap();
    fs::remove_file(cur.join("2.host,S=21,W=24:2,")).unwrap();
    locked.store(true, std::sync::atomic::Ordering::Relaxed);
    view.measure(&[1, 2, 3, 4]).await.unwrap();
    let known = |number| view.message(number).map(|m| m.measured);
    assert_eq!([known(1), known(2), known(3), known(4)], [Some(true), None, Some(true), Some(false)]);
    assert_eq!(view.copy(&[4], "Archive").await.unwrap_err(), MailError::io("opening a file", Errno::ACCESS));
    locked.store(false, std::sync::atomic::Ordering::Relaxed);
    view.measure(&[4]).await.unwrap();
    assert_eq!(known(4), Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_set_aside_for_new_folders_are_never_given_out_twice() {
    let world = World::new().await;
    let mut all = Vec::new();
    for n in 0..3 {
        all.push(world.mail.status(["INBOX", "Sent", "Trash"][n]).await.unwrap().uid_validity);
    }
    // Another process of ours, and a restart.
    let (other, theirs) = open(world.dir.path(), None).await;
    all.push(theirs.status("Junk").await.unwrap().uid_validity);
    all.push(world.mail.status("Drafts").await.unwrap().uid_validity);
    drop((other, theirs));
    let world = world.restart().await;
    all.push(world.mail.status("Archive").await.unwrap().uid_validity);
    assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
}
