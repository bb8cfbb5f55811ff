//! Mandates at the house: redeemed, looked at, ended.

use comity_ledger::Db;
use comity_wire::api::clearing::{MandateReply, MandateRequest, MandateRevokeRequest, MandateUse};
use comity_wire::object::Mandate;
use comity_wire::{Amount, MandateId, ModelId, ProjectId, PublicKey, Signed, Timestamp, Verified};

use super::Clearing;
use super::projects::exists;
use crate::failure::Failure;
use crate::mandates::{JOBS_MAX, MANDATES_MAX, Placed, Redeemed, Role, Taking, Used, not_found, taking};
use crate::store;
use crate::store::tokens::Drawn;

impl Clearing {
    /// Takes a mandate from who redeems it: its key becomes a member's, and draws under the mandate from now on. Or from who may sign
    /// mandates of the project: it waits for whom it is for, and takes the place of one under the same id.
    ///
    /// # Errors
    /// [`Failure`] where nobody who may signed it, it is another's, or it is over.
    pub async fn mandate_redeem(&self, caller: &PublicKey, request: &MandateRequest) -> Result<MandateReply, Failure> {
        let signed = Signed::<Mandate>::decode(&request.mandate)?;
        let signer = PublicKey::from_bytes(signed.kid()).map_err(|_| Failure::NotRegistered)?;
        let mandate = signed.verify(&signer)?;
        let (id, now, caller, code) = (mandate.id, self.now(), *caller, request.join_code.clone());
        // Looked at before it is written: anybody can sign a mandate, and that must not cost a turn of the writer.
        if judged(&mut self.read().await?.db(), &mandate, &caller, code.as_deref(), now).await? != Taking::Nothing {
            self.write(move |conn| {
                Box::pin(async move { take_in_tx(conn, &mandate, &caller, code.as_deref(), now).await })
            })
            .await?;
        }
        self.mandate_reply(id).await
    }

    /// How a mandate stands: for who redeemed it, for who may sign mandates of the project, and for its signer's assistants.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn mandate(&self, caller: &PublicKey, id: MandateId) -> Result<MandateReply, Failure> {
        let (mut conn, now) = (self.read().await?, self.now());
        let found = one(&mut conn.db(), id, now).await?.ok_or_else(|| not_found(id))?;
        if !found.redeemed || found.member != *caller {
            may_look(&mut conn.db(), &found, caller, now).await?;
        }
        drop(conn);
        self.mandate_reply(id).await
    }

    /// Ends a mandate. Tokens that were drawn under it live on, or are revoked with it.
    ///
    /// # Errors
    /// [`Failure`] where the caller neither may sign mandates of the project nor assists its signer.
    pub async fn mandate_revoke(
        &self,
        caller: &PublicKey,
        id: MandateId,
        ask: MandateRevokeRequest,
    ) -> Result<MandateReply, Failure> {
        let (now, caller) = (self.now(), *caller);
        self.write(move |conn| {
            Box::pin(async move {
                let found = one(conn, id, now).await?.ok_or_else(|| not_found(id))?;
                may_look(conn, &found, &caller, now).await?;
                store::mandates::mandate_revoke_in_tx(conn, id, now).await.map(drop)
            })
        })
        .await?;
        if ask.tokens {
            let done = self.revoke_drawn(Drawn::Under(id), true).await?;
            if done.left > 0 {
                return Err(Failure::Limit {
                    what: "tokens that the revocation list has room for",
                    max: done.stopped.to_string(),
                });
            }
        }
        self.mandate_reply(id).await
    }

    async fn mandate_reply(&self, id: MandateId) -> Result<MandateReply, Failure> {
        let now = self.now();
        let mut conn = self.read().await?;
        let found = one(&mut conn.db(), id, now).await?.ok_or_else(|| not_found(id))?;
        let uses = store::mandates::mandate_uses(&mut conn.db(), id).await?;
        let over = found.in_force(now).err().map(|why| why.to_string());
        let Redeemed { mandate, member, drawn, drawn_today, settled, redeemed, .. } = found;
        Ok(MandateReply {
            mandate: id,
            project: mandate.project,
            signer: *mandate.signer(),
            member,
            cap: mandate.cap,
            cap_per_day: mandate.cap_per_day,
            drawn,
            drawn_today,
            settled,
            by_model: by_model(&mandate, uses),
            assists: mandate.assists == Some(true),
            redeemed,
            models: mandate.models.to_vec(),
            not_before: mandate.not_before,
            not_after: mandate.not_after,
            over,
        })
    }
}

/// Models that were drawn for, and those with a cap of their own.
fn by_model(mandate: &Mandate, uses: Vec<(Option<ModelId>, Used)>) -> Vec<MandateUse> {
    let row = |model: Option<ModelId>, used: Used| MandateUse {
        cap: model.as_ref().and_then(|model| mandate.cap_of(model)),
        model,
        drawn: used.drawn,
        settled: used.settled,
        calls: used.calls,
    };
    let mut rows: Vec<MandateUse> = uses.into_iter().map(|(model, used)| row(model, used)).collect();
    for capped in &*mandate.model_caps {
        if !rows.iter().any(|row| row.model.as_ref() == Some(&capped.model)) {
            rows.push(row(Some(capped.model.clone()), Used { drawn: Amount::ZERO, settled: Amount::ZERO, calls: 0 }));
        }
    }
    rows.sort_by(|a, b| a.model.cmp(&b.model));
    rows
}

/// What becomes of a mandate that is brought, and that who signed it may.
async fn judged(
    conn: &mut Db<'_>,
    mandate: &Verified<Mandate>,
    caller: &PublicKey,
    code: Option<&str>,
    now: Timestamp,
) -> Result<Taking, Failure> {
    let known = one(conn, mandate.id, now).await?;
    let role = store::projects::role_of(conn, mandate.project, caller).await?;
    let taking = taking(mandate, known.as_ref(), (caller, role), code)?;
    match taking {
        Taking::Nothing => {}
        Taking::Claim => known.as_ref().map_or(Ok(()), |known| known.in_force(known.mandate.not_before.max(now)))?,
        Taking::Put(placed) => {
            if now >= mandate.not_after {
                return Err(Failure::MandateOver { id: mandate.id, why: "has ended" });
            }
            if let Err(refused) = signed_by_pi(conn, mandate.project, mandate.signer()).await {
                // A member's word for a job is good within what the member has.
                let own = store::mandates::mandates_of_member(conn, mandate.project, mandate.signer(), now).await?;
                let parent = own.values().find(|own| own.holds(mandate, now)).ok_or(refused)?.mandate.id;
                // It takes the place of none but its own: not of one that a PI signed, whoever brings it.
                if known.as_ref().is_some_and(|known| known.parent != Some(parent)) {
                    return Err(Failure::NotYours { what: "another's mandate" });
                }
                if known.is_none() && store::mandates::mandates_within(conn, parent).await? >= JOBS_MAX {
                    return Err(Failure::Limit { what: "jobs under a mandate", max: JOBS_MAX.to_string() });
                }
                return Ok(Taking::Put(Placed { parent: Some(parent), ..placed }));
            }
        }
    }
    Ok(taking)
}

async fn take_in_tx(
    conn: &mut Db<'_>,
    mandate: &Verified<Mandate>,
    caller: &PublicKey,
    code: Option<&str>,
    now: Timestamp,
) -> Result<(), Failure> {
    let (id, project) = (mandate.id, mandate.project);
    exists(conn, project).await?;
    let placed = match judged(conn, mandate, caller, code, now).await? {
        Taking::Nothing => return Ok(()),
        Taking::Claim => {
            store::mandates::mandate_claim_in_tx(conn, id, caller).await?;
            Placed { member: *caller, redeemed: true, parent: None }
        }
        Taking::Put(placed) => {
            let is_new = one(conn, id, now).await?.is_none();
            if is_new && store::mandates::mandates_of_project(conn, project).await? >= MANDATES_MAX {
                return Err(Failure::Limit { what: "mandates of a project", max: MANDATES_MAX.to_string() });
            }
            store::mandates::mandate_put_in_tx(conn, mandate, placed, now).await?;
            placed
        }
    };
    let member = placed.member;
    if placed.redeemed && store::projects::role_of(conn, project, &member).await?.is_none() {
        store::projects::member_put_in_tx(conn, project, &member, Role::Member, now).await?;
    }
    Ok(())
}

async fn one(conn: &mut Db<'_>, id: MandateId, now: Timestamp) -> Result<Option<Redeemed>, Failure> {
    Ok(store::mandates::mandates(conn, &[id], now).await?.remove(&id))
}

async fn signed_by_pi(conn: &mut Db<'_>, project: ProjectId, signer: &PublicKey) -> Result<(), Failure> {
    let role = store::projects::role_of(conn, project, signer).await?;
    if role.is_some_and(Role::signs_mandates) {
        Ok(())
    } else {
        Err(Failure::NotYours { what: "a mandate is signed by a PI or co-PI of the project" })
    }
}

/// Whether the caller may look at a mandate and end it: who may sign mandates of its project, and assistants of its signer.
async fn may_look(conn: &mut Db<'_>, found: &Redeemed, caller: &PublicKey, now: Timestamp) -> Result<(), Failure> {
    let (project, signer) = (found.mandate.project, found.mandate.signer());
    if store::projects::role_of(conn, project, caller).await?.is_some_and(Role::signs_mandates) {
        return Ok(());
    }
    if found.parent.is_some() && signer == caller {
        return Ok(());
    }
    let own = store::mandates::mandates_of_member(conn, project, caller, now).await?;
    if own.values().any(|own| own.assists(signer, now)) {
        Ok(())
    } else {
        Err(Failure::NotYours { what: "another member's mandate" })
    }
}
