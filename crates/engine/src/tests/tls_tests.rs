//! TLS between our asking end and a server in this process, whatever pieces its bytes come in.

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use super::tls_rig::{BOTH, NAME, Pair, asked, file, outgoing, server};
use crate::plan;
use crate::stream_layer::StreamLayer;
use crate::tls::Tls;

fn tls(asked: &plan::Tls) -> Tls {
    Tls::new(asked).unwrap()
}

fn error_text(asked: &plan::Tls, protocols: &[&str]) -> String {
    Pair::of(&tls(asked), &server(BOTH, protocols)).shake_hands().unwrap_err()
}

#[test]
fn hands_are_shaken_and_messages_pass_in_any_pieces_over_both_versions() {
    for version in [&TLS12, &TLS13] {
        for piece in [1, 2, 7, 1_000, usize::MAX] {
            let mut pair = Pair { piece, ..Pair::of(&tls(&asked()), &server(&[version], &[])) };
            pair.shake_hands().unwrap();
            assert_eq!(pair.server.protocol_version(), Some(version.version));
            assert_eq!(pair.server.server_name(), Some(NAME));
            for n in 0..20_u8 {
                pair.ask(&[n; 31]);
                pair.answer(&[n; 47]);
            }
            assert_eq!((pair.served.len(), pair.ready.len()), (620, 940), "pieces of {piece}");
            assert!(pair.ready.chunks(47).enumerate().all(|(n, answer)| answer == [n as u8; 47]));
        }
    }
}

#[test]
fn messages_of_64_kib_pass_both_ways() {
    let message: Vec<u8> = (0..65_537).map(|n| (n % 251) as u8).collect();
    for piece in [1_460, usize::MAX] {
        let mut pair = Pair { piece, ..Pair::of(&tls(&asked()), &server(BOTH, &[])) };
        pair.shake_hands().unwrap();
        pair.ask(&message);
        pair.answer(&message);
        assert!(pair.served == message && pair.ready == message);
    }
}

#[test]
fn a_message_grows_by_less_than_the_room_kept_for_it() {
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::of(&tls(&asked()), &server(&[version], &[]));
        pair.shake_hands().unwrap();
        for length in [1, 31, 16_384, 65_537] {
            let mut out = Vec::new();
            pair.tls.encode(&mut pair.state, &vec![7; length], &mut out).unwrap();
            assert!((17..256).contains(&(out.len() - length)), "{length} became {}", out.len());
        }
    }
}

#[test]
fn a_certificate_must_be_of_a_known_authority_and_the_right_name_unless_nobody_asks() {
    let unmatched = plan::Tls { authorities: Some(file("stranger.pem")), ..asked() };
    let renamed = plan::Tls { name: "other.test".into(), ..asked() };
    assert!(error_text(&unmatched, &[]).contains("UnknownIssuer"), "{}", error_text(&unmatched, &[]));
    assert!(error_text(&renamed, &[]).contains("not valid for name"), "{}", error_text(&renamed, &[]));
    for asked in [unmatched, renamed] {
        let trusting = plan::Tls { verify: false, authorities: None, ..asked };
        Pair::of(&tls(&trusting), &server(BOTH, &[])).shake_hands().unwrap();
    }
}

#[test]
fn an_address_is_a_name_too() {
    let by_address = plan::Tls { name: "192.0.2.1".into(), ..asked() };
    let mut pair = Pair::of(&tls(&by_address), &server(BOTH, &[]));
    pair.shake_hands().unwrap();
    assert_eq!(pair.server.server_name(), None, "no SNI for addresses");
    let another = plan::Tls { name: "192.0.2.2".into(), ..asked() };
    assert!(error_text(&another, &[]).contains("not valid"));
}

#[test]
fn sessions_are_resumed_unless_that_is_not_wanted() {
    for version in [&TLS12, &TLS13] {
        for (resume, expected) in [(true, HandshakeKind::Resumed), (false, HandshakeKind::Full)] {
            let (tls, server) = (tls(&plan::Tls { resume, ..asked() }), server(&[version], &[]));
            let mut kinds = Vec::new();
            for _ in 0..3 {
                let mut pair = Pair::of(&tls, &server);
                pair.shake_hands().unwrap();
                pair.answer(b"whatever");
                kinds.push(pair.server.handshake_kind().unwrap());
            }
            assert_eq!(kinds, [HandshakeKind::Full, expected, expected], "{version:?}");
        }
    }
}

#[test]
fn servers_without_names_of_protocols_will_do_and_those_that_know_dot() {
    for (protocols, agreed) in [(&[][..], None), (&["dot"], Some(&b"dot"[..])), (&["h2", "dot"], Some(b"dot"))] {
        let mut pair = Pair::of(&tls(&asked()), &server(BOTH, protocols));
        pair.shake_hands().unwrap();
        assert_eq!(pair.server.alpn_protocol(), agreed);
    }
    // RFC 7301: a server that knows names, and not ours, is no server of this protocol.
    assert!(error_text(&asked(), &["h2"]).to_lowercase().contains("application"), "{}", error_text(&asked(), &["h2"]));
}

#[test]
fn after_its_last_word_a_server_is_not_listened_to() {
    let mut pair = Pair::of(&tls(&asked()), &server(BOTH, &[]));
    pair.shake_hands().unwrap();
    pair.answer(b"answer");
    pair.server.send_close_notify();
    let notify = outgoing(&mut pair.server);
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    for bytes in [&[&notify[..], b"rest"].concat()[..], b"more of it"] {
        pair.tls.decode(&mut pair.state, bytes, &mut plain, &mut out).unwrap();
    }
    assert!(plain.is_empty() && pair.ready == b"answer");
}

#[test]
fn nonsense_is_trouble_in_words_and_answered_by_an_alert() {
    for shaken in [false, true] {
        let mut pair = Pair::of(&tls(&asked()), &server(BOTH, &[]));
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        if shaken {
            pair.shake_hands().unwrap();
        } else {
            pair.tls.begin(&mut pair.state, &mut out).unwrap();
            out.clear();
        }
        let why = pair.tls.decode(&mut pair.state, b"220 mail.example ESMTP\r\n", &mut plain, &mut out).unwrap_err();
        assert!(why.starts_with("TLS: ") && plain.is_empty(), "{why}");
        assert!(!out.is_empty(), "an alert");
    }
}

#[test]
fn what_was_said_before_nonsense_is_heard() {
    let mut pair = Pair::of(&tls(&asked()), &server(BOTH, &[]));
    pair.shake_hands().unwrap();
    std::io::Write::write_all(&mut pair.server.writer(), b"answer").unwrap();
    let bytes = [&outgoing(&mut pair.server)[..], b"nonsense"].concat();
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    pair.tls.decode(&mut pair.state, &bytes, &mut plain, &mut out).unwrap_err();
    assert_eq!(plain, b"answer");
}

#[test]
fn what_is_altered_on_the_way_is_trouble() {
    let mut pair = Pair::of(&tls(&asked()), &server(BOTH, &[]));
    pair.shake_hands().unwrap();
    std::io::Write::write_all(&mut pair.server.writer(), b"answer").unwrap();
    let mut bytes = outgoing(&mut pair.server);
    *bytes.last_mut().unwrap() ^= 1;
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    assert!(pair.tls.decode(&mut pair.state, &bytes, &mut plain, &mut out).is_err() && plain.is_empty());
}

#[test]
fn what_cannot_be_is_said_before_the_run() {
    let why = |asked: plan::Tls| Tls::new(&asked).err().unwrap().to_string();
    let missing = why(plan::Tls { authorities: Some("/no/such/file.pem".into()), ..asked() });
    assert!(missing.contains("/no/such/file.pem"), "{missing}");
    let none = why(plan::Tls { authorities: Some(file("README.md")), ..asked() });
    assert!(none.contains("README.md") && none.contains("no certificate"), "{none}");
    let pem = std::fs::read_to_string(file("authority.pem")).unwrap();
    let wide: Vec<_> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let path = std::env::temp_dir().join(format!("flatout-authority-{}.pem", std::process::id()));
    std::fs::write(&path, wide).unwrap();
    let utf_16 = why(plan::Tls { authorities: Some(path.clone()), ..asked() });
    std::fs::write(&path, format!("\u{feff}{pem}")).unwrap();
    let marked = Tls::new(&plan::Tls { authorities: Some(path.clone()), ..asked() });
    std::fs::remove_file(path).unwrap();
    assert!(utf_16.contains("this is UTF-16"), "{utf_16}");
    assert!(marked.is_ok(), "the mark of UTF-8 hides no certificate");
    let name = why(plan::Tls { name: "not a name".into(), ..asked() });
    assert!(name.contains("'not a name'"), "{name}");
}
