use super::*;

fn terms(name: u8, from: u64, basis: Basis) -> Terms {
    let (act, from, recorded_at) = (Digest([name; 32]), Timestamp(from), Timestamp(0));
    Terms { act, place: name.into(), basis, from, arrears: false, recorded_at }
}

fn commercial(ceiling: Option<u32>, ends_at: Option<u64>) -> Basis {
    let ceiling = ceiling.map(Amount::from_ucr);
    Basis::Commercial { contract: "C-1".into(), ceiling, ends_at: ends_at.map(Timestamp) }
}

fn agency(agreement: &str) -> Basis {
    Basis::Agency { agreement: agreement.into(), ceiling: None, ends_at: None }
}

/// Tokens sold at these moments, with these earnings.
fn earned(sold: &[(u64, i64)]) -> Vec<Earned> {
    let one = |(at, (sold_at, net)): (usize, &(u64, i64))| Earned {
        token: TokenId([u8::try_from(at).unwrap(); 16]),
        sold_at: Timestamp(*sold_at),
        net: *net,
    };
    sold.iter().enumerate().map(one).collect()
}

/// What is payable in all, and what is not, by its reason.
fn sums(terms: &[Terms], sold: &[(u64, i64)], unlined: i64) -> (i64, Vec<(Why, i64)>) {
    let reckoned = reckon(terms, &earned(sold), unlined, Timestamp(u64::MAX));
    let total: i64 = sold.iter().map(|sold| sold.1).sum();
    let (allowed, refused): (i64, i64) = (reckoned.allowed.values().sum(), reckoned.refused.values().sum());
    let before: i64 = reckoned.before_lines.values().sum();
    assert_eq!(allowed + refused + before, total, "no micro-credit vanishes");
    (allowed, reckoned.refused.into_iter().collect())
}

#[test]
fn each_kind_pays_what_it_pays() {
    let sold = [(5, 100), (10, 200), (20, 400)];
    assert_eq!(sums(&[], &sold, 0), (0, vec![(Why::NoTerms, 700)]));
    assert_eq!(sums(&[terms(1, 10, Basis::None {})], &sold, 0), (0, vec![(Why::NoTerms, 100), (Why::Given, 600)]));
    assert_eq!(sums(&[terms(1, 0, agency(""))], &sold, 0), (0, vec![(Why::NoAgreement, 700)]));
    assert_eq!(sums(&[terms(1, 0, agency("IAA-7"))], &sold, 0), (700, vec![]));
    let recharge = Basis::Recharge { schedule: "S".into(), dated: Timestamp(0) };
    assert_eq!(sums(&[terms(1, 10, recharge)], &sold, 0), (600, vec![(Why::NoTerms, 100)]));
    assert_eq!(sums(&[terms(1, 0, commercial(Some(250), None))], &sold, 0), (250, vec![(Why::AboveCeiling, 450)]));
    assert_eq!(sums(&[terms(1, 0, commercial(None, Some(10)))], &sold, 0), (100, vec![(Why::Ended, 600)]));
}

#[test]
fn the_last_terms_from_a_moment_hold_from_then_on() {
    let sold = [(5, 100), (10, 200), (20, 400)];
    let one = [terms(1, 0, agency("")), terms(2, 10, agency("IAA-7")), terms(3, 20, Basis::None {})];
    assert_eq!(sums(&one, &sold, 0), (200, vec![(Why::NoAgreement, 100), (Why::Given, 400)]));
    let other = [terms(2, 10, Basis::None {}), terms(3, 10, agency("IAA-7"))];
    assert_eq!(sums(&other, &sold, 0), (600, vec![(Why::NoTerms, 100)]));
    // What takes effect later is not known of yet.
    let reckoned = reckon(&one, &earned(&sold), 0, Timestamp(10));
    assert_eq!((reckoned.allowed.len(), reckoned.refused[&Why::NoAgreement]), (0, 700));
}

#[test]
fn arrears_are_paid_by_later_terms_that_say_so_but_a_gift_stays_one() {
    let sold = [(5, 100), (10, 200), (20, 400)];
    let with = |basis| Terms { arrears: true, ..terms(9, 15, basis) };
    assert_eq!(sums(&[with(agency("IAA-7"))], &sold, 0), (700, vec![]));
    assert_eq!(sums(&[with(commercial(Some(150), None))], &sold, 0), (150, vec![(Why::AboveCeiling, 550)]));
    let amended = [terms(1, 0, commercial(Some(250), None)), with(commercial(Some(1_000), None))];
    assert_eq!(sums(&amended, &sold, 0), (700, vec![]));
    let given = [terms(1, 0, Basis::None {}), with(agency("IAA-7"))];
    assert_eq!(sums(&given, &sold, 0), (400, vec![(Why::Given, 300)]));
    let not = [terms(1, 0, agency("")), terms(2, 15, agency("IAA-7"))];
    assert_eq!(sums(&not, &sold, 0), (400, vec![(Why::NoAgreement, 300)]), "only where they say so");
}

#[test]
fn what_was_paid_before_payments_had_lines_was_for_what_was_sold_first() {
    let sold = [(5, 100), (10, 200)];
    assert_eq!(sums(&[terms(1, 0, agency("IAA-7"))], &sold, 150), (150, vec![]));
    assert_eq!(sums(&[], &sold, 150), (0, vec![(Why::NoTerms, 150)]));
}

#[test]
fn a_payment_takes_back_first_and_then_pays_in_the_order_of_sale() {
    let act = Digest([1; 32]);
    let contract = [terms(1, 0, commercial(None, None))];
    let before = reckon(&contract, &earned(&[(5, 100), (10, 200)]), 0, Timestamp(99));
    let order = earned(&[(5, 40), (10, 200), (12, 50)]);
    let now = reckon(&contract, &order, 0, Timestamp(99));
    let paid: Portions = [((order[0].token, act), 100), ((order[1].token, act), 30)].into();
    let line = |at: usize, amount| Due { token: order[at].token, terms: act, amount };
    // The third was sold after the period.
    let due = due(&before, &now, &paid, &order);
    assert_eq!(due, [line(0, -60), line(1, 170)]);
    assert_eq!(lines(&due, 110), Some(vec![line(0, -60), line(1, 170)]));
    assert_eq!(lines(&due, 25), Some(vec![line(0, -60), line(1, 85)]));
    assert_eq!(lines(&due, 111), None);
    assert_eq!(lines(&[], 0), Some(vec![]));
}

#[test]
fn a_line_falls_on_the_lots_that_paid_it() {
    let drawn = [30, 50];
    assert_eq!(spread(&drawn, 0, 20), (vec![20, 0], 0));
    assert_eq!(spread(&drawn, 20, 40), (vec![10, 30], 0));
    assert_eq!(spread(&drawn, 60, 40), (vec![0, 20], 20), "suspense paid the rest");
    assert_eq!(spread(&drawn, 60, -40), (vec![-10, -30], 0), "and back again");
    assert_eq!(spread(&drawn, 90, -20), (vec![0, -10], -10));
    assert_eq!(spread(&[], 0, 5), (vec![], 5));
}

#[test]
fn a_run_pays_what_is_past_disputes_and_leaves_the_rest() {
    let due = |amounts: &[i64]| -> Vec<Due> {
        let one =
            |(token, amount): (u8, &i64)| Due { token: TokenId([token; 16]), terms: Digest([1; 32]), amount: *amount };
        (0..).zip(amounts).map(one).collect()
    };
    // What is due of tokens 0, 1, 2, …, which of them may still be disputed, what disputes leave of the account, and what is paid.
    for (amounts, kept, left, tokens, paid) in [
        (&[30, 50][..], &[][..], 80, &[0, 1][..], 80),
        (&[30, 50], &[1], 30, &[0], 30),
        // One that was paid too early, of which a dispute may ask all the same.
        (&[30, 0], &[1], 10, &[0, 1], 10),
        // What is to be taken back is taken back, of whatever token.
        (&[30, -10, 50], &[1, 2], 40, &[0, 1], 20),
        (&[30, -50], &[], 0, &[0, 1], 0),
        (&[-5, 50], &[1], 0, &[0], 0),
    ] {
        let may_be_disputed = |token: TokenId| kept.contains(&token.0[0]) && amounts[usize::from(token.0[0])] != 0;
        let (dues, amount) = past_disputes(due(amounts), may_be_disputed, Amount::from_ucr(left));
        assert_eq!(dues.iter().map(|due| due.token.0[0]).collect::<Vec<_>>(), tokens, "{amounts:?}");
        assert_eq!(amount, paid, "{amounts:?}");
        if amount > 0 {
            let lines = lines(&dues, amount).expect("as much is due");
            assert_eq!(lines.iter().map(|line| line.amount).sum::<i64>(), amount, "{amounts:?}");
        }
    }
}
