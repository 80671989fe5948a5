//! The last exchange of each flow, for protocols whose requests refer to it.
//!
//! Laws: an exchange is referred to once, by a request that left; memory is that of the flows, and none where no
//! request refers to anything.

use flatout_wire::Exchange;

/// What each flow knows of its last exchange, and which one its newest reference was to.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    last: Box<[Option<Exchange>]>,
    referred: Box<[(u32, Exchange)]>,
}

impl Exchanges {
    /// For so many flows; 0: nothing is kept.
    pub(super) fn new(flows: usize) -> Self {
        let none = (0, Exchange::default());
        Self { last: vec![None; flows].into_boxed_slice(), referred: vec![none; flows].into_boxed_slice() }
    }

    /// The exchange that the next request of `flow` refers to, if there is one that no other has referred to.
    pub(super) fn last(&self, flow: usize) -> Option<Exchange> {
        *self.last.get(flow)?
    }

    /// Request `index` of `flow` has left, and has referred to the last exchange.
    pub(super) fn refer(&mut self, flow: usize, index: u32) {
        if let (Some(last), Some(referred)) = (self.last.get_mut(flow), self.referred.get_mut(flow))
            && let Some(last) = last.take()
        {
            *referred = (index, last);
        }
    }

    /// The exchange that request `index` of `flow` referred to, unless a later one has since.
    pub(super) fn referred(&self, flow: usize, index: u32) -> Option<Exchange> {
        let (by, exchange) = self.referred.get(flow)?;
        (*by == index && exchange.mark != 0).then_some(*exchange)
    }

    /// The newest exchange of `flow`; a mark of 0 cannot be referred to.
    pub(super) fn note(&mut self, flow: usize, exchange: Exchange) {
        if let Some(last) = self.last.get_mut(flow) {
            *last = (exchange.mark != 0).then_some(exchange);
        }
    }

    /// The memory they take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.last) + size_of_val(&*self.referred)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_referred_to_once_and_known_to_the_one_that_did() {
        let mut exchanges = Exchanges::new(2);
        let first = Exchange { sent_unix_ns: 1, seen_unix_ns: 2, mark: 3 };
        assert_eq!(exchanges.last(1), None, "there is none yet");
        exchanges.note(1, first);
        assert_eq!((exchanges.last(0), exchanges.last(1)), (None, Some(first)), "each flow has its own");
        assert_eq!(exchanges.last(1), Some(first), "until a request that refers to it has left");
        exchanges.refer(1, 7);
        assert_eq!(exchanges.last(1), None, "a second time");
        exchanges.refer(1, 8);
        exchanges.note(1, Exchange { mark: 4, ..first });
        assert_eq!((exchanges.referred(1, 7), exchanges.referred(1, 8)), (Some(first), None));
        exchanges.note(1, Exchange { mark: 0, ..first });
        assert_eq!(exchanges.last(1), None, "what has no mark");
        assert_eq!(Exchanges::new(0).bytes(), 0);
    }
}
