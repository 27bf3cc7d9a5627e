//! What is done to each server, row by row. Who calls one starts the server before and stops it after.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_rustls::TlsConnector;

use super::{
    rig::{program::Program, rank, wire::Wire},
    servers::Server,
    table::Cost,
    user,
};

/// What is put off until after an answer is done by then, audit rows above all.
const SETTLE: Duration = Duration::from_millis(900);
/// Between one NOOP and the next.
const PAUSE: Duration = Duration::from_millis(1);
/// Sign-ins under way at the same time, where they are not what is measured.
const AT_ONCE: usize = 8;

/// CPU and wall time of one session from its connection to its LOGOUT, in seconds; one user, `at_once` sessions at a time.
pub fn logins(server: &Server, count: usize, at_once: usize) -> anyhow::Result<Cost> {
    let runtime = runtime()?;
    let sign_in = server.sign_in(&user(0))?;
    // What only the first sessions of a server cost is not counted, nor is the first look at a token.
    runtime.block_on(in_and_out(server, &sign_in, at_once.max(20), at_once))?;
    thread::sleep(SETTLE);
    let before = server.cpu()?;
    let began = Instant::now();
    runtime.block_on(in_and_out(server, &sign_in, count, at_once))?;
    let wall = began.elapsed();
    thread::sleep(SETTLE);
    let cpu = server.cpu()?.saturating_sub(before);
    Ok((cpu.as_secs_f64() / count as f64, wall.as_secs_f64() / count as f64))
}

/// CPU and wall time of a gigabyte of messages of this size, in seconds; one session, a command for 50 MB or so.
pub fn fetch(server: &Server, size: usize, megabytes: usize) -> anyhow::Result<Cost> {
    const AT_A_TIME: usize = 50_000_000;
    let messages = (AT_A_TIME.min(megabytes * 1_000_000) / size).max(1);
    let mut wire = server.session(&user(0))?;
    let there = wire.imap(&format!("SELECT {messages}x{size}"))?.exists;
    ensure!(there == messages as u64, "{there} messages");
    let mut fetch = || -> anyhow::Result<u64> {
        let answer = wire.imap("UID FETCH 1:* (BODY.PEEK[])")?;
        let expected = (messages * size) as u64;
        ensure!(answer.untagged == messages as u64 && answer.octets > expected, "{answer:?}");
        Ok(answer.octets)
    };
    fetch()?;
    let before = server.cpu()?;
    let began = Instant::now();
    let mut octets = 0;
    while octets < megabytes as u64 * 1_000_000 {
        octets += fetch()?;
    }
    let wall = began.elapsed();
    let gigabytes = octets as f64 / 1e9;
    let cpu = server.cpu()?.saturating_sub(before);
    Ok((cpu.as_secs_f64() / gigabytes, wall.as_secs_f64() / gigabytes))
}

/// What a NOOP takes longer than straight at the upstream without TLS, in seconds: the difference of the medians, and that
/// of the 99th of a hundred.
pub fn noop(server: &Server, count: usize) -> anyhow::Result<Cost> {
    let mut direct = Wire::plain(server.stand().upstream())?;
    direct.imap(&format!("LOGIN {} bench", user(0)))?;
    let direct = noops(&mut direct, count)?;
    let through = noops(&mut server.session(&user(0))?, count)?;
    let [median, late] = [0.5, 0.99].map(|share| (rank(&through, share), rank(&direct, share)));
    let micros = |seconds: f64| (seconds * 1e6).round();
    eprintln!(
        "NOOP through {}: p50 {} us, p99 {} us; direct: p50 {} us, p99 {} us",
        server.side().name(),
        micros(median.0),
        micros(late.0),
        micros(median.1),
        micros(late.1),
    );
    Ok((median.0 - median.1, late.0 - late.1))
}

/// Octets of memory for each of so many sessions in IDLE, each of a user of its own, and octets of the server in all.
pub fn idle(server: &Server, sessions: usize, quiet: Duration) -> anyhow::Result<Cost> {
    // What only the first session of a server costs is not counted.
    let mut first = server.session(&user(0))?;
    first.imap("SELECT INBOX")?;
    first.idle()?;
    first.leave_idle()?;
    thread::sleep(SETTLE);
    let (before, _) = server.memory()?;
    let runtime = runtime()?;
    let open = runtime.block_on(open(server, sessions))?;
    thread::sleep(quiet);
    let (after, processes) = server.memory()?;
    eprintln!("{} sessions, {processes} processes, {:.1} MB", open.len(), after / 1e6);
    // They are still there.
    runtime.block_on(async {
        for program in open {
            end_idle(program).await?;
        }
        anyhow::Ok(())
    })?;
    Ok(((after - before) / sessions as f64, after))
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn in_and_out(server: &Server, sign_in: &str, count: usize, at_once: usize) -> anyhow::Result<()> {
    let connector = TlsConnector::from(server.stand().tls.clone());
    let at = server.address()?;
    let mut running = JoinSet::new();
    for _ in 0..count {
        if running.len() >= at_once
            && let Some(done) = running.join_next().await
        {
            done??;
        }
        let (connector, sign_in) = (connector.clone(), sign_in.to_owned());
        running.spawn(async move {
            let mut program = enter(at, &connector, &sign_in).await?;
            program.command("z", "LOGOUT").await?;
            // Not every server says goodbye to TLS.
            let _ = program.rest().await;
            anyhow::Ok(())
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

async fn open(server: &Server, sessions: usize) -> anyhow::Result<Vec<Program>> {
    let connector = TlsConnector::from(server.stand().tls.clone());
    let at = server.address()?;
    let (mut running, mut open) = (JoinSet::new(), Vec::new());
    for number in 0..sessions {
        if running.len() >= AT_ONCE
            && let Some(done) = running.join_next().await
        {
            open.push(done??);
        }
        let (connector, sign_in) = (connector.clone(), server.sign_in(&user(number))?);
        running.spawn(async move {
            let mut program = enter(at, &connector, &sign_in).await?;
            program.command("b", "SELECT INBOX").await?;
            program.say("c IDLE").await?;
            let line = program.line().await?.context("closed at IDLE")?;
            ensure!(line.starts_with('+'), "IDLE answered: {line}");
            Ok(program)
        });
    }
    while let Some(done) = running.join_next().await {
        open.push(done??);
    }
    Ok(open)
}

async fn end_idle(mut program: Program) -> anyhow::Result<()> {
    program.say("DONE").await?;
    program.until("c").await
}

async fn enter(at: std::net::SocketAddr, connector: &TlsConnector, sign_in: &str) -> anyhow::Result<Program> {
    let mut program = Program::connect(at, connector).await?;
    let greeting = program.line().await?.context("closed without a greeting")?;
    ensure!(greeting.starts_with("* OK"), "greeted with {greeting}");
    program.command("a", sign_in).await?;
    Ok(program)
}

/// Seconds that each NOOP took.
fn noops(wire: &mut Wire, count: usize) -> anyhow::Result<Vec<f64>> {
    wire.imap("SELECT INBOX")?;
    let mut waits = Vec::with_capacity(count);
    for _ in 0..count {
        let asked = Instant::now();
        wire.imap("NOOP")?;
        waits.push(asked.elapsed().as_secs_f64());
        thread::sleep(PAUSE);
    }
    Ok(waits)
}
