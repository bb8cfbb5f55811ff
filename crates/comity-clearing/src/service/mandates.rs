//! Mandates at the house: redeemed, looked at, ended.

use comity_ledger::Db;
use comity_wire::api::clearing::{MandateReply, MandateRequest};
use comity_wire::object::Mandate;
use comity_wire::{MandateId, ProjectId, PublicKey, Signed};

use super::Clearing;
use super::projects::exists;
use crate::failure::Failure;
use crate::mandates::{MANDATES_MAX, Redeemed, Role, not_found, redeemer};
use crate::store;

impl Clearing {
    /// Takes a mandate from who redeems it: its key becomes a member's, and draws under the mandate from now on.
    ///
    /// # Errors
    /// [`Failure`] where nobody who may signed it, it is another's, or it is over.
    pub async fn mandate_redeem(&self, caller: &PublicKey, request: &MandateRequest) -> Result<MandateReply, Failure> {
        let signed = Signed::<Mandate>::decode(&request.mandate)?;
        let signer = PublicKey::from_bytes(signed.kid()).map_err(|_| Failure::NotRegistered)?;
        let mandate = signed.verify(&signer)?;
        let (id, project, now, caller) = (mandate.id, mandate.project, self.now(), *caller);
        let member = redeemer(&mandate, &caller, request.join_code.as_deref())?;
        // Looked at before it is written: anybody can sign a mandate, and that must not cost a turn of the writer.
        let mut conn = self.read().await?;
        if one(&mut conn.db(), id, now).await?.is_none() {
            signed_by_pi(&mut conn.db(), project, &signer).await?;
        }
        drop(conn);
        self.write(move |conn| {
            Box::pin(async move {
                exists(conn, project).await?;
                if let Some(known) = one(conn, id, now).await? {
                    // The first who came with it has it; the same again is nothing new.
                    let same = known.mandate.id() == mandate.id() && known.member == member;
                    return if same {
                        Ok(())
                    } else {
                        Err(Failure::NotYours { what: "a mandate that somebody has redeemed" })
                    };
                }
                signed_by_pi(conn, project, &signer).await?;
                if now >= mandate.not_after {
                    return Err(Failure::MandateOver { id, why: "has ended" });
                }
                if store::mandates::mandates_of_project(conn, project).await? >= MANDATES_MAX {
                    return Err(Failure::Limit { what: "mandates of a project", max: MANDATES_MAX.to_string() });
                }
                store::mandates::mandate_insert_in_tx(conn, &mandate, &member, now).await?;
                if store::projects::role_of(conn, project, &member).await?.is_none() {
                    store::projects::member_put_in_tx(conn, project, &member, Role::Member, now).await?;
                }
                Ok(())
            })
        })
        .await?;
        self.mandate_reply(id).await
    }

    /// How a mandate stands, for who redeemed it and for who may sign mandates of the project.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn mandate(&self, caller: &PublicKey, id: MandateId) -> Result<MandateReply, Failure> {
        let mut conn = self.read().await?;
        let found = one(&mut conn.db(), id, self.now()).await?.ok_or_else(|| not_found(id))?;
        if found.member != *caller {
            may_sign(&mut conn.db(), found.mandate.project, caller).await?;
        }
        drop(conn);
        self.mandate_reply(id).await
    }

    /// Ends a mandate. Tokens that were drawn under it live on.
    ///
    /// # Errors
    /// [`Failure`] where the caller may not sign mandates of the project.
    pub async fn mandate_revoke(&self, caller: &PublicKey, id: MandateId) -> Result<MandateReply, Failure> {
        let (now, caller) = (self.now(), *caller);
        self.write(move |conn| {
            Box::pin(async move {
                let found = one(conn, id, now).await?.ok_or_else(|| not_found(id))?;
                may_sign(conn, found.mandate.project, &caller).await?;
                store::mandates::mandate_revoke_in_tx(conn, id, now).await.map(drop)
            })
        })
        .await?;
        self.mandate_reply(id).await
    }

    async fn mandate_reply(&self, id: MandateId) -> Result<MandateReply, Failure> {
        let now = self.now();
        let found = one(&mut self.read().await?.db(), id, now).await?.ok_or_else(|| not_found(id))?;
        let over = found.in_force(now).err().map(|why| why.to_string());
        let Redeemed { mandate, member, drawn, drawn_today, .. } = found;
        Ok(MandateReply {
            mandate: id,
            project: mandate.project,
            signer: *mandate.signer(),
            member,
            cap: mandate.cap,
            cap_per_day: mandate.cap_per_day,
            drawn,
            drawn_today,
            models: mandate.models.to_vec(),
            not_before: mandate.not_before,
            not_after: mandate.not_after,
            over,
        })
    }
}

async fn one(conn: &mut Db<'_>, id: MandateId, now: comity_wire::Timestamp) -> Result<Option<Redeemed>, Failure> {
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

async fn may_sign(conn: &mut Db<'_>, project: ProjectId, caller: &PublicKey) -> Result<(), Failure> {
    let role = store::projects::role_of(conn, project, caller).await?;
    if role.is_some_and(Role::signs_mandates) {
        Ok(())
    } else {
        Err(Failure::NotYours { what: "another member's mandate" })
    }
}
