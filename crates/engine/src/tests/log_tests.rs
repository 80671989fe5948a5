//! The log: what it was handed is in the file, or is counted as left out.

use super::rig::fresh_path;
use crate::log::{Form, Log, Row};
use crate::tally::Outcome;

/// More than the chunks on their way hold, so that a slow disk may make the pen leave rows out.
const ROWS: u64 = 300_001;

fn row(due: u64) -> Row {
    Row { due, sent: Some(due + 1), answered: None, outcome: Outcome::Lost, flow: 3, index: 0 }
}

#[test]
fn rows_are_written_or_counted_as_left_out_and_the_last_ones_are_kept() {
    let path = fresh_path();
    let log = Log::create(&path, Form::Flatout).unwrap();
    let mut pen = log.pen();
    (0..ROWS).for_each(|due| pen.write(row(due)));
    let dropped = pen.close();
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
    let pens = [log.pen(), log.pen()];
    for (n, mut pen) in pens.into_iter().enumerate() {
        pen.write(Row { flow: n as u32, answered: Some(9), outcome: Outcome::Answered, ..row(5) });
        pen.write(Row { sent: None, outcome: Outcome::Unsent, ..row(6) });
        assert_eq!(pen.close(), 0);
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
