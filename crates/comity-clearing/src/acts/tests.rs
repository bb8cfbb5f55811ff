use super::*;

fn key(name: &str) -> SecretKey {
    SecretKey::from_seed(*Digest::of(name.as_bytes()).as_bytes())
}

fn officer(key_name: &str, person: &str) -> Officer {
    Officer { key: key(key_name).public(), name: person.into() }
}

fn act() -> Act {
    Act::Withdraw(Withdraw { lot: LotId([1; 16]), amount: Amount::from_ucr(5), reason: "letter 7".into() })
}

fn proposed(by: Option<Signature>) -> ActRecord {
    let act = act();
    ActRecord {
        id: act.id(),
        body: act.body(),
        proposed_by: by,
        proposed_at: Timestamp(1),
        approved_by: None,
        done_at: None,
    }
}

fn conflict(result: Result<Verdict, Failure>) -> String {
    match result {
        Err(Failure::DutyConflict { what }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_persons_stand_behind_an_act() {
    let officers = [officer("ann", "Ann"), officer("bob", "Bob"), officer("ann's other", "Ann")];
    let judge = |known: Option<&ActRecord>, by: Option<Signature>| super::judge(&act(), known, by.as_ref(), &officers);
    let sign = |name: &str| Some(act().sign(&key(name)));
    assert_eq!(judge(None, sign("ann")).unwrap(), Verdict::Propose);
    let by_ann = proposed(sign("ann"));
    assert_eq!(judge(Some(&by_ann), sign("bob")).unwrap(), Verdict::Do);
    for who in ["ann", "ann's other"] {
        assert!(conflict(judge(Some(&by_ann), sign(who))).contains("second person"), "{who}");
    }
    assert!(conflict(judge(None, None)).contains("must sign"));
    assert!(conflict(judge(None, sign("eve"))).contains("no officer"));
    let other = Act::OfficerAdd(OfficerAdd { officer: officer("eve", "Eve"), reason: "new".into() });
    assert!(conflict(judge(None, Some(other.sign(&key("bob"))))).contains("does not stand"));
    let done = ActRecord { done_at: Some(Timestamp(2)), ..proposed(sign("ann")) };
    assert_eq!(judge(Some(&done), sign("bob")).unwrap(), Verdict::Known);
}

/// One who was alone when it was proposed does not approve it as the second.
#[test]
fn until_two_persons_are_registered_one_acts_alone() {
    let alone = [officer("ann", "Ann"), officer("ann's other", "Ann")];
    assert_eq!(judge(&act(), None, None, &alone).unwrap(), Verdict::Do);
    assert_eq!(judge(&act(), None, None, &[]).unwrap(), Verdict::Do);
}

#[test]
fn two_persons_remain() {
    let officers = [officer("ann", "Ann"), officer("bob", "Bob"), officer("bob's other", "Bob")];
    let remove = |name: &str| {
        let act = Act::OfficerRemove(OfficerRemove { key: key(name).public(), reason: "left".into() });
        judge(&act, None, Some(&act.sign(&key("bob"))), &officers)
    };
    assert!(conflict(remove("ann")).contains("two persons must remain"));
    assert_eq!(remove("bob's other").unwrap(), Verdict::Propose);
    // Nor may the second person become the first by another name.
    let both = &officers[..2];
    let rename = Act::OfficerAdd(OfficerAdd { officer: officer("bob", "Ann"), reason: "married".into() });
    let renamed = judge(&rename, None, Some(&rename.sign(&key("ann"))), both);
    assert!(conflict(renamed).contains("two persons must remain"));
}

/// Who left has no word any more, also not one from before.
#[test]
fn who_proposed_must_be_an_officer_when_it_is_done() {
    let officers = [officer("bob", "Bob"), officer("cy", "Cy")];
    let by_ann = proposed(Some(act().sign(&key("ann"))));
    let judged = judge(&act(), Some(&by_ann), Some(&act().sign(&key("bob"))), &officers);
    assert!(conflict(judged).contains("no officer any more"));
}

#[test]
fn an_act_reads_back_as_it_was_written() {
    let supplement = Supplement {
        award: AwardId([2; 16]),
        number: "S-1".into(),
        part: PartAsk { amount: Amount::from_ucr(7), opens_at: None, ends_at: Some(Timestamp(9)), after_report: true },
    };
    for act in [
        act(),
        Act::Supplement(supplement),
        Act::OfficerAdd(OfficerAdd { officer: officer("ann", "Ann"), reason: "new".into() }),
    ] {
        assert_eq!(serde_json::from_str::<Act>(&act.body()).unwrap(), act);
    }
    assert!(serde_json::from_str::<Act>(r#"{"act":"withdraw","lot":"x"}"#).is_err());
    let unknown = act().body().replace("\"reason\"", "\"colour\":1,\"reason\"");
    assert!(serde_json::from_str::<Act>(&unknown).is_err(), "{unknown}");
}
