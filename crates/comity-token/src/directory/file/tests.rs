use super::*;
use crate::world::*;
use comity_wire::cose;
use comity_wire::object::RevokedKind;

fn code(inserted: Result<Inserted, Refused>) -> Result<(), Code> {
    inserted.map(|_| ()).map_err(|refused| refused.code())
}

#[test]
fn what_came_in_verified_is_found() {
    let file = base().directory();
    assert_eq!(file.certificate(LAB_NODE).unwrap().org, LAB);
    assert_eq!(file.tariff(&tariff().id()).unwrap().name.as_str(), "standard");
    assert_eq!(file.policy(&model("lab/wide")).unwrap().version, 1);
    assert_eq!(file.standing(HOUSE).unwrap().number, 1);
    assert_eq!(file.announcement(LAB_NODE).unwrap().doors.len(), 1);
    assert!(file.manifest(&model("lab/tiny")).is_none());
    assert_eq!(file.roster().version, 3);
}

#[test]
fn only_the_right_key_puts_something_in() {
    let file = base().directory();
    let by = |signer| cose::sign(&tariff_object(), &secret(signer)).bytes().to_vec();
    assert_eq!(code(file.insert(&by("uni writer"))), Err(Code::WrongKey));
    assert_eq!(code(file.insert(&by("lab organisation"))), Err(Code::WrongKey));
    assert_eq!(code(file.insert(&flipped(&by("lab writer")))), Err(Code::BadSignature));
    let token = cose::sign(&token(), &secret("house issuer"));
    assert_eq!(code(file.insert(token.bytes())), Err(Code::WrongKind));
    let list = revocations(HOUSE, vec![(RevokedKind::Token, TOKEN.to_string())], NOW, "lab issuer");
    assert_eq!(code(file.insert(list.bytes())), Err(Code::WrongKey));
}

#[test]
fn an_organisation_speaks_of_its_own_models_and_nodes_only() {
    let file = base().directory();
    let mut foreign = policy_object();
    foreign.org = UNI;
    let foreign = cose::sign(&foreign, &secret("uni writer"));
    assert_eq!(code(file.insert(foreign.bytes())), Err(Code::NotYours));
    let mut door = announcement().into_object();
    door.org = UNI;
    let door = cose::sign(&door, &secret("uni writer"));
    assert_eq!(code(file.insert(door.bytes())), Err(Code::NotYours));
}

#[test]
fn no_other_organisation_takes_a_node_over() {
    let file = base().directory();
    let mut stolen = file.certificate(LAB_NODE).unwrap().into_object();
    (stolen.org, stolen.restore) = (UNI, u32::MAX);
    let stolen = cose::sign(&stolen, &secret("uni organisation"));
    assert_eq!(code(file.insert(stolen.bytes())), Err(Code::NotYours));
    assert_eq!(file.certificate(LAB_NODE).unwrap().org, LAB);
}

#[test]
fn the_newest_stays_and_each_change_raises_the_version() {
    let file = base().directory();
    let before = file.version();
    let newer = revocations(HOUSE, vec![(RevokedKind::Token, TOKEN.to_string())], NOW, "house issuer");
    assert!(matches!(file.insert(newer.bytes()), Ok(Inserted::Newest { kind: "revocation-list", .. })));
    assert_eq!(file.version(), before + 1);
    let older = revocations(HOUSE, Vec::new(), NOW, "house issuer");
    assert!(matches!(file.insert(older.bytes()), Ok(Inserted::Known { .. })));
    assert_eq!((file.standing(HOUSE).unwrap().number, file.version()), (2, before + 1));
}

#[test]
fn a_roster_follows_by_threshold_and_one_by_one() {
    let file = base().directory();
    let mut next = roster();
    next.version = 4;
    let update = |roster: &comity_wire::object::Roster, signers: &[&str]| {
        file.replace_roster(&signed_by(roster, signers)).map_err(|refused| refused.code())
    };
    assert_eq!(update(&next, &["root 1"]), Err(Code::RosterThreshold));
    assert_eq!(update(&next, &["root 1", "stranger"]), Err(Code::RosterThreshold));
    let skipped = comity_wire::object::Roster { version: 5, ..next.clone() };
    assert_eq!(update(&skipped, &["root 1", "root 2"]), Err(Code::RosterVersion));
    let other = comity_wire::object::Roster { federation: comity_wire::RosterId([1; 16]), ..next.clone() };
    assert_eq!(update(&other, &["root 1", "root 2"]), Err(Code::WrongFederation));
    // Thieves may sign for themselves; the old signers must agree too, and the new ones with them.
    let mut thieves = vec![secret("thief 1").public(), secret("thief 2").public()];
    thieves.sort_unstable();
    let taken = comity_wire::object::Roster { signers: list(thieves), ..next.clone() };
    assert_eq!(update(&taken, &["thief 1", "thief 2"]), Err(Code::RosterThreshold));
    assert_eq!(update(&taken, &["root 1", "root 2"]), Err(Code::RosterThreshold));
    assert_eq!(update(&next, &["root 3", "root 2"]), Ok(()));
    assert_eq!(file.roster().version, 4);
    assert!(File::new(&signed_by(&next, &["root 1"])).is_err());
}

#[test]
fn a_folder_is_read_whatever_the_order_of_its_files() {
    let dir = std::env::temp_dir().join(format!("comity-directory-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let state = base();
    std::fs::write(dir.join("roster.cbor"), &state.roster).unwrap();
    for (at, object) in state.objects.iter().rev().enumerate() {
        std::fs::write(dir.join(format!("{at:02}.cbor")), object).unwrap();
    }
    let file = File::load(&dir).unwrap();
    assert!(file.policy(&model("lab/tiny")).is_some() && file.announcement(LAB_NODE).is_some());
    std::fs::write(dir.join("99.cbor"), flipped(&state.objects[0])).unwrap();
    assert!(matches!(File::load(&dir), Err(LoadError::Refused { .. })));
    std::fs::remove_dir_all(&dir).unwrap();
}
