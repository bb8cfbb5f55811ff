//! After a case that did not stand: what it was about passes for its project for some days, where the policy would hold it again.

use comity_access::case::CaseId;
use comity_gateway::store::passes::Pass;
use comity_gateway::store::stops::Word;
use comity_guard::Category;
use comity_wire::Timestamp;
use comity_wire::time::DAY_S;
use serde::{Deserialize, Serialize};

use super::{Casework, known};
use crate::failure::Failure;
use crate::shell;

/// The longest that something passes: then somebody looks again.
pub const DAYS_MAX: u16 = 366;

/// `POST /admin/cases/{id}/pass`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassAsk {
    /// Left out: it is held again from now on.
    pub days: Option<u16>,
    pub reason: String,
    pub author: String,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Passed {
    pub project: String,
    pub category: Category,
    /// Left out: it is held again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Casework {
    /// Lets texts of the case's category pass for its project, or holds them again. A line of the node's register says who did it and why.
    ///
    /// # Errors
    /// [`Failure`] where the case is not decided for the project, or is about nothing that a filter sees.
    pub async fn pass(&self, id: CaseId, ask: PassAsk) -> Result<Passed, Failure> {
        let PassAsk { days, reason, author } = ask;
        let case = self.desk.find(id).await.map_err(|trouble| known(id, trouble))?;
        let seen = case.seen().first().ok_or_else(|| Failure::new(format!("{id} says nothing of what was seen")))?;
        let category = Category::ALL.into_iter().find(|category| category.name() == seen.category);
        let category = category.ok_or_else(|| {
            Failure::new(format!("{id} is about '{}', which no filter looks for", seen.category))
                .hint("what is let pass is a category of the filter: docs/operating/filters.md")
        })?;
        let now = shell::now();
        let word = Word { author, reason: format!("{id}: {reason}"), at: now };
        if let Some(fault) = word.fault() {
            return Err(Failure::new(fault));
        }
        let project = case.subject().to_owned();
        let Some(days) = days else {
            if !self.gateway.pass_end(&project, category, &word).await? {
                return Err(Failure::new(format!("nothing of {category} passes for {project}"))
                    .hint("`comity cases passes` shows what does"));
            }
            return Ok(Passed { project, category, until: None });
        };
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(Failure::new(format!("it passes for 1 to {DAYS_MAX} days")));
        }
        if !case.state().is_for_the_project() {
            return Err(Failure::new(format!("{id} is {}, and not decided for the project", case.state()))
                .hint("`comity cases decide --clear`, or the appeal, comes first"));
        }
        let until = now.plus(u64::from(days) * DAY_S);
        self.gateway.pass_put(&Pass { subject: project.clone(), category, until }, &word).await?;
        Ok(Passed { project, category, until: Some(until) })
    }

    /// What passes now.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn passes(&self) -> Result<Vec<Passed>, Failure> {
        let now = shell::now();
        let all = self.gateway.passes().await?.into_iter().filter(|pass| now < pass.until);
        let shown =
            all.map(|Pass { subject, category, until }| Passed { project: subject, category, until: Some(until) });
        Ok(shown.collect())
    }
}
