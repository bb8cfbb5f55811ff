//! Small money works: two credits, eight callers at once who name no limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use comity_sdk::Query;
use comity_tests::federation::chain;
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::Amount;

const CALLERS: usize = 8;
/// 1 µcr for an input token, 2,000 for an output token: an answer of two costs 4,009, one of 64 would cost 128,000.
const DEAR: &str = r#"{ meter = "input_tokens", steps = [{ from = 0, ucr_per_million = 1_000_000 }] },
  { meter = "output_tokens", steps = [{ from = 0, ucr_per_million = 2_000_000_000 }] }"#;

#[tokio::test(flavor = "multi_thread")]
async fn eight_callers_without_limits_see_no_refusal_until_next_to_all_of_two_credits_is_spent() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, DEAR);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = Arc::new(federation.client("thrifty"));
    let budget = Amount::credits(2);
    let token = client.buy(&lab.model(), budget, 0).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let (spent, over) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let callers = (0..CALLERS).map(|caller| {
        let (client, model) = (Arc::clone(&client), lab.model());
        let (spent, over) = (Arc::clone(&spent), Arc::clone(&over));
        tokio::spawn(async move {
            let mut asked = 0;
            while !over.load(Ordering::SeqCst) {
                asked += 1;
                let query = Query::chat(model.clone(), &[("user", &format!("{caller} {asked}"))], None, false);
                match client.ask(&query).await {
                    Ok(answer) if answer.receipt.token == token => {
                        spent.fetch_add(answer.receipt.charge.ucr(), Ordering::SeqCst);
                    }
                    // Refused, or answered under another token since this one had too little left: that is the end.
                    Ok(_) => over.store(true, Ordering::SeqCst),
                    Err(error) => {
                        let first = !over.swap(true, Ordering::SeqCst);
                        if first {
                            eprintln!("the first refusal: {}", chain(&error));
                        }
                    }
                }
            }
            // What was charged when the first of them was sent away.
            spent.load(Ordering::SeqCst)
        })
    });
    let mut least = i64::MAX;
    for caller in callers.collect::<Vec<_>>() {
        least = least.min(caller.await.expect("a caller comes to its end"));
    }
    assert!(least * 100 >= budget.ucr() * 95, "{least} of {budget} were spent when a caller was refused");
    federation.books_add_up().await;
    federation.end().await;
}
