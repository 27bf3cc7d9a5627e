//! CPU of a whole login (TLS handshake, XOAUTH2, policy, LOGOUT) beside that of a server that only does the handshake,
//! with the same certificate, in the same run. `benches/README.md` says how to read it.

mod rig;

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

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
    /// Only this kind, for a profiler
    #[arg(long)]
    only: Option<String>,
    /// Be the bare server, with the certificate in this folder
    #[arg(long, hide = true)]
    bare: Option<PathBuf>,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured: its name, the server, the token, and how the handshake goes.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// What its CPU is compared with.
    beside: Option<&'static str>,
    target: Option<f64>,
    token: Token,
    resumed: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Token {
    None,
    Remembered,
    FirstSeen,
}

const KINDS: [Kind; 5] = [
    Kind { name: "bare", beside: None, target: None, token: Token::None, resumed: false },
    Kind { name: "remembered", beside: Some("bare"), target: Some(1.5), token: Token::Remembered, resumed: false },
    Kind { name: "first-seen", beside: Some("bare"), target: Some(2.5), token: Token::FirstSeen, resumed: false },
    Kind { name: "bare-resumed", beside: Some("bare"), target: None, token: Token::None, resumed: true },
    Kind {
        name: "remembered-resumed",
        beside: Some("bare"),
        target: None,
        token: Token::Remembered,
        resumed: true,
    },
];

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if let Some(dir) = arguments.bare {
        return tls::bare(&dir);
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
    let place = Place::new()?;
    place.write_policy(&[("/Staff", "[\"bench-app\"]")], [(USER, "/Staff")].into_iter())?;
    let gateway = place.serve()?;
    let mut bare = Command::new(std::env::current_exe()?);
    bare.arg("--bare").arg(place.path());
    let bare = Process::start(bare)?;
    let connectors = [tls::connector(place.path(), false)?, tls::connector(place.path(), true)?];
    let remembered = place.token(USER)?;

    let kinds: Vec<Kind> =
        KINDS.into_iter().filter(|kind| arguments.only.as_deref().is_none_or(|only| only == kind.name)).collect();
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); kinds.len()];
    // Round 0 warms up: the mailbox is made, the grant noted, the token remembered.
    for round in 0..=arguments.rounds {
        for (kind, costs) in kinds.iter().zip(&mut costs) {
            let server = if kind.token == Token::None { &bare } else { &gateway };
            let count = if round == 0 { arguments.at_once.max(10) } else { arguments.logins };
            let tokens: Vec<Option<Secret>> = (0..count)
                .map(|_| match kind.token {
                    Token::None => Ok(None),
                    Token::Remembered => Ok(Some(remembered.clone())),
                    Token::FirstSeen => place.token(USER).map(Some),
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
    println!("\n{:20} {:>14} {:>16} {:>8}", "kind", "us CPU (median)", "beside bare", "target");
    for (kind, own) in kinds.iter().zip(costs) {
        let other = kinds.iter().position(|other| Some(other.name) == kind.beside).and_then(|at| costs.get(at));
        let ratio = other.map_or(String::new(), |other| {
            let ratios: Vec<f64> = own.iter().zip(other).map(|(own, other)| own / other.max(1e-9)).collect();
            format!("{:.2} times", median(&ratios))
        });
        let target = kind.target.map_or(String::new(), |target| format!("{target:.1}"));
        println!("{:20} {:14.0} {ratio:>17} {target:>8}", kind.name, median(own));
    }
}
