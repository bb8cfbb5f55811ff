use comity_wire::object::{Policy, Tier, Vetting};
use comity_wire::{NodeId, OrgId, SecretKey, Timestamp};

use super::*;
use crate::home::{Card, Role};
use crate::offer::Offer;

const NOW: Timestamp = Timestamp(1_795_824_000);

/// The example's policy, with some of its text replaced.
fn policy(changes: &[(&str, &str)]) -> Policy {
    let mut text = include_str!("../offer/example.toml").to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let offer: Offer = toml::from_str(&text).unwrap();
    offer.policy_of(&card(), 1, NOW).unwrap()
}

fn card() -> Card {
    let key = SecretKey::from_seed([1; 32]).public();
    let (organisation, node, name) = (OrgId([1; 16]), NodeId([2; 16]), "lab".to_owned());
    let (title, transport_key) = ("A lab".to_owned(), key);
    Card { organisation, name, title, key, node, transport_key, role: Role::Owner, issuer_key: None }
}

#[test]
fn what_changed_is_named_by_its_place() {
    assert_eq!(changes(&policy(&[]), &policy(&[])), []);
    let after = policy(&[
        ("charge_max = 100_000", "charge_max = 50_000"),
        ("requests = 120,", "requests = 60,"),
        ("# logprobs_decimals = 3", "logprobs_decimals = 3"),
    ]);
    let found = changes(&policy(&[]), &after);
    let places: Vec<&str> = found.iter().map(|change| change.place.as_str()).collect();
    assert_eq!(places, ["chat.t1.logprobs_decimals", "t1.charge_max", "t1.windows"]);
    assert_eq!((found[0].before.as_str(), found[0].after.as_str()), ("", "3"));
    assert!(
        found[2].before.starts_with("120 requests and 200000 tokens in 60 s")
            && found[2].after.starts_with("60 requests")
    );
}

#[test]
fn whoever_loses_or_gains_is_told_and_nobody_else() {
    let before = policy(&[]);
    let model = before.models[0].clone();
    assert_eq!(shifts(&before, &before, &model, NOW), []);
    // Registered projects lose both ops; those with vetting 2 keep them.
    let after = policy(&[("vetting = \"registered\"", "vetting = \"vetted\"")]);
    let lost = shifts(&before, &after, &model, NOW);
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(lost.iter().all(|shift| shift.is_loss() && shift.vetting == Vetting::Registered && shift.grant.is_none()));
    // A grant is asked for: whoever has one keeps what it had.
    let granted = policy(&[("grant = false", "grant = true")]);
    let lost = shifts(&before, &granted, &model, NOW);
    assert!(
        lost.iter().all(|shift| shift.grant != Some(Tier::Registered) && shift.grant != Some(Tier::Vetted)),
        "{lost:?}"
    );
    let unasked = lost.iter().filter(|shift| shift.grant.is_none()).count();
    assert_eq!(unasked, 4, "two ops, two vettings: {lost:?}");
    let gained = shifts(&after, &before, &model, NOW);
    assert!(gained.len() == 2 && !gained.iter().any(Shift::is_loss));
}

#[test]
fn a_preview_is_the_gateways_own_answer() {
    let policy = policy(&[("grant = false", "grant = true")]);
    let model = policy.models[0].clone();
    let op = policy.rules[0].op;
    let ask = |vetting, grants: &[&comity_wire::object::Grant]| {
        outcome(
            &policy,
            &model,
            op,
            &Caller { vetting, purposes: &[], grants, plans: &[], agreed: &[], delegated: false },
            NOW,
        )
    };
    let refused = ask(Vetting::None, &[]);
    assert_eq!((refused.missing.as_deref(), refused.whose_move), (Some("vetting_too_low"), Some("house")));
    let refused = ask(Vetting::Registered, &[]);
    assert_eq!((refused.missing.as_deref(), refused.whose_move), (Some("grant_required"), Some("owner")));
    let grant = supposed(&policy, &model, Tier::Registered, NOW);
    assert_eq!(ask(Vetting::Registered, &[&grant]).tier, Some(Tier::Registered));
}

#[test]
fn advice_names_what_its_owner_may_not_have_meant() {
    let places =
        |changes: &[(&str, &str)]| advice(&policy(changes)).into_iter().map(|advice| advice.place).collect::<Vec<_>>();
    assert_eq!(places(&[]), Vec::<String>::new(), "the example is as one would want it");
    assert_eq!(places(&[("concurrency = 16", "concurrency = 0")]), ["t1.concurrency"]);
    assert_eq!(places(&[("{ category = \"political_persuasion\", action = \"log\" }", "")]), ["t1.filters"]);
    assert_eq!(places(&[("action = \"log\"", "action = \"block\"")]), ["t1.filters"]);
    assert_eq!(
        places(&[("op = \"completions\"\ntier = \"t1\"\ninput", "op = \"prompt_logprobs\"\ntier = \"t1\"\ninput")]),
        ["prompt_logprobs.t1.logprobs_decimals"]
    );
    let tiers = "[[policy.tiers]]\ntier = \"t2\"\nvetting = \"vetted\"\ngrant = true\nidentity = \"pseudonym\"\ndelegates = \"all\"\n\
        window_max = 1\nlanes_max = 1\ncharge_max = 1\nconcurrency = 1\nlogging = \"metadata\"\n\
        windows = [{ seconds = 60, requests = 1 }]\nfilters = [{ category = \"cbrn\", action = \"block\" }]\n\n\
        [[policy.rules]]\nop = \"chat\"\ntier = \"t2\"\ninput_bytes_max = 65_536\noutput_tokens_max = 16\nchoices_max = 4\nlogprobs_max = 0\n\n[tariff]";
    assert_eq!(places(&[("[tariff]", tiers)]), ["chat.t2.output_tokens_max"]);
}

#[test]
fn what_leaves_and_to_whom_is_said_and_so_is_what_has_no_bound() {
    let text = shown(&policy(&[]));
    assert!(text.contains("projects that are registered at a clearing house"), "{text}");
    assert!(text.contains("120 requests and 200000 tokens in 60 s") && !text.contains("your grant"), "{text}");
    let stricter = [
        ("grant = false", "grant = true"),
        ("logprobs_max = 0", "logprobs_max = 5"),
        ("# logprobs_decimals = 3", "logprobs_decimals = 3"),
    ];
    let text = shown(&policy(&stricter));
    assert!(text.contains("with your grant") && text.contains("3 decimals"), "{text}");
    // Each op of each tier has its line.
    let policy = policy(&[]);
    let lines = |op: &str| text.lines().filter(|line| line.trim_start().starts_with(op)).count();
    for rule in &policy.rules {
        assert!(lines(&rule.op.to_string()) > 0, "{}: {text}", rule.op);
    }
}

/// The example's policy, whose tier t1 asks for terms, from a moment on, and for others before.
fn asking(terms: Option<u8>, from: Option<Timestamp>, before: Option<u8>) -> Policy {
    let mut policy = policy(&[]);
    let digest = |version: u8| comity_wire::Digest([version; 32]);
    let mut tiers = policy.tiers.to_vec();
    (tiers[0].terms, tiers[0].terms_from, tiers[0].terms_before) = (terms.map(digest), from, before.map(digest));
    policy.tiers = comity_wire::cbor::List::new(tiers).unwrap();
    policy
}

#[test]
fn whoever_agreed_to_the_terms_before_is_told_of_when_they_are_enough_no_more() {
    let (later, soon) = (Some(NOW.plus(1_000)), Some(NOW.plus(10)));
    let losses = |before: &Policy, after: &Policy| {
        shifts(before, after, &before.models[0], NOW).iter().filter(|shift| shift.is_loss()).count()
    };
    let (none, first) = (asking(None, None, None), asking(Some(1), None, None));
    let overlap = asking(Some(2), later, Some(1));
    assert!(losses(&none, &first) > 0, "nobody has signed");
    assert_eq!(losses(&none, &asking(Some(1), later, None)), 0, "everybody has time");
    assert_eq!(losses(&first, &overlap), 0);
    assert!(losses(&first, &asking(Some(2), None, None)) > 0);
    // Within the time that was given: it ends early, or another text comes in between.
    assert!(losses(&overlap, &asking(Some(2), soon, Some(1))) > 0, "the time that was given is shortened");
    assert!(losses(&asking(Some(1), later, None), &asking(Some(1), soon, None)) > 0);
    assert_eq!(losses(&asking(Some(2), soon, Some(1)), &overlap), 0, "it is made longer");
    assert!(losses(&overlap, &asking(Some(2), None, None)) > 0, "who signed the first text alone");
    assert!(losses(&overlap, &asking(Some(3), later, Some(2))) > 0);
    // Of two tiers that change their texts, who could reach the lower one had signed that one's alone.
    let two = |low: u8, high: u8| {
        let mut policy = asking(Some(low), None, None);
        let higher = comity_wire::object::TierRule {
            tier: Tier::Vetted,
            vetting: Vetting::Vetted,
            terms: Some(comity_wire::Digest([high; 32])),
            ..policy.tiers[0].clone()
        };
        policy.tiers = comity_wire::cbor::List::new(vec![policy.tiers[0].clone(), higher]).unwrap();
        policy
    };
    assert!(losses(&two(1, 2), &two(2, 2)) > 0);
    // A date without the text before opens the tier until then.
    assert_eq!(reopened(&first, &asking(Some(2), later, None), NOW), [(Tier::Registered, NOW.plus(1_000))]);
    assert_eq!(reopened(&first, &overlap, NOW), []);
    assert_eq!(reopened(&none, &asking(Some(1), later, None), NOW), []);
    assert_eq!(reopened(&first, &none, NOW), [], "to ask for nothing is meant");
}
