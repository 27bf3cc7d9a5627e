//! CPU time of a server that is more than one process, with those of its processes that have ended.
//!
//! What runs is read from `/proc/PID/task/*/schedstat`, in nanoseconds; what has ended and was waited for from the fields
//! `cutime` and `cstime` of `/proc/PID/stat`, in steps of 10 ms. Kernel threads that write for a server are not in it.

use std::{collections::HashMap, fs, thread::sleep, time::Duration};

use anyhow::Context;

use super::machine;

/// What `stat` says about a process.
#[derive(Clone, Copy)]
struct Stat {
    parent: u32,
    /// CPU time of its own, of threads that have ended too, in ticks.
    own: u32,
    /// That of children that have ended, and of theirs, in ticks.
    ended: u32,
}

/// CPU time of a process and of all below it so far, user and system.
pub fn cpu(root: u32) -> anyhow::Result<Duration> {
    let all = everyone()?;
    let stat = all.get(&root).with_context(|| format!("process {root} has ended"))?;
    let mut sum = spent(root, stat);
    for process in below(root, &all) {
        sum += all.get(&process).map(|stat| spent(process, stat)).unwrap_or_default();
    }
    Ok(sum)
}

/// The same, read when they have come to rest: what is done behind an answer counts.
pub fn cpu_at_rest(root: u32) -> anyhow::Result<Duration> {
    let mut last = cpu(root)?;
    for _ in 0..200 {
        sleep(Duration::from_millis(50));
        let now = cpu(root)?;
        if now.saturating_sub(last) < Duration::from_millis(1) {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Proportional share of memory (`Pss`) of a process and of all below it, in KiB, and how many processes they are.
pub fn memory(root: u32) -> anyhow::Result<(i64, usize)> {
    let below = below(root, &everyone()?);
    let mut sum = machine::memory(root)?.proportional;
    for process in &below {
        sum += machine::memory(*process).map_or(0, |memory| memory.proportional);
    }
    Ok((sum, below.len() + 1))
}

/// Every process of this machine.
fn everyone() -> anyhow::Result<HashMap<u32, Stat>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(stat) = stat(process) {
            all.insert(process, stat);
        }
    }
    Ok(all)
}

/// All processes below this one.
fn below(root: u32, all: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, stat)| stat.parent == parent).map(|(process, _)| *process));
        next += 1;
    }
    found.split_off(1)
}

/// The greater of two looks at a process: its threads' time is exact but for threads that have ended, its own time
/// has those but is cut to whole ticks.
fn spent(process: u32, stat: &Stat) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let exact = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    machine::ticks(stat.own).max(Duration::from_nanos(exact.sum())) + machine::ticks(stat.ended)
}

/// None for a process that has just gone.
fn stat(process: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; `state`, the third field, follows it.
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u32>().ok();
    Some(Stat { parent: number(1)?, own: number(11)? + number(12)?, ended: number(13)? + number(14)? })
}
