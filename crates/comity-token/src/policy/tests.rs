use super::*;
use crate::world::*;

fn ask<'a>(model: &'a ModelId, op: Op, vetting: Vetting, grants: &'a [&'a Grant]) -> Ask<'a> {
    Ask { model, op, vetting, purposes: &[], grants, plans: &[], run: None, agreed: &[], delegated: false, now: NOW }
}

fn tier_of(decision: &Decision) -> Result<Tier, (Code, Move)> {
    match decision {
        Decision::Allow(allowed) => Ok(allowed.tier),
        Decision::Refuse(missing) => Err((missing.code, missing.whose_move)),
    }
}

fn check(
    op: Op,
    vetting: Vetting,
    grants: &[&Grant],
    purposes: &[Purpose],
    delegated: bool,
    expect: Result<Tier, (Code, Move)>,
) {
    let tiny = model("lab/tiny");
    let asked = Ask { purposes, delegated, ..ask(&tiny, op, vetting, grants) };
    assert_eq!(tier_of(&decide(&policy_object(), &asked)), expect, "{op} {vetting} {delegated}");
}

#[test]
fn the_highest_tier_that_is_reached_decides() {
    check(Op::Chat, Vetting::None, &[], &[], false, Ok(Tier::Open));
    check(Op::Chat, Vetting::Registered, &[], &[], false, Ok(Tier::Registered));
    check(Op::Chat, Vetting::Vetted, &[], &[], true, Ok(Tier::Registered));
}

#[test]
fn what_no_row_names_does_not_exist() {
    check(Op::Embeddings, Vetting::Vetted, &[], &[], false, Err((Code::OpNotOffered, Move::Nobody)));
    let other = model("lab/other");
    let decision = decide(&policy_object(), &ask(&other, Op::Chat, Vetting::Vetted, &[]));
    assert_eq!(tier_of(&decision), Err((Code::ModelNotFound, Move::Nobody)));
}

#[test]
fn a_refusal_says_what_is_missing_and_whose_move_it_is() {
    let education = [text("education")];
    let grant = grant(Tier::Vetted);
    let held: &[&Grant] = &[&grant];
    check(Op::Completions, Vetting::None, &[], &[], false, Err((Code::VettingTooLow, Move::House)));
    check(Op::Logprobs, Vetting::Registered, held, &education, false, Err((Code::VettingTooLow, Move::House)));
    check(Op::Logprobs, Vetting::Vetted, &[], &education, false, Err((Code::GrantRequired, Move::Owner)));
    check(Op::Logprobs, Vetting::Vetted, held, &[], false, Err((Code::PurposeNotAllowed, Move::Caller)));
    check(
        Op::Logprobs,
        Vetting::Vetted,
        held,
        &[text("commerce")],
        false,
        Err((Code::PurposeNotAllowed, Move::Caller)),
    );
    check(Op::Logprobs, Vetting::Vetted, held, &education, true, Err((Code::DelegateNotAllowed, Move::Caller)));
    check(Op::Logprobs, Vetting::Vetted, held, &education, false, Ok(Tier::Vetted));
}

#[test]
fn a_tier_outside_its_hours_is_not_reached_and_says_when_it_opens() {
    use comity_wire::object::Hours;
    let minute = u16::try_from(NOW.seconds() % 86_400 / 60).unwrap();
    let hours = |from, until| list(vec![Hours { days: list(Vec::new()), from, until }]);
    let mut policy = policy_object();
    let mut tiers = policy.tiers.to_vec();
    tiers[1].hours = hours(minute + 10, minute + 20);
    policy.tiers = list(tiers.clone());
    let tiny = model("lab/tiny");
    // The lower tier answers meanwhile, where the op has one.
    let chat = decide(&policy, &ask(&tiny, Op::Chat, Vetting::Registered, &[]));
    assert_eq!(tier_of(&chat), Ok(Tier::Open));
    let Decision::Refuse(missing) = decide(&policy, &ask(&tiny, Op::Completions, Vetting::Registered, &[])) else {
        panic!("closed")
    };
    assert_eq!((missing.code, missing.whose_move), (Code::OutsideHours, Move::Caller));
    let opens_at = Timestamp(NOW.seconds() - NOW.seconds() % 60 + 600);
    assert_eq!(missing.requirement, Requirement::Hours { opens_at });
    let later = Ask { now: opens_at, ..ask(&tiny, Op::Completions, Vetting::Registered, &[]) };
    assert_eq!(tier_of(&decide(&policy, &later)), Ok(Tier::Registered));
}

#[test]
fn a_grant_opens_only_what_it_names() {
    let tiny = model("lab/tiny");
    let changes: [fn(&mut Grant); 6] = [
        |g| g.org = UNI,
        |g| g.models = list(vec![model("lab/wide")]),
        |g| g.ops = list(vec![Op::Chat]),
        |g| g.tier = Tier::Vetted,
        |g| g.not_after = NOW,
        |g| g.not_before = NOW.plus(1),
    ];
    let (good, plan, run) = (approval(), plan(), "run-1".parse().unwrap());
    let plans: &[(Digest, &Plan)] = &[(plan.digest(), &plan)];
    let of = |grants: &[&Grant]| {
        let asked = Ask { plans, run: Some(&run), ..ask(&tiny, Op::Activations, Vetting::Vetted, grants) };
        decide(&policy_object(), &asked)
    };
    assert_eq!(tier_of(&of(&[&good])), Ok(Tier::Audited));
    for (at, change) in changes.iter().enumerate() {
        let mut grant = good.clone();
        change(&mut grant);
        assert_eq!(tier_of(&of(&[&grant])), Err((Code::GrantRequired, Move::Owner)), "change {at}");
    }
    let planless = Grant { plan: None, executions: None, ..good };
    assert_eq!(tier_of(&of(&[&planless])), Err((Code::GrantRequired, Move::Owner)));
}

#[test]
fn an_approval_opens_its_plan_and_nothing_else() {
    let tiny = model("lab/tiny");
    let (grant, plan, run) = (approval(), plan(), "run-1".parse().unwrap());
    let (grants, plans): (&[&Grant], &[(Digest, &Plan)]) = (&[&grant], &[(plan.digest(), &plan)]);
    let education = [text("education")];
    let asked =
        Ask { purposes: &education, plans, run: Some(&run), ..ask(&tiny, Op::Logprobs, Vetting::Vetted, grants) };
    let Decision::Allow(allowed) = decide(&policy_object(), &asked) else { panic!("it is approved") };
    let approved = allowed.approved.expect("a call within a plan");
    assert_eq!((approved.grant, approved.plan, approved.executions), (grant.id, plan.digest(), 3));
    assert_eq!((approved.hours, approved.row.calls, approved.run), (24, 300, run.clone()));
    // The plan's limits on one call count where they are narrower.
    assert_eq!((allowed.rule.output_tokens_max, allowed.rule.choices_max), (10, 1));
    let missing = |asked: &Ask<'_>| match decide(&policy_object(), asked) {
        Decision::Refuse(missing) => (missing.code, missing.requirement, missing.whose_move),
        Decision::Allow(_) => panic!("it is not approved"),
    };
    let whole = plan.digest();
    assert_eq!(missing(&Ask { run: None, ..asked }), (Code::RunRequired, Requirement::Run(whole), Move::Caller));
    assert_eq!(missing(&Ask { plans: &[], ..asked }), (Code::GrantRequired, Requirement::Plan(whole), Move::Owner));
    // What asks no grant is not the plan's affair.
    let open = Ask { op: Op::Chat, ..asked };
    let Decision::Allow(allowed) = decide(&policy_object(), &open) else { panic!("it is open") };
    assert_eq!((allowed.tier, allowed.approved), (Tier::Registered, None));
}

#[test]
fn a_search_hit_tells_the_same_as_the_node() {
    let rows = policy_object();
    let ops = rows.rules.iter().map(|rule| {
        let tier = rows.tier(rule.tier).unwrap();
        comity_wire::object::OpTier { op: rule.op, tier: rule.tier, vetting: tier.vetting, grant: tier.grant }
    });
    let mut summary = summary();
    summary.ops = list(ops.collect());
    let tiny = model("lab/tiny");
    let (grant, plan, run) = (approval(), plan(), "run-1".parse().unwrap());
    let plans: &[(Digest, &Plan)] = &[(plan.digest(), &plan)];
    for op in [Op::Chat, Op::Completions, Op::Activations, Op::Embeddings] {
        for vetting in [Vetting::None, Vetting::Registered, Vetting::Vetted] {
            for grants in [&[][..], &[&grant][..]] {
                let asked = Ask { plans, run: Some(&run), ..ask(&tiny, op, vetting, grants) };
                let hit = decide_summary(&summary, &asked).map_err(|missing| (missing.code, missing.whose_move));
                assert_eq!(hit, tier_of(&decide(&policy_object(), &asked)), "{op} {vetting}");
            }
        }
    }
    summary.state = ModelState::Withdrawn;
    let hit = decide_summary(&summary, &ask(&tiny, Op::Chat, Vetting::Vetted, &[]));
    assert_eq!(hit.unwrap_err().code, Code::Withdrawn);
}
