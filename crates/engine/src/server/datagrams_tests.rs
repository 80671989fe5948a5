//! A worker over loopback, one datagram at a time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::net::UdpSocket;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use flatout_net::Server;
use flatout_wire::ntp::Ntp;

use super::super::admission::Admissions;
use super::*;
use crate::plan::AdmissionPlan;

const WAIT: Duration = Duration::from_secs(5);

struct Rig {
    worker: Worker<Ntp>,
    client: UdpSocket,
}

impl Rig {
    /// With one request an hour for each client.
    fn new(kiss: bool) -> Self {
        let plan = AdmissionPlan {
            client_per_s: 1.0 / 3600.0,
            client_burst: 1,
            kiss,
            v4_bits: 32,
            v6_bits: 64,
            ..AdmissionPlan::default()
        };
        let server = Arc::new(Server::bind("127.0.0.1:0".parse().unwrap(), WAIT).unwrap());
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(WAIT)).unwrap();
        client.connect(server.address().unwrap()).unwrap();
        let worker = Worker::<Ntp>::new(
            vec![WorkerSocket { server, shared: false, counts_drops: true }],
            Ntp::responder(&[]).unwrap(),
            Arc::new(AnswerTable::build(&[]).unwrap()),
            (LiveReader::new(Arc::default()), Arc::default()),
            Admission::new(Arc::new(Admissions::new(&plan, 1)), 0, 64, 7),
            0,
        );
        Self { worker, client }
    }

    fn ask(&mut self, packet: &[u8]) {
        self.client.send(packet).unwrap();
        let worker = &mut self.worker;
        assert_eq!(worker.sockets.receive(&mut worker.batch).unwrap(), 1);
        let now = worker.refresh();
        worker.admission.begin_batch(worker.steady);
        worker.consider(0, now);
        worker.send(false, &Post::new(Arc::new(AtomicBool::new(false))));
    }

    fn dropped(&self, refused: Refused) -> u64 {
        self.worker.served.dropped[REFUSED + refused as usize]
    }
}

/// A client's request; its transmit stamp has the value `mark` in each byte.
fn request(mark: u8) -> [u8; 48] {
    let mut request = [0; 48];
    request[0] = 0x23;
    request[40..].fill(mark);
    request
}

#[test]
fn what_is_no_request_takes_nothing_of_what_its_client_may_ask() {
    let mut rig = Rig::new(false);
    for _ in 0..20 {
        rig.ask(&[0x23]);
        rig.ask(&[0x26; 48]);
    }
    rig.ask(&request(1));
    assert_eq!((rig.worker.served.answered, rig.dropped(Refused::RateLimited)), (1, 0));
    rig.ask(&request(2));
    assert_eq!((rig.worker.served.answered, rig.dropped(Refused::RateLimited)), (1, 1));
}

#[test]
fn a_kiss_answers_the_request_as_it_came() {
    let mut rig = Rig::new(true);
    (1..=3).for_each(|mark| rig.ask(&request(mark)));
    let mut answer = [0; 64];
    assert_eq!(rig.client.recv(&mut answer).unwrap(), 48);
    assert_eq!((answer[0], &answer[24..32]), (0x24, &[1; 8][..]));
    assert_eq!(rig.client.recv(&mut answer).unwrap(), 48);
    assert_eq!((answer[0], answer[1], &answer[12..16], &answer[24..32]), (0xe4, 0, &b"RATE"[..], &[2; 8][..]));
    let served = &rig.worker.served;
    assert_eq!((served.answered, served.kissed, rig.dropped(Refused::RateLimited)), (2, 1, 1));
}

#[test]
fn a_stamp_of_an_arrival_is_trusted_as_far_as_a_queue_reaches() {
    const NOW: u64 = 1_800_000_000_000_000_000;
    for (ago_s, credible) in [(0, true), (5, true), (60, true), (61, false)] {
        assert_eq!(is_credible(NOW - ago_s * 1_000_000_000, NOW), credible, "{ago_s} s");
    }
    assert!(!is_credible(NOW + 1, NOW), "the clock was set back");
}

#[test]
fn stamps_from_before_the_clock_was_set_are_not_trusted() {
    let mut rig = Rig::new(false);
    let now = rig.worker.refresh();
    assert_eq!(rig.worker.received(Some(now - 5), now), now - 5);
    for (gained_ns, trusted) in [(1_000_000_000, false), (0, true), (-1_000_000_000, true)] {
        rig.worker.offset = rig.worker.offset.wrapping_add_signed(-gained_ns);
        let now = rig.worker.refresh();
        let expected = if trusted { now - 5 } else { now };
        assert_eq!(rig.worker.received(Some(now - 5), now), expected, "{gained_ns}");
    }
    assert_eq!(rig.worker.served.unstamped, 1);
}

#[test]
fn drops_are_counted_by_the_worker_that_has_the_sockets() {
    let mut rig = Rig::new(false);
    rig.worker.served.kernel_drops = 7;
    let post = Post::new(Arc::new(AtomicBool::new(false)));
    post.replace();
    rig.worker.measure(0, &post, true);
    assert_eq!(rig.worker.served.kernel_drops, 7, "as it was before");
    rig.worker.measure(0, &Post::new(Arc::new(AtomicBool::new(false))), true);
    assert_eq!(rig.worker.served.kernel_drops, 0, "what the kernel says");
}
