//! Many calls within one cap: each named, so that none is charged twice, and set aside before it is sent.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::cap::{Cap, Capped};
use crate::chat::{Answer, Query};
use crate::client::{Client, Error, Patience, Wanted};
use crate::keys::Outcome;
use comity_wire::Amount;

/// What calls of one run share.
pub struct Asking<'a> {
    pub client: &'a Client,
    pub cap: Cap,
    pub patience: Patience,
    /// Once it says no, those under way end and no other begins.
    pub wanted: &'a (dyn Fn() -> bool + Sync),
    capped: Mutex<Option<Capped>>,
}

/// What came of a call.
#[derive(Debug)]
pub enum Came {
    /// With the milliseconds that it took, waits for a free lane included.
    Answer(Box<Answer>, u64),
    /// `became`: what is known of it all the same. `at_most`: what it may cost, where that is [`Outcome::Unknown`].
    Error { error: Error, became: Option<Outcome>, at_most: Amount, ms: u64 },
    /// It was not made: nobody wanted it any more, or the cap has no room for it.
    Nothing,
}

impl<'a> Asking<'a> {
    pub fn new(client: &'a Client, cap: Cap, patience: Patience, wanted: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { client, cap, patience, wanted, capped: Mutex::default() }
    }

    /// The first call that there was no room for.
    pub fn capped(&self) -> Option<Capped> {
        *self.capped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn goes_on(&self) -> bool {
        (self.wanted)() && self.capped().is_none()
    }

    /// Asks one. `again`: a run before this one signed it, so it is asked whatever is left. `still` is asked once there is room.
    ///
    /// # Panics
    /// Where the query has no key.
    pub async fn ask(&self, query: Query, again: bool, still: &(dyn Fn() -> bool + Sync)) -> Came {
        let key = query.key.expect("each of many calls is named");
        if !(again || self.goes_on() && still()) {
            return Came::Nothing;
        }
        let most = match (query.max_charge, self.client.worst_case(&query).await) {
            (Some(most), _) | (None, Ok(most)) => most,
            (None, Err(error)) => {
                // What a run before this one signed counts all the same.
                let (became, signed) = self.client.at_stake(&key).await.unzip();
                let is_unknown = became == Some(Outcome::Unknown);
                let at_most = signed.filter(|_| is_unknown).unwrap_or(Amount::ZERO);
                let counts = became.and_then(Outcome::charged).map_or(at_most, |(_, charge)| charge);
                self.cap.hold_again(counts).charged(counts);
                return Came::Error { error, became, at_most, ms: 0 };
            }
        };
        let query = Query { max_charge: Some(most), ..query };
        let mut again = again;
        let started = Instant::now();
        loop {
            let held = if again {
                self.cap.hold_again(most)
            } else {
                match self.cap.hold(most).await {
                    Ok(held) => held,
                    Err(capped) => {
                        self.capped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(capped);
                        return Came::Nothing;
                    }
                }
            };
            // Others may have been refused while this one waited for room.
            if !(again || self.goes_on() && still()) {
                return Came::Nothing;
            }
            // What was signed is asked whatever is left. Once its node says that it was not charged, it is a new call.
            let wanted = || if !again && (self.wanted)() { Wanted::Yes } else { Wanted::Charged };
            let answer = self.client.ask_patiently(&query, self.patience, &wanted).await;
            let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            return match answer {
                Ok(answer) => {
                    held.charged(answer.receipt.charge);
                    Came::Answer(Box::new(answer), ms)
                }
                Err(error) => {
                    let (became, signed) = self.client.at_stake(&key).await.unzip();
                    let mut at_most = Amount::ZERO;
                    match became {
                        Some(Outcome::Charged { charge, .. }) => held.charged(charge),
                        // It may be charged, as much as was signed for it: that counts until it is known.
                        Some(Outcome::Unknown) => {
                            at_most = signed.unwrap_or(most);
                            held.charged(at_most);
                        }
                        Some(Outcome::Free) | None if again && error.may_come_later() => {
                            again = false;
                            continue;
                        }
                        // Nobody wanted it any more when it turned out to be a new call.
                        Some(Outcome::Free) | None if matches!(error, Error::Unsigned) => return Came::Nothing,
                        Some(Outcome::Free) | None => {}
                    }
                    Came::Error { error, became, at_most, ms }
                }
            };
        }
    }
}
