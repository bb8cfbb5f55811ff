//! Publishing our own feed: the next head is made, kept, and only then said.
//!
//! Where one process writes the feed, its own disk keeps the number. Where several do, the [line](crate::line) does: what others have
//! put there is taken over first, the next head is made behind it, and counts only once the line has taken it there.

use std::collections::BTreeMap;

use comity_registry::publish::CannotPublish;
use comity_registry::replica::StoredFeed;
use comity_registry::{Held, Input, Publication, Put, SignedHead, Write};
use comity_wire::object::{Announcement, Door, Head, WriterCertificate};
use comity_wire::{Digest, Signed, Timestamp, cose};

use super::{Driver, RENEW_S, Reply, WAITING_MAX};
use crate::line::{Newest, Numbered};
use crate::{PublishError, Published};

/// How often a head is made anew because another process was quicker.
const TRIES_MAX: u8 = 8;

/// What is to be published: signed when it is known what it comes behind.
pub(super) enum Said {
    Objects(Put),
    /// This node's certificate and these doors.
    Doors(Vec<Door>),
}

/// What a publication was waiting for.
pub(super) enum Step {
    /// Our own disk has it, or not.
    Kept(Result<(), String>, Publication),
    /// What the line has, for what is to be published.
    Looked(Result<Newest, String>, Looking),
    /// Whether the line has taken it.
    Numbered(Result<bool, String>, Publication, Said, u8),
}

/// What the line is asked for.
pub(super) struct Looking {
    /// What is to be published; nothing: only others' are taken over.
    set: Option<Said>,
    tries: u8,
    /// The highest number that was heard before the line was asked: what was heard stood in it already.
    heard: Option<(u32, u64)>,
}

impl Driver {
    /// This node's certificate and doors, signed by the feed's writer. Later than the announcement before it, whichever process made
    /// that, in the same second or by a clock that is ahead: callers keep the one of the latest date.
    fn announcement(&self, doors: &[Door]) -> Option<Put> {
        let writer = self.identity.writer.as_ref()?;
        let own = self.registry.certificate(self.org, self.node)?;
        let before = self.registry.feed(self.org).into_iter().flat_map(|feed| feed.objects.values());
        let before = before.filter_map(|held| match &**held {
            Held::Announcement(said) if said.node == self.node => Some(said.issued_at.plus(1)),
            _ => None,
        });
        let issued_at = before.fold(self.now(), Timestamp::max);
        let announcement = Announcement {
            org: own.org,
            node: self.node,
            doors: doors.iter().take(16).cloned().collect::<Vec<_>>().try_into().expect("16 doors are the most"),
            issued_at,
            expires_at: issued_at.plus(Head::EXPIRES_S),
        };
        let announcement = cose::sign(&announcement, &writer.key);
        Some(Put { objects: vec![own.bytes().to_vec(), announcement.bytes().to_vec()], remove: Vec::new() })
    }

    pub(super) async fn renew(&mut self) {
        if self.identity.writer.is_none() || !self.committing.is_empty() {
            return;
        }
        let Some(current) = self.registry.feed(self.org) else { return };
        if self.now().since(current.head.issued_at) < RENEW_S {
            return;
        }
        let set = self.doors.clone().map_or_else(|| Said::Objects(Put::default()), Said::Doors);
        self.publish(Some(set), None).await;
    }

    /// Makes the next head and hands it to whoever keeps it. One at a time: the number of the next rests on this one's.
    pub(super) async fn publish(&mut self, set: Option<Said>, reply: Option<Reply>) {
        match reply {
            Some(reply) if self.waiting.len() >= WAITING_MAX => {
                let reason = format!("{WAITING_MAX} publications are waiting already");
                let _ = reply.send(Err(PublishError::Store { reason }));
            }
            reply => self.waiting.push_back((set, reply)),
        }
        self.next().await;
    }

    async fn next(&mut self) {
        while self.committing.is_empty() {
            let Some((set, reply)) = self.waiting.pop_front() else { return };
            self.committed = reply;
            match set {
                set if self.shared.is_some() => self.look(set, 0),
                Some(set) => {
                    if let Err(error) = self.keep(&set).await {
                        self.answer(Err(error));
                    }
                }
                None => self.answer(self.current().ok_or_else(nothing)),
            }
        }
    }

    /// Without a line: our own disk keeps the number.
    async fn keep(&mut self, set: &Said) -> Result<(), PublishError> {
        let publication = self.prepare(set)?;
        let done = self.store.commit(self.registry.write_of(&publication)).await;
        self.committing.push(Box::pin(async move {
            let outcome = done.await.unwrap_or_else(|_| Err("the store has closed".to_owned()));
            Step::Kept(outcome, publication)
        }));
        Ok(())
    }

    fn look(&mut self, set: Option<Said>, tries: u8) {
        let Some(shared) = &self.shared else { return };
        let line = shared.line.clone();
        let known = self.registry.feed(self.org).map(|current| current.head.id());
        let heard = self.registry.highest(self.org).map(|(number, _)| number);
        let looking = Looking { set, tries, heard };
        self.committing.push(Box::pin(async move { Step::Looked(line.newest(known).await, looking) }));
    }

    pub(super) async fn step(&mut self, step: Step) {
        match step {
            // The disk has it, or not: only now is it said.
            Step::Kept(Ok(()), publication) => self.say_own(publication).await,
            Step::Kept(Err(reason), _) => self.answer(Err(PublishError::Store { reason })),
            Step::Looked(found, looking) => {
                if let Err(error) = self.looked(found, looking).await {
                    self.answer(Err(error));
                }
            }
            Step::Numbered(Ok(true), publication, ..) => {
                self.fail("head.after_commit");
                // The line keeps it: our own disk has a copy.
                self.store.write(self.registry.write_of(&publication)).await;
                self.say_own(publication).await;
            }
            Step::Numbered(Ok(false), _, set, tries) if tries < TRIES_MAX => self.look(Some(set), tries + 1),
            Step::Numbered(Ok(false), ..) => {
                let reason = format!("other processes were quicker {TRIES_MAX} times");
                self.answer(Err(PublishError::Line { reason }));
            }
            // Perhaps it was taken: whoever looks next finds out, and says it.
            Step::Numbered(Err(reason), ..) => self.answer(Err(PublishError::Line { reason })),
        }
        self.next().await;
    }

    /// What the line has is known: now the next head may be made behind it.
    async fn looked(
        &mut self,
        found: Result<Newest, String>,
        Looking { set, tries, heard }: Looking,
    ) -> Result<(), PublishError> {
        let newest = found.map_err(|reason| PublishError::Line { reason })?;
        let after = self.take_over(newest, heard).await?;
        let Some(set) = set else {
            self.answer(self.current().ok_or_else(nothing));
            return Ok(());
        };
        let publication = self.prepare(&set)?;
        let next = numbered(&publication, self.registry.write_of(&publication));
        let Some(shared) = &self.shared else { return Ok(()) };
        let line = shared.line.clone();
        self.fail("head.before_commit");
        self.committing
            .push(Box::pin(async move { Step::Numbered(line.append(after, next).await, publication, set, tries) }));
        Ok(())
    }

    /// Takes over what others have put into the line; behind which head the next one stands.
    ///
    /// Who cannot be sure of the next number publishes nothing: one number with two contents would freeze the feed for good.
    async fn take_over(&mut self, newest: Newest, heard: Option<(u32, u64)>) -> Result<Option<Digest>, PublishError> {
        let (line, after) = match newest {
            Newest::Nothing => (None, None),
            Newest::Known => {
                let current = self.registry.feed(self.org).map(|current| (current.number(), current.head.id()));
                (current.map(|current| current.0), current.map(|current| current.1))
            }
            Newest::Other(other) => {
                let Numbered { epoch, seq, id, head, writer, frames } = other;
                let frames: BTreeMap<_, _> = frames.into_iter().collect();
                self.registry.adopt(&StoredFeed { head: SignedHead { head, writer }, frames })?;
                self.perform().await;
                (Some((epoch, seq)), Some(id))
            }
        };
        let Some(shared) = &self.shared else { return Ok(after) };
        if line.is_none() && !shared.may_begin {
            return Err(PublishError::Unsure {
                why: "no process has published anything yet, and this one may not begin".into(),
            });
        }
        let ahead = heard.filter(|heard| line.is_none_or(|line| line < *heard));
        if let Some((epoch, seq)) = ahead
            && !shared.is_alone
            && self.writer_epoch().is_none_or(|own| own <= epoch)
        {
            let why = format!(
                "the federation has number {seq} of epoch {epoch}, and what all processes share is older: it was set back, and another \
                 process may have said more than is known here. A new epoch begins above all of it"
            );
            return Err(PublishError::Unsure { why });
        }
        Ok(after)
    }

    fn writer_epoch(&self) -> Option<u32> {
        let writer = self.identity.writer.as_ref()?;
        Some(Signed::<WriterCertificate>::decode(&writer.certificate).ok()?.unverified().epoch)
    }

    fn prepare(&self, said: &Said) -> Result<Publication, PublishError> {
        let writer = self.identity.writer.as_ref().ok_or(PublishError::NoWriter)?;
        let doors;
        let put = match said {
            Said::Objects(put) => put,
            Said::Doors(said) => {
                doors = self.announcement(said).ok_or(PublishError::NoWriter)?;
                &doors
            }
        };
        let publication = self.registry.prepare(self.now(), &writer.certificate, &writer.key, put)?;
        // A writer certificate of another organisation would let this node speak for strangers.
        if publication.complete.head.org != self.org {
            return Err(PublishError::Refused(CannotPublish::WriterMismatch));
        }
        Ok(publication)
    }

    async fn say_own(&mut self, publication: Publication) {
        let head = &publication.complete.head;
        let published = Published { epoch: head.epoch, seq: head.seq, head: head.id() };
        self.input(Input::Published(publication));
        self.perform().await;
        self.answer(Ok(published));
    }

    fn current(&self) -> Option<Published> {
        let head = &self.registry.feed(self.org)?.head;
        Some(Published { epoch: head.epoch, seq: head.seq, head: head.id() })
    }

    fn answer(&mut self, outcome: Result<Published, PublishError>) {
        match (self.committed.take(), outcome) {
            (Some(reply), outcome) => {
                let _ = reply.send(outcome);
            }
            (None, Err(error)) => tracing::warn!(%error, "our head could not be renewed"),
            (None, Ok(_)) => {}
        }
    }
}

fn nothing() -> PublishError {
    PublishError::Line { reason: "nothing was published yet".into() }
}

fn numbered(publication: &Publication, write: Write) -> Numbered {
    let Write::Feed { head: SignedHead { head, writer }, frames, .. } = write else {
        unreachable!("a publication is written as a feed")
    };
    let frames = frames.into_iter().map(|(digest, bytes)| (digest, bytes.to_vec())).collect();
    let named = &publication.complete.head;
    Numbered { epoch: named.epoch, seq: named.seq, id: named.id(), head, writer, frames }
}
