//! CPU of a whole login (TLS handshake, XOAUTH2, policy, LOGOUT) beside that of a server that only does the handshake,
//! with the same certificate, in the same run. `benches/README.md` says how to read it.

#[path = "../tests/support/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used, clippy::panic)]
mod postgres;
mod rig;

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use portcullis::model::Secret;
use rig::{
    gateway::{Place, Process},
    machine, median,
    program::Program,
    tls,
};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USER: &str = "ann@example.com";
/// Audit rows are written a moment after the login; they belong to it.
const SETTLE: Duration = Duration::from_millis(900);

#[derive(Parser)]
struct Arguments {
    /// Logins of one measurement
    #[arg(long, default_value_t = 1500)]
    logins: usize,
    /// Measurements of each kind, taken in turns
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Logins under way at the same time
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Keep the gateway's state in a PostgreSQL that is started for the occasion; its own CPU is not counted
    #[arg(long)]
    postgres: bool,
    /// Only this kind, for a profiler
    #[arg(long)]
    only: Option<String>,
    /// Be the bare server, with the certificate in this folder
    #[arg(long, hide = true)]
    bare: Option<PathBuf>,
    /// As the bare server, take AES-128 with SHA-256 first, as the gateway does
    #[arg(long, hide = true)]
    aes128: bool,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured: its name, the server and the token, and how the handshake goes.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    target: Option<f64>,
    visit: Visit,
    resumed: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Visit {
    /// A handshake with the bare server.
    Bare,
    /// The same, with the gateway's choice of cipher.
    BareAes128,
    /// A sign-in with a token that the gateway remembers.
    Remembered,
    /// A sign-in with a token that it has not seen before.
    FirstSeen,
}

const KINDS: [Kind; 6] = [
    Kind { name: "bare", target: None, visit: Visit::Bare, resumed: false },
    Kind { name: "bare-aes128", target: None, visit: Visit::BareAes128, resumed: false },
    Kind { name: "remembered", target: Some(1.5), visit: Visit::Remembered, resumed: false },
    Kind { name: "first-seen", target: Some(2.5), visit: Visit::FirstSeen, resumed: false },
    Kind { name: "bare-resumed", target: None, visit: Visit::Bare, resumed: true },
    Kind { name: "remembered-resumed", target: None, visit: Visit::Remembered, resumed: true },
];

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if let Some(dir) = arguments.bare {
        return tls::bare(&dir, arguments.aes128);
    }
    if !arguments.bench {
        // `cargo test --all-targets`: only whether it runs.
        (arguments.logins, arguments.rounds) = (2, 1);
    }
    rig::headline("login");
    println!("# {} logins, {} at once, {} rounds", arguments.logins, arguments.at_once, arguments.rounds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let server = match arguments.postgres {
        true => Some(postgres::Server::start().context("PostgreSQL is not installed (tests/install)")?),
        false => None,
    };
    let place = Place::on(server.as_ref().map(postgres::Server::database).as_deref())?;
    place.write_policy(&[("/Staff", "[\"bench-app\"]")], [(USER, "/Staff")].into_iter())?;
    let gateway = place.serve()?;
    let bare = || -> anyhow::Result<Command> {
        let mut bare = Command::new(std::env::current_exe()?);
        bare.arg("--bare").arg(place.path());
        Ok(bare)
    };
    let mut aes128 = bare()?;
    aes128.arg("--aes128");
    let (bare, aes128) = (Process::start(bare()?)?, Process::start(aes128)?);
    let connectors = [tls::connector(place.path(), false)?, tls::connector(place.path(), true)?];
    let remembered = place.token(USER)?;

    let kinds: Vec<Kind> =
        KINDS.into_iter().filter(|kind| arguments.only.as_deref().is_none_or(|only| only == kind.name)).collect();
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); kinds.len()];
    // Round 0 warms up: the mailbox is made, the grant noted, the token remembered.
    for round in 0..=arguments.rounds {
        for (kind, costs) in kinds.iter().zip(&mut costs) {
            let server = match kind.visit {
                Visit::Bare => &bare,
                Visit::BareAes128 => &aes128,
                Visit::Remembered | Visit::FirstSeen => &gateway,
            };
            let count = if round == 0 { arguments.at_once.max(10) } else { arguments.logins };
            let tokens: Vec<Option<Secret>> = (0..count)
                .map(|_| match kind.visit {
                    Visit::Bare | Visit::BareAes128 => Ok(None),
                    Visit::Remembered => Ok(Some(remembered.clone())),
                    Visit::FirstSeen => place.token(USER).map(Some),
                })
                .collect::<anyhow::Result<_>>()?;
            let [full, resuming] = &connectors;
            let connector = if kind.resumed { resuming } else { full };
            let before = machine::cpu(server.id())?;
            let began = Instant::now();
            visits(server, connector, tokens, arguments.at_once).await?;
            let took = began.elapsed();
            tokio::time::sleep(SETTLE).await;
            let cpu = machine::cpu(server.id())?.saturating_sub(before);
            let each = cpu.as_secs_f64() * 1e6 / count as f64;
            if round > 0 {
                costs.push(each);
                println!(
                    "round {round:2}  {:20} {each:7.0} us CPU each, {:7.0} a second",
                    kind.name,
                    count as f64 / took.as_secs_f64()
                );
            }
        }
    }
    report(&kinds, &costs);
    Ok(())
}

/// Logs in once with each token, `at_once` at a time.
async fn visits(
    server: &Process,
    connector: &TlsConnector,
    tokens: Vec<Option<Secret>>,
    at_once: usize,
) -> anyhow::Result<()> {
    let mut running = JoinSet::new();
    for token in tokens {
        if running.len() >= at_once
            && let Some(done) = running.join_next().await
        {
            done??;
        }
        running.spawn(visit(server.address, connector.clone(), token));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

async fn visit(at: std::net::SocketAddr, connector: TlsConnector, token: Option<Secret>) -> anyhow::Result<()> {
    let mut program = Program::connect(at, &connector).await?;
    match token {
        None => program.rest().await.map(drop),
        Some(token) => {
            program.sign_in(USER, &token).await?;
            program.leave().await
        }
    }
}

fn report(kinds: &[Kind], costs: &[Vec<f64>]) {
    let beside = |own: &[f64], other: &str| {
        let at = kinds.iter().position(|kind| kind.name == other)?;
        let ratios: Vec<f64> = own.iter().zip(costs.get(at)?).map(|(own, other)| own / other.max(1e-9)).collect();
        Some(format!("{:.2} times", median(&ratios)))
    };
    println!(
        "\n{:20} {:>14} {:>12} {:>19} {:>8}",
        "kind", "us CPU (median)", "beside bare", "beside bare-aes128", "target"
    );
    for (kind, own) in kinds.iter().zip(costs) {
        let [bare, aes128] = ["bare", "bare-aes128"].map(|other| beside(own, other).unwrap_or_default());
        let target = kind.target.map_or(String::new(), |target| format!("{target:.1}"));
        println!("{:20} {:14.0} {bare:>13} {aes128:>19} {target:>8}", kind.name, median(own));
    }
}
