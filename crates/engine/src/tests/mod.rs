//! The engine's own tests. None of them sleeps or opens a socket: time is virtual and the far end is in this process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

mod cast_rig;
mod cast_tests;
mod corpus_tests;
mod count_tests;
mod fake;
mod fake_streams;
mod flow_tests;
mod handover_tests;
mod histogram_tests;
mod load_tests;
mod log_tests;
mod lore_tests;
mod pace_tests;
mod rally_tests;
mod receive_tests;
mod rig;
mod sequence_tests;
mod serve_frame_tests;
mod serve_life_tests;
mod serve_rig;
mod stream_churn_tests;
mod stream_life_tests;
mod stream_open_tests;
mod stream_rig;
mod stream_tests;
mod stream_tls_tests;
mod time_tests;
mod tls_rig;
mod tls_tests;
