//! What owners can put together of a project: one pseudonym at each organisation, and a holder key for each token.

use std::collections::BTreeSet;

use comity_sdk::Client;
use comity_sdk::journal::{Entry, Journal};
use comity_tests::federation::{PER_REQUEST, chain};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::object::{Chain, Token};
use comity_wire::{Amount, Signed};

#[tokio::test(flavor = "multi_thread")]
async fn a_project_has_one_pseudonym_at_each_organisation_and_a_fresh_key_for_each_token() {
    let upstream = Scripted::start().await;
    let owners = ["lab", "uni"].map(|name| Owner::scripted(name, &upstream, PER_REQUEST));
    let federation = Federation::start(&owners).await;
    let client = federation.client("researcher");
    for owner in owners.iter().chain(&owners) {
        let bought = client.buy(&owner.model(), Amount::from_ucr(20_000), 0).await;
        bought.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    let entries = Journal::read(&Client::journal(&federation.wallet("researcher"))).expect("a journal");
    let chains = entries.into_iter().filter_map(|entry| match entry {
        Entry::Token { chain, .. } => Some(Chain::from_bytes(&chain).expect("a chain").token),
        _ => None,
    });
    let tokens: Vec<_> = chains.map(|bytes| Signed::<Token>::decode(&bytes).expect("a token")).collect();
    let [lab, uni, lab_again, uni_again] = tokens.as_slice() else { panic!("{} tokens", tokens.len()) };
    let subject = |token: &Signed<Token>| token.unverified().subject.clone();
    assert_eq!(subject(lab), subject(lab_again), "an owner knows a project again: its rules count over tokens");
    assert_eq!(subject(uni), subject(uni_again));
    assert_ne!(subject(lab), subject(uni), "two owners have nothing to compare");
    let holders: BTreeSet<_> = tokens.iter().map(|token| *token.unverified().holder()).collect();
    assert_eq!(holders.len(), tokens.len(), "a fresh holder key for each token");
    let (project, member) = (client.profile().project.expect("a project"), federation.member().public());
    for token in &tokens {
        for told in [project.0.as_slice(), member.as_bytes().as_slice(), project.to_string().as_bytes()] {
            let stands = token.bytes().windows(told.len()).any(|part| part == told);
            assert!(!stands, "neither the project nor who draws stands in a token");
        }
    }
    drop(client);
    federation.end().await;
}
