//! A wallet whose journal began anew asks, pays and shows its receipts as if it had not (decision 0099).

use std::path::Path;

use comity_sdk::Client;
use comity_sdk::journal::{Entry, Journal};
use comity_sdk::wallet::stored;
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR};
use comity_tests::process::expect;
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::Amount;

#[tokio::test(flavor = "multi_thread")]
async fn commands_find_every_receipt_and_pay_once_after_a_journal_began_anew() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let home = federation.researcher().await;
    let path = Client::journal(Path::new(&home));
    let comity = async |arguments: &[&str]| expect(&[&["--home", home.as_str()], arguments].concat()).await;
    let chats = async || {
        let said = comity(&["chat", "lab/model", "hello", "--max-tokens", "8"]).await;
        assert!(said.contains(comity_tests::upstream::ANSWER), "{said}");
    };
    let listed = async || {
        let listed = comity(&["receipts", "list"]).await;
        let ids =
            listed.lines().filter(|line| line.contains("lab/model")).filter_map(|line| line.split_whitespace().last());
        ids.map(str::to_owned).collect::<Vec<_>>()
    };
    chats().await;
    let first = listed().await;
    let day = comity(&["wallet", "limits"]).await;
    assert_eq!(first.len(), 1);

    for round in 1..3_u8 {
        // As if much had been asked.
        let (mut journal, _) = Journal::open(&path).expect("the wallet's journal");
        for _ in 0..40 {
            journal.note(&Entry::Evidence { object: stored(&[round; 16_000]) }).expect("a line");
        }
        drop(journal);
        let grown = std::fs::metadata(&path).expect("a journal").len();
        let before = listed().await;
        // Who looks reads it as it is; who asks lets it begin anew, and goes on in the same lane.
        chats().await;
        let anew = std::fs::metadata(&path).expect("a journal").len();
        assert!(grown > 800_000 && anew < 20_000, "{grown} bytes, then {anew}");
        assert!(path.with_extension(format!("archive.{round}")).exists());
        let after = listed().await;
        assert_eq!((&after[..before.len()], after.len()), (&before[..], before.len() + 1));
    }
    assert_ne!(comity(&["wallet", "limits"]).await, day, "three are more than one");
    let shown = comity(&["receipts", "show", &first[0]]).await;
    assert!(shown.contains("receipt 1 of it"), "{shown}");
    let newest = comity(&["receipts", "show"]).await;
    assert!(newest.contains("receipt 3 of it"), "the same token, the same lane: {newest}");
    let verified = comity(&["receipts", "verify"]).await;
    assert!(verified.contains("3 receipts stand"), "{verified}");
    assert!(comity(&["cite", &first[0]]).await.contains("lab/model"));
    let evidence = federation.path().join("evidence.json").display().to_string();
    assert!(comity(&["receipts", "export", "--out", &evidence]).await.contains("3 receipts"));
    expect(&["receipts", "check", &evidence]).await;

    comity(&["wallet", "finish"]).await;
    let account = federation.books_add_up().await;
    assert_eq!((account.settled.ucr(), account.in_escrow), (3 * i64::from(REQUEST_UCR), Amount::ZERO));

    // Another computer has all of it, in one journal.
    let passphrase = federation.path().join("passphrase");
    std::fs::write(&passphrase, "a lamp, a hinge, two geese\n").expect("a file");
    let (file, words) =
        (federation.path().join("wallet.export").display().to_string(), passphrase.display().to_string());
    comity(&["wallet", "export", &file, "--new-passphrase-file", &words]).await;
    let other = federation.path().join("other").display().to_string();
    expect(&["--home", &other, "--passphrase-file", &words, "wallet", "import", &file, "--keys", "open"]).await;
    let there = expect(&["--home", &other, "receipts", "verify"]).await;
    assert!(there.contains("3 receipts stand"), "{there}");
    federation.end().await;
}
