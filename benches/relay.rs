//! The gate in front of another mail server, beside nginx's mail proxy, Dovecot as proxy, and haproxy, which only ends TLS:
//! server CPU of a login and of fetched mail, memory of idle sessions, added latency. The same upstream, certificate and
//! client for all, in turns. `benches/README.md` says how to read it.

#[path = "relay/peers.rs"]
mod peers;
mod rig;
#[path = "relay/scenes.rs"]
mod scenes;
#[path = "relay/servers.rs"]
mod servers;
#[path = "relay/table.rs"]
mod table;
#[path = "relay/upstream.rs"]
mod upstream;

use std::{path::PathBuf, rc::Rc, time::Duration};

use anyhow::{Context, ensure};
use clap::Parser;
use rustix::process::{Resource, getrlimit};
use servers::{Server, Side, Stand};
use table::{Cost, Row, Samples};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    /// Measurements of each row, taken in turns; the table shows the middle one
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this row (may be given several times); `fetch` means all that begin so
    #[arg(long)]
    only: Vec<String>,
    /// Only this server (may be given several times)
    #[arg(long)]
    server: Vec<Side>,
    /// Also the gateway with TLS to the upstream
    #[arg(long)]
    tls_upstream: bool,
    /// Logins of one measurement
    #[arg(long, default_value_t = 3000)]
    logins: usize,
    /// Logins under way at the same time
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Megabytes of mail of one measurement
    #[arg(long, default_value_t = 2000)]
    megabytes: usize,
    /// Sessions in IDLE whose memory is read (may be given several times)
    #[arg(long, default_values_t = [1000, 10_000])]
    sessions: Vec<usize>,
    /// Seconds of quiet before memory is read
    #[arg(long, default_value_t = 5)]
    quiet_s: u64,
    /// NOOPs of one measurement
    #[arg(long, default_value_t = 3000)]
    noops: usize,
    /// The client offers X25519MLKEM768 first; who does not know it takes X25519
    #[arg(long)]
    post_quantum: bool,
    /// Be the upstream
    #[arg(long, hide = true)]
    be_upstream: bool,
    /// As the upstream, speak TLS with the certificate in this folder
    #[arg(long, hide = true)]
    certificate: Option<PathBuf>,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.be_upstream {
        return upstream::run(arguments.certificate.as_deref());
    }
    if !arguments.bench {
        // `cargo test --all-targets`: only whether it runs. The others may not be there.
        (arguments.rounds, arguments.logins, arguments.megabytes, arguments.noops) = (1, 10, 11, 10);
        (arguments.sessions, arguments.quiet_s, arguments.server) = (vec![10], 0, vec![Side::Portcullis]);
    }
    rig::headline("relay");
    rig::sessions::more_files()?;
    let most = most_sessions();
    for sessions in &mut arguments.sessions {
        if *sessions > most {
            println!("# {most} sessions instead of {sessions}: a process may open no more files here");
            *sessions = most;
        }
    }
    measure(&arguments)
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let rows = [Row::Login, Row::Fetch100k, Row::Fetch10m];
    let idle = arguments.sessions.iter().map(|sessions| Row::Idle(*sessions));
    let rows: Vec<Row> = rows.into_iter().chain(idle).chain([Row::Noop]).collect();
    let rows: Vec<Row> = rows.into_iter().filter(|row| row.is_wanted(&arguments.only)).collect();
    ensure!(!rows.is_empty(), "no row has such a name");
    let sides =
        [Side::Portcullis, Side::PortcullisTls, Side::Nginx, Side::Dovecot, Side::DovecotEach, Side::Haproxy];
    let sides: Vec<Side> = sides.into_iter().filter(|side| wanted(*side, arguments)).collect();

    let most = rows.iter().map(|row| if let Row::Idle(sessions) = row { *sessions } else { 1 }).max();
    let users: Vec<String> = (0..most.unwrap_or(1)).map(user).collect();
    let stand = Rc::new(Stand::new(&sides, arguments.post_quantum)?);
    let mut servers: Vec<Server> =
        sides.iter().map(|side| Server::new(*side, &stand, &users)).collect::<anyhow::Result<_>>()?;
    for server in &mut servers {
        server.introduce()?;
    }
    let mut samples = Samples::new(rows.clone(), sides);
    for round in 1..=arguments.rounds {
        for row in &rows {
            for server in servers.iter_mut().filter(|server| row.suits(server.side())) {
                server.start()?;
                let cost = play(*row, server, arguments);
                let cost = cost.with_context(|| {
                    format!("{} with {}, which logged:\n{}", row.name(), server.side().name(), server.log())
                })?;
                server.stop();
                samples.note(*row, server.side(), cost);
            }
        }
        // Who goes first changes from round to round.
        servers.rotate_left(1);
        println!("# round {round} of {} done", arguments.rounds);
    }
    samples.print();
    Ok(())
}

fn play(row: Row, server: &Server, arguments: &Arguments) -> anyhow::Result<Cost> {
    match row {
        Row::Login => scenes::logins(server, arguments.logins, arguments.at_once),
        Row::Fetch100k => scenes::fetch(server, 100 * 1024, arguments.megabytes),
        Row::Fetch10m => scenes::fetch(server, 10 * 1024 * 1024, arguments.megabytes),
        Row::Idle(sessions) => scenes::idle(server, sessions, Duration::from_secs(arguments.quiet_s)),
        Row::Noop => scenes::noop(server, arguments.noops),
    }
}

fn wanted(side: Side, arguments: &Arguments) -> bool {
    match arguments.server.as_slice() {
        [] => side != Side::PortcullisTls || arguments.tls_upstream,
        named => named.contains(&side) || (side == Side::PortcullisTls && arguments.tls_upstream),
    }
}

/// Name of a user.
fn user(number: usize) -> String {
    format!("u{number:05}@example.com")
}

/// A relayed session is two files for a server that is one process; some are needed for other things.
fn most_sessions() -> usize {
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(200) / 2).unwrap_or(usize::MAX)
}
