use comity_wire::cbor::{List, Text};
use comity_wire::object::{Modality, ModelState, OpTier, Price, Rate, Vetting};
use comity_wire::{NodeId, OrgId, Timestamp};

use super::super::Want;
use super::*;

/// A federation in a few lines: `model release op µcr-per-million context place days`.
struct World(Vec<(Summary, Tariff)>);

fn world(rows: &str) -> World {
    let rows = rows.lines().map(str::trim).filter(|row| !row.is_empty());
    World(rows.map(|row| offered(&row.split_whitespace().collect::<Vec<_>>())).collect())
}

fn offered(cells: &[&str]) -> (Summary, Tariff) {
    let [model, release, op, price, context, places, days] = cells else { panic!("seven cells: {cells:?}") };
    let (op, text): (Op, _) = (op.parse().unwrap(), |text: &str| Text::new(text).unwrap());
    let places = places.split('|').filter(|place| *place != "-");
    let summary = Summary {
        model: model.parse().unwrap(),
        version: 1,
        org: OrgId([1; 16]),
        title: text("t"),
        description: Text::new("d").unwrap(),
        tasks: List::default(),
        languages: List::new(vec![Text::new("en").unwrap()]).unwrap(),
        input: List::new(vec![Modality::Text]).unwrap(),
        output: List::new(vec![Modality::Text]).unwrap(),
        params_total: None,
        context_length: context.parse().ok(),
        license: Text::new("MIT").unwrap(),
        ops: List::new(vec![OpTier { op, tier: Tier::Registered, vetting: Vetting::Registered, grant: false }])
            .unwrap(),
        nodes: List::new(vec![NodeId([1; 16])]).unwrap(),
        manifest: Digest([0; 32]),
        policy: Digest([0; 32]),
        tariff: Digest([0; 32]),
        release: Digest([release.parse().unwrap(); 32]),
        retention_days: days.parse().unwrap(),
        residency: List::new(places.map(|place| Text::new(place).unwrap()).collect()).unwrap(),
        state: ModelState::Active,
        released_at: Timestamp(1),
        sunset: None,
        price_hint: None,
    };
    (summary, tariff(op, Meter::OutputTokens, price.parse().unwrap(), 0))
}

fn tariff(op: Op, meter: Meter, ucr_per_million: u64, minimum: u32) -> Tariff {
    let steps = List::new(vec![Step { from: 0, ucr_per_million }, Step { from: 9, ucr_per_million: 1 }]).unwrap();
    let rates = List::new(vec![Rate { meter, steps }]).unwrap();
    Tariff {
        org: OrgId([1; 16]),
        name: Text::new("t").unwrap(),
        version: 1,
        prices: List::new(vec![Price { op, rates, minimum: Amount::from_ucr(minimum) }]).unwrap(),
        overhead_tokens: 16,
        output_bytes_per_token: 8,
        issued_at: Timestamp(1),
    }
}

impl World {
    fn asked(&self, want: &str, answering: Option<&Answering>) -> (Vec<String>, Vec<(ModelId, Misfit)>) {
        let want: Want = want.parse().unwrap();
        let offered = self.0.iter().map(|(summary, tariff)| Offered { summary, tariff: Some(tariff), missing: None });
        let (fit, misfit) = rank(&want.needs, Op::Chat, answering, offered);
        (fit.into_iter().map(|ranked| ranked.model.to_string()).collect(), misfit)
    }

    fn fit(&self, want: &str) -> Vec<String> {
        self.asked(want, None).0
    }
}

#[test]
fn the_cheapest_comes_first_and_a_name_breaks_a_tie() {
    let world = world(
        "c/m 1 chat 300000 8192 DE 0
         b/m 1 chat 200000 8192 DE 0
         a/m 2 chat 300000 8192 DE 0",
    );
    assert_eq!(world.fit("any:tier<=mine"), ["b/m", "a/m", "c/m"]);
}

#[test]
fn each_condition_keeps_out_what_does_not_meet_it() {
    let world = world(
        "good/m  1 chat       200000 8192 DE|FR 0
         dear/m  1 chat       200001 8192 DE    0
         short/m 1 chat       200000 7999 DE    0
         mute/m  1 chat       200000 ?    DE    0
         both/m  1 chat       200000 8192 DE|US 0
         far/m   1 chat       200000 8192 US    0
         nil/m   1 chat       200000 8192 -     0
         keeps/m 1 chat       200000 8192 DE    1
         other/m 1 embeddings 200000 8192 DE    0",
    );
    let want = "any:op=chat,context>=8k,price<=0.2,tier<=mine,residency=EU,retention<=0";
    let (fit, misfit) = world.asked(want, None);
    assert_eq!(fit, ["good/m"]);
    let why: Vec<_> = misfit.iter().map(|(model, why)| format!("{model}: {why}")).collect();
    assert_eq!(
        why,
        [
            "dear/m: its price is 0.200001 cr for a million tokens each way",
            "short/m: its context is 7999 tokens",
            "mute/m: its context is not stated",
            // Data may be in any place that is stated: all of them count.
            "both/m: its data may be in DE, US",
            "far/m: its data may be in US",
            "nil/m: its data may be in places that are not stated",
            "keeps/m: it keeps prompts for 1 days",
            "other/m: it does not offer chat",
        ]
    );
    assert_eq!(world.fit("any:residency=us"), ["far/m"], "and a place is no wider than it is said");
    assert_eq!(world.fit("any:owner=far|nil"), ["far/m", "nil/m"]);
    assert_eq!(world.fit("any:tier<=t0"), [""; 0]);
    assert_eq!(world.fit("any:op=embeddings"), [""; 0], "both what the call is and what it asks for");
    assert_eq!(world.fit("any:language=fr"), [""; 0]);
}

#[test]
fn another_release_never_comes_in_however_cheap() {
    let world = world(
        "lab/m    1 chat 300000 8192 DE 0
         museum/m 1 chat 400000 8192 DE 0
         cheap/m  2 chat 1      8192 DE 0",
    );
    let release = Digest([1; 32]);
    let answering = Answering { release, alone: None };
    let (fit, misfit) = world.asked("same:lab/m", Some(&answering));
    assert_eq!(fit, ["lab/m", "museum/m"]);
    assert_eq!(misfit, [("cheap/m".parse().unwrap(), Misfit::Release)]);
    // Nobody knows whether what a vendor hides is what another hides.
    let alone = Answering { release, alone: Some("lab/m".parse().unwrap()) };
    assert_eq!(world.asked("same:lab/m", Some(&alone)).0, ["lab/m"]);
}

#[test]
fn who_lacks_something_is_kept_out_and_told() {
    let (summary, tariff) = offered(&["lab/m", "1", "chat", "1", "8192", "DE", "0"]);
    let offer = Offered { summary: &summary, tariff: Some(&tariff), missing: Some("vetting") };
    let (fit, misfit) = rank(&Needs::default(), Op::Chat, None, [offer]);
    assert_eq!((fit, misfit[0].1.to_string()), (vec![], "you may not use it yet: vetting".to_owned()));
}

#[test]
fn a_price_is_of_the_op_at_its_dearest_step() {
    let price = |meter, ucr, minimum| price(&tariff(Op::Chat, meter, ucr, minimum), Op::Chat).map(Amount::ucr);
    assert_eq!(price(Meter::OutputTokens, 400_000, 0), Some(400_000));
    assert_eq!(price(Meter::InputTokens, 0, 0), Some(1), "a later step may be the dearest");
    assert_eq!(price(Meter::OutputBytes, 400_000, 0), Some(8 * 400_000), "8 bytes to a token");
    assert_eq!(price(Meter::Requests, 1_000_000_000, 1), Some(1_000));
    assert_eq!(price(Meter::Requests, 1, 7), Some(7), "the minimum is a floor");
    assert_eq!(price(Meter::ComputeMs, 1, 0), None);
    assert_eq!(super::price(&tariff(Op::Embeddings, Meter::Requests, 1, 0), Op::Chat), None);
}
