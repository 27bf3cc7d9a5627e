//! `portcullis demo`: everything that is needed to try Portcullis, made in one folder.

pub mod certificates;
