//! The names and numbers of DNS record types.
//!
//! From IANA, "Resource Record (RR) TYPEs"; the usual ones first, as the search is linear.

const TYPES: &[(&str, u16)] = &[
    ("A", 1),
    ("AAAA", 28),
    ("NS", 2),
    ("MX", 15),
    ("TXT", 16),
    ("PTR", 12),
    ("SOA", 6),
    ("CNAME", 5),
    ("SRV", 33),
    ("HTTPS", 65),
    ("SVCB", 64),
    ("DS", 43),
    ("DNSKEY", 48),
    ("ANY", 255),
    ("CAA", 257),
    ("TLSA", 52),
    ("NAPTR", 35),
    ("SSHFP", 44),
    ("SPF", 99),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("NSEC3", 50),
    ("NSEC3PARAM", 51),
    ("CDS", 59),
    ("CDNSKEY", 60),
    ("CSYNC", 62),
    ("DNAME", 39),
    ("HINFO", 13),
    ("LOC", 29),
    ("URI", 256),
    ("MD", 3),
    ("MF", 4),
    ("MB", 7),
    ("MG", 8),
    ("MR", 9),
    ("NULL", 10),
    ("WKS", 11),
    ("MINFO", 14),
    ("RP", 17),
    ("AFSDB", 18),
    ("X25", 19),
    ("ISDN", 20),
    ("RT", 21),
    ("NSAP", 22),
    ("NSAP-PTR", 23),
    ("SIG", 24),
    ("KEY", 25),
    ("PX", 26),
    ("GPOS", 27),
    ("NXT", 30),
    ("EID", 31),
    ("NIMLOC", 32),
    ("ATMA", 34),
    ("KX", 36),
    ("CERT", 37),
    ("A6", 38),
    ("SINK", 40),
    ("APL", 42),
    ("IPSECKEY", 45),
    ("DHCID", 49),
    ("SMIMEA", 53),
    ("HIP", 55),
    ("NINFO", 56),
    ("RKEY", 57),
    ("TALINK", 58),
    ("OPENPGPKEY", 61),
    ("ZONEMD", 63),
    ("DSYNC", 66),
    ("UINFO", 100),
    ("UID", 101),
    ("GID", 102),
    ("UNSPEC", 103),
    ("NID", 104),
    ("L32", 105),
    ("L64", 106),
    ("LP", 107),
    ("EUI48", 108),
    ("EUI64", 109),
    ("TKEY", 249),
    ("TSIG", 250),
    ("IXFR", 251),
    ("AXFR", 252),
    ("MAILB", 253),
    ("MAILA", 254),
    ("AVC", 258),
    ("DOA", 259),
    ("AMTRELAY", 260),
    ("RESINFO", 261),
    ("WALLET", 262),
    ("CLA", 263),
    ("IPN", 264),
    ("TA", 32768),
    ("DLV", 32769),
];

/// The number of a type, by name or as TYPE and a number (RFC 3597).
pub(super) fn by_name(word: &[u8]) -> Option<u16> {
    let known = TYPES.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
    known.map(|(_, number)| *number).or_else(|| generic(word))
}

fn generic(word: &[u8]) -> Option<u16> {
    let (kind, digits) = word.split_at_checked(4)?;
    if !kind.eq_ignore_ascii_case(b"TYPE") || !(1..=5).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0_u16, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
