//! Sessions that have signed in, SELECTed INBOX and wait in IDLE, and mail for them.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    gateway::{Place, Process},
    program::Program,
    tls,
};

/// Sign-ins under way at the same time.
const AT_ONCE: usize = 8;

/// One session in IDLE.
pub struct Session {
    /// Its connection.
    pub program: Program,
    /// Whether the change that is to come ends it.
    pub falls: bool,
}

/// Signs each of them in; with whom it is said whether their session falls.
pub async fn idle<'u>(
    place: &Place,
    gateway: &Process,
    users: impl Iterator<Item = (&'u str, bool)>,
) -> anyhow::Result<Vec<Session>> {
    let connector = tls::connector(place.path(), false)?;
    let (mut running, mut sessions) = (JoinSet::new(), Vec::new());
    for (user, falls) in users {
        if running.len() >= AT_ONCE
            && let Some(done) = running.join_next().await
        {
            sessions.push(done??);
        }
        let (connector, at, token) = (connector.clone(), gateway.address, place.token(user)?);
        let user = user.to_owned();
        running.spawn(async move {
            let mut program = Program::connect(at, &connector).await?;
            program.sign_in(&user, &token).await?;
            program.command("b", "SELECT INBOX").await?;
            program.say("c IDLE").await?;
            while let Some(line) = program.line().await? {
                if line.starts_with('+') {
                    return Ok(Session { program, falls });
                }
            }
            bail!("closed at IDLE")
        });
    }
    while let Some(done) = running.join_next().await {
        sessions.push(done??);
    }
    Ok(sessions)
}

/// Waits in the background for the BYE of each.
pub struct Falling(JoinSet<anyhow::Result<(Instant, Instant)>>);

impl Falling {
    /// From now on.
    pub fn listen(sessions: Vec<Session>) -> Self {
        let mut listening = JoinSet::new();
        for mut session in sessions {
            listening.spawn(async move {
                let line = session.program.line().await?.context("closed without a word")?;
                ensure!(line.starts_with("* BYE"), "heard {line}");
                let at = Instant::now();
                session.program.rest().await?;
                anyhow::Ok((at, Instant::now()))
            });
        }
        Self(listening)
    }

    /// Milliseconds from `since` to the BYE of each session, and to its end.
    pub async fn told(mut self, since: Instant) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        let (mut told, mut closed) = (Vec::new(), Vec::new());
        while let Some(done) =
            timeout(Duration::from_secs(30), self.0.join_next()).await.context("still in after 30 s")?
        {
            let (bye, end) = done??;
            told.push((bye - since).as_secs_f64() * 1e3);
            closed.push((end - since).as_secs_f64() * 1e3);
        }
        Ok((told, closed))
    }
}

/// Those that the change did not touch: they heard nothing, and answer.
pub async fn still_there(sessions: &mut [Session]) -> anyhow::Result<()> {
    for session in sessions {
        let silence = timeout(Duration::from_millis(1), session.program.line()).await;
        ensure!(silence.is_err(), "a session that stays heard {silence:?}");
        session.program.say("DONE").await?;
        session.program.until("c").await?;
        session.program.say("c IDLE").await?;
        while !session.program.line().await?.context("closed at IDLE")?.starts_with('+') {}
    }
    Ok(())
}

/// A mailbox with `count` messages that were read before, as our own deliveries name them. One file, linked.
pub fn fill(place: &Path, user: &str, count: usize) -> anyhow::Result<()> {
    let (local, domain) = user.split_once('@').context("no address")?;
    fill_at(&place.join("data/mail").join(domain).join(local), count)
}

/// The same, in this folder.
pub fn fill_at(home: &Path, count: usize) -> anyhow::Result<()> {
    for sub in ["cur", "new", "tmp"] {
        fs::create_dir_all(home.join(sub))?;
    }
    let text = "From: bob@example.com\r\nTo: ann@example.com\r\nSubject: Bench\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n\r\nHello.\r\n";
    let name = |n: usize| {
        let size = text.len();
        home.join(format!("cur/1700000000.M{n}P4242Q{n}R0123456789ab.mail.example.com,S={size},W={size}:2,S"))
    };
    if count > 0 {
        fs::write(name(0), text)?;
    }
    for n in 1..count {
        fs::hard_link(name(0), name(n))?;
    }
    Ok(())
}

/// A session holds a few files here and there; the gateway inherits the limit.
pub fn more_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
