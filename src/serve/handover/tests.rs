//! Both sides in one process: the lock and the socket do not tell the difference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net as unix},
};

use tempfile::{TempDir, tempdir};

use super::{talk::MAX_LINE, *};

const BEAT: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(3_600);

/// Two entrances of three sockets, one of them passed by a service manager.
fn entrances() -> Vec<Entrance> {
    let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    vec![
        Entrance::of("imaps", Some(any), vec![socket(), socket()]).unwrap(),
        Entrance::of("http", None, vec![socket()]).unwrap(),
    ]
}

/// The process that serves, until it has handed over.
struct Old {
    dir: TempDir,
    task: tokio::task::JoinHandle<(Charge, Option<Duration>)>,
    addresses: Vec<SocketAddr>,
}

impl Old {
    async fn start() -> Self {
        let dir = tempdir().unwrap();
        let mut charge = Charge::take(dir.path()).await.unwrap();
        let all = entrances();
        let addresses = all.iter().map(|entrance| entrance.address).collect();
        let task = tokio::spawn(async move {
            let heir = charge.heir(&all.iter().collect::<Vec<_>>(), Some(BEAT)).await;
            let succeeded = heir.succeeds(&mut charge).await;
            (charge, succeeded)
        });
        Self { dir, task, addresses }
    }
}

#[tokio::test]
async fn sockets_and_charge_pass_from_one_process_to_the_other() {
    let Old { dir, task, addresses } = Old::start().await;
    let (mut succession, offered) = Succession::ask(dir.path()).await.unwrap();
    // The service manager asked only the old process for it.
    assert_eq!(offered.watchdog, Some(BEAT));
    let handed = offered.entrances;
    assert_eq!(handed.iter().map(|one| one.address).collect::<Vec<_>>(), addresses);
    assert_eq!(
        handed.iter().map(|one| (one.name, one.sockets.len())).collect::<Vec<_>>(),
        [("imaps", 2), ("http", 1)]
    );
    assert_eq!((handed[0].asked.map(|at| at.port()), handed[1].asked), (Some(0), None));
    assert!(!task.is_finished());

    let charge = succession.take_charge().await.unwrap();
    // A connection waits while nobody accepts.
    let _waiting = TcpStream::connect(addresses[1]).unwrap();
    succession.serves(LIMIT).await;
    let (old, succeeded) = task.await.unwrap();
    assert!(succeeded == Some(LIMIT) && !old.held && old.listener.is_none());
    drop(old);
    handed[1].sockets[0].set_nonblocking(false).unwrap();
    handed[1].sockets[0].accept().unwrap();
    // And on to a third.
    let task = tokio::spawn(async move {
        let heir = charge.heir(&handed.iter().collect::<Vec<_>>(), None).await;
        drop(heir);
    });
    let (mut succession, again) = Succession::ask(dir.path()).await.unwrap();
    assert_eq!(again.watchdog, None);
    assert_eq!(again.entrances.iter().map(|one| one.address).collect::<Vec<_>>(), addresses);
    let error = format!("{:#}", succession.take_charge().await.err().unwrap());
    assert!(error.contains("handover-") && error.contains("start without --take-over"), "{error}");
    task.await.unwrap();
}

#[tokio::test]
async fn a_process_that_ends_before_it_serves_leaves_the_charge_to_the_old_one() {
    let Old { dir, task, .. } = Old::start().await;
    let (mut succession, handed) = Succession::ask(dir.path()).await.unwrap();
    let charge = succession.take_charge().await.unwrap();
    drop((succession, charge, handed));
    let (old, succeeded) = task.await.unwrap();
    assert!(succeeded.is_none() && old.held);
    // It can be asked again, although the other one's socket had taken the place of its own.
    let asked = tokio::spawn(async move {
        let all = entrances();
        old.heir(&all.iter().collect::<Vec<_>>(), None).await;
    });
    let (mut again, _) = Succession::ask(dir.path()).await.unwrap();
    again.talk.say(GIVE_UP).await.unwrap();
    asked.await.unwrap();
}

#[tokio::test]
async fn nothing_is_given_up_for_a_process_that_cannot_start() {
    let Old { dir, task, .. } = Old::start().await;
    for _ in 0..3 {
        let (_succession, _handed) = Succession::ask(dir.path()).await.unwrap();
    }
    let mut stranger = Talk { stream: Place::of(dir.path()).connect().unwrap() };
    stranger.say("take-over 999").await.unwrap();
    assert_eq!(stranger.hear().await.unwrap(), "no: this process hands over in another way");
    let mut babbler = Talk { stream: Place::of(dir.path()).connect().unwrap() };
    babbler.say(&"x".repeat(MAX_LINE + 1)).await.unwrap();
    assert!(babbler.hear().await.is_err());
    tokio::task::yield_now().await;
    assert!(!task.is_finished());
    let (mut succession, _) = Succession::ask(dir.path()).await.unwrap();
    let charge = succession.take_charge().await.unwrap();
    succession.serves(LIMIT).await;
    assert!(task.await.unwrap().1.is_some() && charge.held);
}

#[tokio::test(start_paused = true)]
async fn one_process_is_in_charge_and_what_a_killed_one_left_is_replaced() {
    let dir = tempdir().unwrap();
    let first = Charge::take(dir.path()).await.unwrap();
    let error = Charge::take(dir.path()).await.err().unwrap().to_string();
    assert!(error.contains("another process serves from there") && error.contains("--take-over"), "{error}");
    let socket = Place::of(dir.path()).socket();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    drop(first);
    assert!(!socket.exists());

    let none = |dir: &Path| {
        let dir = dir.to_owned();
        async move { Succession::ask(&dir).await.err().unwrap().to_string() }
    };
    let absent = none(dir.path()).await;
    // As a kill leaves it: the file is there, and nobody listens.
    drop(unix::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    for error in [absent, none(dir.path()).await, none(&dir.path().join("nowhere")).await] {
        assert!(error.ends_with("so there is none to take over from: start without --take-over"), "{error}");
    }
    let again = Charge::take(dir.path()).await.unwrap();
    assert!(again.held && again.listener.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_ending_is_waited_for() {
    let dir = tempdir().unwrap();
    let first = Charge::take(dir.path()).await.unwrap();
    let (second, ()) = tokio::join!(Charge::take(dir.path()), async {
        sleep(Duration::from_secs(3)).await;
        drop(first);
    });
    assert!(second.unwrap().held);
}

#[tokio::test]
async fn the_folder_may_have_a_name_longer_than_that_of_a_socket() {
    let dir = tempdir().unwrap();
    let long = dir.path().join("x".repeat(120)).join("y".repeat(120));
    let charge = Charge::take(&long).await.unwrap();
    assert!(charge.listener.is_some() && Place::of(&long).socket().exists());
    Place::of(&long).connect().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_holds_the_lock_and_never_serves_is_waited_for_until_its_end() {
    let Old { dir, task, .. } = Old::start().await;
    let (mut succession, _) = Succession::ask(dir.path()).await.unwrap();
    let charge = succession.take_charge().await.unwrap();
    sleep(STARTING + LAST_BREATH + LAST_BREATH).await;
    assert!(!task.is_finished(), "nobody serves");
    // Its word is gone before its lock: it takes its time to end.
    drop(succession);
    sleep(LAST_BREATH + LAST_BREATH).await;
    assert!(!task.is_finished(), "it has the lock");
    drop(charge);
    let (old, succeeded) = task.await.unwrap();
    assert!(succeeded.is_none() && old.held && old.listener.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_serves_late_serves() {
    let Old { dir, task, .. } = Old::start().await;
    let (mut succession, _) = Succession::ask(dir.path()).await.unwrap();
    let charge = succession.take_charge().await.unwrap();
    sleep(STARTING * 2).await;
    succession.serves(LIMIT).await;
    assert!(task.await.unwrap().1.is_some() && charge.held);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_answer_is_not_waited_for_without_end() {
    let dir = tempdir().unwrap();
    let charge = Charge::take(dir.path()).await.unwrap();
    let error = Succession::ask(dir.path()).await.err().unwrap().to_string();
    assert!(error.contains("did not answer within 30 s") && error.contains("try again"), "{error}");
    // It answers, and does not end its sessions.
    let all = entrances();
    let all: Vec<_> = all.iter().collect();
    let error = tokio::select! {
        error = async {
            let (mut succession, _) = Succession::ask(dir.path()).await.unwrap();
            succession.take_charge().await.err().unwrap().to_string()
        } => error,
        () = async {
            let _heir = charge.heir(&all, None).await;
            pending().await
        } => String::new(),
    };
    assert!(error.contains("did not hand over") && error.ends_with("(within 600 s)"), "{error}");
}
