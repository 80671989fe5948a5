//! Joins bytes and kernel: asks on an absolute schedule, answers, and counts where every request went.
//!
//! Method: a [`plan`] goes in once; workers run loops that are chosen once per protocol; snapshots come out on a tick.
//! No `unsafe`, no system calls (those live in `flatout-net`), clocks only in [`clock`].
#![forbid(unsafe_code)]

pub mod clock;
#[macro_use]
pub mod counters;
pub mod answer_table;
mod backoff;
pub mod faulty;
pub mod flow;
pub mod generator;
pub mod histogram;
pub mod log;
pub mod pace;
pub mod plan;
pub mod published;
pub mod query_set;
pub mod queue;
pub mod receiver;
pub mod receiver_stats;
pub mod run;
pub mod server;
mod thread_group;

pub mod stream_layer;
pub mod tally;
mod text_file;
mod tls;
pub mod turns;

pub use flatout_net as net;

#[cfg(test)]
mod tests;
