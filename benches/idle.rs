//! What an idle session costs and how fast a change reaches it: sessions that sign in, SELECT INBOX and IDLE; the
//! gateway's memory before and after; then one save of `policy.toml` that switches their unit off, timed to the last
//! BYE on the wire. `benches/README.md` says how to read it.

mod rig;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rig::{
    gateway::{Place, Process},
    machine::{self, Memory},
    median, rank,
    sessions::{self, Falling, Session, more_files},
};
use tokio::time::{Instant, sleep};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FALLS: &str = "/Falls";
const STAYS: &str = "/Stays";

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
        sessions::fill(place.path(), user, arguments.messages).with_context(|| format!("mail of {user}"))?;
    }
    write_policy(&place, "\"any\"", &users)?;
    println!("# {count} sessions on {mailboxes} mailboxes of {} messages", arguments.messages);

    let gateway = place.serve()?;
    let before = machine::memory(gateway.id())?;
    let (mut fall, mut stay) = users.iter().partition::<Vec<_>, _>(|(_, falls)| *falls);
    let (fall, stay) = (cycle(&mut fall, arguments.sessions), cycle(&mut stay, arguments.others));
    let began = Instant::now();
    let everyone = fall.into_iter().chain(stay).map(|(user, falls)| (user.as_str(), *falls));
    let sessions = sessions::idle(&place, &gateway, everyone).await?;
    println!("all idle after {:.1} s", began.elapsed().as_secs_f64());
    sleep(Duration::from_secs(2)).await;
    memory("just idle", &gateway, before, count)?;
    if arguments.quiet_s > 0 {
        sleep(Duration::from_secs(arguments.quiet_s)).await;
        memory(&format!("idle for {} s", arguments.quiet_s), &gateway, before, count)?;
    }
    change(&place, &users, sessions).await
}

fn cycle<'u>(users: &mut [&'u (String, bool)], count: usize) -> Vec<&'u (String, bool)> {
    users.iter().copied().cycle().take(count).collect()
}

fn write_policy(place: &Place, falls: &str, users: &[(String, bool)]) -> anyhow::Result<()> {
    let units = [(FALLS, falls), (STAYS, "\"any\"")];
    place
        .write_policy(&units, users.iter().map(|(user, falls)| (user.as_str(), if *falls { FALLS } else { STAYS })))
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
async fn change(place: &Place, users: &[(String, bool)], sessions: Vec<Session>) -> anyhow::Result<()> {
    let (falling, mut staying): (Vec<Session>, Vec<Session>) = sessions.into_iter().partition(|one| one.falls);
    let falling = Falling::listen(falling);
    sleep(Duration::from_millis(300)).await;
    let saved = Instant::now();
    write_policy(place, "\"off\"", users)?;
    let (told, closed) = falling.told(saved).await?;
    println!(
        "policy.toml saved to BYE of {} sessions: first {:.0} ms, median {:.0} ms, last {:.0} ms (target: under 1000); last one closed {:.0} ms",
        told.len(),
        rank(&told, 0.0),
        median(&told),
        rank(&told, 1.0),
        rank(&closed, 1.0),
    );
    sessions::still_there(&mut staying).await?;
    println!("{} sessions of another unit stayed, heard nothing and answer", staying.len());
    Ok(())
}
