//! Whose tokens are here, and where texts are kept.

use std::collections::BTreeSet;

use comity_wire::TokenId;
use futures::FutureExt as _;

use super::Memory;
use crate::store::Answer;
use crate::store::kept::{self, HOMES_MAX, Kept, TextHome, subject_of, too_many};

impl Kept for Memory {
    fn tokens_of<'a>(&'a self, subject: &'a str, from: TokenId, most: u32) -> Answer<'a, Vec<TokenId>> {
        self.read(move |rows| {
            let of = rows.chains.values().filter(|(token, bytes)| *token >= from && subject_of(bytes) == subject);
            let tokens: BTreeSet<TokenId> = of.map(|(token, _)| *token).collect();
            tokens.into_iter().take(most as usize).collect()
        })
    }

    fn subjects_fill(&self) -> Answer<'_, u32> {
        self.read(|_| 0)
    }

    fn home_put<'a>(&'a self, home: &'a TextHome) -> Answer<'a, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            let over = home.seen_at.minus(kept::UNHEARD_S);
            rows.homes.retain(|id, known| *id != home.id && known.until > over);
            if home.until > home.seen_at {
                if rows.homes.len() >= HOMES_MAX {
                    return Err(too_many());
                }
                rows.homes.insert(home.id.clone(), TextHome { place: kept::place(home), ..home.clone() });
            }
            Ok(())
        }
        .boxed()
    }

    fn homes(&self) -> Answer<'_, Vec<TextHome>> {
        self.read(|rows| rows.homes.values().cloned().collect())
    }
}
