//! Memory of users who have each SELECTed an INBOX of their own with 1,000 messages and are in IDLE.

use std::{thread::sleep, time::Duration};

use super::rig::{
    family, machine,
    servers::{self, Server, Side},
    sessions,
    wire::Wire,
};

const MESSAGES: usize = 1000;
/// When memory is read: at once, and when a server has had time to tidy up.
const AFTER_S: [u64; 2] = [2, 30];

/// Signs everybody in, on one server after the other.
pub fn measure(users: usize, only: Option<Side>) -> anyhow::Result<()> {
    let names: Vec<String> = (0..users).map(|n| format!("u{n:05}@example.com")).collect();
    let mut servers = servers::all(names.iter().map(String::as_str), only)?;
    println!("# {users} users, an INBOX of {MESSAGES} messages each");
    println!(
        "\n| server | when | processes | KiB each, resident | KiB each, proportional | all, MiB |\n|---|---|--:|--:|--:|--:|"
    );
    for server in &mut servers {
        one(server, &names)?;
        server.stop();
    }
    Ok(())
}

fn one(server: &mut Server, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        sessions::fill_at(&server.mail(name), MESSAGES)?;
    }
    server.hand_over()?;
    server.start(None)?;
    // What only the first session of a server costs is not counted.
    if let Some(name) = names.first() {
        idle(server, name)?.leave_idle()?;
    }
    let before = look(server)?;
    let wires: Vec<Wire> = names.iter().map(|name| idle(server, name)).collect::<anyhow::Result<_>>()?;
    for seconds in AFTER_S {
        sleep(Duration::from_secs(seconds));
        let now = look(server)?;
        let each = |now: i64, before: i64| (now - before) as f64 / names.len() as f64;
        // Dovecot's processes share most of what is resident of each; only the proportional share adds up.
        let resident = match server.side() {
            Side::Portcullis => format!("{:.1}", each(now.resident, before.resident)),
            Side::Dovecot => String::new(),
        };
        println!(
            "| {:?} | idle for {seconds} s | {} | {resident} | {:.1} | {:.0} |",
            server.side(),
            now.processes,
            each(now.proportional, before.proportional),
            now.proportional as f64 / 1024.0,
        );
    }
    drop(wires);
    Ok(())
}

struct Look {
    resident: i64,
    proportional: i64,
    processes: usize,
}

fn look(server: &Server) -> anyhow::Result<Look> {
    let (proportional, processes) = family::memory(server.id()?)?;
    Ok(Look { resident: machine::memory(server.id()?)?.resident, proportional, processes })
}

fn idle(server: &Server, user: &str) -> anyhow::Result<Wire> {
    let mut wire = server.imap(user)?;
    wire.imap("SELECT INBOX")?;
    wire.idle()?;
    Ok(wire)
}
