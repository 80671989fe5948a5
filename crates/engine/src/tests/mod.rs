//! The engine's own tests. None of them sleeps or opens a socket: time is virtual and the far end is in this process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

mod answer_table_tests;
mod count_tests;
mod driver_packet_tests;
mod driver_rig;
mod driver_tests;
mod driver_time_tests;
mod failing_calls_tests;
mod fake;
mod fake_streams;
mod flow_tests;
mod histogram_tests;
mod load_tests;
mod log_tests;
mod one_way_rig;
mod one_way_tests;
mod pace_tests;
mod ping_pong_tests;
mod query_set_tests;
mod queue_tests;
mod receiver_tests;
mod rig;
mod sequence_tests;
mod server_expiry_tests;
mod server_frame_tests;
mod server_lifecycle_tests;
mod server_rig;
mod stream_churn_tests;
mod stream_lifecycle_tests;
mod stream_open_tests;
mod stream_rig;
mod stream_tests;
mod stream_tls_tests;
mod time_tests;
mod tls_rig;
mod tls_tests;
