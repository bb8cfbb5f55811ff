//! Keys at rest: a wallet whose keys are sealed asks, pays and ends tokens as any other, and nobody who copies its folder has a key.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use comity_sdk::Client;
use comity_sdk::journal::{Entry, Journal};
use comity_sdk::seal::file::Seal;
use comity_sdk::seal::keyring::System;
use comity_sdk::seal::{DataKey, opened};
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR};
use comity_tests::process::{Ended, run_with};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::{Amount, Digest};

const PASSPHRASE: &str = "a lamp, a hinge, two geese";

/// A researcher's folder, and what the commands find in their environment.
struct Wallet<'a> {
    home: String,
    environment: Vec<(&'a str, &'a str)>,
}

impl Wallet<'_> {
    async fn run(&self, arguments: &[&str]) -> Ended {
        let all = [&["--home", self.home.as_str()], arguments].concat();
        run_with(&self.environment, &all).await
    }

    async fn expect(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments).await;
        assert!(ended.success, "{arguments:?}: {}", ended.stderr);
        ended
    }

    async fn chats(&self) {
        let said = self.expect(&["chat", "lab/model", "hello", "--max-tokens", "8"]).await.stdout;
        assert!(said.contains(comity_tests::upstream::ANSWER), "{said}");
    }

    /// Every holder key that the wallet ever had.
    fn holders(&self, key: Option<&DataKey>) -> Vec<[u8; 32]> {
        let entries = Journal::read(&Client::journal(Path::new(&self.home))).expect("a journal");
        let seeds = opened(key, entries).expect("it opens").into_iter().filter_map(|entry| match entry {
            Entry::Token { seed, .. } => Some(seed),
            Entry::Reserving { pending, .. } => Some(pending.seed),
            _ => None,
        });
        seeds.map(|seed| (*seed).try_into().expect("32 bytes")).collect()
    }

    fn key(&self) -> DataKey {
        let home = Path::new(&self.home);
        let seal = Seal::read(home).expect("a seal").expect("one is there");
        seal.unlock(home, &System, || Ok(PASSPHRASE.to_owned().into())).expect("it opens")
    }
}

/// All files below a folder in which a secret stands in any of its forms.
fn found(folder: &Path, secret: &[u8; 32]) -> Vec<PathBuf> {
    let hex = Digest(*secret).to_string();
    let forms = [
        secret.to_vec(),
        hex.to_uppercase().into(),
        hex.into(),
        STANDARD.encode(secret).into(),
        URL_SAFE_NO_PAD.encode(secret).into(),
    ];
    let mut files = Vec::new();
    for file in std::fs::read_dir(folder).expect("a folder") {
        let path = file.expect("a file").path();
        if path.is_dir() {
            files.extend(found(&path, secret));
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            let stands = |form: &Vec<u8>| bytes.windows(form.len()).any(|part| part == form.as_slice());
            files.extend(forms.iter().any(stands).then_some(path));
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_profile_asks_and_pays_and_no_key_lies_in_its_folder() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let home = federation.researcher().await;
    let folder = PathBuf::from(&home);
    let (file, wrong) = (federation.path().join("passphrase"), federation.path().join("wrong"));
    std::fs::write(&file, format!("{PASSPHRASE}\n")).expect("a file");
    std::fs::write(&wrong, "a lamp, a hinge, three geese\n").expect("a file");
    let (file, wrong) = (file.display().to_string(), wrong.display().to_string());

    // Open, as it always was, and it says so.
    let open = Wallet { home: home.clone(), environment: Vec::new() };
    open.chats().await;
    let member = *federation.member().seed();
    let mut secrets = open.holders(None);
    assert!(!secrets.is_empty() && secrets.iter().all(|secret| !found(&folder, secret).is_empty()), "the search finds");
    assert!(!found(&folder, &member).is_empty());
    let told = open.expect(&["wallet", "status"]).await;
    assert!(told.stderr.contains("open, in files that only you may read"), "{}", told.stderr);

    let sealed = Wallet { home: home.clone(), environment: vec![("COMITY_PASSPHRASE_FILE", &file)] };
    let told = sealed.expect(&["wallet", "seal", "--passphrase"]).await;
    assert!(told.stderr.contains("your passphrase opens them"), "{}", told.stderr);

    // The token that was drawn before is spent on, ends, and another is drawn: into a journal that is sealed.
    sealed.chats().await;
    sealed.expect(&["wallet", "finish"]).await;
    sealed.chats().await;
    let after = sealed.holders(Some(&sealed.key()));
    assert!(after.len() > secrets.len() && after.starts_with(&secrets), "one more token than before");
    secrets = after;
    secrets.push(member);
    for secret in &secrets {
        assert_eq!(found(&folder, secret), Vec::<PathBuf>::new());
    }
    // By the option, too; and what reads receipts alone needs no key.
    let listed = open.expect(&["receipts", "list"]).await.stdout;
    assert!(listed.contains("lab/model"), "{listed}");
    open.expect(&["--passphrase-file", &file, "wallet", "status"]).await;

    // Whoever has the folder and no passphrase has nothing.
    let refused = open.run(&["chat", "lab/model", "hello"]).await;
    assert!(!refused.success && refused.stderr.contains("no passphrase was given"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("hint:") && refused.stderr.contains("COMITY_PASSPHRASE_FILE"),
        "{}",
        refused.stderr
    );
    let refused = open.run(&["--passphrase-file", &wrong, "chat", "lab/model", "hello"]).await;
    assert!(!refused.success && refused.stderr.contains("does not open"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    std::fs::rename(Seal::path(&folder), folder.join("away")).expect("a file");
    let refused = open.run(&["chat", "lab/model", "hello"]).await;
    assert!(!refused.success && refused.stderr.contains("wallet.seal is not there"), "{}", refused.stderr);
    std::fs::rename(folder.join("away"), Seal::path(&folder)).expect("a file");

    // And back.
    sealed.expect(&["wallet", "seal", "--open"]).await;
    assert!(!found(&folder, &member).is_empty() && !Seal::path(&folder).exists());
    open.chats().await;
    open.expect(&["wallet", "finish"]).await;
    let account = federation.books_add_up().await;
    assert_eq!(account.in_escrow, Amount::ZERO);
    assert_eq!(account.settled.ucr(), 4 * i64::from(REQUEST_UCR), "each answer was paid once");
    federation.end().await;
}

/// What libsecret's tool does, in a folder: a secret over a pipe, by attributes.
const SECRET_TOOL: &str = r#"#!/bin/sh
verb=$1; shift
for last; do :; done
case $verb in
store) cat > "$RING/$last" ;;
lookup) [ -f "$RING/$last" ] && cat "$RING/$last" ;;
clear) rm -f "$RING/$last" ;;
esac
"#;

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_profile_is_made_sealed_by_the_keyring_or_a_passphrase_and_never_by_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let at = tempfile::tempdir().expect("a folder");
    let folder = |name: &str| {
        let path = at.path().join(name);
        std::fs::create_dir(&path).expect("a folder");
        path.display().to_string()
    };
    let (tools, ring, empty) = (folder("tools"), folder("ring"), folder("empty"));
    let tool = Path::new(&tools).join("secret-tool");
    std::fs::write(&tool, SECRET_TOOL).expect("a tool");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("a tool");
    let path = format!("{tools}:{}", std::env::var("PATH").unwrap_or_default());
    let roster = at.path().join("roster.cbor").display().to_string();
    std::fs::write(&roster, comity_tests::house::roster()).expect("a file");
    let init = ["init", "--roster", &roster, "--entry", "https://hub.example"];
    let passphrase = at.path().join("passphrase").display().to_string();
    std::fs::write(&passphrase, PASSPHRASE).expect("a file");

    let with = Wallet { home: folder("with"), environment: vec![("PATH", &path), ("RING", &ring)] };
    let told = with.expect(&[init.as_slice(), &["--keys", "keyring"]].concat()).await;
    assert!(told.stderr.contains("the keyring of this computer opens them"), "{}", told.stderr);
    let key = std::fs::read_to_string(Path::new(&with.home).join("member.key")).expect("a key");
    assert!(key.starts_with("sealed:"), "the key was never written open: {key}");
    assert_eq!(std::fs::read_dir(&ring).expect("a folder").count(), 1);

    // Through a passphrase to another, and back to the keyring: it keeps one key and forgets it again.
    let typed = [("COMITY_PASSPHRASE_FILE", passphrase.as_str())];
    let both = Wallet { home: with.home.clone(), environment: [with.environment.as_slice(), &typed].concat() };
    both.expect(&["wallet", "seal", "--passphrase"]).await;
    assert_eq!(std::fs::read_dir(&ring).expect("a folder").count(), 0);
    let second = at.path().join("second").display().to_string();
    std::fs::write(&second, "another passphrase").expect("a file");
    both.expect(&["wallet", "seal", "--passphrase", "--new-passphrase-file", &second]).await;
    let old = both.run(&["wallet", "seal", "--keyring"]).await;
    assert!(!old.success && old.stderr.contains("does not open"), "{}", old.stderr);
    both.expect(&["--passphrase-file", &second, "wallet", "seal", "--keyring"]).await;

    // A keyring that is gone, or was emptied, is said so.
    let gone = Wallet { home: with.home.clone(), environment: vec![("PATH", &empty)] };
    let refused = gone.run(&["wallet", "seal", "--open"]).await;
    assert!(!refused.success && refused.stderr.contains("secret-tool cannot be run"), "{}", refused.stderr);
    let emptied = Wallet { home: with.home.clone(), environment: vec![("PATH", &path), ("RING", &empty)] };
    let refused = emptied.run(&["wallet", "seal", "--open"]).await;
    assert!(!refused.success && refused.stderr.contains("keeps nothing for this folder"), "{}", refused.stderr);

    // Who asks for what cannot be is left without a profile, and not with an open key.
    let none = Wallet { home: folder("none"), environment: vec![("PATH", &empty)] };
    for keys in ["keyring", "passphrase"] {
        let refused = none.run(&[init.as_slice(), &["--keys", keys]].concat()).await;
        assert!(!refused.success && refused.stderr.contains("hint:"), "{}", refused.stderr);
        assert!(!Path::new(&none.home).join("member.key").exists());
    }
    let told = none.expect(&init).await;
    assert!(told.stderr.contains("keys     open"), "{}", told.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_goes_to_another_computer_and_neither_spends_what_the_other_drew() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let old = Wallet { home: federation.researcher().await, environment: Vec::new() };
    let at = |name: &str| federation.path().join(name).display().to_string();
    let (passphrase, file, newer) = (at("passphrase"), at("wallet.comity"), at("newer"));
    std::fs::write(&passphrase, PASSPHRASE).expect("a file");
    old.chats().await;
    old.expect(&["wallet", "limits", "--day", "2cr"]).await;

    old.expect(&["wallet", "export", &file, "--new-passphrase-file", &passphrase]).await;
    let account = federation.books_add_up().await;
    assert_eq!(
        (account.in_escrow, account.settled.ucr()),
        (Amount::ZERO, i64::from(REQUEST_UCR)),
        "it was ended first"
    );
    let packed = std::fs::read(&file).expect("a file");
    for secret in old.holders(None).into_iter().chain([*federation.member().seed()]) {
        assert!(!packed.windows(32).any(|part| part == secret));
    }

    let new = Wallet { home: newer, environment: vec![("COMITY_PASSPHRASE_FILE", &passphrase)] };
    new.expect(&["wallet", "import", &file]).await;
    let status = new.expect(&["wallet", "status"]).await;
    assert!(status.stderr.contains("your passphrase opens them"), "{}", status.stderr);
    assert_eq!(found(Path::new(&new.home), &federation.member().seed()), Vec::<PathBuf>::new());
    let receipts = ["receipts", "list"];
    assert_eq!(new.expect(&receipts).await.stdout, old.expect(&receipts).await.stdout);
    new.expect(&["receipts", "verify"]).await;
    let limits = new.expect(&["wallet", "limits"]).await.stdout;
    assert!(limits.contains("2 cr") || limits.contains("2.0"), "{limits}");
    new.chats().await;
    old.chats().await;

    // What is open while nobody can be asked stays with the old computer.
    let second = at("second.comity");
    old.expect(&["wallet", "export", &second, "--offline", "--new-passphrase-file", &passphrase]).await;
    let third = Wallet { home: at("third"), environment: new.environment.clone() };
    third.expect(&["wallet", "import", &second, "--keys", "open"]).await;
    let tokens: Vec<serde_json::Value> =
        serde_json::from_str(&third.expect(&["wallet", "status", "--json"]).await.stdout).expect("JSON");
    assert!(!tokens.is_empty() && tokens.iter().all(|token| token["open"] == false), "{tokens:?}");
    third.chats().await;
    let drawn = third.holders(None);
    assert!(drawn.len() > old.holders(None).len(), "it drew a token of its own");
    for wallet in [&old, &new, &third] {
        wallet.expect(&["wallet", "finish"]).await;
    }
    let account = federation.books_add_up().await;
    assert_eq!((account.in_escrow, account.settled.ucr()), (Amount::ZERO, 4 * i64::from(REQUEST_UCR)));

    let over = old.run(&["wallet", "import", &file]).await;
    assert!(!over.success && over.stderr.contains("is not empty"), "{}", over.stderr);
    federation.end().await;
}
