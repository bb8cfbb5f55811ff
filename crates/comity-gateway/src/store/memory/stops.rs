//! What an operator stopped, and the log of that.

use futures::FutureExt as _;

use super::Memory;
use crate::store::Answer;
use crate::store::stops::{STOPS_MAX, Said, SaidAct, Stop, Stops, Target, Word, too_many};

impl Stops for Memory {
    fn stops(&self) -> Answer<'_, Vec<Stop>> {
        self.read(|rows| rows.stops.values().cloned().collect())
    }

    fn stop_put<'a>(&'a self, wanted: &'a Stop) -> Answer<'a, Stop> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            if rows.stops.len() >= STOPS_MAX && !rows.stops.contains_key(&wanted.target) {
                return Err(too_many());
            }
            rows.say(wanted.running.said(), &wanted.target, &wanted.word);
            let stands = rows.stops.entry(wanted.target.clone()).or_insert_with(|| wanted.clone());
            stands.running = stands.running.max(wanted.running);
            Ok(stands.clone())
        }
        .boxed()
    }

    fn stop_end<'a>(&'a self, target: &'a Target, word: &'a Word) -> Answer<'a, Option<Stop>> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            let ended = rows.stops.remove(target);
            if ended.is_some() {
                rows.say(SaidAct::Resumed, target, word);
            }
            Ok(ended)
        }
        .boxed()
    }

    fn stop_log(&self, most: u32) -> Answer<'_, Vec<Said>> {
        self.read(move |rows| rows.stop_log.iter().rev().take(most as usize).cloned().collect())
    }

    fn stop_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<Said>> {
        self.read(move |rows| rows.stop_log.iter().filter(|said| said.n > n).take(most as usize).cloned().collect())
    }
}
