//! The engine's side of the shim protocol: starting shims, the control connection, attach connections.

mod attach;
mod client;
mod launch;

pub(crate) use attach::{AttachReader, AttachWriter, Delivered, Pending, connect_attach, pending};
pub(crate) use client::{CallError, ShimClient, ShimEvent};
pub(crate) use launch::Launcher;
