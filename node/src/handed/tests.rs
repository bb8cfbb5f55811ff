//! A folder is checked with nothing but a roster: whatever is changed in it is seen.

use comity_wire::cbor::{List, Text};
use comity_wire::object::{Organisation, ReceiptKey};
use comity_wire::{PublicKey, RosterId, SecretKey, cose};

use super::*;

const NOW: Timestamp = Timestamp(1_795_420_800);
const ORG: OrgId = OrgId([2; 16]);
const NODE: NodeId = NodeId([3; 16]);
const PROJECT: &str = "sub-aaaqeayeaudaocajbifqydiob4";

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn roster(key: PublicKey) -> Roster {
    let organisation = Organisation {
        id: ORG,
        name: Text::new("lab").unwrap(),
        title: Text::new("A lab").unwrap(),
        key,
        issuers: List::default(),
    };
    Roster {
        federation: RosterId([5; 16]),
        version: 1,
        issued_at: NOW,
        expires_at: NOW.plus(1_000),
        threshold: 1,
        signers: List::new(vec![key]).unwrap(),
        organisations: List::new(vec![organisation]).unwrap(),
        anchors: List::default(),
    }
}

/// Who signs what, and what is said.
struct Made {
    folder: tempfile::TempDir,
    list: Handed,
    signer: SecretKey,
    certified: PublicKey,
    node: NodeId,
    project: &'static str,
    complete: bool,
}

impl Made {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub");
        let mut filling = Filling::begin(&path).unwrap();
        let mut lines = filling.lines("calls.jsonl").unwrap();
        lines.add(&serde_json::json!({ "n": 1 })).unwrap();
        filling.close(lines).unwrap();
        filling.put("attachments/app-1/x", b"words").unwrap();
        let list = Handed {
            project: PROJECT.to_owned(),
            node: NODE,
            began: NOW,
            organisation: ORG,
            at: NOW,
            by: "hanna".to_owned(),
            reason: "they ask".to_owned(),
            files: filling.files,
            complete: true,
            missing: Vec::new(),
            outside: Vec::new(),
        };
        let certified = secret(1).public();
        Self { folder, list, signer: secret(1), certified, node: NODE, project: PROJECT, complete: true }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("sub")
    }

    fn sign(&self) {
        let text = serde_json::to_vec_pretty(&self.list).unwrap();
        std::fs::write(self.path().join(LIST), &text).unwrap();
        let subject = Text::new(self.project).unwrap();
        let (contents, at) = (Digest::of(&text), NOW);
        let export = Export { node: NODE, subject, contents, complete: self.complete, at };
        std::fs::write(self.path().join(SIGNED), cose::sign(&export, &self.signer).bytes()).unwrap();
        let key = ReceiptKey { key: self.certified, from: NOW.minus(10), until: NOW.plus(10) };
        let certificate = NodeCertificate {
            org: ORG,
            node: self.node,
            transport_keys: List::new(vec![secret(9).public()]).unwrap(),
            receipt_keys: List::new(vec![key]).unwrap(),
            not_before: NOW.minus(10),
            not_after: NOW.plus(10),
            restore: 0,
        };
        std::fs::write(self.path().join(CERTIFICATE), cose::sign(&certificate, &secret(2)).bytes()).unwrap();
    }

    fn found(&self) -> String {
        match check(&self.path(), &roster(secret(2).public())) {
            Ok(_) => "holds".to_owned(),
            Err(failure) => failure.to_string(),
        }
    }
}

fn made(change: impl FnOnce(&mut Made)) -> String {
    let mut made = Made::new();
    change(&mut made);
    made.sign();
    made.found()
}

#[test]
fn what_was_handed_over_holds_and_whatever_else_does_not() {
    assert_eq!(made(|_| ()), "holds");
    let refused = |what: &str, found: String| assert!(found.contains(what), "{what}: {found}");
    refused("not signed under a receipt key", made(|made| made.signer = secret(8)));
    refused("not signed under a receipt key", made(|made| made.certified = secret(8).public()));
    refused("not what was signed", made(|made| made.node = NodeId([8; 16])));
    refused("not what was signed", made(|made| made.project = "sub-another"));
    refused("not what was signed", made(|made| made.list.at = NOW.plus(1)));
    refused("calls itself complete", made(|made| made.complete = false));
    let lacking = Missing { what: "texts".to_owned(), why: "elsewhere".to_owned() };
    refused("calls itself complete", made(|made| made.list.missing.push(lacking.clone())));
    let honest = |made: &mut Made| {
        (made.complete, made.list.complete) = (false, false);
        made.list.missing.push(lacking.clone());
    };
    assert_eq!(made(honest), "holds", "what says that it is not complete is what was handed over, too");
    refused("outside the folder", made(|made| made.list.files[0].name = "../sub/calls.jsonl".to_owned()));
    refused("outside the folder", made(|made| made.list.files[0].name = "/etc/hostname".to_owned()));
    refused("twice", made(|made| made.list.files.push(made.list.files[0].clone())));
    refused("not on the roster", made(|made| made.list.organisation = OrgId([8; 16])));

    let after = |change: &dyn Fn(&Path)| {
        let made = Made::new();
        made.sign();
        change(&made.path());
        made.found()
    };
    let write =
        |name: &'static str, text: &'static str| move |folder: &Path| std::fs::write(folder.join(name), text).unwrap();
    refused("not as it was handed over", after(&write("calls.jsonl", "{\"n\":2}\n")));
    refused("not as it was handed over", after(&write("calls.jsonl", "{\"n\":1}\n{\"n\":1}\n")));
    refused("was not handed over", after(&write("attachments/app-1/y", "more")));
    refused("cannot be read", after(&|folder| std::fs::remove_file(folder.join("attachments/app-1/x")).unwrap()));
    let link = |folder: &Path| {
        std::fs::rename(folder.join("calls.jsonl"), folder.join("../calls.jsonl")).unwrap();
        std::os::unix::fs::symlink("../calls.jsonl", folder.join("calls.jsonl")).unwrap();
    };
    refused("cannot be read", after(&link));
    let edited = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join(LIST)).unwrap();
        std::fs::write(folder.join(LIST), text.replace("they ask", "we like to")).unwrap();
    };
    refused("not what was signed", after(&edited));
    let made = Made::new();
    made.sign();
    let others = check(&made.path(), &roster(secret(7).public())).unwrap_err().to_string();
    refused("certificate does not hold", others);
}
