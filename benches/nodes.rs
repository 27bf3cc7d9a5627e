//! How fast a change made over the API reaches idle sessions, on one node or on several that share a database, and how
//! long such a change takes to be acknowledged. `benches/README.md` says how to read it.

#[path = "../tests/support/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used, clippy::panic)]
mod postgres;
mod rig;

use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use rig::{
    control::Admin,
    gateway::{Place, Process},
    machine, median, rank,
    sessions::{self, Falling, Session, more_files},
};
use tokio::time::{Instant, sleep};

const FALLS: &str = "/Falls";
const STAYS: &str = "/Stays";
const WRITTEN: &str = "/Written";
/// Of so many sessions one stays.
const STAYING: usize = 20;
/// Sessions that share a mailbox.
const TOGETHER: usize = 5;
/// Is in the directory, but signs in only while the database is down.
const LATE: &str = "late@example.com";

/// How long the database is gone before somebody signs in, and back before a change is made.
const OUTAGE: Duration = Duration::from_secs(3);
/// How long the database is watched while nothing happens.
const QUIET: Duration = Duration::from_secs(5);

#[derive(Parser)]
struct Arguments {
    /// Nodes; more than one take PostgreSQL
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Sessions, spread over the nodes
    #[arg(long, default_value_t = 3000)]
    sessions: usize,
    /// Changes that end 19 of 20 of them
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Changes that end nobody, one after the other, for the time each takes
    #[arg(long, default_value_t = 300)]
    writes: usize,
    /// Stop PostgreSQL for a while before the first of those changes
    #[arg(long)]
    outage: bool,
    /// The database; PostgreSQL is started for the occasion
    #[arg(long, value_enum, default_value_t = Database::Sqlite)]
    database: Database,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets`: only whether it runs.
        (arguments.sessions, arguments.rounds, arguments.writes) = (40, 1, 2);
    }
    rig::headline("nodes");
    more_files()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let server = match arguments.database == Database::Postgres || arguments.nodes > 1 {
        true => Some(postgres::Server::start().context("PostgreSQL is not installed (tests/install)")?),
        false => None,
    };
    let url = server.as_ref().map(postgres::Server::database);
    let places = Place::nodes(arguments.nodes, url.as_deref())?;
    let mut gateways = Vec::new();
    for place in &places {
        gateways.push(place.serve()?);
    }
    let (Some(place), Some(gateway)) = (places.first(), gateways.first()) else {
        anyhow::bail!("--nodes 0: at least one");
    };
    let admin = Admin::first(place, gateway).await?;
    let users: Vec<(String, bool)> = (0..arguments.sessions)
        .map(|n| {
            (format!("u{:05}@example.com", n / (STAYING * TOGETHER) * STAYING + n % STAYING), n % STAYING != 0)
        })
        .collect();
    let mut people: Vec<_> =
        users.iter().map(|(user, falls)| (user.as_str(), if *falls { FALLS } else { STAYS })).collect();
    people.push((LATE, STAYS));
    people.sort_unstable();
    people.dedup();
    for (place, (user, _)) in places.iter().flat_map(|place| people.iter().map(move |one| (place, one))) {
        sessions::fill(place.path(), user, 1)?;
    }
    admin.make(&[(FALLS, "any"), (STAYS, "any"), (WRITTEN, "any")], people.into_iter()).await?;
    sleep(Duration::from_secs(1)).await;
    if let Some(server) = &server {
        let before = machine::family_cpu(server.id())?;
        sleep(QUIET).await;
        let cpu = machine::family_cpu(server.id())?.saturating_sub(before).as_secs_f64() * 1e3;
        println!(
            "quiet: {:.2} ms CPU of the database a second for each node",
            cpu / QUIET.as_secs_f64() / places.len() as f64
        );
    }

    let mut staying = Vec::new();
    let mut all = Times::default();
    for round in 0..arguments.rounds {
        let mut falling = Vec::new();
        for (at, (place, gateway)) in places.iter().zip(&gateways).enumerate() {
            let share =
                users.iter().enumerate().filter(|(n, (_, falls))| n % places.len() == at && (*falls || round == 0));
            let new =
                sessions::idle(place, gateway, share.map(|(_, (user, falls))| (user.as_str(), *falls))).await?;
            let (fall, stay): (Vec<Session>, Vec<Session>) = new.into_iter().partition(|one| one.falls);
            falling.extend(fall);
            staying.extend(stay);
        }
        if round == 0 {
            println!(
                "{} sessions idle on {} nodes: {}",
                falling.len() + staying.len(),
                places.len(),
                memory(&gateways)?
            );
            writes(&admin, arguments.writes, server.as_ref()).await?;
        }
        if let Some(server) = server.as_ref().filter(|_| round == 0 && arguments.outage) {
            staying.extend(outage(server, &places, &gateways).await?);
            sessions::still_there(&mut staying).await?;
        }
        all.add(&admin, falling).await?;
        sessions::still_there(&mut staying).await?;
        admin.set_imap(FALLS, "any").await?;
    }
    all.report(arguments.rounds);
    println!("{} sessions of another unit stayed, heard nothing and answer", staying.len());
    Ok(())
}

/// Without the database: on every node who is known comes in from the snapshot, and a first sign-in, whose grant nobody could
/// cut, has to wait.
async fn outage(server: &postgres::Server, places: &[Place], gateways: &[Process]) -> anyhow::Result<Vec<Session>> {
    server.stop();
    sleep(OUTAGE).await;
    let mut came = Vec::new();
    for (place, gateway) in places.iter().zip(gateways) {
        came.extend(sessions::idle(place, gateway, [("u00000@example.com", false)].into_iter()).await?);
        let late = sessions::idle(place, gateway, [(LATE, false)].into_iter()).await;
        let Err(refused) = late else { anyhow::bail!("{LATE} came in without the database") };
        anyhow::ensure!(refused.to_string().contains("[UNAVAILABLE]"), "{LATE} was refused otherwise: {refused}");
    }
    server.start_again();
    sleep(OUTAGE).await;
    println!("the database was gone for a while: {} known people came in, first sign-ins had to wait", came.len());
    Ok(came)
}

/// How long it takes until a change is acknowledged, with all those sessions there.
async fn writes(admin: &Admin, count: usize, server: Option<&postgres::Server>) -> anyhow::Result<()> {
    let cpu = || server.map(|server| machine::family_cpu(server.id())).transpose();
    let mut took = Vec::new();
    let before = cpu()?;
    for n in 0..count {
        let began = Instant::now();
        admin.set_imap(WRITTEN, if n % 2 == 0 { "off" } else { "any" }).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "change over the API until it is acknowledged, {count} one after the other: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        median(&took),
        rank(&took, 0.99),
        rank(&took, 1.0)
    );
    if let (Some(before), Some(after)) = (before, cpu()?) {
        let each = after.saturating_sub(before).as_secs_f64() * 1e3 / count as f64;
        println!("the database needs {each:.2} ms CPU for each, what the nodes read after it included");
    }
    Ok(())
}

/// Milliseconds, of all rounds.
#[derive(Default)]
struct Times {
    /// From the request sent to each BYE.
    sent: Vec<f64>,
    /// From its acknowledgement to each BYE that came later.
    acknowledged: Vec<f64>,
    /// From the request sent to the end of each connection.
    closed: Vec<f64>,
}

impl Times {
    async fn add(&mut self, admin: &Admin, sessions: Vec<Session>) -> anyhow::Result<()> {
        let falling = Falling::listen(sessions);
        sleep(Duration::from_millis(500)).await;
        let sent = Instant::now();
        admin.set_imap(FALLS, "off").await?;
        let late = sent.elapsed().as_secs_f64() * 1e3;
        let (told, closed) = falling.told(sent).await?;
        self.acknowledged.extend(told.iter().map(|told| (told - late).max(0.0)));
        self.sent.extend(told);
        self.closed.extend(closed);
        Ok(())
    }

    fn report(&self, rounds: usize) {
        let line = |times: &[f64]| {
            format!("p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms", median(times), rank(times, 0.99), rank(times, 1.0))
        };
        println!(
            "change sent to BYE, {} sessions in {rounds} rounds: {} (target: under 1000)",
            self.sent.len(),
            line(&self.sent)
        );
        println!("change acknowledged to BYE: {}", line(&self.acknowledged));
        println!("change sent to the end of the connection: {}", line(&self.closed));
    }
}

fn memory(gateways: &[Process]) -> anyhow::Result<String> {
    let each = gateways.iter().map(|gateway| Ok(format!("{} KiB", machine::memory(gateway.id())?.resident)));
    Ok(each.collect::<anyhow::Result<Vec<_>>>()?.join(", "))
}
