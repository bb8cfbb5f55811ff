//! A model as its owner writes it down (`models/*.toml` of a home), and the signed objects that come of it.

mod matches;
mod serve;
mod terms;
mod uses;

use std::path::Path;

use comity_wire::cbor::{Bytes, List, Text};
use comity_wire::object::{
    DataPolicy, Evaluation, License, Lineage, Manifest, ManifestOp, Measured, Modality, ModelState, OpRule, OpTier,
    Policy, Price, PriceHint, Release, Status, Summary, Tariff, TermsOfUse, TierRule, Training,
};
use comity_wire::{Meter, ModelId, Object as _, Op, SecretKey, Timestamp, Verified, cose};
use serde::Deserialize;

pub use serve::{Instance, Serve, Upstream};
pub use terms::TermsFile;

use crate::failure::{Failure, While as _};
use crate::home::Card;
use crate::service::measured::Finding;

/// One file. Unknown keys are errors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    pub model: About,
    pub serve: Serve,
    /// Left out for the built-in engine, which knows its own.
    #[serde(default)]
    pub release: Option<Release>,
    pub data_policy: DataPolicy,
    pub policy: Terms,
    pub tariff: PriceList,
    /// For op `predict`.
    #[serde(default)]
    pub predict: Option<Predict>,
}

/// What a model that is no language model takes and gives.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predict {
    /// JSON text: `{"input": …, "output": …}` (spec/03-manifest.md §3.4).
    pub schema: String,
}

impl Predict {
    fn checked(&self) -> Result<Bytes<8192>, Failure> {
        comity_gateway::schema::Pair::parse(self.schema.as_bytes()).while_("the schema of predict cannot be read")?;
        Ok(Bytes::new(self.schema.clone().into_bytes())?)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The second half of the model id.
    pub name: String,
    pub title: Text<96>,
    /// What search shows; the manifest may say more.
    pub description: Text<400>,
    #[serde(default)]
    pub details: Option<Text<4096>>,
    #[serde(default)]
    pub tasks: List<Text<48>, 8>,
    #[serde(default)]
    pub languages: List<Text<8>, 64>,
    pub family: Option<Text<48>>,
    pub architecture: Option<Text<48>>,
    pub params_total: Option<u64>,
    pub params_active: Option<u64>,
    pub context_length: Option<u32>,
    pub output_tokens_max: Option<u32>,
    pub license: License,
    #[serde(default)]
    pub lineage: List<Lineage, 8>,
    pub training: Option<Training>,
    #[serde(default)]
    pub evaluations: List<Evaluation, 32>,
    /// Who runs the weights where that is not you.
    pub operator: Option<Text<96>>,
    pub availability: Option<Text<256>>,
    pub documentation: Option<Text<256>>,
    pub contact: Option<Text<128>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    pub tiers: List<TierRule, 4>,
    pub rules: List<OpRule, 64>,
    /// What tiers ask their callers to agree to.
    #[serde(default)]
    pub terms: Vec<TermsFile>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceList {
    pub overhead_tokens: u32,
    pub output_bytes_per_token: u16,
    pub prices: List<Price, 64>,
}

/// Ops that need the model itself, and not only its answers.
const WHITE_BOX: [Op; 5] = [Op::PromptLogprobs, Op::Activations, Op::Patch, Op::Gradients, Op::FineTune];

/// What a feed knows a model's policy by: one for each model, so that no other's is replaced.
fn named(model: &str) -> String {
    const BYTES_MAX: usize = 48;
    if model.len() <= BYTES_MAX {
        model.to_owned()
    } else {
        comity_wire::Digest::of(model.as_bytes()).to_string()[..BYTES_MAX].to_owned()
    }
}

/// The signed objects of one model.
#[derive(Clone, Debug)]
pub struct Published {
    pub model: ModelId,
    pub tariff: Verified<Tariff>,
    pub policy: Verified<Policy>,
    pub manifest: Verified<Manifest>,
    pub summary: Verified<Summary>,
}

impl Offer {
    /// # Errors
    /// [`Failure`] naming the file and the key.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).while_(format!("cannot read {}", path.display()))?;
        let mut offer: Self = toml::from_str(&text).while_(format!("{} does not describe a model", path.display()))?;
        // The models folder lies in the home.
        let home = path.parent().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
        for terms in &mut offer.policy.terms {
            terms.read(home);
        }
        offer.check().map_err(|failure| failure.of(path))?;
        Ok(offer)
    }

    /// What no single key shows. A vendor's model says so, and shows nothing of its inside.
    fn check(&self) -> Result<(), Failure> {
        self.serve.check()?;
        self.check_terms()?;
        matches::check(self)?;
        if !self.serve.is_vendor() {
            return Ok(());
        }
        if self.model.operator.is_none() {
            return Err(Failure::new("a vendor runs this model, and the file does not say who")
                .hint("add to [model]: operator = \"the vendor's name\""));
        }
        if !self.release.as_ref().is_some_and(|release| release.undisclosed) {
            return Err(Failure::new("a vendor does not disclose the weights, and [release] says otherwise")
                .hint("set release.undisclosed = true; weights is then a digest of the vendor's name for them"));
        }
        let inside = self.policy.rules.iter().map(|rule| rule.op).find(|op| WHITE_BOX.contains(op));
        inside.map_or(Ok(()), |op| {
            Err(Failure::new(format!("{op} looks into a model, and this one is a vendor's")).hint("leave its rule out"))
        })
    }

    /// Each is of a tier that is there, and of no other one's.
    fn check_terms(&self) -> Result<(), Failure> {
        if self.policy.tiers.iter().any(|rule| (rule.terms, rule.terms_from, rule.terms_before) != (None, None, None)) {
            return Err(Failure::new("terms of use are named as files")
                .hint("[[policy.terms]] with tier = \"t1\" and file = \"terms/research-1.md\""));
        }
        for (place, terms) in self.policy.terms.iter().enumerate() {
            let of_tier = |other: &TermsFile| other.tier == terms.tier;
            if self.policy.tiers.iter().all(|rule| rule.tier != terms.tier) {
                return Err(Failure::new(format!("policy.terms is for {}, and policy.tiers has none", terms.tier)));
            }
            if self.policy.terms[..place].iter().any(of_tier) {
                return Err(Failure::new(format!("policy.terms is there twice for {}", terms.tier)));
            }
        }
        Ok(())
    }

    /// Every text that its callers agree to.
    ///
    /// # Errors
    /// [`Failure`] where one cannot be read, says nothing, or is too long.
    pub fn terms_of_use(&self, card: &Card) -> Result<Vec<TermsOfUse>, Failure> {
        let texts = self.policy.terms.iter().map(|terms| terms.texts(card.organisation));
        Ok(texts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// What its policy rests on and the file does not say, for whoever asks whether anything changed: texts of terms, and codes of use that
    /// lie within those that are listed.
    pub(crate) fn beside(&self) -> Vec<&[u8]> {
        let texts = self.policy.terms.iter().flat_map(TermsFile::parts);
        let listed = self.policy.tiers.iter().flat_map(|rule| rule.purposes.iter());
        let codes = listed.flat_map(|code| uses::within(code)).map(str::as_bytes);
        texts.chain(codes).collect()
    }

    pub fn model_id(&self, card: &Card) -> Result<ModelId, Failure> {
        Ok(format!("{}/{}", card.name, self.model.name).parse::<ModelId>()?)
    }

    /// Its policy, not signed.
    ///
    /// # Errors
    /// [`Failure`] where two rules are of one place, or it breaks its own rules.
    pub fn policy_of(&self, card: &Card, version: u64, now: Timestamp) -> Result<Policy, Failure> {
        let mut tiers = self.policy.tiers.to_vec();
        for rule in &mut tiers {
            rule.purposes = uses::widened(&rule.purposes)?;
        }
        for terms in &self.policy.terms {
            if let Some(rule) = tiers.iter_mut().find(|rule| rule.tier == terms.tier) {
                terms.ask(card.organisation, rule)?;
            }
        }
        let policy = Policy {
            org: card.organisation,
            name: Text::new(named(&self.model.name))?,
            version,
            models: List::new(vec![self.model_id(card)?])?,
            tiers: sorted(&List::new(tiers)?, |rule| rule.tier)?,
            rules: sorted(&self.policy.rules, |rule| (rule.op, rule.tier))?,
            issued_at: now,
        };
        policy.validate().while_("the policy breaks its own rules")?;
        Ok(policy)
    }

    /// Signs everything. `version` rises with each publication, so that an older one is never taken for newer.
    ///
    /// # Errors
    /// [`Failure`] where the parts do not fit one another.
    pub(crate) fn publish(
        &self,
        card: &Card,
        release: &Release,
        writer: &SecretKey,
        version: u64,
        now: Timestamp,
        found: Option<&Finding>,
    ) -> Result<Published, Failure> {
        let model = self.model_id(card)?;
        let doing = |what: &str| format!("the {what} of {model} breaks the rules");
        let tariff = Tariff {
            org: card.organisation,
            name: Text::new(model.as_str())?,
            version,
            prices: sorted(&self.tariff.prices, |price| price.op)?,
            overhead_tokens: self.tariff.overhead_tokens,
            output_bytes_per_token: self.tariff.output_bytes_per_token,
            issued_at: now,
        };
        let tariff = cose::try_sign(&tariff, writer).while_(doing("tariff"))?.verify(&writer.public())?;
        let policy = self.policy_of(card, version, now)?;
        let policy = cose::try_sign(&policy, writer).while_(doing("policy"))?.verify(&writer.public())?;
        let ops = self.ops(&tariff, &policy)?;
        let manifest = self.manifest(card, &model, release, version, now, &tariff, &policy, &ops, found)?;
        let manifest = cose::try_sign(&manifest, writer).while_(doing("manifest"))?.verify(&writer.public())?;
        let summary = self.summary(&manifest, &policy, &tariff, &ops)?;
        let summary = cose::try_sign(&summary, writer).while_(doing("summary"))?.verify(&writer.public())?;
        Ok(Published { model, tariff, policy, manifest, summary })
    }

    /// Each op with the least tier that opens it. An op needs a price as well as a rule.
    fn ops(&self, tariff: &Tariff, policy: &Policy) -> Result<Vec<OpTier>, Failure> {
        let mut ops: Vec<OpTier> = Vec::new();
        for rule in &policy.rules {
            if ops.last().is_some_and(|row| row.op == rule.op) {
                continue;
            }
            if tariff.price(rule.op).is_none() {
                return Err(Failure::new(format!("{} has a rule and no price", rule.op))
                    .hint("add it to tariff.prices; minimum = 0 and no rates make it free"));
            }
            let tier = policy.tier(rule.tier).ok_or_else(|| Failure::new(format!("tier {} has no rule", rule.tier)))?;
            ops.push(OpTier { op: rule.op, tier: rule.tier, vetting: tier.vetting, grant: tier.grant });
        }
        Ok(ops)
    }

    fn manifest(
        &self,
        card: &Card,
        model: &ModelId,
        release: &Release,
        version: u64,
        now: Timestamp,
        tariff: &Verified<Tariff>,
        policy: &Verified<Policy>,
        ops: &[OpTier],
        found: Option<&Finding>,
    ) -> Result<Manifest, Failure> {
        let about = &self.model;
        let description = about.details.clone().map_or_else(|| Text::new(about.description.as_str()), Ok)?;
        let schema = self.predict.as_ref().map(Predict::checked).transpose()?;
        let row = |op: &OpTier| {
            let schema = schema.clone().filter(|_| op.op == Op::Predict);
            ManifestOp { op: op.op, tariff: tariff.id(), schema }
        };
        if schema.is_none() && ops.iter().any(|row| row.op == Op::Predict) {
            let failure = Failure::new("predict needs to say what it takes and gives");
            return Err(failure.hint("add [predict] with schema = '{\"input\": …, \"output\": …}'"));
        }
        Ok(Manifest {
            model: model.clone(),
            version,
            org: card.organisation,
            title: about.title.clone(),
            description,
            tasks: about.tasks.clone(),
            languages: about.languages.clone(),
            input: List::new(vec![Modality::Text])?,
            output: List::new(vec![Modality::Text])?,
            family: about.family.clone(),
            architecture: about.architecture.clone(),
            params_total: about.params_total,
            params_active: about.params_active,
            context_length: about.context_length,
            output_tokens_max: about.output_tokens_max,
            license: about.license.clone(),
            release: release.clone(),
            lineage: about.lineage.clone(),
            training: about.training.clone(),
            evaluations: about.evaluations.clone(),
            data_policy: self.data_policy.clone(),
            operator: about.operator.clone(),
            availability: about.availability.clone(),
            ops: List::new(ops.iter().map(row).collect())?,
            nodes: List::new(vec![card.node])?,
            policy: policy.id(),
            status: Status { state: ModelState::Active, sunset: None, reason: None },
            released_at: now,
            measured: List::new(found.map(measured).transpose()?.unwrap_or_default())?,
            attestations: List::default(),
            supersedes: None,
            documentation: about.documentation.clone(),
            contact: about.contact.clone(),
        })
    }

    fn summary(
        &self,
        manifest: &Verified<Manifest>,
        policy: &Verified<Policy>,
        tariff: &Verified<Tariff>,
        ops: &[OpTier],
    ) -> Result<Summary, Failure> {
        Ok(Summary {
            model: manifest.model.clone(),
            version: manifest.version,
            org: manifest.org,
            title: manifest.title.clone(),
            description: self.model.description.clone(),
            tasks: manifest.tasks.clone(),
            languages: manifest.languages.clone(),
            input: manifest.input.clone(),
            output: manifest.output.clone(),
            params_total: manifest.params_total,
            context_length: manifest.context_length,
            license: manifest.license.spdx.clone(),
            ops: List::new(ops.to_vec())?,
            nodes: manifest.nodes.clone(),
            manifest: manifest.id(),
            policy: policy.id(),
            tariff: tariff.id(),
            release: manifest.release.digest(),
            retention_days: manifest.data_policy.retention_days,
            residency: manifest.data_policy.residency.clone(),
            state: manifest.status.state,
            released_at: manifest.released_at,
            sunset: manifest.status.sunset,
            price_hint: ops.first().map(|row| hint(tariff, row.op)),
        })
    }
}

/// What a probe found, told apart from what the owner claims.
fn measured(finding: &Finding) -> Result<Vec<Measured>, Failure> {
    let row =
        |(name, value, _): (String, bool, Option<u64>)| Ok(Measured { name: Text::new(name)?, value, at: finding.at });
    finding.capabilities.rows().into_iter().map(row).collect()
}

/// The first steps of an op's rates, for sorting and for people.
fn hint(tariff: &Tariff, op: Op) -> PriceHint {
    let first = |meter| {
        let rates = tariff.price(op).into_iter().flat_map(|price| price.rates.iter());
        rates
            .filter(|rate| rate.meter == meter)
            .flat_map(|rate| rate.steps.first())
            .map(|step| step.ucr_per_million)
            .sum()
    };
    let minimum = tariff.price(op).map_or(0, |price| price.minimum.ucr().unsigned_abs());
    PriceHint {
        input_ucr_per_million: first(Meter::InputTokens),
        output_ucr_per_million: first(Meter::OutputTokens),
        request_ucr: minimum.max(first(Meter::Requests) / 1_000_000),
    }
}

fn sorted<T: Clone, K: Ord, const MAX: usize>(
    list: &List<T, MAX>,
    key: impl Fn(&T) -> K,
) -> Result<List<T, MAX>, Failure> {
    let mut items = list.to_vec();
    items.sort_by_key(|item| key(item));
    Ok(List::new(items)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::{Home, Role};

    const EXAMPLE: &str = include_str!("offer/example.toml");

    #[test]
    fn the_example_can_be_published() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(folder.path(), "lab", "A lab", Role::Owner).unwrap();
        let offer: Offer = toml::from_str(EXAMPLE).unwrap();
        let release = offer.release.clone().unwrap();
        let writer = home.keys.read(crate::keystore::KeyName::Writer).unwrap();
        let published = offer.publish(&home.card, &release, &writer, 1, Timestamp(1_800_000_000), None).unwrap();
        assert_eq!(published.model.as_str(), "lab/llama-3.1-8b-instruct");
        assert_eq!(published.summary.release, release.digest());
        assert_eq!(published.summary.price_hint.as_ref().unwrap().output_ucr_per_million, 400_000);
    }

    #[test]
    fn a_rule_without_a_price_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(folder.path(), "lab", "A lab", Role::Owner).unwrap();
        let mut offer: Offer = toml::from_str(EXAMPLE).unwrap();
        offer.tariff.prices = List::default();
        let release = offer.release.clone().unwrap();
        let writer = home.keys.read(crate::keystore::KeyName::Writer).unwrap();
        let failure = offer.publish(&home.card, &release, &writer, 1, Timestamp(1_800_000_000), None).unwrap_err();
        assert!(failure.to_string().contains("no price"), "{failure}");
    }

    fn read(text: &str) -> Result<Offer, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        std::fs::write(&path, text).unwrap();
        Offer::read(&path)
    }

    #[test]
    fn a_vendors_model_says_who_runs_it_and_shows_nothing_of_its_inside() {
        let vendor = EXAMPLE.replace("dialect = \"vllm\"", "dialect = \"anthropic\"");
        let operator = vendor.replace("[model]", "[model]\noperator = \"A vendor\"");
        let whole = operator.replace("undisclosed = false", "undisclosed = true");
        let inside = whole.replace("op = \"completions\"\ntier", "op = \"prompt_logprobs\"\ntier");
        for (text, word) in [(&vendor, "who"), (&operator, "disclose"), (&inside, "looks into")] {
            let failure = read(text).unwrap_err();
            assert!(failure.to_string().contains(word), "{failure}");
        }
        assert!(read(&whole).unwrap().serve.is_vendor());
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let text = EXAMPLE.replace("[serve]", "[serve]\nspeed = 9");
        assert!(toml::from_str::<Offer>(&text).unwrap_err().to_string().contains("speed"));
    }
}
