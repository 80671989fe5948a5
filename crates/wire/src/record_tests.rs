//! Tests of records.
extern crate std;
use super::*;
use std::vec::Vec;

const BIG: i64 = 1 << 24;
const FLOAT: i64 = 2 << 24;
const NOW: u64 = 1_800_000_000_123_456_789;

fn place(at: i64, width: i64) -> i64 {
    at | width << 16
}

fn options(list: &[(&'static str, i64)]) -> Vec<ProtocolOption<'static>> {
    list.iter().map(|(name, value)| ProtocolOption { name, value: *value }).collect()
}

fn client(list: &[(&'static str, i64)]) -> RecordClient {
    Record::client(&options(list), 0x0123_4567_89ab_cdef).expect("a layout")
}

fn decoder(list: &[(&'static str, i64)]) -> RecordDecoder {
    Record::decoder(&options(list)).expect("a layout")
}

fn record(client: &RecordClient, sender: u32, sequence: u64) -> Vec<u8> {
    let mut out = std::vec![0xa5; client.longest()];
    assert_eq!(client.fill_one_way(sender, sequence, &[], &mut out), out.len());
    out
}

#[test]
fn what_was_sent_is_taken() {
    for (identity, sequence, size) in [(1, 1, 2), (2, 1, 3), (4, 2, 6), (8, 4, 17), (4, 8, 512)] {
        for order in [0, BIG] {
            let list = [
                ("size", size),
                ("identity", place(0, identity) | order),
                ("sequence", place(size - sequence, sequence) | order),
            ];
            for number in [0, 1, 255, 256, u64::from(u32::MAX), u64::MAX] {
                let sent = record(&client(&list), 0xfedc_ba98, number);
                let held = |width: i64, value: u64| value & u64::MAX >> (64 - 8 * width);
                let expected = Decoded { sender: held(identity, 0xfedc_ba98), sequence: held(sequence, number) };
                assert_eq!(decoder(&list).decode(&sent), Ok(expected), "{list:?}");
            }
            assert_eq!(decoder(&list).sequence_bits(), 8 * sequence as u32);
        }
    }
}

#[test]
fn length_and_constants_are_checked() {
    let list =
        [("size", 12), ("constant", place(4, 8) | BIG), ("value", -2), ("constant", place(3, 1)), ("value", 0x109)];
    let sent = record(&client(&list), 0, 0);
    assert_eq!(sent, [0, 0, 0, 9, 255, 255, 255, 255, 255, 255, 255, 254], "constants and zeros");
    let decoder = decoder(&list);
    assert_eq!(decoder.decode(&sent), Ok(Decoded::default()));
    assert_eq!((decoder.decode(&[]), decoder.decode(&sent[..11])), (Err(Malformed::Short), Err(Malformed::Short)));
    assert_eq!(decoder.decode(&[&sent[..], &[0]].concat()), Err(Malformed::Long));
    for at in 3..12 {
        let mut spoiled = sent.clone();
        spoiled[at] ^= 1;
        assert_eq!(decoder.decode(&spoiled), Err(Malformed::Constant), "byte {at}");
    }
}

#[test]
fn a_whole_record_of_constants() {
    let mut list = std::vec![("size", 512)];
    for at in 0..64 {
        list.extend([("constant", place(8 * at, 8)), ("value", at)]);
    }
    let sent = record(&client(&list), 1, 1);
    assert!(decoder(&list).decode(&sent).is_ok());
    assert_eq!(sent[504..], 63_u64.to_le_bytes());
    list.extend([("constant", place(0, 1)), ("value", 0)]);
    assert!(Record::decoder(&options(&list)).is_err(), "one too many");
}

#[test]
fn rows_are_sent_but_for_what_varies() {
    let client = client(&[("size", 6), ("sequence", place(1, 2)), ("counter", place(4, 1)), ("constant", place(0, 1))]);
    let mut row = [0; QUERY_LEN_MAX];
    let length = Record::compile(b" 0a0b0C0d0E0f \n", &mut row).expect("a row");
    let mut out = [0; 8];
    assert_eq!(client.fill_one_way(0, 0x1234, &row[..length], &mut out), 6);
    assert_eq!(out, [0x0a, 0x34, 0x12, 0x0d, 0x34, 0x0f, 0, 0]);
    assert_eq!(client.fill_one_way(0, 0, &row[..length], &mut [0; 5]), 0, "no room, nothing written");
}

#[test]
fn rows_that_are_none() {
    let mut out = [0; QUERY_LEN_MAX];
    assert_eq!(Record::compile(b"  ", &mut out), Ok(0));
    for line in [&b"abc"[..], b"0g", b"0x00", b"00 11", "é".as_bytes(), &[b'0'; 1026]] {
        assert!(Record::compile(line, &mut out).is_err(), "{line:?}");
    }
    assert_eq!(Record::compile(&[b'f'; 1024], &mut out), Ok(512));
}

#[test]
fn random_numbers_reach_their_whole_range_and_no_further() {
    let list = [
        ("size", 25),
        ("random", place(0, 1)),
        ("random", place(1, 8)),
        ("low", -3),
        ("high", 3),
        ("random", place(9, 4) | FLOAT),
        ("low", (-1e30_f64).to_bits() as i64),
        ("high", 1e30_f64.to_bits() as i64),
        ("random", place(13, 8) | FLOAT | BIG),
        ("random", place(21, 4) | BIG),
        ("low", 7),
        ("high", 7),
    ];
    let client = client(&list);
    let drawn: Vec<_> = (0..2000).map(|n| record(&client, n % 7, u64::from(n))).collect();
    let bytes: std::collections::BTreeSet<_> = drawn.iter().map(|record| record[0]).collect();
    assert_eq!(bytes.len(), 256, "all of a byte");
    let whole = drawn.iter().map(|record| i64::from_le_bytes(record[1..9].try_into().expect("8 bytes")));
    assert_eq!(whole.collect::<std::collections::BTreeSet<_>>(), (-3..=3).collect(), "both ends included");
    let floats: Vec<_> =
        drawn.iter().map(|record| f32::from_le_bytes(record[9..13].try_into().expect("4 bytes"))).collect();
    assert!(floats.iter().all(|x| (-1e30..=1e30).contains(x)));
    assert!(floats.iter().any(|x| *x < -9e29) && floats.iter().any(|x| *x > 9e29));
    let shares: Vec<_> =
        drawn.iter().map(|record| f64::from_be_bytes(record[13..21].try_into().expect("8 bytes"))).collect();
    assert!(shares.iter().all(|x| (0.0..1.0).contains(x)));
    let mean = shares.iter().sum::<f64>() / 2000.0;
    assert!((0.46..0.54).contains(&mean), "{mean}");
    assert!(drawn.iter().all(|record| record[21..] == [0, 0, 0, 7]));
}

#[test]
fn random_fields_differ_from_each_other_and_from_run_to_run() {
    let list = [("size", 32), ("random", 8 << 16), ("random", place(8, 8)), ("random", place(16, 8))];
    let one = record(&client(&list), 1, 1);
    assert_eq!(one, record(&client(&list), 1, 1));
    assert!(one[..8] != one[8..16] && one[8..16] != one[16..24]);
    let other = Record::client(&options(&list), 1).expect("a layout");
    for others in [record(&client(&list), 2, 1), record(&client(&list), 1, 2), record(&other, 1, 1)] {
        assert!(one.chunks(8).zip(others.chunks(8)).take(3).all(|(ours, theirs)| ours != theirs));
    }
}

#[test]
fn times_in_their_units() {
    for (field, unit, written, resolution) in [
        (place(0, 8), 1, NOW, 1),
        (place(0, 8) | BIG, 1000, NOW / 1000, 1000),
        (place(4, 4), 1_000_000, (NOW / 1_000_000) & 0xffff_ffff, 1_000_000),
        (place(0, 4), 1, NOW & 0xffff_ffff, 1),
        (place(0, 8) | FLOAT, 0, (NOW as f64 / 1e9).to_bits(), 1000),
    ] {
        let list = [("size", 8), ("sent", field), ("unit", unit)];
        let mut sent = [0; 8];
        client(&list).stamp(NOW, &mut sent);
        assert_eq!(Field::of(field, 8).expect("a place").read(&sent), written);
        for late in [0, 1_500_000, -1_500_000, 900_000_000] {
            let delay = decoder(&list).delay_ns(&sent, NOW.saturating_add_signed(late)).expect("a time");
            assert!((delay - late).abs() <= resolution, "{delay} for {late} in units of {unit}");
        }
        assert!(client(&list).stamped());
        assert_eq!(decoder(&list).delay_ns(&[0; 8], NOW), None, "nobody wrote a time");
    }
    assert_eq!(decoder(&[("size", 8)]).delay_ns(&[1; 8], NOW), None);
    let seconds = [("size", 8), ("sent", place(0, 8) | FLOAT), ("unit", 0)];
    assert_eq!(decoder(&seconds).delay_ns(&f64::NAN.to_le_bytes(), NOW), None);
    assert_eq!(decoder(&seconds).delay_ns(&f64::INFINITY.to_le_bytes(), NOW), None);
}

const ASKED: [(&str, i64); 3] = [("size", 8), ("identity", 1 << 16), ("sequence", 1 | 2 << 16)];

fn replied(more: &[(&'static str, i64)]) -> RecordClient {
    let reply = [("reply", 6), ("echoed", 2 | 4 << 16), ("constant", 1 << 16), ("value", 0x24)];
    client(&[&ASKED[..], &reply, more].concat())
}

#[test]
fn answers_are_matched_by_what_they_echo() {
    let client = replied(&[]);
    assert_eq!((client.one_way(), client.index_bits()), (false, 16), "as few as the request has");
    let right = |index| Reply::Valid { index, tally: Tally::Replied as usize };
    assert_eq!(client.read(5, &[0x24, 9, 0x34, 0x12, 0, 0]), right(0x1234));
    assert_eq!(client.read(5, &[0x24, 9, 0x34, 0x12, 7, 7]), right(0x1234), "of the echo those bits alone");
    let wrong = |tally: Tally| Reply::Invalid { index: 0x1234, tally: tally as usize };
    assert_eq!(client.read(5, &[0x25, 9, 0x34, 0x12, 0, 0]), wrong(Tally::WrongConstant));
    assert_eq!(client.read(5, &[0x24, 9, 0x34, 0x12, 0, 0, 0]), wrong(Tally::WrongSize));
    assert_eq!(client.read(5, &[0x24, 9, 0x34, 0x12, 0]), Reply::Unmatched, "too short for an echo");
    assert_eq!(client.read(5, &[]), Reply::Unmatched);
    assert_eq!(asker_of_one_way().read(5, &[0; 8]), Reply::Unmatched);
}

fn asker_of_one_way() -> RecordClient {
    client(&ASKED)
}

#[test]
fn answers_may_be_longer_where_that_was_said() {
    let client = replied(&[("longer", 1)]);
    assert_eq!(client.read(0, &[0x24, 9, 1, 0, 0, 0, 8, 8]), Reply::Valid { index: 1, tally: 0 });
    let echo_first = [&ASKED[..], &[("reply", 6), ("echoed", 1 << 16), ("longer", 1)]].concat();
    let wrong = Reply::Invalid { index: 1, tally: Tally::WrongSize as usize };
    assert_eq!(self::client(&echo_first).read(0, &[1, 0, 0, 0, 0]), wrong, "but not shorter");
}

#[test]
fn answers_to_another_flow_are_strangers() {
    let client = replied(&[("identity", 1 | 1 << 16)]);
    assert_eq!(client.read(0x105, &[0x24, 5, 1, 0, 0, 0]), Reply::Valid { index: 1, tally: 0 });
    assert_eq!(client.read(6, &[0x24, 5, 1, 0, 0, 0]), Reply::Unmatched);
}

#[test]
fn quotes_of_requests() {
    let client = replied(&[]);
    let request = record(&client, 5, 0x1_4321);
    assert_eq!(client.recognise(5, &request), Some(0x4321));
    assert_eq!(client.recognise(5, &request[..3]), Some(0x4321), "an ICMP error quotes the beginning");
    assert_eq!(client.recognise(5, &request[..2]), None);
    assert_eq!(client.recognise(6, &request), None, "another flow's");
    assert_eq!(client.recognise(5, &[&request[..], &[0]].concat()), None);
}

#[test]
fn layouts_that_are_none() {
    for list in [
        &[][..],
        &[("size", 0)],
        &[("size", 513)],
        &[("size", 4), ("size", 4)],
        &[("identity", place(0, 4))],
        &[("size", 4), ("identity", place(1, 4))],
        &[("size", 4), ("sequence", place(0, 3))],
        &[("size", 4), ("sequence", place(0, 4) | FLOAT)],
        &[("size", 4), ("counter", place(0, 4) | 4 << 24)],
        &[("size", 4), ("sequence", -1)],
        &[("size", 4), ("unit", 1)],
        &[("size", 4), ("low", 1)],
        &[("size", 4), ("value", 1)],
        &[("size", 8), ("sent", place(0, 8)), ("unit", 0)],
        &[("size", 8), ("sent", place(0, 8)), ("unit", -1)],
        &[("size", 8), ("sent", place(0, 8) | FLOAT), ("unit", 1)],
        &[("size", 8), ("colour", 1)],
        &[("size", 8), ("echoed", place(0, 4))],
        &[("size", 8), ("sequence", place(0, 4)), ("reply", 8)],
        &[("size", 8), ("sequence", place(0, 4)), ("reply", 8), ("echoed", place(6, 4))],
        &[("size", 8), ("reply", 8), ("echoed", place(0, 4))],
    ] {
        assert!(Record::client(&options(list), 0).is_err(), "{list:?}");
    }
    assert!(Record::responder(&[]).is_err(), "records are received");
}
