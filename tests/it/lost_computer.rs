//! A computer is lost: from another one its key ends, what it drew is useless to whoever has it, and what was not spent goes home.

use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::Amount;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_computer_spends_nothing_more_and_what_it_held_goes_home() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let house = federation.path().join("house").display().to_string();
    let (old, new) = (federation.researcher().await, federation.path().join("new").display().to_string());
    let roster = federation.path().join("roster/roster.cbor").display().to_string();
    let made =
        process::expect(&["--home", &new, "init", "--roster", &roster, "--entry", &federation.address("hub")]).await;
    let new_key = made.split_whitespace().find(|word| word.starts_with("did:key:")).expect("a key").to_owned();
    let lost_key = federation.member().public().to_string();

    // The old computer asks, and has a token besides that its node has never seen.
    process::expect(&["--home", &old, "chat", "lab/model", "hello", "--max-tokens", "8"]).await;
    let unused = federation.client("unused");
    let unused = unused.buy(&lab.model(), Amount::from_ucr(20_000), 0).await;
    let unused = unused.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let before = federation.books_add_up().await;
    assert!(before.in_escrow > Amount::from_ucr(20_000), "{before:?}");

    // Nobody's key ends another's.
    let stranger = process::run(&["--home", &new, "wallet", "revoke", "--lost", &lost_key]).await;
    assert!(!stranger.success && stranger.stderr.contains("not_registered"), "{}", stranger.stderr);

    // The house learns that the new computer is the same person's: a login says so; here its operator does.
    let seen = ["--seen", "a passport"];
    let vouch = [&["clearing", "person", "vouch", "--home", &house, &lost_key, "vetted"], seen.as_slice()].concat();
    let vouched: Value = serde_json::from_str(&process::expect(&vouch).await).expect("JSON");
    let person = vouched["person"].as_str().expect("a person");
    process::expect(&["clearing", "person", "add-key", "--home", &house, person, &new_key]).await;

    let said = process::run(&["--home", &new, "wallet", "revoke", "--lost", &lost_key]).await;
    assert!(said.success, "{}", said.stderr);
    assert!(said.stdout.contains("2 tokens that it had drawn are stopped"), "{}", said.stdout);
    assert_eq!(said.stdout.matches("went home").count(), 2, "{}", said.stdout);
    assert!(
        said.stdout.contains(&format!("{unused} ended; {} went home", Amount::from_ucr(20_000))),
        "{}",
        said.stdout
    );
    let after = federation.books_add_up().await;
    let charged = after.settled.saturating_add(after.in_escrow);
    assert_eq!(charged, Amount::from_ucr(REQUEST_UCR), "all but what was answered is the project's again: {after:?}");

    // Whoever has the computer has every key in it, and gets nothing.
    let thief = process::run(&["--home", &old, "chat", "lab/model", "mine now", "--max-tokens", "8"]).await;
    assert!(!thief.success, "{}", thief.stdout);
    assert_eq!(upstream.asked(), 1, "the model was asked by its owner alone");
    let again = process::run(&["--home", &old, "whoami", "--revoke", &new_key]).await;
    assert!(!again.success, "a key that ended ends no other: {}", again.stdout);

    // Said again, it is done already.
    let again = process::run(&["--home", &new, "wallet", "revoke", "--lost", &lost_key]).await;
    assert!(again.success && !again.stdout.contains("went home"), "{} {}", again.stdout, again.stderr);
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_token_is_useless_once_its_wallet_revokes_it() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let home = federation.researcher().await;
    process::expect(&["--home", &home, "chat", "lab/model", "hello", "--max-tokens", "8"]).await;
    // A copy of token and holder key, without the member key: nothing new can be drawn with it.
    let copy = federation.path().join("copy");
    std::fs::create_dir(&copy).expect("a folder");
    for file in ["roster.cbor", "wallet.journal"] {
        std::fs::copy(std::path::Path::new(&home).join(file), copy.join(file)).expect("a copy");
    }
    let profile = std::fs::read_to_string(std::path::Path::new(&home).join("profile.toml")).expect("a profile");
    let kept = profile.lines().filter(|line| !line.starts_with("member_key") && !line.starts_with("project"));
    std::fs::write(copy.join("profile.toml"), kept.collect::<Vec<_>>().join("\n")).expect("a profile");
    let copy = copy.display().to_string();
    process::expect(&["--home", &copy, "chat", "lab/model", "theirs", "--max-tokens", "8"]).await;
    assert_eq!(upstream.asked(), 2, "while it lasts, a copy spends");

    process::run(&["--home", &home, "wallet", "revoke", "--all"]).await;
    let account = federation.books_add_up().await;
    let charged = account.settled.saturating_add(account.in_escrow);
    assert_eq!(charged.ucr(), 2 * i64::from(REQUEST_UCR), "{account:?}");
    let refused = process::run(&["--home", &copy, "chat", "lab/model", "once more", "--max-tokens", "8"]).await;
    assert!(!refused.success, "{}", refused.stdout);
    assert_eq!(upstream.asked(), 2);
    federation.end().await;
}
