//! The house's revocation list: number 1 is empty and made at the start; a fresh one comes at least every 12 h.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use comity_ledger::Db;
use comity_wire::api::person::TokensStopped;
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Revocation, RevocationList, RevokedKind};
use comity_wire::{NodeId, OrgId, Signed, Timestamp, TokenId, Verified, cose};

use super::Clearing;
use crate::config::Publisher;
use crate::failure::Failure;
use crate::store;
use crate::store::tokens::Drawn;

/// When a list is made anew; nodes take one for 24 h.
pub(crate) const RENEW_S: u64 = 12 * 3600;

/// How often tokens of a key that ended are looked for.
const LOOKS: usize = 3;

/// Entries that tokens leave to nodes and organisations, which stop more at once.
const NOT_TOKENS: usize = 256;
/// Entries that members who end a key of theirs leave to the operator: nobody fills the list with tokens that they drew for it.
const NOT_MEMBERS: usize = 1_024;

/// The newest list that this process knows of, and where it hands it on. The newest of all stands in the books.
#[derive(Default)]
pub(super) struct Newest {
    list: Option<Verified<RevocationList>>,
    publisher: Option<Publisher>,
}

impl Newest {
    /// Takes a list over that is newer, and hands it on. Under one lock, so that lists are handed on in the order of their numbers.
    fn take(&mut self, list: Verified<RevocationList>) {
        if self.list.as_ref().is_some_and(|held| held.number >= list.number) {
            return;
        }
        if let Some(publisher) = &self.publisher {
            publisher(&list);
        }
        self.list = Some(list);
    }
}

impl Clearing {
    /// The newest list, as this process knows it.
    pub fn standing(&self) -> Option<Verified<RevocationList>> {
        self.inner.standing.read().unwrap_or_else(PoisonError::into_inner).list.clone()
    }

    /// Hands the newest list, and each that follows, to the feed, whichever replica made it. The publisher asks nothing of this house.
    pub fn on_standing(&self, publisher: Publisher) {
        let mut newest = self.inner.standing.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = &newest.list {
            publisher(list);
        }
        newest.publisher = Some(publisher);
    }

    fn standing_take(&self, list: Verified<RevocationList>) {
        self.inner.standing.write().unwrap_or_else(PoisonError::into_inner).take(list);
    }

    /// Takes the newest list over from the books: another replica may have made it.
    ///
    /// # Errors
    /// [`Failure`] where the books cannot be read.
    pub async fn standing_look(&self) -> Result<(), Failure> {
        let stored = store::house::standing(&mut self.read().await?.db()).await?;
        if let Some(list) = self.standing_read(stored)? {
            self.standing_take(list);
        }
        Ok(())
    }

    /// A list as the books have it; `None` where it is signed by a key that this house has not.
    fn standing_read(&self, stored: Option<Vec<u8>>) -> Result<Option<Verified<RevocationList>>, Failure> {
        let Some(bytes) = stored else { return Ok(None) };
        match Signed::<RevocationList>::decode(&bytes)?.verify_any(&self.inner.keys.issuers()) {
            Ok(list) => Ok(Some(list)),
            // The house has another issuer key and not the one before: it signs the next list at once.
            Err(source) => {
                tracing::warn!(%source, "the stored revocation list is an earlier key's");
                Ok(None)
            }
        }
    }

    /// Stops new work under a token, everywhere. What was done is paid all the same (rule 8).
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke(&self, token: TokenId) -> Result<u64, Failure> {
        self.revoke_subject(RevokedKind::Token, token.to_string()).await
    }

    /// Stops new work at a node.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_node(&self, node: NodeId) -> Result<u64, Failure> {
        self.revoke_subject(RevokedKind::Node, node.to_string()).await
    }

    /// Stops new work at all nodes of an organisation.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_organisation(&self, org: OrgId) -> Result<u64, Failure> {
        self.revoke_subject(RevokedKind::Organisation, org.to_string()).await
    }

    /// Stops new work under what a key drew that ended: a computer that is lost has its tokens with it. Each is as good as revoked by itself;
    /// where the list has no more room for them the smallest are left, and end by themselves within a day.
    pub(super) async fn revoke_drawn(&self, drawn: Drawn, by_member: bool) -> Result<TokensStopped, Failure> {
        let left_over = if by_member { NOT_MEMBERS } else { 0 };
        let mut done = TokensStopped::default();
        // A token that was being drawn while the key ended comes a moment later.
        for _ in 0..LOOKS {
            let now = self.now();
            let live = RevocationList::ENTRIES_MAX + 1;
            let tokens = store::tokens::tokens_live_of(&mut self.read().await?.db(), drawn, now, live).await?;
            let (stopped, new) = self
                .write(move |conn| {
                    Box::pin(async move {
                        let mut listed = store::house::revocations(conn, now).await?;
                        let (mut stopped, mut new) = (TokensStopped::default(), 0_u64);
                        for token in tokens {
                            let (kind, subject) = (RevokedKind::Token, token.to_string());
                            if is_listed(&listed, kind, &subject) {
                                stopped.stopped += 1;
                            } else if has_room_beside(&listed, kind, &subject, left_over).is_ok() {
                                store::house::revocation_insert_in_tx(conn, kind, &subject, now).await?;
                                let subject = Text::new(subject).map_err(Failure::invalid)?;
                                listed.push(Revocation { kind, subject, at: now });
                                stopped.stopped += 1;
                                new += 1;
                            } else {
                                stopped.left += 1;
                            }
                        }
                        Ok((stopped, new))
                    })
                })
                .await?;
            done = stopped;
            if new == 0 {
                break;
            }
            self.fail("revoke.after_commit");
            self.standing_issue().await?;
        }
        if done.left > 0 {
            tracing::error!(left = done.left, %drawn, "the revocation list is full: tokens of what ended live on");
        }
        Ok(done)
    }

    /// Puts a token on the next list; whether there was room.
    pub(super) async fn revoke_in_tx(
        &self,
        conn: &mut Db<'_>,
        token: TokenId,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let (kind, subject) = (RevokedKind::Token, token.to_string());
        if has_room(&store::house::revocations(conn, now).await?, kind, &subject).is_err() {
            return Ok(false);
        }
        store::house::revocation_insert_in_tx(conn, kind, &subject, now).await?;
        Ok(true)
    }

    async fn revoke_subject(&self, kind: RevokedKind, subject: String) -> Result<u64, Failure> {
        let now = self.now();
        self.write(move |conn| {
            Box::pin(async move {
                has_room(&store::house::revocations(conn, now).await?, kind, &subject)?;
                store::house::revocation_insert_in_tx(conn, kind, &subject, now).await
            })
        })
        .await?;
        self.fail("revoke.after_commit");
        self.standing_issue().await
    }

    pub(super) async fn standing_begin(&self) -> Result<(), Failure> {
        let mut conn = self.read().await?;
        let stored = store::house::standing(&mut conn.db()).await?;
        let revoked = store::house::revocations(&mut conn.db(), self.now()).await?;
        drop(conn);
        let mut is_whole = true;
        if let Some(list) = self.standing_read(stored)? {
            is_whole = names_all(&list, &revoked);
            self.standing_take(list);
        }
        // Others may have a list of a higher number, from before the books were set back: one that is above it is made at once.
        let restored_at = self.inner.restored.map(|restored| restored.restored_at);
        let is_set_back = self.standing().is_some_and(|list| restored_at.is_some_and(|at| list.issued_at < at));
        if is_whole && !is_set_back {
            return self.standing_renew().await.map(drop);
        }
        // The house stopped between a revocation and the list that tells of it. A list that cannot be made is no reason
        // to stay shut: the stored one stands.
        if let Err(source) = self.standing_issue().await {
            tracing::error!(error = &source as &dyn std::error::Error, "a revocation is not on any list yet");
        }
        Ok(())
    }

    /// Makes a fresh list where the newest is 12 h old or signed by a key that retired, or does not name all that is revoked: whoever revoked it
    /// stopped before they made theirs, or could not. Whether it did.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn standing_renew(&self) -> Result<bool, Failure> {
        self.standing_look().await?;
        let revoked = store::house::revocations(&mut self.read().await?.db(), self.now()).await?;
        if self.standing().is_some_and(|list| self.is_fresh(&list) && names_all(&list, &revoked)) {
            return Ok(false);
        }
        // Asked again under the lock: of several replicas one makes it.
        Ok(self.standing_make(Unless::Fresh).await?.is_some())
    }

    fn is_fresh(&self, list: &Verified<RevocationList>) -> bool {
        let heard = self.standing_heard().map_or(0, |list| list.number);
        // Another replica may sign with the key before, or the next one, while they are changed.
        let is_ours = *list.signer() == self.inner.keys.issuer.public() || self.is_word_of(list.signer());
        let is_newest = list.number >= heard && self.standing_lost(&list.entries, self.now()).is_empty();
        is_newest && self.now().since(list.issued_at) < RENEW_S && is_ours
    }

    /// The house's own newest list as the federation has it. It is above the house's where books were set back to a backup.
    fn standing_heard(&self) -> Option<Verified<RevocationList>> {
        self.inner.directory.standing(self.inner.config.org)
    }

    /// What that list names and `known` does not, and has not ended by itself.
    fn standing_lost(&self, known: &[Revocation], now: Timestamp) -> Vec<Revocation> {
        let heard = self.standing_heard();
        let is_known =
            |entry: &Revocation| known.iter().any(|known| (known.kind, &known.subject) == (entry.kind, &entry.subject));
        let has_ended = |entry: &Revocation| entry.kind == RevokedKind::Token && entry.at < store::house::ended(now);
        let lost = heard.iter().flat_map(|list| list.entries.iter());
        lost.filter(|entry| !is_known(entry) && !has_ended(entry)).cloned().collect()
    }

    /// Makes a list of everything that is revoked.
    pub(super) async fn standing_issue(&self) -> Result<u64, Failure> {
        let made = self.standing_make(Unless::Never).await?;
        Ok(made.expect("it is made unless that is never to be"))
    }

    /// Numbers, signs and stores a list of everything that is revoked, and hands it on; its number.
    async fn standing_make(&self, unless: Unless) -> Result<Option<u64>, Failure> {
        let house = self.clone();
        self.fail("list.before_commit");
        let made =
            self.write(move |conn| Box::pin(async move { house.standing_make_in_tx(conn, unless).await })).await?;
        let Some(list) = made else {
            self.standing_look().await?;
            return Ok(None);
        };
        self.fail("list.after_commit");
        let number = list.number;
        self.standing_take(list);
        Ok(Some(number))
    }

    /// All of it under the lock of the books: of several replicas none signs a number that another one has signed. What the
    /// federation has of the house's lists and the books have not is revoked all the same.
    async fn standing_make_in_tx(
        &self,
        conn: &mut Db<'_>,
        unless: Unless,
    ) -> Result<Option<Verified<RevocationList>>, Failure> {
        let now = self.now();
        let stored = store::house::standing(conn).await?;
        let mut entries = store::house::revocations(conn, now).await?;
        if matches!(unless, Unless::Fresh)
            && self
                .standing_read(stored.clone())?
                .is_some_and(|list| self.is_fresh(&list) && names_all(&list, &entries))
        {
            return Ok(None);
        }
        let lost = self.standing_lost(&entries, now);
        if !lost.is_empty() {
            tracing::warn!(
                entries = lost.len(),
                "the federation knows of revocations that are not in the books: they are taken over"
            );
            entries.extend(lost.iter().cloned());
            entries.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
        }
        // Numbers rise whoever signed the list before.
        let stored = stored.map(|bytes| Signed::<RevocationList>::decode(&bytes)).transpose()?;
        let number = stored.map_or(1, |list| list.unverified().number + 1);
        let number = number.max(self.standing_heard().map_or(1, |list| list.number + 1));
        // Of books that were set back nobody knows how far the numbers had come; the time is above all of them.
        let number = self.inner.restored.map_or(number, |_| number.max(now.0));
        let entries = List::new(entries).map_err(Failure::invalid)?;
        let list = RevocationList { org: self.inner.config.org, number, issued_at: now, entries };
        let list = cose::sign(&list, &self.inner.keys.issuer);
        for entry in &lost {
            store::house::revocation_insert_in_tx(conn, entry.kind, &entry.subject, entry.at).await?;
        }
        store::house::standing_put_in_tx(conn, (number, list.id()), list.bytes(), now).await?;
        Ok(Some(list))
    }
}

/// One that still names what has ended meanwhile names all.
fn names_all(list: &RevocationList, revoked: &[Revocation]) -> bool {
    let named: BTreeSet<_> = list.entries.iter().map(|entry| (entry.kind, entry.subject.as_str())).collect();
    revoked.iter().all(|entry| named.contains(&(entry.kind, entry.subject.as_str())))
}

fn is_listed(listed: &[Revocation], kind: RevokedKind, subject: &str) -> bool {
    listed.iter().any(|entry| (entry.kind, entry.subject.as_str()) == (kind, subject))
}

/// A list that is full could never be made anew, and a day later no node would take this house's tokens.
fn has_room(listed: &[Revocation], kind: RevokedKind, subject: &str) -> Result<(), Failure> {
    has_room_beside(listed, kind, subject, 0)
}

/// As [`has_room`], and so much is left over.
fn has_room_beside(listed: &[Revocation], kind: RevokedKind, subject: &str, left_over: usize) -> Result<(), Failure> {
    let kept = if kind == RevokedKind::Token { NOT_TOKENS } else { 0 };
    let room = RevocationList::ENTRIES_MAX.saturating_sub(kept + left_over);
    if is_listed(listed, kind, subject) || listed.len() < room {
        return Ok(());
    }
    let ends = listed.iter().filter(|entry| entry.kind == RevokedKind::Token).map(|entry| entry.at).min();
    let ends = ends.map(|at| format!("; the first of its tokens ends by itself by {}", store::house::ends(at)));
    Err(Failure::ListFull { entries: listed.len(), room, ends: ends.unwrap_or_default() })
}

/// When no list is to be made.
#[derive(Clone, Copy)]
enum Unless {
    Never,
    /// The newest one in the books is fresh: another replica was quicker.
    Fresh,
}
