//! The calendar: when the house was taking claims. Deadlines count only that time (rule 8).
//!
//! The house writes a heartbeat every 60 s; a gap of more than 120 s is closed time.

use comity_wire::Timestamp;

/// Spans of open time, ascending, apart by more than [`Calendar::GAP_S`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    spans: Vec<(Timestamp, Timestamp)>,
}

/// What a heartbeat does to the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// A span begins: the first, or after closed time.
    Opened,
    /// The newest span reaches to here.
    Extended,
}

impl Calendar {
    pub const BEAT_S: u64 = 60;
    pub const GAP_S: u64 = 120;

    pub fn new(spans: Vec<(Timestamp, Timestamp)>) -> Self {
        assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0), "spans of open time ascend");
        Self { spans }
    }

    pub fn spans(&self) -> &[(Timestamp, Timestamp)] {
        &self.spans
    }

    /// The house takes claims at `now`. A clock that went back adds nothing.
    pub fn beat(&mut self, now: Timestamp) -> Beat {
        match self.spans.last_mut() {
            Some(last) if now.since(last.1) <= Self::GAP_S => {
                last.1 = last.1.max(now);
                Beat::Extended
            }
            _ => {
                self.spans.push((now, now));
                Beat::Opened
            }
        }
    }

    /// Seconds between `from` and `to` in which the house did not take claims.
    pub fn closed_s(&self, from: Timestamp, to: Timestamp) -> u64 {
        let overlap = |gap: (Timestamp, Timestamp)| gap.1.min(to).since(gap.0.max(from));
        let between: u64 = self.spans.windows(2).map(|pair| overlap((pair[0].1, pair[1].0))).sum();
        // Before the first beat on record nobody took claims: a house that lost its books begins anew.
        let Some((first, last)) = self.spans.first().zip(self.spans.last()) else { return to.since(from) };
        let before = overlap((Timestamp(0), first.0));
        let since = if to.since(last.1) > Self::GAP_S { overlap((last.1, to)) } else { 0 };
        before + between + since
    }

    /// Seconds between `from` and `to` in which the house took claims.
    pub fn open_s(&self, from: Timestamp, to: Timestamp) -> u64 {
        to.since(from).saturating_sub(self.closed_s(from, to))
    }

    /// The newest moment since which the house took claims for so long; the beginning of time where it never did.
    pub fn since(&self, now: Timestamp, open_s: u64) -> Timestamp {
        let mut left = open_s;
        let mut spans = self.spans.iter().rev();
        let running =
            |span: &(Timestamp, Timestamp)| if now.since(span.1) > Self::GAP_S { *span } else { (span.0, now) };
        let newest = spans.next().map(running);
        for (from, to) in newest.into_iter().chain(spans.copied()) {
            match left.checked_sub(to.since(from)) {
                Some(more) if more > 0 => left = more,
                _ => return to.minus(left),
            }
        }
        Timestamp(0)
    }

    /// Whether a deadline that was set at `from` for `due` is reached.
    pub fn has_passed(&self, from: Timestamp, due: Timestamp, now: Timestamp) -> bool {
        self.open_s(from, now) >= due.since(from)
    }

    /// When, with no more closed time, a deadline that was set at `from` for `due` will be reached.
    pub fn moved(&self, from: Timestamp, due: Timestamp, now: Timestamp) -> Timestamp {
        due.plus(self.closed_s(from, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(times: impl IntoIterator<Item = u64>) -> Calendar {
        let mut calendar = Calendar::default();
        for time in times {
            calendar.beat(Timestamp(time));
        }
        calendar
    }

    #[test]
    fn time_in_which_the_house_was_closed_does_not_count() {
        let calendar = beats((0..=10).map(|i| i * 60).chain((100..=110).map(|i| i * 60)));
        assert_eq!(calendar.spans().len(), 2);
        assert_eq!(calendar.closed_s(Timestamp(0), Timestamp(6600)), 5400);
        assert!(!calendar.has_passed(Timestamp(0), Timestamp(1201), Timestamp(6600)));
        assert!(calendar.has_passed(Timestamp(0), Timestamp(1200), Timestamp(6600)));
        assert_eq!(calendar.moved(Timestamp(0), Timestamp(1300), Timestamp(6600)), Timestamp(6700));
    }

    /// A house that lost its books has no beat from before: the time of tokens that it signed then must not run out.
    #[test]
    fn time_before_the_first_beat_on_record_does_not_count() {
        let calendar = beats((10..=20).map(|i| i * 60));
        assert_eq!(calendar.closed_s(Timestamp(0), Timestamp(1200)), 600);
        assert_eq!(calendar.closed_s(Timestamp(500), Timestamp(550)), 50);
        assert!(!calendar.has_passed(Timestamp(0), Timestamp(601), Timestamp(1200)));
        assert!(calendar.has_passed(Timestamp(0), Timestamp(600), Timestamp(1200)));
        assert_eq!(Calendar::default().open_s(Timestamp(0), Timestamp(1200)), 0, "no beat at all");
    }

    #[test]
    fn a_window_looks_back_over_closed_time() {
        let calendar = beats((0..=10).map(|i| i * 60).chain((100..=110).map(|i| i * 60)));
        for (now, open_s, since) in [
            (6600, 0, 6600),
            (6650, 100, 6550),
            (6600, 600, 6000),
            (6600, 601, 599),
            (6600, 1200, 0),
            (6600, 1201, 0),
            (7200, 100, 6500),
        ] {
            assert_eq!(calendar.since(Timestamp(now), open_s), Timestamp(since), "{open_s} before {now}");
            if open_s <= 1200 {
                assert_eq!(calendar.open_s(Timestamp(since), Timestamp(now)), open_s);
            }
        }
        assert_eq!(Calendar::default().since(Timestamp(5), 0), Timestamp(0));
    }

    #[test]
    fn a_missed_beat_is_no_gap() {
        let calendar = beats([0, 60, 180, 240]);
        assert_eq!(calendar.closed_s(Timestamp(0), Timestamp(240)), 0);
        assert_eq!(calendar.closed_s(Timestamp(0), Timestamp(360)), 0);
        assert_eq!(calendar.closed_s(Timestamp(0), Timestamp(361)), 121);
    }
}
