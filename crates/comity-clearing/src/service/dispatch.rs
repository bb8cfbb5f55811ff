//! What each act of the books is: whether it could be done now, and doing it.

use comity_ledger::Db;
use comity_wire::{Digest, MemberId, Timestamp};

use super::Clearing;
use super::acts::{some, text};
use super::awards::{self, Done};
use super::projects::exists;
use super::{central, exchange, issuing, owners, payouts, periods, persons, projects, recharge, writeoff};
use crate::acts::Act;
use crate::failure::Failure;
use crate::settlement::CHALLENGE_S;
use crate::store;
use crate::store::awards::Award;

/// Whether an act could be done now.
pub(super) async fn check(house: &Clearing, conn: &mut Db<'_>, act: &Act, now: Timestamp) -> Result<(), Failure> {
    match act {
        Act::Award(ask) => {
            exists(conn, ask.project).await?;
            awards::parts_of(ask, now).map(drop)
        }
        Act::Supplement(ask) => {
            let award = awards::award_of(conn, ask.award).await?;
            text("the number of a supplement", &ask.number)?;
            awards::part(&ask.part, &award, now).map(drop)
        }
        Act::Release(ask) => {
            text("the report", &ask.report)?;
            awards::lot_of(conn, ask.lot).await.map(drop)
        }
        Act::Extend(ask) => {
            text("the reason", &ask.reason)?;
            awards::award_of(conn, ask.award).await.map(drop)
        }
        Act::Move(ask) => {
            text("the reason", &ask.reason)?;
            some(ask.amount)?;
            exists(conn, ask.to).await?;
            awards::lot_of(conn, ask.lot).await.map(drop)
        }
        Act::Withdraw(ask) => {
            text("the reason", &ask.reason)?;
            some(ask.amount)?;
            awards::lot_of(conn, ask.lot).await.map(drop)
        }
        Act::OfficerAdd(ask) => {
            text("an officer's name", &ask.officer.name)?;
            text("the reason", &ask.reason)
        }
        Act::OfficerRemove(ask) => text("the reason", &ask.reason),
        Act::DisputeEnd(ask) => Clearing::dispute_check(conn, ask).await.map(drop),
        Act::OwnerTerms(ask) => owners::terms_check(house, conn, ask).await,
        Act::OwnerSchedule(ask) => recharge::schedule_check(conn, ask, now).await,
        Act::OwnerCosts(ask) => recharge::costs_check(conn, ask, now).await,
        Act::Remit(ask) => payouts::remit_check(conn, ask, now).await,
        Act::PayRun(ask) => payouts::run_check(conn, ask).await,
        Act::Exchange(ask) => exchange::check(conn, ask, now).await,
        Act::ProjectOf(ask) => exchange::project_of_check(conn, ask).await,
        Act::PeriodClose(ask) => periods::close_check(conn, ask, now).await,
        Act::PeriodReopen(ask) => periods::reopen_check(conn, ask).await.map(drop),
        Act::DisputeOpen(ask) => Clearing::dispute_open_check(conn, ask).await,
        Act::Members(ask) => {
            text("the reason", &ask.reason)?;
            exists(conn, ask.project).await.map(drop)
        }
        Act::Vet(ask) => projects::vet_check(conn, ask, now).await,
        Act::Vouch(ask) => persons::vouch_check(ask, now),
        Act::PersonKey(ask) => {
            text("the reason", &ask.reason)?;
            persons::known(conn, ask.person).await
        }
        Act::CentralBind(ask) => central::bind_check(conn, ask).await,
        Act::WriteOff(ask) => writeoff::check(conn, ask).await,
        Act::IssuerKey(ask) => issuing::check(conn, ask).await,
        Act::ProjectResume(ask) => {
            text("the reason", &ask.reason)?;
            match exists(conn, ask.project).await?.frozen {
                true => Ok(()),
                false => Err(Failure::invalid(format!("project {} is not frozen", ask.project))),
            }
        }
        Act::AwardResume(ask) => {
            text("the reason", &ask.reason)?;
            match awards::award_of(conn, ask.award).await? {
                Award { frozen: true, .. } => Ok(()),
                award => Err(Failure::invalid(format!("award {} is not frozen", award.award_number))),
            }
        }
    }
}

/// Does an act. Its id is the evidence of what it moves.
pub(super) async fn do_in_tx(house: &Clearing, conn: &mut Db<'_>, act: &Act, id: Digest, now: Timestamp) -> Done {
    check(house, conn, act, now).await?;
    match act {
        Act::Award(ask) => return awards::award_in_tx(conn, ask, id, now).await,
        Act::Supplement(ask) => return awards::supplement_in_tx(conn, ask, id, now).await,
        Act::Release(ask) => return awards::release_in_tx(conn, ask, id, now).await,
        Act::Extend(ask) => return awards::extend_in_tx(conn, ask).await,
        Act::Move(ask) => return awards::move_in_tx(conn, ask, id, now).await,
        Act::Withdraw(ask) => return awards::withdraw_in_tx(conn, ask, id, now).await,
        Act::OfficerAdd(ask) => store::acts::officer_put_in_tx(conn, &ask.officer, now).await?,
        Act::OfficerRemove(ask) => store::acts::officer_remove_in_tx(conn, &ask.key, now).await?,
        Act::DisputeEnd(ask) => house.dispute_end_in_tx(conn, ask, id, &house.calendar(), now).await?,
        Act::OwnerTerms(ask) => owners::terms_in_tx(conn, ask, id, now).await?,
        Act::OwnerSchedule(ask) => recharge::schedule_in_tx(conn, ask, id, now).await?,
        Act::OwnerCosts(ask) => recharge::costs_in_tx(conn, ask, id, now).await?,
        Act::Remit(ask) => payouts::remit_in_tx(conn, ask, id, now).await?,
        Act::PayRun(ask) => payouts::run_in_tx(conn, ask, id, (house.calendar().since(now, CHALLENGE_S), now)).await?,
        Act::Exchange(ask) => return exchange::exchange_in_tx(conn, ask, id, now).await,
        Act::ProjectOf(ask) => {
            store::projects::organisation_put_in_tx(conn, ask.project, ask.organisation, id, now).await?
        }
        Act::PeriodClose(ask) => periods::close_in_tx(conn, ask, id, now).await?,
        Act::PeriodReopen(ask) => periods::reopen_in_tx(conn, ask, id, now).await?,
        Act::DisputeOpen(ask) => house.dispute_in_tx(conn, ask.token, "officers", id, now).await?,
        Act::Members(ask) => projects::members_in_tx(house, conn, ask, now).await?,
        Act::Vet(ask) => projects::vet_in_tx(conn, ask, now).await?,
        Act::Vouch(ask) => {
            persons::vouch_in_tx(conn, ask, MemberId(projects::random()?), now).await?;
        }
        Act::PersonKey(ask) => persons::person_key_in_tx(conn, ask, now).await?,
        Act::CentralBind(ask) => central::bind_in_tx(conn, &house.inner.keys.pseudonyms, ask, now).await?,
        Act::WriteOff(ask) => writeoff::write_off_in_tx(conn, ask, id, now).await?,
        Act::IssuerKey(ask) => store::issuing::approve_in_tx(conn, &ask.key, Some(id), now).await?,
        Act::ProjectResume(ask) => projects::freeze_in_tx(house, conn, (ask.project, false), now).await?,
        Act::AwardResume(ask) => {
            awards::freeze_in_tx(conn, ask.award, false).await?;
            return Ok((Some(ask.award), Vec::new()));
        }
    }
    Ok((None, Vec::new()))
}
