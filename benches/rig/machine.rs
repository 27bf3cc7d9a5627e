//! What the kernel says about a process and this machine (proc(5)).

use std::{fs, time::Duration};

use anyhow::Context;

/// Ticks of a second in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux a release runs on. So CPU time comes in
/// steps of 10 ms, and a figure needs a second of work or so behind it.
const TICKS_PER_S: u32 = 100;

/// CPU time of a process so far, user and system, of threads that have ended too.
pub fn cpu(process: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).context(path)?;
    // The name in parentheses may hold anything; fields are counted from behind it, `state` being the third.
    let (_, fields) = text.rsplit_once(')').context("no process name in stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(self::ticks(ticks))
}

/// So many ticks of `/proc/PID/stat`.
pub fn ticks(count: u32) -> Duration {
    Duration::from_secs(1) * count / TICKS_PER_S
}

/// CPU time of a process and of its children that run now.
pub fn family_cpu(process: u32) -> anyhow::Result<Duration> {
    let mut sum = cpu(process)?;
    for entry in fs::read_dir("/proc")? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has just ended counts no more.
        let text = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = text.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(process) {
            sum += cpu(child).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// What is in memory of it: `Rss` of `smaps_rollup`.
    pub resident: i64,
    /// The same, with shared pages divided among those who share them: `Pss`.
    pub proportional: i64,
}

/// Memory of a process now.
pub fn memory(process: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).context(path)?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"));
        line.and_then(|number| number.trim().parse::<i64>().ok())
            .with_context(|| format!("no {name} in smaps_rollup"))
    };
    Ok(Memory { resident: field("Rss:")?, proportional: field("Pss:")? })
}

/// How many threads a process has.
pub fn threads(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/task")).map_or(0, Iterator::count)
}

/// Cores, processor and load of this machine, in one line.
pub fn facts() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or("unknown processor", |(_, name)| name);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    format!("{cores} cores ({name}), load {load} at the start")
}
