//! What an idle session costs and how fast a change reaches it: sessions that sign in, SELECT INBOX and IDLE; the
//! gateway's memory before and after; then one save of `policy.toml` that switches their unit off, timed to the last
//! BYE on the wire. `benches/README.md` says how to read it.

mod rig;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use rig::{
    gateway::{Place, Process},
    machine::{self, Memory},
    median,
    program::Program,
    tls,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FALLS: &str = "/Falls";
const STAYS: &str = "/Stays";
/// Sign-ins under way at the same time.
const AT_ONCE: usize = 8;

#[derive(Parser)]
struct Arguments {
    /// Sessions that the change ends
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// Sessions that it does not touch
    #[arg(long, default_value_t = 50)]
    others: usize,
    /// Mailboxes they spread over; by default each has its own
    #[arg(long)]
    mailboxes: Option<usize>,
    /// Messages in each INBOX
    #[arg(long, default_value_t = 100)]
    messages: usize,
    /// Seconds of quiet before the memory of sessions long idle is read
    #[arg(long, default_value_t = 30)]
    quiet_s: u64,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

struct Session {
    program: Program,
    falls: bool,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets`: only whether it runs.
        (arguments.sessions, arguments.others, arguments.messages, arguments.quiet_s) = (4, 2, 3, 0);
    }
    rig::headline("idle");
    more_files()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let place = Place::new()?;
    let count = arguments.sessions + arguments.others;
    let mailboxes = arguments.mailboxes.unwrap_or(count).clamp(2, count.max(2));
    let boundary = (mailboxes * arguments.sessions / count.max(1)).clamp(1, mailboxes - 1);
    let users: Vec<(String, bool)> =
        (0..mailboxes).map(|n| (format!("u{n:05}@example.com"), n < boundary)).collect();
    for (user, _) in &users {
        fill(place.path(), user, arguments.messages).with_context(|| format!("mail of {user}"))?;
    }
    write_policy(&place, "\"any\"", &users)?;
    println!("# {count} sessions on {mailboxes} mailboxes of {} messages", arguments.messages);

    let gateway = place.serve()?;
    let before = machine::memory(gateway.id())?;
    let (mut fall, mut stay) = users.iter().partition::<Vec<_>, _>(|(_, falls)| *falls);
    let (fall, stay) = (cycle(&mut fall, arguments.sessions), cycle(&mut stay, arguments.others));
    let began = Instant::now();
    let mut sessions = sign_in(&place, &gateway, fall.into_iter().chain(stay)).await?;
    println!("all idle after {:.1} s", began.elapsed().as_secs_f64());
    sleep(Duration::from_secs(2)).await;
    memory("just idle", &gateway, before, count)?;
    if arguments.quiet_s > 0 {
        sleep(Duration::from_secs(arguments.quiet_s)).await;
        memory(&format!("idle for {} s", arguments.quiet_s), &gateway, before, count)?;
    }
    change(&place, &users, &mut sessions).await
}

fn cycle<'u>(users: &mut [&'u (String, bool)], count: usize) -> Vec<&'u (String, bool)> {
    users.iter().copied().cycle().take(count).collect()
}

fn write_policy(place: &Place, falls: &str, users: &[(String, bool)]) -> anyhow::Result<()> {
    let units = [(FALLS, falls), (STAYS, "\"any\"")];
    place
        .write_policy(&units, users.iter().map(|(user, falls)| (user.as_str(), if *falls { FALLS } else { STAYS })))
}

async fn sign_in(
    place: &Place,
    gateway: &Process,
    users: impl Iterator<Item = &(String, bool)>,
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
        let (user, falls) = (user.clone(), *falls);
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

fn memory(when: &str, gateway: &Process, before: Memory, count: usize) -> anyhow::Result<()> {
    let now = machine::memory(gateway.id())?;
    let each = |now: i64, before: i64| (now - before) as f64 / count as f64;
    println!(
        "{when}: resident {} KiB before, {} KiB now, {:.1} KiB a session (target: under 40); proportional {:.1} KiB a session; {} threads",
        before.resident,
        now.resident,
        each(now.resident, before.resident),
        each(now.proportional, before.proportional),
        machine::threads(gateway.id()),
    );
    Ok(())
}

/// From the save to the last BYE; the others must notice nothing.
async fn change(place: &Place, users: &[(String, bool)], sessions: &mut Vec<Session>) -> anyhow::Result<()> {
    let (falling, mut staying): (Vec<Session>, Vec<Session>) =
        sessions.drain(..).partition(|session| session.falls);
    let mut listening = JoinSet::new();
    for mut session in falling {
        listening.spawn(async move {
            let line = session.program.line().await?.context("closed without a word")?;
            ensure!(line.starts_with("* BYE"), "heard {line}");
            let at = Instant::now();
            session.program.rest().await?;
            anyhow::Ok((at, Instant::now()))
        });
    }
    sleep(Duration::from_millis(300)).await;
    let saved = Instant::now();
    write_policy(place, "\"off\"", users)?;
    let (mut told, mut closed) = (Vec::new(), Vec::new());
    while let Some(done) =
        timeout(Duration::from_secs(30), listening.join_next()).await.context("still in after 30 s")?
    {
        let (bye, end) = done??;
        told.push((bye - saved).as_secs_f64() * 1e3);
        closed.push((end - saved).as_secs_f64() * 1e3);
    }
    let last = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    let first = told.iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "policy.toml saved to BYE of {} sessions: first {first:.0} ms, median {:.0} ms, last {:.0} ms (target: under 1000); last one closed {:.0} ms",
        told.len(),
        median(&told),
        last(&told),
        last(&closed),
    );
    for session in &mut staying {
        let silence = timeout(Duration::from_millis(1), session.program.line()).await;
        ensure!(silence.is_err(), "a session that stays heard {silence:?}");
        session.program.say("DONE").await?;
        session.program.until("c").await?;
    }
    println!("{} sessions of another unit stayed, heard nothing and answer", staying.len());
    Ok(())
}

/// A mailbox with `count` messages that were read before, as our own deliveries name them. One file, linked.
fn fill(place: &Path, user: &str, count: usize) -> anyhow::Result<()> {
    let (local, domain) = user.split_once('@').context("no address")?;
    let home = place.join("data/mail").join(domain).join(local);
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
fn more_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
