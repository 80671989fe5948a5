//! Parsing and writing of DNS messages, without expansion or copies.

/// Bytes of the header.
pub(super) const HEADER: usize = 12;
/// The longest name (bytes), with its root label.
pub(super) const NAME_MAX: usize = 255;
/// The longest question: a name, its type, its class.
pub(super) const QUESTION_MAX: usize = NAME_MAX + 4;
/// Bytes of an OPT record without options.
pub(super) const OPT: usize = 11;
/// Bytes of a record between its owner and its data: type, class, time to live, length.
const FIXED: usize = 10;
pub(super) const CLASS_IN: u16 = 1;
pub(super) const TYPE_OPT: u16 = 41;
pub(super) const DNSSEC_OK: u16 = 0x8000;

/// In a header's third byte: it is a response, its kind of operation, authoritative, truncated, recursion desired.
pub(super) const RESPONSE: u8 = 0x80;
pub(super) const OPCODE: u8 = 0x78;
pub(super) const AUTHORITATIVE: u8 = 0x04;
pub(super) const TRUNCATED: u8 = 0x02;
pub(super) const RECURSION: u8 = 0x01;

/// The two bytes at `at`, big endian.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

/// A parsed header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub id: u16,
    pub flags: u8,
    /// The lower four bits of the answer code; EDNS may add others.
    pub code: u8,
    pub questions: u16,
    /// Records of the three sections: answers, authority, additional.
    pub records: [u16; 3],
}

impl Header {
    pub fn read(message: &[u8]) -> Option<Self> {
        let &[a, b, flags, code, c, d, e, f, g, h, i, j] = message.first_chunk::<HEADER>()?;
        let pair = |high, low| u16::from_be_bytes([high, low]);
        let records = [pair(e, f), pair(g, h), pair(i, j)];
        Some(Self { id: pair(a, b), flags, code: code & 0x0f, questions: pair(c, d), records })
    }

    pub fn write(&self) -> [u8; HEADER] {
        let [a, b] = self.id.to_be_bytes();
        let [c, d] = self.questions.to_be_bytes();
        let [[e, f], [g, h], [i, j]] = self.records.map(u16::to_be_bytes);
        [a, b, self.flags, self.code, c, d, e, f, g, h, i, j]
    }
}

/// The end of the name at `at`. A compression pointer must point back; its target is not parsed.
pub(super) fn after_name(message: &[u8], at: usize) -> Option<usize> {
    let mut next = at;
    loop {
        match *message.get(next)? {
            0 => return (next - at < NAME_MAX).then_some(next + 1),
            length @ 1..=63 => next += 1 + usize::from(length),
            0xc0.. => {
                let target = usize::from(number(message, next)? & 0x3fff);
                return (next - at < NAME_MAX && target < next && target >= HEADER).then_some(next + 2);
            }
            _ => return None,
        }
    }
}

/// The end of a question without compression pointers.
pub(super) fn after_question(message: &[u8], at: usize) -> Option<usize> {
    let mut next = at;
    loop {
        match *message.get(next)? {
            0 if next - at < NAME_MAX => break,
            length @ 1..=63 => next += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = next + 5;
    (end <= message.len()).then_some(end)
}

/// The EDNS record of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Edns {
    /// The longest datagram that its sender accepts.
    pub size: u16,
    /// The upper eight bits of the answer code.
    pub code: u8,
    pub version: u8,
    /// DO and 15 reserved bits.
    pub flags: u16,
}

impl Edns {
    pub fn write(&self) -> [u8; OPT] {
        let ([a, b], [c, d], [e, f]) = (TYPE_OPT.to_be_bytes(), self.size.to_be_bytes(), self.flags.to_be_bytes());
        [0, a, b, c, d, self.code, self.version, e, f, 0, 0]
    }
}

/// Parses all records from `at`; `None` unless they end with the message and at most one is EDNS's.
pub(super) fn records(message: &[u8], at: usize, counts: [u16; 3]) -> Option<Option<Edns>> {
    let mut edns = None;
    let mut at = at;
    let ahead = usize::from(counts[0]) + usize::from(counts[1]);
    for nth in 0..ahead + usize::from(counts[2]) {
        let fixed = after_name(message, at)?;
        let &[a, b, c, d, code, version, e, f, g, h] = message.get(fixed..)?.first_chunk::<FIXED>()?;
        if u16::from_be_bytes([a, b]) == TYPE_OPT {
            // RFC 6891, 6.1.1: one, in the additional section, owned by the root.
            if nth < ahead || fixed != at + 1 || edns.is_some() {
                return None;
            }
            let (size, flags) = (u16::from_be_bytes([c, d]), u16::from_be_bytes([e, f]));
            edns = Some(Edns { size, code, version, flags });
        }
        at = fixed + FIXED + usize::from(u16::from_be_bytes([g, h]));
    }
    (at == message.len()).then_some(edns)
}
