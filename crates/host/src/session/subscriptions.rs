//! The subscriptions of a session: feeds that share the stream, each under the number that the client gave it.
//!
//! They are pulled in turn, one element each, so that a busy one does not hold up the others. A number is taken from the
//! frame that asks for it until its feed ends, could not be opened, or is unsubscribed.
//!
//! One that is taken up again was live before, so replies wait for its events from the beginning, also while it is being
//! opened: to its client the change of hosts is a pause. One that is new is waited for once it is live.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use conclave_proto::v1::server_frame::Body;
use conclave_types::limits::MAX_SUBSCRIPTIONS;
use tokio::sync::Notify;

use crate::faults::Fault;
use crate::feed::{Element, ElementBody, Feed, Turns};

/// What a subscription has next: an element, or why it has ended.
pub type Next = (u64, Result<Element, Fault>);

#[derive(Default)]
pub struct Subscriptions {
    by_number: BTreeMap<u64, Subscription>,
    /// Notified when a feed may have something.
    pub wake: Arc<Notify>,
    pub turns: Turns,
    /// A feed may have something.
    pending: bool,
    /// Whose turn it was last.
    last: u64,
    /// Tells subscriptions apart that had one number after another.
    next_id: u64,
}

struct Subscription {
    id: u64,
    /// None while it is being opened.
    feed: Option<Feed>,
    /// Credit that came while it was being opened.
    credit: u32,
    /// It was live before this stream.
    is_resumed: bool,
    /// The cursor after what was taken.
    cursor: u64,
}

/// A number that was taken for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    pub number: u64,
    id: u64,
}

/// What opening a subscription led to.
pub struct Opened {
    pub reserved: Reserved,
    pub feed: Result<Feed, Fault>,
}

impl Subscriptions {
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// Takes a number for a new subscription.
    pub fn reserve(&mut self, number: u64) -> Result<Reserved, Fault> {
        self.add(number, false, 0)
    }

    /// Takes a number for a subscription whose events up to a revision the client has.
    pub fn resume(&mut self, number: u64, after: u64) -> Result<Reserved, Fault> {
        self.add(number, true, after)
    }

    fn add(&mut self, number: u64, is_resumed: bool, cursor: u64) -> Result<Reserved, Fault> {
        if number == 0 {
            return Err(Fault::field_invalid("subscription", "must be set on a frame that subscribes"));
        }
        if self.by_number.contains_key(&number) {
            return Err(Fault::field_invalid("subscription", "is in use; numbers are free once they are unsubscribed"));
        }
        if self.by_number.len() >= MAX_SUBSCRIPTIONS {
            return Err(Fault::subscription_limit());
        }
        let id = self.next_id;
        self.next_id += 1;
        self.by_number.insert(number, Subscription { id, feed: None, credit: 0, is_resumed, cursor });
        Ok(Reserved { number, id })
    }

    /// A subscription begins with its feed; nothing happens if it was unsubscribed meanwhile.
    pub fn begin(&mut self, reserved: Reserved, feed: Feed) {
        let subscription = self.by_number.get_mut(&reserved.number);
        if let Some(subscription) = subscription.filter(|subscription| subscription.id == reserved.id) {
            feed.credit(subscription.credit);
            subscription.feed = Some(feed);
            self.pending = true;
        }
    }

    /// A subscription could not be opened. Returns whether anybody still wants to know.
    pub fn give_up(&mut self, reserved: Reserved) -> bool {
        let wanted = self.by_number.get(&reserved.number).is_some_and(|subscription| subscription.id == reserved.id);
        if wanted {
            self.by_number.remove(&reserved.number);
        }
        wanted
    }

    pub fn end(&mut self, number: u64) {
        self.by_number.remove(&number);
        // Another may have waited for what this one held.
        self.pending = true;
    }

    /// Gives a subscription credit.
    pub fn credit(&mut self, number: u64, events: u32) {
        let Some(subscription) = self.by_number.get_mut(&number) else { return };
        match &subscription.feed {
            Some(feed) => feed.credit(events),
            None => subscription.credit = subscription.credit.saturating_add(events),
        }
    }

    /// Something may be there to send.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// A feed has notified.
    pub fn woken(&mut self) {
        self.pending = true;
    }

    /// The next element of whoever is next and has one.
    pub fn next(&mut self) -> Option<Next> {
        let next = self.next_of(|_| true);
        self.pending = next.is_some();
        next
    }

    /// The next element of a subscription that replies wait for and that has not come to this revision.
    pub fn next_due(&mut self, upto: u64) -> Option<Next> {
        self.next_of(|subscription| subscription.is_due_before(upto))
    }

    /// Whether a subscription that replies wait for has still to be told something of up to this revision that it does
    /// not have ready.
    pub fn is_behind(&self, upto: u64) -> bool {
        let behind = |subscription: &Subscription| {
            subscription.is_due_before(upto) && subscription.feed.as_ref().is_none_or(Feed::is_behind)
        };
        self.by_number.values().any(behind)
    }

    fn next_of(&mut self, which: impl Fn(&Subscription) -> bool) -> Option<Next> {
        let ready = |(_, subscription): &(&u64, &mut Subscription)| {
            which(subscription) && subscription.feed.as_ref().is_some_and(Feed::is_pending)
        };
        let last = self.last;
        let (after, before) = ((Excluded(last), Unbounded), (Unbounded, Included(last)));
        for range in [after, before] {
            for (&number, subscription) in self.by_number.range_mut(range).filter(ready) {
                if let Some(next) = subscription.next() {
                    self.last = number;
                    if next.is_err() {
                        self.end(number);
                    }
                    return Some((number, next));
                }
            }
        }
        None
    }
}

impl Subscription {
    fn is_due_before(&self, revision: u64) -> bool {
        self.cursor < revision && (self.is_resumed || self.feed.as_ref().is_some_and(Feed::is_live))
    }

    fn next(&mut self) -> Option<Result<Element, Fault>> {
        let next = self.feed.as_mut()?.next().transpose()?;
        if let Ok(element) = &next {
            self.cursor = self.cursor.max(element.revision);
        }
        Some(next)
    }
}

/// An element as a frame's body.
pub fn body(element: ElementBody) -> Body {
    match element {
        ElementBody::Events(batch) => Body::EventBatch(batch),
        ElementBody::Gap(gap) => Body::Gap(gap),
        ElementBody::Live(live) => Body::Live(live),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_until_it_is_given_up() {
        let mut subscriptions = Subscriptions::default();
        assert!(subscriptions.reserve(0).is_err());
        let first = subscriptions.reserve(7).expect("a free number");
        assert!(subscriptions.reserve(7).is_err());
        subscriptions.end(7);
        let second = subscriptions.reserve(7).expect("free again");
        assert!(!subscriptions.give_up(first), "it was another subscription");
        assert!(subscriptions.give_up(second));
        assert!(subscriptions.is_empty());
    }

    #[test]
    fn one_that_is_taken_up_again_is_waited_for_while_it_opens_and_not_when_it_fails() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.reserve(1).expect("a free number");
        assert!(!subscriptions.is_behind(5), "a new one is not live yet");
        let resumed = subscriptions.resume(2, 4).expect("a free number");
        assert!(subscriptions.is_behind(5));
        assert!(!subscriptions.is_behind(4), "the client has that");
        assert!(subscriptions.give_up(resumed));
        assert!(!subscriptions.is_behind(5));
    }

    #[test]
    fn subscriptions_are_bounded() {
        let mut subscriptions = Subscriptions::default();
        let all = MAX_SUBSCRIPTIONS as u64;
        (1..=all).for_each(|number| assert!(subscriptions.reserve(number).is_ok()));
        assert!(subscriptions.reserve(all + 1).is_err());
    }
}
