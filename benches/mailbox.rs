//! The embedded store beside Dovecot: server CPU and wall time of what mail programs ask for, on the same mail, with the
//! same certificate and the same client, in turns. `benches/README.md` says how to read it.

#[path = "mailbox/memory.rs"]
mod memory;
#[path = "mailbox/noop.rs"]
mod noop;
mod rig;
#[path = "mailbox/scenes.rs"]
mod scenes;
#[path = "mailbox/table.rs"]
mod table;

use std::time::Instant;

use clap::Parser;
use rig::{
    letters::{self, Kind},
    servers::{Server, Side},
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    /// Messages in the large mailbox
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    /// Measurements of each row, taken in turns; the table shows the middle one
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this row (may be given several times); the names are those of the table, `search` means all that begin so
    #[arg(long)]
    only: Vec<String>,
    /// Only this server, for a profiler
    #[arg(long)]
    server: Option<Side>,
    /// Files with lines that end in CRLF, as Portcullis stores what it is given
    #[arg(long)]
    crlf: bool,
    /// Instead: memory of users who have each SELECTed an INBOX of 1,000 and are in IDLE
    #[arg(long)]
    memory: bool,
    /// With `--memory`: how many
    #[arg(long, default_value_t = 1000)]
    users: usize,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// The mailboxes, and what is in each.
struct Mailbox {
    user: &'static str,
    /// Rows that need it begin with one of these.
    rows: &'static [&'static str],
    kind: Kind,
    /// Messages in INBOX; none: as many as were asked for.
    messages: Option<usize>,
    /// Folders with 100 messages each.
    folders: usize,
}

/// Everything but the 100,000 messages.
const MAILBOXES: [Mailbox; 8] = [
    Mailbox {
        user: scenes::LARGE,
        rows: &["select", "fetch", "search", "store"],
        kind: Kind::Mixed,
        messages: None,
        folders: 0,
    },
    Mailbox { user: noop::OTHER, rows: &["search-noop"], kind: Kind::Mixed, messages: Some(100), folders: 0 },
    Mailbox { user: scenes::SMALL, rows: &["body-1k"], kind: Kind::Text(1024), messages: Some(5000), folders: 0 },
    Mailbox {
        user: scenes::MIDDLE,
        rows: &["body-100k"],
        kind: Kind::Attachment(100 * 1024),
        messages: Some(500),
        folders: 0,
    },
    Mailbox {
        user: scenes::HUGE,
        rows: &["body-10m"],
        kind: Kind::Attachment(10 * 1024 * 1024),
        messages: Some(8),
        folders: 0,
    },
    Mailbox {
        user: scenes::COPIED,
        rows: &["copy", "expunge"],
        kind: Kind::Mixed,
        messages: Some(1000),
        folders: 0,
    },
    Mailbox { user: scenes::FOLDERS, rows: &["status"], kind: Kind::Mixed, messages: Some(100), folders: 100 },
    Mailbox { user: scenes::DROP, rows: &["pop"], kind: Kind::Mixed, messages: Some(1000), folders: 0 },
];

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets`: only whether it runs. Dovecot may not be there.
        (arguments.messages, arguments.rounds, arguments.server) = (300, 1, Some(Side::Portcullis));
        arguments.only =
            ["select", "fetch", "search", "store", "append", "copy", "expunge"].map(String::from).into();
    }
    rig::headline("mailbox");
    rig::sessions::more_files()?;
    if arguments.memory {
        return memory::measure(arguments.users, arguments.server);
    }
    let wanted: Vec<&'static table::Row> =
        table::ROWS.iter().filter(|row| row.is_wanted(&arguments.only)).collect();
    anyhow::ensure!(!wanted.is_empty(), "no row has such a name");
    let users = MAILBOXES.iter().map(|mailbox| mailbox.user).chain([scenes::APPENDED]);
    let mut servers = rig::servers::all(users, arguments.server)?;
    for server in &servers {
        let began = Instant::now();
        fill(server, &arguments, &wanted)?;
        println!("# mail of {:?} written in {:.0} s", server.side(), began.elapsed().as_secs_f64());
    }
    let mut samples = table::Samples::new(wanted);
    for round in 1..=arguments.rounds {
        for scene in scenes::SCENES {
            if !scene.rows.iter().any(|row| samples.wants(row)) {
                continue;
            }
            for server in &mut servers {
                (scene.play)(server, &mut samples, arguments.messages)?;
                server.stop();
            }
        }
        // Who goes first changes from round to round.
        servers.reverse();
        println!("# round {round} of {} done", arguments.rounds);
    }
    samples.print();
    Ok(())
}

/// Puts the mail there that the wanted rows need.
fn fill(server: &Server, arguments: &Arguments, wanted: &[&table::Row]) -> anyhow::Result<()> {
    for mailbox in MAILBOXES {
        if !wanted.iter().any(|row| mailbox.rows.iter().any(|start| row.name.starts_with(start))) {
            continue;
        }
        let home = server.mail(mailbox.user);
        let count = mailbox.messages.unwrap_or(arguments.messages);
        letters::fill(&home, count, mailbox.kind, arguments.crlf)?;
        for folder in 0..mailbox.folders {
            letters::fill(&home.join(format!(".{}", scenes::folder(folder))), 100, mailbox.kind, arguments.crlf)?;
        }
    }
    server.hand_over()
}
