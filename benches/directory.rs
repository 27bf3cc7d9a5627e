//! A directory of a million users in 10,000 units: how long the gateway takes to start on it, what memory that needs, and
//! what one user's change costs afterwards. `benches/README.md` says how to read it.

#[path = "../tests/support/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used, clippy::panic)]
mod postgres;
mod rig;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use reqwest::Method;
use rig::{
    control::Admin,
    gateway::{Place, Process},
    machine, median, rank,
};
use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tokio::time::{Instant, sleep};

#[derive(Parser)]
struct Arguments {
    /// Users, each with a grant and in one of 1,000 groups
    #[arg(long, default_value_t = 1_000_000)]
    users: usize,
    /// Units they are spread over
    #[arg(long, default_value_t = 10_000)]
    units: usize,
    /// Changes of one user each
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// In a PostgreSQL that is started for the occasion
    #[arg(long)]
    postgres: bool,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets`: only whether it runs.
        (arguments.users, arguments.units, arguments.changes) = (200, 20, 2);
    }
    rig::headline("directory");
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let server = match arguments.postgres {
        true => Some(postgres::Server::start().context("PostgreSQL is not installed (tests/install)")?),
        false => None,
    };
    let url = server.as_ref().map(postgres::Server::database);
    let place = Place::nodes(1, url.as_deref())?.pop().context("one node")?;
    // The first start makes the tables.
    let empty = place.serve()?;
    let admin = Admin::first(&place, &empty).await?;
    let before = machine::memory(empty.id())?.resident;
    drop(empty);
    let url = url.unwrap_or_else(|| format!("sqlite:{}", place.path().join("data/portcullis.db").display()));
    fill(&url, arguments).await.context("filling the database")?;

    let began = Instant::now();
    let gateway = place.serve()?;
    let took = began.elapsed().as_secs_f64();
    let cpu = machine::cpu(gateway.id())?.as_secs_f64();
    println!(
        "{} users, {} units: ready after {took:.1} s, {cpu:.1} s CPU (target: under 20)",
        arguments.users, arguments.units
    );
    sleep(Duration::from_secs(2)).await;
    let now = machine::memory(gateway.id())?.resident;
    println!(
        "resident {before} KiB empty, {now} KiB loaded: {:.0} bytes a user",
        (now - before) as f64 * 1024.0 / arguments.users as f64
    );
    changes(&admin.at(&gateway)?, &gateway, arguments).await
}

async fn fill(url: &str, arguments: &Arguments) -> anyhow::Result<()> {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await?;
    let numbers = |end: usize| {
        format!("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {})", end - 1)
    };
    let (users, units) = (arguments.users, arguments.units);
    for (end, columns, rows) in [
        (units, "units (path, imap, managed_by)", "'/u' || i, 'any', 'admin'".to_owned()),
        (1_000, "user_groups (name, priority, managed_by)", "'g' || i || '@example.com', i, 'admin'".to_owned()),
        (
            users,
            "users (address, unit, suspended, managed_by)",
            format!("'person' || i || '@example.com', '/u' || (i % {units}), 0, 'admin'"),
        ),
        (
            users,
            "group_members (address, name, managed_by)",
            "'person' || i || '@example.com', 'g' || (i % 1000) || '@example.com', 'admin'".to_owned(),
        ),
        (
            users,
            "grants (address, owner, app, number, state, made_at, changed_at, changed_by)",
            "'person' || i || '@example.com', 'person' || i || '@example.com', 'bench-app', i, 'active', 0, 0, ''"
                .to_owned(),
        ),
    ] {
        let sql = format!("INSERT INTO {columns} {} SELECT {rows} FROM n", numbers(end));
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await?;
    }
    Ok(connection.close().await?)
}

/// One user suspended, the next let in again: to the acknowledgement, by when the snapshot has it.
async fn changes(admin: &Admin, gateway: &Process, arguments: &Arguments) -> anyhow::Result<()> {
    let before = machine::cpu(gateway.id())?;
    let mut took = Vec::new();
    for n in 0..arguments.changes {
        let path = format!("/api/v1/users/person{}@example.com", n / 2);
        let began = Instant::now();
        admin.ask(Method::PATCH, &path, json!({ "suspended": n % 2 == 0 })).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let cpu = machine::cpu(gateway.id())?.saturating_sub(before).as_secs_f64() * 1e3;
    println!(
        "one user's change until it is acknowledged: p50 {:.1} ms, max {:.1} ms; {:.1} ms CPU each",
        median(&took),
        rank(&took, 1.0),
        cpu / arguments.changes as f64
    );
    Ok(())
}
