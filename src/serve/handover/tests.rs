//! Both sides in one process: the lock and the socket do not tell the difference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::TcpStream;

use tempfile::{TempDir, tempdir};

use super::*;

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
    task: tokio::task::JoinHandle<(Charge, bool)>,
    addresses: Vec<SocketAddr>,
}

impl Old {
    async fn start() -> Self {
        let dir = tempdir().unwrap();
        let mut charge = Charge::take(dir.path()).await.unwrap();
        let all = entrances();
        let addresses = all.iter().map(|entrance| entrance.address).collect();
        let task = tokio::spawn(async move {
            let heir = charge.heir(&all.iter().collect::<Vec<_>>()).await;
            let succeeded = heir.succeeds(&mut charge).await;
            (charge, succeeded)
        });
        Self { dir, task, addresses }
    }
}

#[tokio::test]
async fn sockets_and_charge_pass_from_one_process_to_the_other() {
    let Old { dir, task, addresses } = Old::start().await;
    let (mut succession, handed) = Succession::ask(dir.path()).await.unwrap();
    assert_eq!(handed.iter().map(|one| one.address).collect::<Vec<_>>(), addresses);
    assert_eq!(
        handed.iter().map(|one| (one.name, one.sockets.len())).collect::<Vec<_>>(),
        [("imaps", 2), ("http", 1)]
    );
    assert_eq!((handed[0].asked.map(|at| at.port()), handed[1].asked), (Some(0), None));
    assert!(!task.is_finished());

    let charge = succession.take_charge(dir.path()).await.unwrap();
    // A connection waits while nobody accepts.
    let _waiting = TcpStream::connect(addresses[1]).unwrap();
    succession.serves().await;
    let (old, succeeded) = task.await.unwrap();
    assert!(succeeded && !old.held && old.listener.is_none());
    drop(old);
    handed[1].sockets[0].set_nonblocking(false).unwrap();
    handed[1].sockets[0].accept().unwrap();
    // And on to a third.
    let task = tokio::spawn(async move {
        let heir = charge.heir(&handed.iter().collect::<Vec<_>>()).await;
        drop(heir);
    });
    let (mut succession, again) = Succession::ask(dir.path()).await.unwrap();
    assert_eq!(again.iter().map(|one| one.address).collect::<Vec<_>>(), addresses);
    assert!(succession.take_charge(dir.path()).await.is_err(), "the process that serves went away");
    task.await.unwrap();
}

#[tokio::test]
async fn a_process_that_ends_before_it_serves_leaves_the_charge_to_the_old_one() {
    let Old { dir, task, .. } = Old::start().await;
    let (mut succession, handed) = Succession::ask(dir.path()).await.unwrap();
    let charge = succession.take_charge(dir.path()).await.unwrap();
    drop((succession, charge, handed));
    let (old, succeeded) = task.await.unwrap();
    assert!(!succeeded && old.held);
    // It can be asked again, although the other one's socket had taken the place of its own.
    let asked = tokio::spawn(async move {
        let all = entrances();
        old.heir(&all.iter().collect::<Vec<_>>()).await;
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
    let mut stranger = Talk { stream: connect(dir.path()).unwrap() };
    stranger.say("take-over 999").await.unwrap();
    assert_eq!(stranger.hear().await.unwrap(), "no: this process hands over in another way");
    let mut babbler = Talk { stream: connect(dir.path()).unwrap() };
    babbler.say(&"x".repeat(MAX_LINE + 1)).await.unwrap();
    assert!(babbler.hear().await.is_err());
    tokio::task::yield_now().await;
    assert!(!task.is_finished());
    let (mut succession, _) = Succession::ask(dir.path()).await.unwrap();
    let charge = succession.take_charge(dir.path()).await.unwrap();
    succession.serves().await;
    assert!(task.await.unwrap().1 && charge.held);
}

#[tokio::test(start_paused = true)]
async fn one_process_is_in_charge_and_what_a_killed_one_left_is_replaced() {
    let dir = tempdir().unwrap();
    let first = Charge::take(dir.path()).await.unwrap();
    let error = Charge::take(dir.path()).await.err().unwrap().to_string();
    assert!(error.contains("another process serves from there") && error.contains("--take-over"), "{error}");
    let socket = dir.path().join(socket_name());
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
    assert!(charge.listener.is_some() && long.join(socket_name()).exists());
    connect(&long).unwrap();
}
