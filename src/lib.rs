//! Portcullis: a gateway for IMAPS and POP3S that lets a mail program in with an OAuth token, only where policy
//! says so, and only while that stays true. Each module is a room; `tests/architecture.rs` holds which room may
//! import which.

pub mod model;

pub mod imap;
pub mod message;
pub mod metrics;
pub mod pop3;
pub mod sasl;
pub mod tls;
pub mod token;

pub mod policy;

pub mod issuer;
pub mod maildir;
pub mod store;
pub mod upstream;

pub mod gate;

pub mod admin;
pub mod notify;
pub mod session;

pub mod config;

pub mod serve;

pub mod cli;
