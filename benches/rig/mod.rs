//! What the load programs share: a gateway in a process of its own, a mail program, and looks at `/proc`.
//!
//! Everything runs on loopback in a folder below the system's temporary directory and is gone at the end.

#![allow(dead_code)] // Each program uses its part.

pub mod control;
pub mod dovecot;
pub mod family;
pub mod gateway;
pub mod letters;
pub mod machine;
pub mod program;
pub mod servers;
pub mod sessions;
pub mod tls;
pub mod wire;

/// The middle one; zero of none.
pub fn median(values: &[f64]) -> f64 {
    rank(values, 0.5)
}

/// The one below which this share of them lies: 0.0 is the least, 1.0 the greatest; zero of none.
pub fn rank(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Prints the line that made these figures and what they were made on.
pub fn headline(what: &str) {
    let line: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    println!("# cargo bench --bench {what} -- {}", line.join(" "));
    println!("# {}", machine::facts());
}
