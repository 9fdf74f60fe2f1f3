//! The one database of a data root (SQLite, WAL): schema, migrations, transactions and typed tables.
//!
//! All SQL of the project lives here, in one module per noun, as functions of [`Tx`]. Nothing here knows files, mounts or
//! processes: by the crash law files are made before their row and the row is removed before the files, and it is the
//! caller who keeps that order.
#![forbid(unsafe_code)]

pub mod containers;
pub mod content;
mod db;
mod error;
pub mod images;
pub mod layers;
pub mod leases;
pub mod networks;
pub mod schema;
pub mod settings;
pub mod snapshots;
pub mod volumes;

pub use db::{Db, Tx};
pub use error::{Error, Result};
