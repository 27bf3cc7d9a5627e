//! The promises of `policy`: the rules one by one, and properties over random directories.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

mod apps;
mod export;
mod preview;
mod properties;
mod rules;
mod terms;

use super::{Directory, Question, file};
use crate::model::{ClientId, Service, UnixTime, UserId};

const NOW: UnixTime = UnixTime::from_secs(1_000_000);

fn directory(text: &str) -> Directory {
    file::parse(text).unwrap_or_else(|error| panic!("{error}")).to_directory()
}

fn user(name: &str) -> UserId {
    UserId::parse(&format!("{name}@example.com")).unwrap()
}

fn app(id: &str) -> ClientId {
    ClientId::parse(id).unwrap()
}

/// `user` reads their own mail with `app` by `service`.
fn question(name: &str, id: &str, service: Service) -> Question {
    Question {
        user: user(name),
        owner: user(name),
        app: app(id),
        service,
        issued_at: Some(NOW),
        service_account: false,
    }
}
