//! Oversight over several owners: receipts count flags by category, claims bring them here, and a project that spreads thin is told of to
//! the owners concerned (decision 0067). Counts alone, never a text; sums that fewer than five projects are in are shown to nobody.

use std::collections::BTreeMap;

use comity_guard::volume::{Counted, Limits, spread};
use comity_guard::{Band, Category};
use comity_ledger::Db;
use comity_wire::api::advisory::{AdvisoriesReply, Advisory, AdvisoryBand, CategorySum};
use comity_wire::time::DAY_S;
use comity_wire::{MemberId, NodeId, OrgId, ProjectId, PublicKey, Timestamp};

use super::Clearing;
use crate::failure::Failure;
use crate::http::pages::{Page, cut};
use crate::pseudonym;
use crate::settlement::Claimed;
use crate::store;
use crate::store::oversight::{AdvisoryRow, Place};
use crate::store::tokens::TokenRow;

const HOUR_S: u64 = 3_600;
/// Projects without which a sum is not shown, those that one person leads counted as one.
const PROJECTS_MIN: usize = 5;
/// Projects of one person that are added up.
const LED_MAX: u32 = 64;
/// Leaders of projects that are looked at before a sum is shown.
const LEADERS_MAX: u32 = 10_000;
/// How long counts and advisories are kept.
const KEPT_S: u64 = 35 * DAY_S;
const ADVISED: &str = "advisories are asked for by a node, with its transport key";

const fn hour(at: Timestamp) -> u64 {
    at.0 / HOUR_S
}

/// The first of the 24 hours that end with this one.
const fn window(now: Timestamp) -> u64 {
    hour(now).saturating_sub(23)
}

impl Clearing {
    /// Counts what a claim's receipts have more than those before, in the claim's transaction.
    pub(super) async fn oversee_in_tx(
        &self,
        conn: &mut Db<'_>,
        row: &TokenRow,
        claimed: &Claimed,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(project) = row.project else { return Ok(()) };
        let mut flagged = Vec::new();
        for (key, lane) in claimed.lanes.iter().filter(|(_, lane)| !lane.flags.0.is_empty()) {
            let known = store::oversight::lane_flags(conn, row.id, *key).await?;
            for (category, total) in &lane.flags.0 {
                let Some(category) = Category::from_number(*category) else { continue };
                let before = known.get(&i64::from(category.number())).copied().unwrap_or(0);
                let more = u64::from(*total).saturating_sub(before);
                if more == 0 {
                    continue;
                }
                store::oversight::lane_flag_put_in_tx(conn, row.id, *key, category, u64::from(*total)).await?;
                // A node's clock does not put it into a time to come.
                let at = hour(lane.at.min(now));
                store::oversight::flags_add_in_tx(conn, (project, row.owner), category, at, more).await?;
                flagged.push(category);
            }
        }
        flagged.sort_unstable();
        flagged.dedup();
        for category in flagged {
            self.advise_in_tx(conn, project, category, now).await?;
        }
        Ok(())
    }

    async fn advise_in_tx(
        &self,
        conn: &mut Db<'_>,
        project: ProjectId,
        category: Category,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.advise_of_project_in_tx(conn, project, category, now).await?;
        // Whoever leads several projects spreads over owners no less by spreading over these.
        for person in store::persons::pis_of(conn, project).await? {
            self.advise_of_person_in_tx(conn, person, category, now).await?;
        }
        Ok(())
    }

    async fn advise_of_project_in_tx(
        &self,
        conn: &mut Db<'_>,
        project: ProjectId,
        category: Category,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let by_owner = store::oversight::flags_by_owner(conn, project, category, window(now)).await?;
        let by_owner: Vec<u64> = by_owner.into_iter().map(|(_, count)| count).collect();
        let found = store::projects::project_find(conn, project).await?;
        let purposes = found.map(|found| found.purposes).unwrap_or_default();
        let purposes: Vec<&str> = purposes.iter().map(String::as_str).collect();
        let Some(seen) = spread(&self.inner.volume_limits, category, &purposes, &by_owner) else { return Ok(()) };
        let (count, bound, band) = (seen.at_least(), seen.bound, seen.band);
        let row = AdvisoryRow { project, category, day: now.0 / DAY_S, first_at: now, at: now, count, bound, band };
        store::oversight::advisory_put_in_tx(conn, &row).await?;
        tracing::warn!(%project, %category, count, bound, owners = by_owner.len(), "flags are spread over several owners: they are told");
        Ok(())
    }

    /// All projects that a person leads, and whose purposes do not explain it, taken together; each that has flags is told of.
    async fn advise_of_person_in_tx(
        &self,
        conn: &mut Db<'_>,
        person: MemberId,
        category: Category,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let limits = &self.inner.volume_limits;
        let (mut by_owner, mut flagged) = (BTreeMap::<OrgId, u64>::new(), Vec::new());
        for project in store::oversight::led_by(conn, person, LED_MAX).await? {
            let found = store::projects::project_find(conn, project).await?;
            let purposes = found.map(|found| found.purposes).unwrap_or_default();
            let purposes: Vec<&str> = purposes.iter().map(String::as_str).collect();
            if limits.expects(&purposes, Counted::Flags(category)) {
                continue;
            }
            let counts = store::oversight::flags_by_owner(conn, project, category, window(now)).await?;
            if counts.is_empty() {
                continue;
            }
            for (owner, count) in counts {
                let sum = by_owner.entry(owner).or_default();
                *sum = sum.saturating_add(count);
            }
            flagged.push(project);
        }
        // One alone was judged by itself.
        if flagged.len() < 2 {
            return Ok(());
        }
        let by_owner: Vec<u64> = by_owner.into_values().collect();
        let Some(seen) = spread(limits, category, &[], &by_owner) else { return Ok(()) };
        let (count, bound, band) = (seen.at_least(), seen.bound, seen.band);
        for project in &flagged {
            let row = AdvisoryRow {
                project: *project,
                category,
                day: now.0 / DAY_S,
                first_at: now,
                at: now,
                count,
                bound,
                band,
            };
            store::oversight::advisory_put_in_tx(conn, &row).await?;
        }
        tracing::warn!(%person, %category, count, bound, projects = flagged.len(), owners = by_owner.len(), "flags of one person's projects are spread over several owners: they are told");
        Ok(())
    }

    /// The advisories that are news to a node's owner.
    ///
    /// # Errors
    /// [`Failure::NotYours`] where it is not the node that asks.
    pub(crate) async fn advisories_of(
        &self,
        caller: &PublicKey,
        node: NodeId,
        page: &Page,
    ) -> Result<AdvisoriesReply, Failure> {
        let known = self.node_asking(caller, node, ADVISED).await?;
        let owner = known.owner.ok_or(Failure::NotYours { what: ADVISED })?;
        let after = page.place::<25>()?.map(place_read);
        let now = self.now();
        let when = (now.minus(DAY_S), window(now), now);
        let mut conn = self.read().await?;
        let rows = store::oversight::advisories_of(&mut conn.db(), owner, when, after, page.limit + 1).await?;
        drop(conn);
        let (rows, next) = cut(page, rows, place);
        Ok(AdvisoriesReply { advisories: rows.iter().map(|row| self.advisory(row, owner)).collect(), next })
    }

    fn advisory(&self, row: &AdvisoryRow, owner: OrgId) -> Advisory {
        Advisory {
            subject: pseudonym::derive(&self.inner.keys.pseudonyms, row.project, owner),
            category: row.category.name().to_owned(),
            count: row.count,
            bound: row.bound,
            band: if row.band == Band::High { AdvisoryBand::High } else { AdvisoryBand::Medium },
            first_at: row.first_at,
            at: row.at,
            until: row.at.plus(DAY_S),
        }
    }

    /// Each category over all projects of the last `days` days, of the five weeks that are kept.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn oversight(&self, days: u32) -> Result<Vec<CategorySum>, Failure> {
        let from = hour(self.now().minus(u64::from(days) * DAY_S));
        let (mut conn, mut sums) = (self.read().await?, Vec::new());
        for category in Category::ALL {
            let sum = store::oversight::sum(&mut conn.db(), category, from).await?;
            let leaders = store::oversight::leaders(&mut conn.db(), category, from, LEADERS_MAX).await?;
            let sum = (apart(&leaders) >= PROJECTS_MIN).then_some(sum);
            sums.push(CategorySum { category: category.name().to_owned(), sum });
        }
        Ok(sums)
    }

    /// Drops what is too old.
    pub(crate) async fn oversight_turn(&self) -> Result<(), Failure> {
        let before = self.now().minus(KEPT_S);
        self.write(move |conn| Box::pin(async move { store::oversight::forget_in_tx(conn, before).await })).await
    }
}

/// How many groups of projects there are that no person leads two of.
fn apart(leaders: &[(ProjectId, Option<MemberId>)]) -> usize {
    let (mut group_of, mut first_of) = (BTreeMap::new(), BTreeMap::new());
    let mut merged: Vec<usize> = Vec::new();
    for (project, person) in leaders {
        let own = *group_of.entry(*project).or_insert_with(|| {
            merged.push(merged.len());
            merged.len() - 1
        });
        let Some(person) = person else { continue };
        let of_person = *first_of.entry(*person).or_insert(own);
        let (one, other) = (root(&merged, own), root(&merged, of_person));
        let (low, high) = (one.min(other), one.max(other));
        merged[high] = low;
    }
    (0..merged.len()).filter(|at| merged[*at] == *at).count()
}

fn root(merged: &[usize], mut at: usize) -> usize {
    // It ends: each leads to one that is lower, or to itself.
    while merged[at] != at {
        at = merged[at];
    }
    at
}

/// Project (16), category, day (8).
fn place(row: &AdvisoryRow) -> Vec<u8> {
    let mut place = row.project.0.to_vec();
    place.push(row.category.number());
    place.extend(row.day.to_be_bytes());
    place
}

fn place_read(place: [u8; 25]) -> Place {
    let (project, rest) = place.split_at(16);
    let mut day = [0; 8];
    day.copy_from_slice(&rest[1..]);
    let project = project.try_into().expect("sixteen bytes were split off");
    (ProjectId(project), i64::from(rest[0]), u64::from_be_bytes(day))
}

/// As the guard ships them: a house asks the same of everybody.
pub(super) fn limits() -> Limits {
    Limits::builtin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_that_one_person_leads_are_one() {
        let project = |n: u8| ProjectId([n; 16]);
        let person = |n: u8| Some(MemberId([n; 16]));
        assert_eq!(apart(&[]), 0);
        assert_eq!(apart(&[(project(1), None), (project(2), None)]), 2, "whoever leads them is nobody here");
        assert_eq!(apart(&[(project(1), person(1)), (project(2), person(1)), (project(3), person(2))]), 2);
        // Two persons who lead one together tie what each leads alone.
        let tied = [
            (project(1), person(1)),
            (project(2), person(2)),
            (project(3), person(3)),
            (project(4), person(1)),
            (project(4), person(2)),
        ];
        assert_eq!(apart(&tied), 2);
        assert_eq!(apart(&[(project(1), person(1)), (project(1), person(2)), (project(1), None)]), 1);
    }
}
