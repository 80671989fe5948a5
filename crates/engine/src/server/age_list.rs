//! Connections in order of age, so that the oldest is found without looking at the others.
//!
//! Method: a doubly linked list whose nodes lie in one array and are named by the caller's keys; every call is O(1).
//! Times are milliseconds that wrap: an age of up to 49 days is told right.

use flatout_net::Conn;

const NONE: u32 = u32::MAX;
/// In place of the next one: the node is in no list.
const OUT: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Node {
    conn: Conn,
    at_ms: u32,
    before: u32,
    next: u32,
}

const UNLINKED: Node = Node { conn: Conn { index: 0, generation: 0 }, at_ms: 0, before: NONE, next: OUT };

/// The list; the oldest is first.
#[derive(Debug)]
pub(crate) struct AgeList {
    nodes: Vec<Node>,
    first: u32,
    last: u32,
}

impl Default for AgeList {
    fn default() -> Self {
        Self { nodes: Vec::new(), first: NONE, last: NONE }
    }
}

impl AgeList {
    /// Puts `conn` at the end under this key; what the key named before is forgotten.
    pub(crate) fn insert(&mut self, key: u32, conn: Conn, now_ms: u32) {
        self.remove(key);
        if key as usize >= self.nodes.len() {
            self.nodes.resize(key as usize + 1, UNLINKED);
        }
        let Some(node) = self.nodes.get_mut(key as usize) else { return };
        *node = Node { conn, at_ms: now_ms, before: self.last, next: NONE };
        match self.nodes.get_mut(self.last as usize) {
            Some(last) => last.next = key,
            None => self.first = key,
        }
        self.last = key;
    }

    /// Makes it the youngest.
    pub(crate) fn touch(&mut self, key: u32, now_ms: u32) {
        let Some(node) = self.nodes.get(key as usize).filter(|node| node.next != OUT) else { return };
        // Many touches in one millisecond cost nothing; the order within it does not matter.
        if node.at_ms != now_ms {
            let conn = node.conn;
            self.insert(key, conn, now_ms);
        }
    }

    /// Takes it out, if it is in.
    pub(crate) fn remove(&mut self, key: u32) {
        let Some(node) = self.nodes.get_mut(key as usize).filter(|node| node.next != OUT) else { return };
        let Node { before, next, .. } = std::mem::replace(node, UNLINKED);
        match self.nodes.get_mut(before as usize) {
            Some(before) => before.next = next,
            None => self.first = next,
        }
        match self.nodes.get_mut(next as usize) {
            Some(next) => next.before = before,
            None => self.last = before,
        }
    }

    /// The oldest of all.
    pub(crate) fn oldest(&self) -> Option<Conn> {
        self.nodes.get(self.first as usize).map(|node| node.conn)
    }

    /// The oldest, if that is older than `age_ms`.
    pub(crate) fn older_than(&self, age_ms: u32, now_ms: u32) -> Option<Conn> {
        let node = self.nodes.get(self.first as usize)?;
        (now_ms.wrapping_sub(node.at_ms) > age_ms).then_some(node.conn)
    }

    /// Memory held, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
    }
}
