//! Which models this caller may use now, and if not, what is missing.

use comity_token::directory::Directory as _;
use comity_token::policy::{self, Decision, Missing};
use comity_wire::api::node::SearchQuery;
use comity_wire::cbor::Text;
use comity_wire::object::{Demand, OpRule, Summary, Tariff, Vetting};
use comity_wire::{Code, Digest, ModelId, Op, Timestamp, Verified};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};

use super::{Client, Error};
use crate::chat::Query;
use crate::discover;
use crate::want::rank::{self, Answering, Misfit, Offered};
use crate::want::{Of, Want};

/// A model that was found, and what its owner's published rules say to this caller.
#[derive(Clone, Debug)]
pub struct Choice {
    pub summary: Verified<Summary>,
    /// The op that was asked about; where none was, the first that may be used, else the first.
    pub op: Op,
    pub missing: Option<Missing>,
    /// How old the owner's own word is, in seconds.
    pub head_age_s: u64,
}

impl Client {
    /// Searches, and asks the access decision for each hit. Grants and signed terms are known to the owner's node alone: what
    /// needs one is called missing here.
    ///
    /// # Errors
    /// [`Error`] of the search; a house that cannot be asked makes the caller nobody in particular.
    pub async fn choices(&self, query: &SearchQuery) -> Result<Vec<Choice>, Error> {
        let hits = self.search(query).await?;
        let (caller, now) = (self.caller().await, self.now());
        let decide = |summary: &Summary, op| caller.lacks(summary, op, now);
        let choice = |hit: discover::Hit| {
            let summary = hit.summary;
            let ops: Vec<Op> = query.op.map_or_else(|| summary.ops.iter().map(|row| row.op).collect(), |op| vec![op]);
            let open = ops.iter().find(|op| decide(&summary, **op).is_none());
            let op = open.or_else(|| ops.first()).copied().unwrap_or(Op::Chat);
            Choice { op, missing: decide(&summary, op), head_age_s: hit.head_age_s, summary }
        };
        Ok(hits.into_iter().map(choice).collect())
    }

    /// How many alternatives of each token the owner's published rules give this caller with log-probabilities; 0 where none, or
    /// where grants or terms would have to be known. A probe that saw none at the owner's server counts as none.
    ///
    /// # Errors
    /// [`Error`] where the model's manifest cannot be had.
    pub async fn alternatives(&self, model: &ModelId) -> Result<u8, Error> {
        let manifest = self.manifest(model).await?;
        let lacks = manifest.measured.iter().any(|row| row.name.as_str() == "logprobs" && !row.value);
        let offers = manifest.ops.iter().any(|row| row.op == Op::Logprobs);
        let rule = if offers && !lacks { self.rule(model, Op::Logprobs).await } else { None };
        Ok(rule.map_or(0, |rule| rule.logprobs_max))
    }

    /// The row of the owner's published policy that lets this caller ask for an op, as far as is known without grants and terms.
    async fn rule(&self, model: &ModelId, op: Op) -> Option<OpRule> {
        let policy = self.seen.directory.policy(model)?;
        let caller = self.caller().await;
        let ask = caller.ask(model, op, self.now());
        match policy::decide(&policy, &ask) {
            Decision::Allow(allowed) => Some(allowed.rule),
            Decision::Refuse(_) => None,
        }
    }

    /// A call as part of a batch (spec/03-manifest.md F-13), where its owner has a batch price that this caller may use and that
    /// is the lesser, both for the shortest answer and for the longest; `None` where it is asked as it is.
    ///
    /// # Errors
    /// [`Error`]: an unknown model.
    pub async fn at_batch_price(&self, query: &Query) -> Result<Option<Query>, Error> {
        let Some(batch) = query.as_batch() else { return Ok(None) };
        let target = self.target(&query.model).await?;
        if target.summary.ops.iter().all(|row| row.op != Op::Batch) || !is_less(&target.tariff, query, &batch) {
            return Ok(None);
        }
        if self.profile.project.is_some() {
            // A house that cannot be asked for a moment makes nobody a stranger for good.
            self.project().await?;
        }
        let (rule, usual) = (self.rule(&query.model, Op::Batch).await, self.rule(&query.model, query.op).await);
        Ok(rule.filter(|rule| gives_as_much(rule, usual.as_ref())).map(|_| batch))
    }

    async fn caller(&self) -> Caller {
        let project = self.project().await.ok();
        let vetting = project.as_ref().map_or(Vetting::None, |project| project.vetting);
        let purposes = project.map(|project| project.purposes).unwrap_or_default();
        let purposes = purposes.iter().filter_map(|purpose| Text::new(purpose.as_str()).ok()).collect();
        Caller { vetting, purposes }
    }

    /// Searches for what `want` may be answered by. The first that fits decides the release; those that share it follow.
    pub(super) async fn find_fitting(&self, want: &Want, op: Op) -> Result<Fitting, Error> {
        let caller = self.caller().await;
        let mut unread = Vec::new();
        let first = match &want.of {
            Of::Same(model) => model.clone(),
            Of::Any => {
                let Want { needs, .. } = want;
                let every = SearchQuery { op: Some(op), sort: Some("price".into()), ..SearchQuery::default() };
                let (context_min, language) = (needs.context_min, needs.language.clone());
                let mut found = self.every(SearchQuery { context_min, language, ..every.clone() }).await?;
                if found.is_empty() {
                    // What there is says why there is nothing.
                    found = self.every(every).await?;
                }
                let (mut fit, misfit) = self.ranked(want, op, None, &found, &caller);
                // A capability is asked for anew with each call: what just failed is no choice for the next.
                self.ways.order(&mut fit, |ranked| &ranked.model, self.now());
                if fit.is_empty() {
                    return Err(no_choice(want, found.len(), &misfit));
                }
                let fit = fit.into_iter().map(|ranked| ranked.model).collect();
                let read =
                    |model: ModelId| -> BoxFuture<'_, _> { Box::pin(async move { self.read_model(&model).await }) };
                let (first, passed) = first_read(fit, read).await?;
                unread = passed;
                first
            }
        };
        self.read_model(&first).await?;
        let summary = self.directory().summary(&first).ok_or_else(|| Error::ModelUnknown(first.clone()))?;
        let mut answering = Answering { release: summary.release, alone: None };
        let query = SearchQuery { op: Some(op), release: Some(answering.release), ..SearchQuery::default() };
        let found = self.every(query).await?;
        let (mut fit, mut misfit) = self.ranked(want, op, Some(&answering), &found, &caller);
        if fit.iter().any(|ranked| ranked.model != first) && !self.is_shown(&answering.release, &found).await {
            answering.alone = Some(first.clone());
            (fit, misfit) = self.ranked(want, op, Some(&answering), &found, &caller);
        }
        let mut models: Vec<_> = fit.into_iter().map(|ranked| ranked.model).collect();
        // Whether its owner has granted it only the owner's node can say: who names it may have the grant.
        let named = found.iter().find(|summary| summary.model == first && !models.contains(&first));
        if let Some(summary) = named
            && caller.lacks(summary, op, self.now()).is_some_and(|missing| missing.code == Code::GrantRequired)
        {
            let tariff = self.directory().tariff(&summary.tariff);
            let offered = Offered { summary, tariff: tariff.as_deref(), missing: None };
            models.extend(rank::rank(&want.needs, op, Some(&answering), [offered]).0.into_iter().map(|one| one.model));
        }
        if models.is_empty() {
            return Err(no_choice(want, found.len(), &misfit));
        }
        models.retain(|model| unread.iter().all(|(unread, _)| unread != model));
        Ok(Fitting { answering, models, unread })
    }

    /// Whether a model meets the conditions as its owner's feed has it now, and under each tariff that an open token of it pins: what
    /// was found is a hub's word, and may be older. What the caller may do is for the owner's node to say.
    pub(super) async fn still_fits(
        &self,
        want: &Want,
        op: Op,
        fitting: &Fitting,
        model: &ModelId,
    ) -> Result<(), Error> {
        for target in self.targets(model).await? {
            let mut tariffs = Box::pin(self.pinned(&target, model, op)).await?;
            tariffs.push(target.tariff.clone());
            for tariff in &tariffs {
                let offered = Offered { summary: &target.summary, tariff: Some(tariff), missing: None };
                let (_, misfit) = rank::rank(&want.needs, op, Some(&fitting.answering), [offered]);
                if let Some((_, why)) = misfit.into_iter().next() {
                    return Err(Error::NoFit { model: model.clone(), why: why.to_string() });
                }
            }
        }
        Ok(())
    }

    fn ranked(
        &self,
        want: &Want,
        op: Op,
        answering: Option<&Answering>,
        found: &[Verified<Summary>],
        caller: &Caller,
    ) -> (Vec<rank::Ranked>, Vec<(ModelId, Misfit)>) {
        let now = self.now();
        let known: Vec<_> = found
            .iter()
            .map(|summary| {
                let ops = [Some(op), want.needs.op].into_iter().flatten();
                let missing = ops.filter_map(|op| caller.lacks(summary, op, now)).next();
                (summary, self.directory().tariff(&summary.tariff), missing.map(|missing| missing.to_string()))
            })
            .collect();
        let offered = known.iter().map(|(summary, tariff, missing)| Offered {
            summary,
            tariff: tariff.as_deref(),
            missing: missing.as_deref(),
        });
        rank::rank(&want.needs, op, answering, offered)
    }

    /// Whether the weights of a release are shown to anybody, which only a manifest says: whoever of its owners answers first, since
    /// the digest is of that word too. Where none is to be had, nobody's weights are taken for the same.
    async fn is_shown(&self, release: &Digest, found: &[Verified<Summary>]) -> bool {
        const ASKED_MAX: usize = 8;
        let of = async |summary: &Verified<Summary>| {
            let manifest = self.manifest(&summary.model).await.ok()?;
            (manifest.release.digest() == *release).then_some(!manifest.release.undisclosed)
        };
        let mut manifests: FuturesUnordered<_> = found.iter().take(ASKED_MAX).map(of).collect();
        while let Some(manifest) = manifests.next().await {
            if let Some(is_shown) = manifest {
                return is_shown;
            }
        }
        false
    }

    /// All pages of a search, within a bound.
    async fn every(&self, query: SearchQuery) -> Result<Vec<Verified<Summary>>, Error> {
        const PAGE: u32 = 100;
        const PAGES_MAX: u32 = 10;
        let mut found = Vec::new();
        for number in 0..PAGES_MAX {
            let query = SearchQuery { limit: Some(PAGE), offset: Some(number * PAGE), ..query.clone() };
            let page = self.search_page(&query).await?;
            let is_last = page.is_last(PAGE, number * PAGE);
            found.extend(page.hits.into_iter().map(|hit| hit.summary));
            if is_last {
                break;
            }
        }
        self.read_tariffs(found.iter().map(|summary| summary.tariff)).await;
        Ok(found)
    }
}

/// The first of these whose owner's feed can be read, and those before it that could not, with why.
async fn first_read<'a>(
    models: Vec<ModelId>,
    read: impl Fn(ModelId) -> BoxFuture<'a, Result<(), Error>> + Send,
) -> Result<(ModelId, Vec<Unread>), Error> {
    /// Each may take as long as a hub takes to say no.
    const READ_MAX: usize = 8;
    let (mut unread, mut last) = (Vec::new(), Error::Missing("a model that fits"));
    for model in models.into_iter().take(READ_MAX) {
        match read(model.clone()).await {
            Ok(()) => return Ok((model, unread)),
            Err(error) => {
                tracing::debug!(error = %crate::chain(&error), %model, "its owner's feed cannot be read; the next is taken");
                unread.push((model, error.name().to_owned()));
                last = error;
            }
        }
    }
    Err(last)
}

/// A model whose owner's feed could not be read, and why, in one word.
pub(super) type Unread = (ModelId, String);

/// Models of one release that fit, in the order in which they are asked.
#[derive(Clone, Debug)]
pub(super) struct Fitting {
    pub(super) answering: Answering,
    pub(super) models: Vec<ModelId>,
    /// Those that came before them and cannot be asked.
    pub(super) unread: Vec<Unread>,
}

/// For less money, not for a shorter answer: whether the limits of a batch's row are none that the usual one does not have
/// (spec/03-manifest.md F-13).
fn gives_as_much(batch: &OpRule, usual: Option<&OpRule>) -> bool {
    usual.is_none_or(|usual| {
        batch.output_tokens_max >= usual.output_tokens_max
            && batch.input_bytes_max >= usual.input_bytes_max
            && batch.choices_max >= usual.choices_max
            && batch.parameters == usual.parameters
    })
}

/// This caller, as the published rules of owners see it.
struct Caller {
    vetting: Vetting,
    purposes: Vec<policy::Purpose>,
}

impl Caller {
    /// Grants and signed terms are known to owners' nodes alone.
    fn lacks(&self, summary: &Summary, op: Op, now: Timestamp) -> Option<Missing> {
        policy::decide_summary(summary, &self.ask(&summary.model, op, now)).err()
    }

    fn ask<'a>(&'a self, model: &'a ModelId, op: Op, now: Timestamp) -> policy::Ask<'a> {
        policy::Ask {
            model,
            op,
            vetting: self.vetting,
            purposes: &self.purposes,
            grants: &[],
            plans: &[],
            run: None,
            agreed: &[],
            delegated: false,
            now,
        }
    }
}

/// Those that came nearest are named: the fault is the caller's or the federation's, and either wants to know.
fn no_choice(want: &Want, found: usize, misfit: &[(ModelId, Misfit)]) -> Error {
    const NAMED_MAX: usize = 3;
    let named: Vec<_> = misfit.iter().take(NAMED_MAX).map(|(model, why)| format!("{model}: {why}")).collect();
    let why = if named.is_empty() {
        ": nothing like it is offered".to_owned()
    } else {
        format!(" ({found} came into question): {}", named.join("; "))
    };
    Error::NoChoice { asked: want.to_string(), why }
}

/// Whether the batch price of a call is the lesser. The few bytes more of its body are left out of it.
fn is_less(tariff: &Tariff, query: &Query, batch: &Query) -> bool {
    /// Where a call states no limit: any will do to compare.
    const LONG: u64 = 4096;
    /// No body is longer.
    const WIDE: u64 = 1 << 24;
    let longest = query.demand(LONG);
    let cost = |input_bytes, output_tokens, op| {
        let demand = Demand { op, input_bytes, output_tokens, ..longest };
        tariff.worst_meters(&demand).and_then(|meters| tariff.exact(op, &meters).ok())
    };
    // One answer for all lines of a file: also for shorter and for longer ones than this.
    let corners =
        [0, longest.input_bytes, WIDE].into_iter().flat_map(|input| [(input, 1), (input, longest.output_tokens)]);
    let mut is_less = false;
    for (input, output) in corners {
        let output = output.min(longest.output_tokens);
        let costs = cost(input, output, batch.op).zip(cost(input, output, query.op));
        match costs {
            Some((batch, usual)) if batch <= usual => is_less |= batch < usual,
            _ => return false,
        }
    }
    is_less
}

impl Choice {
    pub fn is_usable(&self) -> bool {
        self.missing.is_none()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let summary = &self.summary;
        let missing = self.missing.as_ref().map(|missing| {
            json!({"code": missing.code, "message": missing.message, "whose_move": missing.whose_move.as_str()})
        });
        json!({
            "model": summary.model, "title": summary.title, "owner": summary.model.organisation(),
            "usable": self.is_usable(), "op": self.op, "missing": missing,
            "price": summary.price_hint, "retention_days": summary.retention_days,
            "head_age_s": self.head_age_s, "summary": summary.object(),
        })
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::object::Tier;

    use super::*;
    use crate::vectors::world;

    #[test]
    fn a_batch_price_is_taken_where_none_of_its_limits_is_narrower() {
        let usual = world::rule(Op::Chat, Tier::Registered);
        let row = || world::rule(Op::Batch, Tier::Registered);
        assert!(gives_as_much(&row(), Some(&usual)));
        let wider = OpRule { output_tokens_max: usual.output_tokens_max + 1, ..row() };
        assert!(gives_as_much(&wider, Some(&usual)));
        let narrower = [
            OpRule { output_tokens_max: usual.output_tokens_max - 1, ..row() },
            OpRule { input_bytes_max: usual.input_bytes_max - 1, ..row() },
            OpRule { choices_max: usual.choices_max - 1, ..row() },
            OpRule { parameters: world::list(vec![world::text("temperature")]), ..row() },
        ];
        for rule in narrower {
            assert!(!gives_as_much(&rule, Some(&usual)), "{rule:?}");
            // Whom the usual row lets nothing, the batch's lets more.
            assert!(gives_as_much(&rule, None));
        }
    }

    #[tokio::test]
    async fn who_has_no_feed_to_read_leaves_the_choice_to_the_next() {
        let models = || ["a/m", "b/m", "c/m"].map(|name| name.parse::<ModelId>().unwrap()).to_vec();
        let unknown = |model: ModelId| -> BoxFuture<'_, _> { Box::pin(async move { Err(Error::ModelUnknown(model)) }) };
        let first = first_read(models(), |model| match model.organisation() {
            "a" => unknown(model),
            _ => Box::pin(async { Ok(()) }),
        });
        let (first, unread) = first.await.unwrap();
        assert_eq!((first.as_str(), unread.len()), ("b/m", 1));
        assert_eq!((unread[0].0.as_str(), unread[0].1.as_str()), ("a/m", "model_not_found"));
        let none = first_read(models(), unknown).await;
        assert!(matches!(none, Err(Error::ModelUnknown(last)) if last.as_str() == "c/m"));
    }
}
