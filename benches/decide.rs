//! What a verdict costs with 10,000 units, 1,000 groups and 1,000,000 users, each in a group and with a grant.
//!
//! `cargo bench --bench decide`. Bytes per user are the growth of the process's resident memory (`/proc/self/statm`)
//! while the directory is built, divided by the users, with the allocator the product uses; units, groups, lists and
//! every table's spare room are in it. Verdicts are taken over users in random order, so the caches do not help more
//! than they do in life.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::{fs, hint::black_box, time::Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::{
    model::{ClientId, GroupId, Service, UnitPath, UnixTime, UserId},
    policy::{
        Access, App, Directory, Edit, Grant, GrantKey, GrantState, Group, Question, Setting, Settings, Trial,
        Trust, Unit, User, decide, explain,
    },
    token::{Fingerprint, Identity, Rules, from_introspection},
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const UNITS: usize = 10_000;
const GROUPS: usize = 1_000;
const USERS: usize = 1_000_000;
const APPS: usize = 50;
const ASKED: usize = 1 << 16;
const NOW: UnixTime = UnixTime::from_secs(1_000_000);

/// A stream of numbers without pattern (splitmix64), the same at every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap() % sides
    }
}

fn app(number: usize) -> ClientId {
    ClientId::parse(&format!("{number:012}-0rm6bs9d2fps9tifvk2oodh3tasd7vl7.apps.googleusercontent.com")).unwrap()
}

fn user(number: usize) -> UserId {
    UserId::parse(&format!("person.number{number}@example.com")).unwrap()
}

/// One in three inherits; the others are open or have a list of ten apps.
fn settings(dice: &mut Dice) -> Settings {
    let mut setting = || match dice.roll(3) {
        0 => None,
        1 => Some(Setting::from(Access::Any)),
        _ => Some(Setting::from(Access::Only((0..10).map(|_| app(dice.roll(APPS))).collect()))),
    };
    Settings { imap: setting(), pop: setting() }
}

/// A tree of five levels with a fan-out of about six.
fn paths() -> Vec<UnitPath> {
    let mut paths = vec![UnitPath::root()];
    let mut next = 0;
    while paths.len() < UNITS {
        let above = paths[next].as_str().trim_end_matches('/').to_owned();
        next += 1;
        for name in ["Sales", "Engineering", "Support", "People", "Finance", "Field"] {
            paths.push(UnitPath::parse(&format!("{above}/{name}")).unwrap());
        }
    }
    paths.truncate(UNITS);
    paths
}

fn build(dice: &mut Dice) -> Directory {
    let start = resident();
    let paths = paths();
    let mut directory = Directory::new();
    for path in &paths {
        directory.put_unit(path, Some(&Unit { settings: settings(dice), ..Unit::default() }));
    }
    let root = Settings { imap: Some(Access::Any.into()), pop: Some(Access::Any.into()) };
    directory.put_unit(&UnitPath::root(), Some(&Unit { settings: root, ..Unit::default() }));
    let groups: Vec<GroupId> =
        (0..GROUPS).map(|number| GroupId::parse(&format!("group{number}@example.com")).unwrap()).collect();
    for (priority, name) in (0..).zip(&groups) {
        // One group in five has a word in the matter.
        let settings = if priority % 5 == 0 { settings(dice) } else { Settings::default() };
        directory.put_group(name, Some(&Group { priority, settings }));
    }
    for number in 0..APPS {
        let trust = if number % 10 == 0 { Trust::Limited(vec![UnitPath::root()]) } else { Trust::Trusted };
        directory.put_app(&app(number), Some(App { name: Some(format!("App {number}")), trust, ..App::default() }));
    }
    directory.reserve_users(USERS);
    for number in 0..USERS {
        let mut row = User::in_unit(paths[dice.roll(UNITS)].clone());
        row.groups = vec![groups[dice.roll(GROUPS)].clone()];
        if dice.roll(100) == 0 {
            row.settings.imap = Some(Access::Any.into());
        }
        directory.put_user(&user(number), &row);
    }
    directory.shrink();
    report("units, groups, users and memberships", start);
    for number in 0..USERS {
        let key = GrantKey { user: user(number), owner: user(number), app: app(dice.roll(APPS)) };
        directory.put_grant(&key, Some(Grant { state: GrantState::Active, removed_at: None }));
    }
    directory.shrink();
    report("the same with a grant each", start);
    println!("{:?}", directory.counts());
    directory
}

fn report(what: &str, start: usize) {
    println!("{what}: {} bytes per user (growth of resident memory)", (resident() - start) / USERS);
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Nanoseconds this thread has been running.
fn on_cpu_ns() -> usize {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').next().unwrap().parse().unwrap()
}

fn identity(number: usize, app: usize) -> Identity {
    let json = format!(
        "{{\"active\":true,\"aud\":\"gate\",\"exp\":2000000,\"iat\":1000000,\"email\":\"{}\",\"client_id\":\"{}\"}}",
        user(number),
        self::app(app)
    );
    let rules = Rules::new("https://id.example.com", ["gate"]);
    from_introspection(json.as_bytes(), &rules, Fingerprint::of("token"), NOW).unwrap()
}

fn bench(c: &mut Criterion) {
    let mut dice = Dice(1);
    let start = Instant::now();
    let directory = build(&mut dice);
    println!("built in {:.1} s", start.elapsed().as_secs_f64());
    let asked: Vec<Identity> = (0..ASKED).map(|_| identity(dice.roll(USERS), dice.roll(APPS))).collect();
    let yes = asked.iter().filter(|who| decide(who, who.user(), Service::Imap, &directory, NOW).is_ok()).count();
    println!("{yes} of {ASKED} questions are answered yes");

    // Time on the CPU, which other work on the machine does not stretch.
    let rounds = 32;
    let start = on_cpu_ns();
    for who in (0..rounds).flat_map(|_| &asked) {
        black_box(decide(who, who.user(), Service::Imap, &directory, NOW)).ok();
    }
    println!("{} ns of CPU per decide", (on_cpu_ns() - start) / (rounds * ASKED));

    let root = Unit {
        settings: Settings { imap: Some(Access::Off.into()), pop: Some(Access::Any.into()) },
        ..Unit::default()
    };
    let flat = Unit::default();
    let group = GroupId::parse("group5@example.com").unwrap();
    let changes = [
        ("the root's setting", vec![Edit::Unit(UnitPath::root(), Some(root.clone()))]),
        ("all units' settings", paths().into_iter().map(|path| Edit::Unit(path, Some(flat.clone()))).collect()),
        ("a group's setting", vec![Edit::Group(group, Some(Group { priority: 5, settings: root.settings }))]),
        ("one app", vec![Edit::App(app(1), Some(App { trust: Trust::Blocked, ..App::default() }))]),
        ("one user", vec![Edit::User(user(7), None)]),
    ];
    for (what, edits) in changes {
        let start = on_cpu_ns();
        let preview = Trial::new(&directory, edits).preview(&directory, &[], NOW);
        let ms = (on_cpu_ns() - start) / 1_000_000;
        println!("{ms} ms of CPU to preview a change of {what}: {} users lose", preview.loses.user_count);
    }

    let mut next = 0;
    c.bench_function("decide", |b| {
        b.iter(|| {
            next = (next + 1) % ASKED;
            let who = &asked[next];
            black_box(decide(who, who.user(), Service::Imap, &directory, NOW)).is_ok()
        });
    });
    c.bench_function("explain", |b| {
        b.iter(|| {
            next = (next + 1) % ASKED;
            let who = &asked[next];
            let question = Question {
                user: who.user().clone(),
                owner: who.user().clone(),
                app: who.app().clone(),
                service: Service::Imap,
                issued_at: who.issued_at(),
                service_account: false,
            };
            black_box(explain(&question, &directory, NOW)).verdict.is_ok()
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
