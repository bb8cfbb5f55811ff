//! Reservations: credits of the project's lots into escrow, then a signed token.
//!
//! Those who ask at the same time are served by one job: it reads, decides and writes once for all of them.

use std::collections::{BTreeMap, BTreeSet};

use comity_ledger::group_commit::{JobFuture, Merged};
use comity_ledger::{Committer, Db, Group, LedgerTx, Reader, Transfer, TransferId, TransferKind};
use comity_token::mint;
use comity_wire::api::clearing::{ReservationReply, ReservationRequest, SignedBytes};
use comity_wire::object::{NodeCertificate, Quote, Token, Vetting};
use comity_wire::{
    Amount, Decode as _, Digest, MandateId, NodeId, Object as _, Op, ProjectId, Pseudonym, PublicKey, Timestamp,
    TokenId, Unverified, Verified, cose,
};

use super::gathered::Gathered;
use super::nodes::not_the_owner;
use super::{Clearing, Failpoint, persons};
use crate::failure::Failure;
use crate::lots::{self, Lot, Purpose};
use crate::mandates::{self, Redeemed, Role};
use crate::store::projects::{Membership, Project};
use crate::store::tokens::TokenRow;
use crate::store::{self, money};
use crate::{pseudonym, quote, reservation};

/// Requests that are decided at once. With [`lots::DRAWS_MAX`] lots each they stay within one call of the ledger.
const TOGETHER_MAX: usize = 256;

/// Serves reservations, many at a time.
pub(super) type Reserving = Merged<Reserve, Result<Reserved, Failure>, Failure>;

/// A reservation that only the books can refuse.
#[derive(Clone)]
pub(super) struct Reserve {
    token: Token,
    project: ProjectId,
    /// Whose key asks.
    caller: PublicKey,
    subject: Pseudonym,
    certificate: Verified<NodeCertificate>,
    /// Digest of what was asked for.
    request: Digest,
    issuer: PublicKey,
    /// Under which mandate.
    mandate: Option<MandateId>,
    now: Timestamp,
}

impl Reserve {
    /// A member draws under a mandate; who draws alone may name one too, and is then bound by it.
    fn under(self, role: Role, mandate: Option<MandateId>) -> Result<Self, Failure> {
        if mandate.is_none() && !role.draws_alone() {
            return Err(Failure::MandateRequired);
        }
        Ok(Self { mandate, ..self })
    }
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Reserved {
    /// Its credits lie in escrow. With what the project has left.
    Created(Box<Token>, Amount),
    /// A token of this id is in the books: a twin of this call was quicker.
    Known,
}

/// Reads what projects are to the keys that ask for them, many at a time.
pub(super) type Memberships = Gathered<(ProjectId, PublicKey), Option<Membership>>;

pub(super) fn memberships(reader: Reader) -> Memberships {
    Gathered::new(move |asked: Vec<(ProjectId, PublicKey)>| {
        let reader = reader.clone();
        Box::pin(async move {
            let known = store::projects::memberships(&mut reader.acquire().await?.db(), &asked).await?;
            Ok(asked.iter().map(|(project, key)| known.get(&(*project, *key.as_bytes())).cloned()).collect())
        })
    })
}

/// The job that serves reservations.
pub(super) fn reserving(committer: Committer, failpoint: Failpoint) -> Reserving {
    Merged::new(committer, move |conn, asked| {
        let failpoint = failpoint.clone();
        Box::pin(async move {
            let reserved = reserve_in_tx(conn, asked).await?;
            failpoint("reserve.before_commit");
            Ok(reserved)
        }) as JobFuture<'_, _>
    })
}

impl Clearing {
    /// Sets credits aside and signs a token for them. The same id with the same request gives the same token again.
    ///
    /// # Errors
    /// [`Failure`]; then no credits moved.
    pub async fn reserve(&self, caller: &PublicKey, request: &ReservationRequest) -> Result<ReservationReply, Failure> {
        let quote = self.inner.quotes_known.verified(&request.quote, &self.inner.keys.issuers())?;
        let project = quote.project;
        let fingerprint = reservation::fingerprint(request);
        let found = match self.inner.memberships.ask((project, *caller)).await {
            Some(found) => found,
            None => store::projects::project_of_member(&mut self.read().await?.db(), project, caller).await?,
        };
        let Some((project_row, role, statements)) = found else {
            Self::member_of(&mut self.read().await?.db(), caller, project).await?;
            return Err(Failure::NotFound { what: format!("project {project}") });
        };
        let (now, of) = (self.now(), (project, &statements[..]));
        let level = match persons::level_said(of, role, now) {
            Some(level) => level,
            None => persons::level_of(&mut self.read().await?.db(), of, (caller, role), now).await?,
        };
        let word = || match self.is_word_of(quote.signer()) {
            true => Ok(()),
            false => Err(Unverified::WrongKey { kind: "quote" }.into()),
        };
        let drafted = self.issues(now).and_then(|()| word());
        let drafted =
            drafted.and_then(|()| self.drafted(request, &quote, (&project_row, caller), level.vetting, fingerprint));
        let asked = match drafted.and_then(|asked| asked.under(role, request.mandate)) {
            Ok(asked) => asked,
            // What would not be sold now may have been sold before: then this is its repeat.
            Err(refused) => {
                let sold = store::tokens::token_find(&mut self.read().await?.db(), request.id).await?;
                return match sold {
                    Some(row) => self.repeated(&row, project, request, fingerprint).await,
                    None => Err(refused),
                };
            }
        };
        self.fail("reserve.before_line");
        let reserved = self.inner.reserving.ask(asked).await?;
        self.fail("reserve.after_commit");
        let reply = match reserved? {
            // Signed after the commit, and never before: a token that left is one whose escrow is durable.
            Reserved::Created(token, available) => {
                let token = mint(*token, &self.inner.keys.issuer);
                let token = SignedBytes::new(token.bytes().to_vec()).map_err(Failure::invalid)?;
                ReservationReply { token, created: true, available, unmet: level.unmet }
            }
            Reserved::Known => {
                let row = store::tokens::token_find(&mut self.read().await?.db(), request.id).await?;
                let row = row.ok_or(Failure::Unreadable { table: "token", what: "a row that was committed" })?;
                self.repeated(&row, project, request, fingerprint).await?
            }
        };
        self.fail("reserve.before_reply");
        Ok(reply)
    }

    /// The token in the books, signed again: Ed25519 is deterministic, so it has the same bytes.
    async fn repeated(
        &self,
        row: &TokenRow,
        project: ProjectId,
        request: &ReservationRequest,
        fingerprint: Digest,
    ) -> Result<ReservationReply, Failure> {
        let conflict = |field| Err(Failure::ReservationConflict { token: row.id, field });
        if row.project != Some(project) {
            return conflict("project");
        }
        if row.request != fingerprint {
            return conflict(if row.budget == request.budget { "request" } else { "amount" });
        }
        let bytes = match &row.bytes {
            Some(bytes) => bytes.clone(),
            None => self.sign(row)?.bytes().to_vec(),
        };
        let token = SignedBytes::new(bytes).map_err(Failure::invalid)?;
        Ok(ReservationReply { token, created: false, available: self.available(project).await?, unmet: Vec::new() })
    }

    pub(super) fn sign(&self, row: &TokenRow) -> Result<Verified<Token>, Failure> {
        let unreadable = |what| Failure::Unreadable { table: "token", what };
        let payload = row.payload.as_ref().ok_or_else(|| unreadable("payload"))?;
        let limits = comity_wire::cbor::Limits {
            bytes_max: Token::KIND.bytes_max,
            items_max: Token::KIND.items_max,
            tagged: false,
        };
        let token = Token::from_cbor(payload, limits).map_err(|_| unreadable("payload"))?;
        let issuer = row.issuer.as_ref().and_then(|key| self.inner.keys.issuer_of(key));
        let issuer = issuer.ok_or_else(|| unreadable("an issuer key that the house still has"))?;
        Ok(mint(token, issuer))
    }

    /// The token as it would be sold now, if the books have the credits.
    fn drafted(
        &self,
        request: &ReservationRequest,
        quote: &Quote,
        (project, caller): (&Project, &PublicKey),
        vetting: Vetting,
        fingerprint: Digest,
    ) -> Result<Reserve, Failure> {
        let now = self.now();
        if project.frozen {
            return Err(Failure::Frozen { project: project.id });
        }
        let certificate = quote::certificate(quote.node, &*self.inner.directory, self.inner.config.org, now)?;
        let subject = pseudonym::derive(&self.inner.keys.pseudonyms, project.id, certificate.org);
        let standing = reservation::Standing { subject, vetting, purposes: &project.purposes };
        let directory = &*self.inner.directory;
        let token = reservation::token(request, quote, &standing, &certificate, directory, &self.inner.config, now)?;
        // A token which breaks its own rules is refused before it costs.
        let issuer = self.inner.keys.issuer.public();
        cose::check(&token, &issuer)?;
        Ok(Reserve {
            token,
            project: project.id,
            caller: *caller,
            subject,
            certificate,
            request: fingerprint,
            issuer,
            mandate: None,
            now,
        })
    }

    /// What lies in a project's lots and can be drawn, or could be in its time.
    pub(super) async fn available(&self, project: ProjectId) -> Result<Amount, Failure> {
        let lots = store::awards::lots_to_draw(&mut self.read().await?.db(), &[project]).await?;
        Ok(left(lots.get(&project).map_or(&[], Vec::as_slice)))
    }
}

fn left(lots: &[Lot]) -> Amount {
    lots.iter().map(|lot| lot.balance).fold(Amount::ZERO, Amount::saturating_add)
}

async fn reserve_in_tx(conn: &mut Db<'_>, asked: Vec<Reserve>) -> Result<Vec<Result<Reserved, Failure>>, Failure> {
    let mut answers = Vec::with_capacity(asked.len());
    let mut asked = asked.into_iter();
    loop {
        let together: Vec<Reserve> = asked.by_ref().take(TOGETHER_MAX).collect();
        if together.is_empty() {
            return Ok(answers);
        }
        answers.extend(together_in_tx(conn, together).await?);
    }
}

/// Reads what these reservations rest on, decides each in turn, and writes all that were granted: tokens, draws, escrows
/// and their transfers.
async fn together_in_tx(conn: &mut Db<'_>, asked: Vec<Reserve>) -> Result<Vec<Result<Reserved, Failure>>, Failure> {
    let now = asked.iter().map(|ask| ask.now).max().expect("somebody asked");
    let ids: Vec<TokenId> = asked.iter().map(|ask| ask.token.id).collect();
    let mut known = store::tokens::tokens_known(conn, &ids).await?;
    let owned = owners_in_tx(conn, &asked, &known, now).await?;
    // Whose key was ended, or whose project was frozen, while they stood in line is given nothing more: it was said to be done.
    let members: BTreeSet<_> = asked.iter().map(|ask| (ask.project, ask.caller)).collect();
    let members: Vec<_> = members.into_iter().collect();
    let roles = store::projects::roles_in_tx(conn, &members).await?;
    let projects: BTreeSet<ProjectId> = asked.iter().map(|ask| ask.project).collect();
    let projects: Vec<ProjectId> = projects.into_iter().collect();
    let mut lots = store::awards::lots_to_draw(conn, &projects).await?;
    let named: BTreeSet<MandateId> = asked.iter().filter_map(|ask| ask.mandate).collect();
    let named: Vec<MandateId> = named.into_iter().collect();
    let mut mandates = store::mandates::mandates(conn, &named, now).await?;
    let parents: BTreeSet<MandateId> = mandates.values().filter_map(|one| one.parent).collect();
    let parents: Vec<MandateId> = parents.into_iter().filter(|parent| !mandates.contains_key(parent)).collect();
    if !parents.is_empty() {
        mandates.extend(store::mandates::mandates(conn, &parents, now).await?);
    }
    let mut answers = Vec::with_capacity(asked.len());
    let mut granted = Granted::default();
    for ask in asked {
        if !known.insert(ask.token.id) {
            answers.push(Ok(Reserved::Known));
            continue;
        }
        if !owned.contains(&ask.certificate.id()) {
            known.remove(&ask.token.id);
            answers.push(Err(not_the_owner(ask.token.audience())));
            continue;
        }
        let role = roles.get(&(ask.project, *ask.caller.as_bytes())).copied();
        if let Err(refused) = still_draws(conn, &ask, role).await {
            known.remove(&ask.token.id);
            answers.push(Err(refused));
            continue;
        }
        let lots = lots.entry(ask.project).or_default();
        let id = ask.token.id;
        let answer = granted.grant(ask, lots, &mut mandates);
        if answer.is_err() {
            // What was refused is not in the books: another try of the same id is judged by itself.
            known.remove(&id);
        }
        answers.push(answer);
    }
    granted.write_in_tx(conn, now).await?;
    Ok(answers)
}

/// Whether whoever asked may still draw: with what its key may do now, and whether its project is frozen.
async fn still_draws(conn: &mut Db<'_>, ask: &Reserve, role: Option<(Role, bool)>) -> Result<(), Failure> {
    match role {
        None => Clearing::member_of(conn, &ask.caller, ask.project).await.and(Err(Failure::NotRegistered)),
        Some((_, true)) => Err(Failure::Frozen { project: ask.project }),
        Some((role, false)) if ask.mandate.is_none() && !role.draws_alone() => Err(Failure::MandateRequired),
        Some(_) => Ok(()),
    }
}

/// The certificates that are their nodes' owners', and whose keys are therefore remembered: what is sold now will be
/// claimed under them.
async fn owners_in_tx(
    conn: &mut Db<'_>,
    asked: &[Reserve],
    known: &BTreeSet<TokenId>,
    now: Timestamp,
) -> Result<BTreeSet<Digest>, Failure> {
    let mut owned = BTreeSet::new();
    let mut seen: BTreeMap<Digest, NodeId> = BTreeMap::new();
    for ask in asked.iter().filter(|ask| !known.contains(&ask.token.id)) {
        let id = ask.certificate.id();
        if seen.insert(id, ask.certificate.node).is_none()
            && store::house::node_keys_put_in_tx(conn, &ask.certificate, now).await?
        {
            owned.insert(id);
        }
    }
    Ok(owned)
}

/// What was decided and not written yet.
#[derive(Default)]
struct Granted {
    rows: Vec<TokenRow>,
    draws: Vec<(TokenId, Vec<lots::Draw>)>,
    groups: Vec<Group>,
    subjects: BTreeSet<(ProjectId, comity_wire::OrgId, Pseudonym)>,
}

impl Granted {
    fn grant(
        &mut self,
        ask: Reserve,
        lots: &mut [Lot],
        mandates: &mut BTreeMap<MandateId, Redeemed>,
    ) -> Result<Reserved, Failure> {
        let Reserve { mut token, project, caller, subject, certificate, request, issuer, mandate, now } = ask;
        let (id, asked) = (token.id, token.terms.budget);
        // Asked first, written down last: a draw that the lots refuse counts against no mandate.
        let mut under = Vec::new();
        if let Some(mandate) = mandate {
            let models = || token.terms.scope.iter().map(|scope| &scope.model);
            let mut own = mandates.get(&mandate).cloned().ok_or_else(|| mandates::not_found(mandate))?;
            own.draw(&caller, project, models(), asked, now)?;
            if let Some(parent) = own.parent {
                let mut above = mandates.get(&parent).cloned().ok_or_else(|| mandates::not_found(parent))?;
                above.draw(own.mandate.signer(), project, models(), asked, now)?;
                under.push((parent, above));
            }
            under.push((mandate, own));
        }
        if !asked.is_zero() {
            let ops: Vec<Op> = token.terms.scope.iter().flat_map(|scope| scope.ops.iter().copied()).collect();
            let purpose = Purpose { owner: certificate.org, ops: &ops };
            let drawn = lots::draw(lots, asked, purpose, now).map_err(|lots::TooLittle { usable, unusable }| {
                Failure::BalanceTooLow { asked, available: usable, unusable }
            })?;
            // Work is paid only within the period of what pays it.
            token.expires_at = token.expires_at.min(drawn.ends_at);
            self.groups.push(Group(drawn.draws.iter().map(|draw| transfer(id, draw, request)).collect()));
            self.draws.push((id, drawn.draws));
        }
        let mut row = TokenRow::of(&token, Some(project), certificate.org, request);
        (row.issuer, row.content) = (Some(issuer), Some(cose::content_id(&token, &issuer)));
        row.drawn_by = Some(caller);
        row.mandate = mandate;
        row.model = match (&*token.terms.scope, mandate) {
            ([one], Some(_)) => Some(one.model.clone()),
            _ => None,
        };
        mandates.extend(under);
        self.rows.push(row);
        self.subjects.insert((project, certificate.org, subject));
        Ok(Reserved::Created(Box::new(token), left(lots)))
    }

    async fn write_in_tx(self, conn: &mut Db<'_>, now: Timestamp) -> Result<(), Failure> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let subjects: Vec<_> = self.subjects.into_iter().collect();
        store::projects::pseudonyms_insert_in_tx(conn, &subjects).await?;
        // Money first: in the log a token stands behind the transfers that fill its escrow.
        if !self.groups.is_empty() {
            let escrows: Vec<_> = self.draws.iter().map(|(token, _)| money::escrow(*token)).collect();
            let mut ledger = LedgerTx::new(conn);
            money::open_in_tx(&mut ledger, &escrows, now).await?;
            money::post_all_in_tx(&mut ledger, &self.groups, now).await?;
        }
        store::tokens::tokens_insert_in_tx(conn, &self.rows).await?;
        store::awards::draws_insert_in_tx(conn, &self.draws).await
    }
}

fn transfer(token: TokenId, draw: &lots::Draw, evidence: Digest) -> Transfer {
    Transfer {
        id: TransferId::near(TransferKind::Reserve, money::reference(token.0), &[draw.lot.as_bytes()]),
        kind: TransferKind::Reserve,
        debit: money::allocation(draw.lot).id,
        credit: money::escrow(token).id,
        amount: draw.amount,
        reference: money::reference(token.0),
        evidence,
    }
}
