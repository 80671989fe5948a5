//! Joins bytes and kernel: asks on an absolute schedule, answers, and counts where every request went.
//!
//! Method: a [`plan`] goes in once; workers run loops that are chosen once per protocol; snapshots come out on a tick.
//! No `unsafe`, no system calls (those live in `flatout-net`), clocks only in [`clock`].
#![forbid(unsafe_code)]

pub mod clock;
pub mod corpus;
mod crew;
pub mod faulty;
pub mod flow;
pub mod handover;
pub mod histogram;
pub mod inquiry;
pub mod load;
pub mod log;
pub mod lore;
pub mod pace;
pub mod plan;
#[cfg(feature = "python")]
pub mod python;
pub mod receive;
pub mod run;
pub mod serve;
pub mod snapshot;
mod start;
pub mod tally;
mod tls;
pub mod wrap;

pub use flatout_net as net;

#[cfg(test)]
mod tests;
