//! Reservations: credits into escrow, then a signed token.

use comity_ledger::Db;
use comity_ledger::{Group, LedgerTx, Refusal, Store as _, Transfer, TransferId, TransferKind};
use comity_token::mint;
use comity_wire::api::clearing::{ReservationReply, ReservationRequest, SignedBytes};
use comity_wire::object::{NodeCertificate, Quote, Token};
use comity_wire::{
    Amount, Decode as _, Digest, Object as _, ProjectId, PublicKey, Signed, Timestamp, TokenId, Verified,
};

use super::Clearing;
use super::nodes::not_the_owner;
use crate::failure::Failure;
use crate::store::tokens::TokenRow;
use crate::store::{self, money};
use crate::{pseudonym, quote, reservation, vetting};

impl Clearing {
    /// Sets credits aside and signs a token for them. The same id with the same request gives the stored token again.
    ///
    /// # Errors
    /// [`Failure`]; then no credits moved.
    pub async fn reserve(&self, caller: &PublicKey, request: &ReservationRequest) -> Result<ReservationReply, Failure> {
        let quote = Signed::<Quote>::decode(&request.quote)?.verify_any(&self.inner.keys.issuers())?;
        let project = quote.project;
        let mut conn = self.read().await?;
        Self::member_of(&mut conn.db(), caller, project).await?;
        let fingerprint = reservation::fingerprint(request);
        if let Some(row) = store::tokens::token_find(&mut conn.db(), request.id).await? {
            drop(conn);
            return self.repeated(&row, project, request, fingerprint).await;
        }
        let (token, certificate) = self.draft_token(&mut conn.db(), request, &quote).await?;
        drop(conn);
        let mut row = TokenRow::of(&token, Some(project), certificate.org, fingerprint);
        row.issuer = Some(self.inner.keys.issuer.public());
        let now = self.now();
        let asked = request.budget;
        let house = self.clone();
        // A twin of this call may have been quicker: then the row is there, and the repeat's rules hold.
        let created = self
            .write(move |conn| {
                Box::pin(async move {
                    let created = reserve_in_tx(conn, &row, &certificate, asked, now).await?;
                    house.fail("reserve.before_commit");
                    Ok(created)
                })
            })
            .await?;
        self.fail("reserve.after_commit");
        let mut conn = self.read().await?;
        let row = store::tokens::token_find(&mut conn.db(), request.id).await?;
        let row = row.ok_or(Failure::Unreadable { table: "token", what: "a row that was committed" })?;
        drop(conn);
        let reply = self.repeated(&row, project, request, fingerprint).await?;
        self.fail("reserve.before_reply");
        Ok(ReservationReply { created, ..reply })
    }

    /// The stored token, signed now if the house stopped between commit and signature.
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
        let token = self.signed(row).await?;
        let available = self.available(project).await?;
        let token = SignedBytes::new(token).map_err(Failure::invalid)?;
        Ok(ReservationReply { token, created: false, available })
    }

    /// The signed bytes of a token in the books. Ed25519 is deterministic: signing again gives the same bytes.
    async fn signed(&self, row: &TokenRow) -> Result<Vec<u8>, Failure> {
        if let Some(bytes) = &row.bytes {
            return Ok(bytes.clone());
        }
        let token = self.sign(row)?;
        let bytes = token.bytes().to_vec();
        self.write(move |conn| Box::pin(async move { store::tokens::token_sign_in_tx(conn, &token).await })).await?;
        Ok(bytes)
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

    async fn draft_token(
        &self,
        conn: &mut Db<'_>,
        request: &ReservationRequest,
        quote: &Quote,
    ) -> Result<(Token, Verified<NodeCertificate>), Failure> {
        let now = self.now();
        let project = store::projects::project_find(conn, quote.project).await?;
        let project = project.ok_or_else(|| Failure::NotFound { what: format!("project {}", quote.project) })?;
        if project.frozen {
            return Err(Failure::Frozen { project: project.id });
        }
        if !request.budget.is_zero() {
            awards_open(conn, project.id, now).await?;
        }
        let certificate = quote::certificate(quote.node, &*self.inner.directory, self.inner.config.org, now)?;
        let statements = store::projects::vetting_statements(conn, project.id).await?;
        let standing = reservation::Standing {
            subject: pseudonym::derive(&self.inner.keys.pseudonyms, project.id, certificate.org),
            vetting: vetting::of(&statements, now),
            purposes: &project.purposes,
        };
        let directory = &*self.inner.directory;
        let token = reservation::token(request, quote, &standing, &certificate, directory, &self.inner.config, now)?;
        // Signed once without leaving the house, so that a token which breaks its own rules is refused before it costs.
        comity_wire::cose::try_sign(&token, &self.inner.keys.issuer)?;
        Ok((token, certificate))
    }

    pub(super) async fn available(&self, project: ProjectId) -> Result<Amount, Failure> {
        let account = self.inner.reader.account(money::allocation(project).id).await?;
        Ok(account.map_or(Amount::ZERO, |account| account.available()))
    }
}

/// Credits whose time ran out buy nothing new.
async fn awards_open(conn: &mut Db<'_>, project: ProjectId, now: Timestamp) -> Result<(), Failure> {
    let awards = store::projects::awards(conn, project).await?;
    match awards.iter().map(|award| award.ends_at).max() {
        Some(at) if at <= now => Err(Failure::AwardsEnded { project, at }),
        _ => Ok(()),
    }
}

/// The token's row, its escrow and its transfer, together; whether it was this call that made them.
async fn reserve_in_tx(
    conn: &mut Db<'_>,
    row: &TokenRow,
    certificate: &NodeCertificate,
    asked: Amount,
    now: Timestamp,
) -> Result<bool, Failure> {
    if store::tokens::token_find(conn, row.id).await?.is_some() {
        return Ok(false);
    }
    let project = row.project.expect("a reservation is a project's");
    store::tokens::token_insert_in_tx(conn, row).await?;
    if !store::house::node_keys_put_in_tx(conn, certificate, now).await? {
        return Err(not_the_owner(row.node));
    }
    let subject = subject_of(row)?;
    store::projects::pseudonym_insert_in_tx(conn, project, row.owner, subject).await?;
    if asked.is_zero() {
        return Ok(true);
    }
    let mut ledger = LedgerTx::new(conn);
    let (from, to) = (money::allocation(project), money::escrow(row.id));
    money::open_in_tx(&mut ledger, &[from, to], now).await?;
    let transfer = Transfer {
        id: reserve_id(row.id),
        kind: TransferKind::Reserve,
        debit: from.id,
        credit: to.id,
        amount: asked,
        reference: money::reference(row.id.0),
        evidence: row.request,
    };
    match money::try_post_in_tx(&mut ledger, Group::single(transfer), now).await? {
        Ok(()) => {}
        Err(Refusal::ExceedsCredits { available, asked, .. }) => {
            return Err(Failure::BalanceTooLow { asked, available });
        }
        Err(refusal) => return Err(Failure::Books { what: refusal.to_string() }),
    }
    let held = ledger.account_in_tx(to.id).await?.map_or(Amount::ZERO, |account| account.available());
    assert_eq!(held, asked, "a new escrow holds what was reserved");
    Ok(true)
}

pub(crate) fn reserve_id(token: TokenId) -> TransferId {
    TransferId::derive(TransferKind::Reserve, &[token.as_bytes()])
}

fn subject_of(row: &TokenRow) -> Result<comity_wire::Pseudonym, Failure> {
    let unreadable = Failure::Unreadable { table: "token", what: "subject" };
    let limits = comity_wire::cbor::Limits { bytes_max: 4096, items_max: 512, tagged: false };
    let token = row.payload.as_ref().and_then(|payload| Token::from_cbor(payload, limits).ok());
    token.and_then(|token| token.subject.parse().ok()).ok_or(unreadable)
}
