//! Projects as persons propose them, the code of conduct, and a PI's word for a member.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_ledger::Db;
use comity_wire::api::person::{MissingReply, WhoamiReply};
use comity_wire::api::proposal::{
    ConductReply, ConductRequest, ProposalRequest, SponsorRequest, conduct_text, sponsor_text, stands,
};
use comity_wire::cbor::Text;
use comity_wire::time::DAY_S;
use comity_wire::{Digest, MemberId, ProjectId, PublicKey, Timestamp};

use super::projects::exists;
use super::{Clearing, amie};
use crate::admin::{ConductPublish, ProposalDecide, ProposalRow};
use crate::failure::Failure;
use crate::mandates::Role;
use crate::persons::TEXT_MAX;
use crate::store;
use crate::store::persons::Kept;
use crate::store::projects::Project;
use crate::store::proposals::{Proposal, State};
use crate::vetting::evidence::{HOUSE, claim};
use crate::vetting::{self, Evidence, How};

/// The most proposals of a person that wait for the house.
const WAITING_MAX: u64 = 8;
/// What a proposal may list: use terms, data classes; and members.
const WORDS_MAX: usize = 16;
const MEMBERS_MAX: usize = 100;
/// The longest purpose, and code of conduct, bytes.
const PURPOSE_MAX: usize = 8 * 1024;
const CONDUCT_MAX: usize = 64 * 1024;
/// The longest that a PI's word for a member holds.
const SPONSOR_S_MAX: u64 = 366 * DAY_S;
/// Proposals that the operator is shown at once.
const SHOWN_MAX: u32 = 1_000;

impl Clearing {
    /// The code of conduct that has to be signed now.
    ///
    /// # Errors
    /// [`Failure::NotFound`] where the house has none.
    pub async fn conduct(&self) -> Result<ConductReply, Failure> {
        let conduct = store::proposals::conduct_newest(&mut self.read().await?.db()).await?;
        conduct.ok_or_else(|| Failure::NotFound { what: "code of conduct: this house asks for none".into() })
    }

    /// The operator says what has to be signed from now on. The same version with the same words is nothing new.
    ///
    /// # Errors
    /// [`Failure`] where the version has other words, or an earlier one is brought again.
    pub async fn conduct_publish(&self, ask: ConductPublish) -> Result<ConductReply, Failure> {
        let (now, ConductPublish { version, body }) = (self.now(), ask);
        let is_word =
            |text: &str| text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
        if version.is_empty() || !is_word(&version) {
            return Err(Failure::invalid("a version is 1 to 32 of letters, digits, '.' and '-'"));
        }
        if body.trim().is_empty() || body.len() > CONDUCT_MAX {
            return Err(Failure::Limit {
                what: "bytes of a code of conduct, and at least one",
                max: CONDUCT_MAX.to_string(),
            });
        }
        let conduct = ConductReply { version, digest: Digest::of(body.as_bytes()), body };
        self.write(move |conn| {
            Box::pin(async move {
                if let Some(known) = store::proposals::conduct_find(conn, &conduct.version).await? {
                    let newest = store::proposals::conduct_newest(conn).await?;
                    return if known.digest == conduct.digest && newest.as_ref() == Some(&known) {
                        Ok(known)
                    } else {
                        Err(Failure::invalid(
                            "this version has other words, or was followed by another: give it a new name",
                        ))
                    };
                }
                store::proposals::conduct_insert_in_tx(conn, &conduct, now).await?;
                Ok(conduct)
            })
        })
        .await
    }

    /// A person signs the code of conduct.
    ///
    /// # Errors
    /// [`Failure`] where nobody knows whose key it is, or it signed something else.
    pub async fn conduct_sign(&self, caller: &PublicKey, ask: ConductRequest) -> Result<WhoamiReply, Failure> {
        let (now, key) = (self.now(), *caller);
        if !stands(&conduct_text(&ask.version, &ask.digest), &ask.signature, caller) {
            return Err(Failure::NotYours { what: "a code of conduct that this key has not signed" });
        }
        self.write(move |conn| {
            Box::pin(async move {
                let person = person_of(conn, &key).await?;
                let wanted = store::proposals::conduct_newest(conn).await?;
                if wanted.is_none_or(|wanted| (wanted.version, wanted.digest) != (ask.version.clone(), ask.digest)) {
                    return Err(Failure::invalid(
                        "this is not the code of conduct that has to be signed now (GET /v1/conduct)",
                    ));
                }
                let value = format!("{} {}", ask.version, ask.digest);
                signed_in_tx(conn, person, (claim::CONDUCT, &value, None), (&key, &ask.signature), now).await
            })
        })
        .await?;
        self.whoami(caller).await
    }

    /// Somebody proposes a project, and is its PI. It can draw nothing that asks for vetting before the house has taken it in.
    ///
    /// # Errors
    /// [`Failure`] where nobody knows whose key it is, the id is another project's, or too many wait.
    pub async fn propose(&self, caller: &PublicKey, ask: ProposalRequest) -> Result<MissingReply, Failure> {
        let (now, key, secret) = (self.now(), *caller, self.inner.keys.pseudonyms.clone());
        well_formed(&ask)?;
        let request = Digest::of(&serde_json::to_vec(&ask).map_err(Failure::invalid)?);
        let id = ask.id;
        self.write(move |conn| {
            Box::pin(async move {
                let proposer = person_of(conn, &key).await?;
                if store::projects::project_find(conn, id).await?.is_some() {
                    let known = store::proposals::proposal_find(conn, id).await?;
                    let same = known.is_some_and(|known| known.request == request && known.proposer == proposer);
                    return if same {
                        Ok(())
                    } else {
                        Err(Failure::NotYours { what: "another project's id: take a new one" })
                    };
                }
                if store::proposals::proposals_waiting(conn, proposer).await? >= WAITING_MAX {
                    return Err(Failure::Limit { what: "proposals that wait", max: WAITING_MAX.to_string() });
                }
                let ProposalRequest { title, purpose, use_terms, data_classes, members, .. } = ask;
                let project = Project { id, title, purposes: use_terms, frozen: false };
                store::projects::project_insert_in_tx(conn, &project, now).await?;
                store::projects::member_put_in_tx(conn, id, &key, Role::Pi, now).await?;
                let proposal = Proposal {
                    project: id,
                    proposer,
                    purpose,
                    data_classes,
                    members,
                    request,
                    proposed_at: now,
                    state: State::Waits,
                    decided_at: None,
                    reason: String::new(),
                };
                store::proposals::proposal_insert_in_tx(conn, &proposal).await?;
                amie::due_in_tx(conn, &secret, id, now).await.map(drop)
            })
        })
        .await?;
        self.missing(caller, id).await
    }

    /// The operator takes a proposed project in, or does not.
    ///
    /// # Errors
    /// [`Failure`] where nobody proposed it, or no reason is given for a no.
    pub async fn proposal_decide(&self, ask: ProposalDecide) -> Result<ProposalRow, Failure> {
        let (now, secret) = (self.now(), self.inner.keys.pseudonyms.clone());
        let ProposalDecide { project, accept, reason } = ask;
        if reason.len() > TEXT_MAX || (!accept && reason.trim().is_empty()) {
            return Err(Failure::invalid(format!("a no has a reason, of at most {TEXT_MAX} bytes")));
        }
        self.write(move |conn| {
            Box::pin(async move {
                let proposal = proposed(conn, project).await?;
                let state = if accept { State::Accepted } else { State::Declined };
                store::proposals::proposal_decide_in_tx(conn, project, (state, &reason), now).await?;
                // Nobody is made a member by whoever proposes something: somebody has looked at it by now.
                // Accepted again it brings nobody back who was removed since.
                if accept && proposal.state != State::Accepted {
                    for member in &proposal.members {
                        if store::projects::role_of(conn, project, member).await?.is_none() {
                            store::projects::member_put_in_tx(conn, project, member, Role::Member, now).await?;
                        }
                    }
                }
                amie::due_in_tx(conn, &secret, project, now).await.map(drop)
            })
        })
        .await?;
        let mut conn = self.read().await?;
        let proposal = proposed(&mut conn.db(), project).await?;
        row(&mut conn.db(), proposal).await
    }

    /// What was proposed, what waits first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn proposals(&self) -> Result<Vec<ProposalRow>, Failure> {
        let mut conn = self.read().await?;
        let mut rows = Vec::new();
        for proposal in store::proposals::proposals(&mut conn.db(), SHOWN_MAX).await? {
            rows.push(row(&mut conn.db(), proposal).await?);
        }
        Ok(rows)
    }

    /// A PI answers for a member of the project.
    ///
    /// # Errors
    /// [`Failure`] where the caller is no PI there, or the member's key is no person's yet.
    pub async fn sponsor(
        &self,
        caller: &PublicKey,
        project: ProjectId,
        ask: SponsorRequest,
    ) -> Result<MissingReply, Failure> {
        let (now, key) = (self.now(), *caller);
        if !stands(&sponsor_text(project, &ask.member, ask.until), &ask.signature, caller) {
            return Err(Failure::NotYours { what: "a word for a member that this key has not signed" });
        }
        if ask.until > now.plus(SPONSOR_S_MAX) {
            return Err(Failure::Limit {
                what: "days that a PI's word holds",
                max: (SPONSOR_S_MAX / DAY_S).to_string(),
            });
        }
        self.write(move |conn| {
            Box::pin(async move {
                Self::member_of(conn, &key, project).await?;
                let role = store::projects::role_of(conn, project, &key).await?;
                if !role.is_some_and(Role::signs_mandates) {
                    return Err(Failure::NotYours { what: "a word for a member is a PI's or co-PI's" });
                }
                let pi = person_of(conn, &key).await?;
                if store::projects::role_of(conn, project, &ask.member).await?.is_none() {
                    return Err(Failure::NotFound { what: format!("member {} of the project", ask.member) });
                }
                let member =
                    store::persons::key_find(conn, &ask.member).await?.filter(|bound| bound.revoked_at.is_none());
                let member = member.ok_or_else(|| {
                    Failure::invalid("nobody has said whose key the member's is: they log in first (comity login)")
                })?;
                if member.person == pi {
                    return Err(Failure::NotYours { what: "a PI's word is for somebody else" });
                }
                let value = vetting::sponsored(project, pi);
                let said = (claim::SPONSORED, value.as_str(), Some(ask.until));
                signed_in_tx(conn, member.person, said, (&key, &ask.signature), now).await
            })
        })
        .await?;
        self.missing(caller, project).await
    }
}

/// What has to be signed, as evidence has it.
pub(super) async fn conduct_value(conn: &mut Db<'_>) -> Result<Option<String>, Failure> {
    let newest = store::proposals::conduct_newest(conn).await?;
    Ok(newest.map(|newest| format!("{} {}", newest.version, newest.digest)))
}

/// Whether the house took a project in: that which nobody proposed is its own.
pub(super) async fn is_accepted(conn: &mut Db<'_>, project: ProjectId) -> Result<bool, Failure> {
    let proposal = store::proposals::proposal_find(conn, project).await?;
    Ok(proposal.is_none_or(|proposal| proposal.state == State::Accepted))
}

async fn proposed(conn: &mut Db<'_>, project: ProjectId) -> Result<Proposal, Failure> {
    let proposal = store::proposals::proposal_find(conn, project).await?;
    proposal.ok_or_else(|| Failure::NotFound { what: format!("proposal of project {project}") })
}

async fn row(conn: &mut Db<'_>, proposal: Proposal) -> Result<ProposalRow, Failure> {
    let project = exists(conn, proposal.project).await?;
    let state = match proposal.state {
        State::Waits => "waits",
        State::Accepted => "accepted",
        State::Declined => "declined",
    };
    Ok(ProposalRow {
        project: project.id,
        title: project.title,
        proposer: proposal.proposer,
        purpose: proposal.purpose,
        use_terms: project.purposes,
        data_classes: proposal.data_classes,
        members: store::projects::members(conn, proposal.project).await?,
        proposed_at: proposal.proposed_at,
        state: state.to_owned(),
        decided_at: proposal.decided_at,
        reason: proposal.reason,
    })
}

/// Whose key it is: somebody's.
async fn person_of(conn: &mut Db<'_>, key: &PublicKey) -> Result<MemberId, Failure> {
    let bound = store::persons::key_find(conn, key).await?.filter(|bound| bound.revoked_at.is_none());
    Ok(bound.ok_or(Failure::NotRegistered)?.person)
}

/// Takes down what a key signed, unless the same stands already.
async fn signed_in_tx(
    conn: &mut Db<'_>,
    person: MemberId,
    (claim, value, until): (&str, &str, Option<Timestamp>),
    (key, signature): (&PublicKey, &[u8]),
    now: Timestamp,
) -> Result<(), Failure> {
    let known = store::persons::person(conn, person, now).await?;
    let newest =
        known.evidence.iter().rev().find(|row| row.how == How::Signed && row.claim == claim && row.value == value);
    if newest.is_some_and(|newest| newest.expires_at == until) {
        return Ok(());
    }
    let evidence = Evidence {
        issuer: HOUSE.into(),
        claim: claim.into(),
        value: value.into(),
        asserted_at: now,
        expires_at: until,
        how: How::Signed,
        occasion: store::persons::occasion_next(conn, person).await?,
    };
    let note = URL_SAFE_NO_PAD.encode(signature);
    let kept = Kept { evidence, note, recorded_by: key.to_string(), recorded_at: now };
    store::persons::evidence_insert_in_tx(conn, person, &[kept]).await
}

fn well_formed(ask: &ProposalRequest) -> Result<(), Failure> {
    Text::<96>::new(ask.title.clone()).map_err(Failure::invalid)?;
    if ask.title.trim().is_empty() || ask.purpose.trim().is_empty() {
        return Err(Failure::invalid("a proposal has a title, and says what it is for"));
    }
    if ask.purpose.len() > PURPOSE_MAX {
        return Err(Failure::Limit { what: "bytes of a purpose", max: PURPOSE_MAX.to_string() });
    }
    let words = [("use terms of a project", &ask.use_terms), ("data classes of a project", &ask.data_classes)];
    for (what, words) in words {
        if words.len() > WORDS_MAX {
            return Err(Failure::Limit { what, max: WORDS_MAX.to_string() });
        }
        for word in words {
            Text::<48>::new(word.clone()).map_err(Failure::invalid)?;
        }
    }
    if ask.members.len() > MEMBERS_MAX {
        return Err(Failure::Limit { what: "members of a proposal", max: MEMBERS_MAX.to_string() });
    }
    Ok(())
}
