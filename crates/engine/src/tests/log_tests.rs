//! The log: what it was handed is in the file, or is counted as left out.

use std::path::Path;
use std::sync::Arc;

use super::rig::fresh_path;
use crate::generator::start_barrier::StartBarrier;
use crate::log::{Form, Log, Row, RunClock};
use crate::tally::Outcome;

/// More than the chunks on their way hold, so that a slow disk may make the pen leave rows out.
const ROWS: u64 = 300_001;

fn row(due: u64) -> Row {
    Row { due, sent: Some(due + 1), answered: None, outcome: Outcome::Lost, flow: 3, index: 0 }
}

fn take(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    text.lines().map(String::from).collect()
}

#[test]
fn rows_are_written_or_counted_as_left_out_and_the_last_ones_are_kept() {
    let path = fresh_path();
    let log = Log::create(&path, Form::Flatout).unwrap();
    let mut log_writer = log.log_writer();
    (0..ROWS).for_each(|due| log_writer.write(row(due)));
    let dropped = log_writer.close();
    log.close().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(text.lines().count() as u64, 1 + ROWS - dropped);
    assert_eq!(text.lines().last(), Some("300000,300001,,lost,3"));
}

#[test]
fn rows_of_several_pens_are_in_one_file() {
    let path = fresh_path();
    let log = Log::create(&path, Form::Flatout).unwrap();
    let pens = [log.log_writer(), log.log_writer()];
    for (n, mut log_writer) in pens.into_iter().enumerate() {
        log_writer.write(Row { flow: n as u32, answered: Some(9), outcome: Outcome::Answered, ..row(5) });
        log_writer.write(Row { sent: None, outcome: Outcome::Unsent, ..row(6) });
        assert_eq!(log_writer.close(), 0);
    }
    log.close().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let head = "due_ns,sent_ns,answered_ns,outcome,flow";
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [head, "5,6,9,answered,0", "6,,,unsent,3", "5,6,9,answered,1", "6,,,unsent,3"]
    );
}

#[test]
fn a_file_that_cannot_be_made_is_an_error() {
    let mut path = fresh_path();
    path.push("no_such_folder");
    assert!(Log::create(&path, Form::Flatout).is_err());
}

const S: u64 = 1_000_000_000;
/// 2018-10-01, when tcpscaler's sample was taken.
const UNIX: u64 = 1_538_381_010 * S;
const TCPSCALER_HEAD: &str = "type,timestamp,connection_id,query_id,poisson_id,poisson_interval_us,rtt_us";

/// The rows as tcpscaler's, of a run whose schedule begins 2 s after its clock, with a second of warm-up.
fn as_tcpscaler(barrier: StartBarrier, rows: &[Row]) -> Vec<String> {
    let path = fresh_path();
    let times = RunClock { unix_offset: UNIX - 3 * S, warmup: S };
    let log = Log::create(&path, Form::Tcpscaler(Arc::new(barrier), times)).unwrap();
    let mut log_writer = log.log_writer();
    rows.iter().for_each(|row| log_writer.write(*row));
    assert_eq!(log_writer.close(), 0);
    log.close().unwrap();
    take(&path)
}

#[test]
fn tcpscaler_s_rows_are_exact() {
    let sent = Row { sent: Some(123_456_789), flow: 17, index: 0x0001_0003, ..row(123_000_000) };
    let lines = as_tcpscaler(
        StartBarrier::open(2 * S),
        &[
            Row { answered: Some(123_801_234), outcome: Outcome::Answered, ..sent },
            Row { answered: Some(5 * S), outcome: Outcome::Late, flow: 0, ..sent },
            Row { answered: Some(123_457_788), outcome: Outcome::Invalid, ..sent },
            // A refusal is no answer, and what never left is no query.
            Row { answered: Some(123_801_234), outcome: Outcome::Refused, ..sent },
            Row { outcome: Outcome::Lost, ..sent },
            Row { sent: None, outcome: Outcome::Unsent, ..sent },
        ],
    );
    let query = "Q,1538381010.123456789,17,3,0,,";
    assert_eq!(
        lines,
        [
            TCPSCALER_HEAD,
            query,
            "A,1538381010.123801234,17,3,,,344",
            "Q,1538381010.123456789,0,3,0,,",
            "A,1538381015.000000000,0,3,,,4876543",
            query,
            "A,1538381010.123457788,17,3,,,0",
            query,
            query,
        ]
    );
}

#[test]
fn a_run_that_never_began_has_no_rows_of_tcpscaler() {
    let lines = as_tcpscaler(StartBarrier::closed(1, 0, 0), &[row(5)]);
    assert_eq!(lines, [TCPSCALER_HEAD]);
}
