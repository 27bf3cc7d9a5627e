//! Builds every room, binds sockets, accepts, reloads, drains.

pub mod proxy;
