//! Ethernet frames of an AF_XDP queue, given any bytes.
//!
//! Invariant: no panic; a frame is accepted exactly if a second, slower reading of the RFCs accepts it, and both find the
//! same datagram in it; padding behind the datagram changes nothing, and a frame cut within it is not accepted.
#![no_main]

use flatout_net::UdpFrame;
use libfuzzer_sys::fuzz_target;

/// RFC 1071, word by word.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |sum, pair| {
        let sum = sum + u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0));
        if sum > 0xffff { sum - 0xffff } else { sum }
    })
}

fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) * 256 + usize::from(bytes[at + 1])
}

/// Where the IP header's end, its addresses and the packet's end are, if it is plain and whole.
fn packet(frame: &[u8]) -> Option<(usize, std::ops::Range<usize>, usize)> {
    let ip = frame.get(14..)?;
    match (word(frame, 12), ip.first()?) {
        (0x0800, 0x45) if ip.len() >= 20 && ip[9] == 17 && word(ip, 6) & 0x3fff == 0 && sum(&ip[..20]) == 0xffff => {
            Some((34, 26..34, 14 + word(ip, 2)))
        }
        (0x86dd, first) if first >> 4 == 6 && ip.len() >= 40 && ip[6] == 17 => Some((54, 22..54, 54 + word(ip, 4))),
        _ => None,
    }
}

/// The datagram's place in the frame, its header included.
fn expected(frame: &[u8]) -> Option<std::ops::Range<usize>> {
    let (start, addresses, end) = packet(frame)?;
    if end > frame.len() || end < start + 8 {
        return None;
    }
    let (length, check) = (word(frame, start + 4), word(frame, start + 6));
    let datagram = start..start + length;
    if length < 8 || datagram.end > end {
        return None;
    }
    let pseudo = [&frame[addresses], &[0, 17], &frame[start + 4..start + 6]].concat();
    let whole = sum(&[&pseudo[..], &frame[datagram.clone()]].concat()) == 0xffff;
    let right = if check == 0 { start == 34 } else { whole || sum(&pseudo) as usize == check };
    right.then_some(datagram)
}

fuzz_target!(|frame: &[u8]| {
    let wanted = expected(frame);
    let parsed = UdpFrame::parse(frame).ok();
    assert_eq!(parsed.map(|one| one.payload), wanted.clone().map(|at| &frame[at.start + 8..at.end]));
    let (Some(parsed), Some(at)) = (parsed, wanted) else { return };
    assert_eq!(
        [parsed.source.port(), parsed.destination.port()].map(usize::from),
        [word(frame, at.start), word(frame, at.start + 2)]
    );
    assert_eq!(parsed.source.is_ipv6(), at.start == 54);
    let padded = [frame, &[0xff; 7]].concat();
    assert_eq!(UdpFrame::parse(&padded), Ok(parsed));
    assert!(UdpFrame::parse(&frame[..at.end - 1]).is_err());
});
