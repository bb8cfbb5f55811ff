//! What a replica believes, one rule at a time.

mod support;

use comity_registry::message::{Reply, Request};
use comity_registry::publish::{CannotPublish, Publication, Put};
use comity_registry::replica::{Stored, StoredFeed, Write};
use comity_registry::{
    Catalog, Change, Held, Input, NotAdmitted, Output, Peer, Query, Registry, SignedHead, Ticket, Verdict, verify,
};
use comity_wire::api::node::SearchQuery;
use comity_wire::object::{
    EntryKind, Head, IssuerKey, IssuerStatus, IssuerUse, Revocation, RevocationList, RevokedKind, RosterFile,
};
use comity_wire::{Digest, SecretKey, Timestamp, cose};
use support::{Org, START, org, roster};

const PEER: Peer = Peer(1);

fn replica(orgs: &[&Org]) -> Registry {
    Registry::start(&roster(1, orgs), Stored::default()).unwrap()
}

fn outputs(registry: &mut Registry) -> Vec<Output> {
    std::iter::from_fn(|| registry.poll()).collect()
}

fn publish(registry: &mut Registry, org: &Org, epoch: u32, put: &Put, now: Timestamp) -> Publication {
    let publication = registry.prepare(now, &org.writer_certificate(epoch), &org.writer, put).unwrap();
    registry.handle(now, Input::Published(publication.clone()));
    outputs(registry);
    publication
}

fn gossip_of(publication: &Publication) -> Vec<u8> {
    SignedHead::of(&publication.complete.pair()).to_gossip()
}

/// Hears gossip and answers what is asked for from `source`; the verdicts that were given.
fn hear(registry: &mut Registry, bytes: &[u8], source: &Registry, now: Timestamp) -> Vec<Verdict> {
    registry.handle(now, Input::Gossip { from: PEER, ticket: Ticket(7), bytes: bytes.to_vec() });
    settle(registry, source, now)
}

fn settle(registry: &mut Registry, source: &Registry, now: Timestamp) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    while let Some(output) = registry.poll() {
        match output {
            Output::Ask { peer, request } => {
                registry.handle(now, Input::Answered { peer, reply: source.answer(&request) });
            }
            Output::Judge { verdict, .. } => verdicts.push(verdict),
            _ => {}
        }
    }
    verdicts
}

#[test]
fn a_head_fits_a_gossip_message_and_is_passed_on_once_it_can_be_served() {
    let (a, b) = (org(1), org(2));
    let mut author = replica(&[&a, &b]);
    let publication = publish(&mut author, &a, 1, &a.put(1, START), START);
    let bytes = gossip_of(&publication);
    assert!(bytes.len() <= SignedHead::GOSSIP_BYTES_MAX, "{} bytes", bytes.len());
    let mut other = replica(&[&a, &b]);
    other.handle(START, Input::Joined { peer: PEER, org: org(2).id });
    other.handle(START, Input::Gossip { from: PEER, ticket: Ticket(1), bytes: bytes.clone() });
    // Nothing has answered yet, so nothing is shown, and nothing is passed on.
    assert!(!outputs(&mut other).iter().any(|output| matches!(output, Output::Judge { .. })));
    assert!(other.feed(a.id).is_none());
    let mut other = replica(&[&a, &b]);
    other.handle(START, Input::Joined { peer: PEER, org: org(2).id });
    settle(&mut other, &replica(&[&a, &b]), START);
    assert_eq!(hear(&mut other, &bytes, &author, START), [Verdict::Accept]);
    assert_eq!(other.vector_root(), author.vector_root());
}

/// A process that says a head and ends before anybody has fetched what it names; another one of its organisation goes on.
#[test]
fn what_its_teller_took_away_is_looked_for_at_others() {
    let (a, b) = (org(1), org(2));
    let (mut author, empty) = (replica(&[&a, &b]), replica(&[&a, &b]));
    let bytes = gossip_of(&publish(&mut author, &a, 1, &a.put(1, START), START));
    let (teller, other) = (PEER, Peer(2));
    let told = |registry: &mut Registry| {
        registry.handle(START, Input::Joined { peer: teller, org: a.id });
        registry.handle(START, Input::Joined { peer: other, org: a.id });
        settle(registry, &empty, START);
        assert!(!registry.lacks_a_source());
        registry.handle(START, Input::Gossip { from: teller, ticket: Ticket(1), bytes: bytes.clone() });
        assert!(!registry.lacks_a_source(), "the teller is still here");
    };
    let mut hub = replica(&[&a, &b]);
    told(&mut hub);
    hub.handle(START, Input::Left { peer: teller });
    assert!(hub.lacks_a_source());
    hub.handle(START, Input::Compare { peer: other });
    settle(&mut hub, &empty, START);
    assert!(hub.lacks_a_source(), "the other one has not heard of it yet");
    hub.handle(START, Input::Compare { peer: other });
    assert_eq!(settle(&mut hub, &author, START), [Verdict::Accept]);
    assert!(!hub.lacks_a_source());
    assert_eq!(hub.vector_root(), author.vector_root());
    // So too where the teller stays, and turns out not to have it.
    let mut hub = replica(&[&a, &b]);
    told(&mut hub);
    settle(&mut hub, &empty, START);
    assert!(hub.lacks_a_source());
}

#[test]
fn heads_that_no_honest_node_sends_are_rejected_and_others_ignored() {
    let (a, b, stranger) = (org(1), org(2), org(3));
    let mut author = replica(&[&a, &b]);
    let first = publish(&mut author, &a, 1, &a.put(1, START), START);
    let second = publish(&mut author, &a, 1, &a.put(2, START), START);
    let complete = &second.complete;
    let forged = |edit: &dyn Fn(&mut Head), key: &SecretKey| {
        let mut head = complete.head.object().clone();
        edit(&mut head);
        let head = cose::sign(&head, key).bytes().to_vec();
        SignedHead { head, writer: complete.writer.bytes().to_vec() }.to_gossip()
    };
    let mut broken = gossip_of(&second);
    *broken.last_mut().unwrap() ^= 1;
    let by_stranger = {
        let mut theirs = replica(&[&stranger]);
        gossip_of(&publish(&mut theirs, &stranger, 1, &stranger.put(1, START), START))
    };
    let later = START.plus(8 * 86_400);
    let table: Vec<(&str, Vec<u8>, Timestamp, Verdict)> = vec![
        ("true", gossip_of(&second), START, Verdict::Accept),
        ("not a message", vec![0x82, 0x40], START, Verdict::Reject),
        ("writer certificate altered", broken, START, Verdict::Reject),
        ("another key", forged(&|_| (), &b.writer), START, Verdict::Reject),
        ("another's head", forged(&|head| head.org = b.id, &a.writer), START, Verdict::Reject),
        ("another epoch", forged(&|head| head.epoch = 2, &a.writer), START, Verdict::Reject),
        ("another federation", forged(&|head| head.federation.0[0] ^= 1, &a.writer), START, Verdict::Reject),
        ("a newer roster", forged(&|head| head.roster_version = 2, &a.writer), START, Verdict::Ignore),
        ("not on the roster", by_stranger, START, Verdict::Ignore),
        ("expired", gossip_of(&second), later, Verdict::Ignore),
        ("ahead", gossip_of(&second), START.minus(601), Verdict::Ignore),
        ("ten minutes ahead", gossip_of(&second), START.minus(600), Verdict::Accept),
    ];
    for (case, bytes, now, verdict) in table {
        let mut other = replica(&[&a, &b]);
        other.handle(now, Input::Joined { peer: PEER, org: org(2).id });
        settle(&mut other, &replica(&[&a, &b]), now);
        assert_eq!(hear(&mut other, &bytes, &author, now), [verdict], "{case}");
        // What is ignored for lag starts a comparison, and that brings the true head.
        if verdict != Verdict::Ignore {
            assert_eq!(other.feed(a.id).is_some(), verdict == Verdict::Accept, "{case}");
        }
    }
    let mut other = replica(&[&a, &b]);
    other.handle(START, Input::Joined { peer: PEER, org: org(2).id });
    settle(&mut other, &author, START);
    assert_eq!(hear(&mut other, &gossip_of(&first), &author, START), [Verdict::Ignore], "older than what is shown");
    assert_eq!(other.feed(a.id).unwrap().head.seq, 2);
}

#[test]
fn two_contents_under_one_number_freeze_the_epoch_and_the_organisation_key_opens_another() {
    let (a, b) = (org(1), org(2));
    let (mut one, mut two) = (replica(&[&a, &b]), replica(&[&a, &b]));
    for face in [&mut one, &mut two] {
        publish(face, &a, 1, &a.put(1, START), START);
    }
    publish(&mut one, &a, 1, &a.put(2, START), START);
    let other_content = publish(&mut two, &a, 1, &a.put(3, START), START);
    let mut judge = replica(&[&a, &b]);
    judge.handle(START, Input::Joined { peer: PEER, org: org(2).id });
    settle(&mut judge, &one, START);
    assert_eq!(judge.feed(a.id).unwrap().head.seq, 2);
    judge.handle(START, Input::Gossip { from: PEER, ticket: Ticket(1), bytes: gossip_of(&other_content) });
    let frozen = Change::Frozen { org: a.id, epoch: 1, seq: 2 };
    assert!(outputs(&mut judge).iter().any(|output| matches!(output, Output::Notify(change) if *change == frozen)));
    // It never held number 1, so nothing agreed is left to show; whoever holds it brings it.
    assert!(judge.feed(a.id).is_none());
    assert!(matches!(
        judge.prepare(START, &a.writer_certificate(1), &a.writer, &a.put(4, START)),
        Err(CannotPublish::Frozen { epoch: 1, seq: 2 })
    ));
    let reopened = judge.prepare(START, &a.writer_certificate(2), &a.writer, &a.put(4, START)).unwrap();
    judge.handle(START, Input::Published(reopened));
    assert_eq!(judge.feed(a.id).unwrap().number(), (2, 1));
}

#[test]
fn a_broken_link_is_a_proof_as_well() {
    let (a, b) = (org(1), org(2));
    let (mut one, mut two) = (replica(&[&a, &b]), replica(&[&a, &b]));
    publish(&mut one, &a, 1, &a.put(1, START), START);
    publish(&mut two, &a, 1, &a.put(2, START), START);
    let next = publish(&mut two, &a, 1, &a.put(3, START), START);
    one.handle(START, Input::Gossip { from: PEER, ticket: Ticket(1), bytes: gossip_of(&next) });
    let proofs: Vec<_> = one.proofs().map(|proof| proof.number()).collect();
    assert_eq!(proofs, [(1, 1)]);
    assert!(one.feed(a.id).is_none());
}

#[test]
fn an_object_that_another_key_signed_keeps_its_head_from_being_shown() {
    let (a, b) = (org(1), org(2));
    let registry = replica(&[&a, &b]);
    // Our own publisher refuses it …
    let put = Put { objects: vec![b.tariff(1)], remove: Vec::new() };
    assert!(matches!(
        registry.prepare(START, &a.writer_certificate(1), &a.writer, &put),
        Err(CannotPublish::Object { at: 0, .. })
    ));
    let certificate_by_writer = cose::sign(&a.node_certificate(), &a.writer).bytes().to_vec();
    let put = Put { objects: vec![certificate_by_writer], remove: Vec::new() };
    assert!(registry.prepare(START, &a.writer_certificate(1), &a.writer, &put).is_err());
    let foreign = cose::sign(&b.summary("stolen", "t", "d"), &a.writer).bytes().to_vec();
    let put = Put { objects: vec![foreign], remove: Vec::new() };
    assert!(registry.prepare(START, &a.writer_certificate(1), &a.writer, &put).is_err());
    // … and a reader does not take other bytes for an entry than those it names.
    let mut author = replica(&[&a, &b]);
    let put = Put { objects: vec![a.tariff(1)], remove: Vec::new() };
    let publication = publish(&mut author, &a, 1, &put, START);
    let entry = &publication.complete.index.entries[0];
    assert_eq!(entry.kind, EntryKind::Tariff);
    let organisation = author.roster().organisation(a.id).unwrap();
    let verify = |bytes: &[u8]| comity_registry::verify::entry(entry, bytes, organisation, &a.writer.public());
    assert!(verify(&a.tariff(1)).is_ok());
    assert!(verify(&a.tariff(2)).is_err());
}

#[test]
fn a_replica_comes_back_from_its_store_with_retired_tariffs() {
    let (a, b) = (org(1), org(2));
    let mut author = replica(&[&a, &b]);
    publish(&mut author, &a, 1, &Put { objects: vec![a.tariff(1)], remove: Vec::new() }, START);
    let put = Put { objects: vec![a.tariff(2)], remove: Vec::new() };
    let second = author.prepare(START, &a.writer_certificate(1), &a.writer, &put).unwrap();
    let Write::Feed { head, frames, .. } = author.write_of(&second) else { panic!("a feed is written") };
    let frames = frames.into_iter().map(|(digest, bytes)| (digest, bytes.to_vec())).collect();
    let stored = Stored { feeds: vec![StoredFeed { head, frames }], ..Stored::default() };
    let back = Registry::start(&roster(1, &[&a, &b]), stored).unwrap();
    assert_eq!(back.feed(a.id).unwrap().head.seq, 2);
    assert_eq!(back.archived(a.id).count(), 1);
    assert_eq!(back.feed(a.id).unwrap().objects.len(), 1);
}

#[test]
fn who_is_admitted() {
    let (a, b, stranger) = (org(1), org(2), org(3));
    let mut registry = replica(&[&a, &b]);
    let key = a.transport.public();
    assert!(registry.admit(START, &a.signed_certificate(), &key).is_ok());
    assert!(matches!(
        registry.admit(START, &a.signed_certificate(), &b.transport.public()),
        Err(NotAdmitted::TransportKey)
    ));
    let late = START.plus(81 * 86_400);
    assert!(matches!(registry.admit(late, &a.signed_certificate(), &key), Err(NotAdmitted::NotInTime { .. })));
    let unknown = registry.admit(START, &stranger.signed_certificate(), &stranger.transport.public());
    assert!(matches!(unknown, Err(NotAdmitted::UnknownOrganisation { .. })));
    // A stranger that claims to be of a member organisation.
    let mut claimed = stranger.node_certificate();
    claimed.org = a.id;
    let claimed = cose::sign(&claimed, &stranger.key).bytes().to_vec();
    let refused = registry.admit(START, &claimed, &stranger.transport.public());
    assert!(matches!(refused, Err(NotAdmitted::Certificate { .. })));
    let revoked = Revocation { kind: RevokedKind::Node, subject: a.node.to_string().try_into().unwrap(), at: START };
    let list = RevocationList { org: a.id, number: 1, issued_at: START, entries: vec![revoked].try_into().unwrap() };
    let put = Put { objects: vec![cose::sign(&list, &a.writer).bytes().to_vec()], remove: Vec::new() };
    publish(&mut registry, &a, 1, &put, START);
    assert!(matches!(registry.admit(START, &a.signed_certificate(), &key), Err(NotAdmitted::Revoked { .. })));
}

/// A head that names a list of a key that was stolen since is read all the same: its writer vouches for the list.
#[test]
fn a_list_of_a_stolen_key_keeps_nobody_from_its_feed() {
    let (a, stolen, stranger) = (org(1), SecretKey::from_seed([7; 32]), SecretKey::from_seed([8; 32]));
    let compromised = IssuerKey {
        key: stolen.public(),
        use_: IssuerUse::Budget,
        status: IssuerStatus::Compromised,
        from: START,
        retired_at: None,
    };
    let (_, whole) = RosterFile::decode(&roster(1, &[&a])).unwrap();
    let mut organisation = whole.organisation(a.id).unwrap().clone();
    organisation.issuers = vec![compromised].try_into().unwrap();
    let list = RevocationList { org: a.id, number: 1, issued_at: START, entries: Default::default() };
    let writer = a.writer.public();
    let believed = |key: &SecretKey| {
        let bytes = cose::sign(&list, key).bytes().to_vec();
        let held = Held::verify(EntryKind::RevocationList, &bytes, &[key.public()]).unwrap();
        verify::entry(&held.entry(&writer), &bytes, &organisation, &writer).is_ok()
    };
    assert!(believed(&stolen) && believed(&a.writer) && !believed(&stranger));
}

#[test]
fn an_organisation_that_leaves_the_roster_is_gone() {
    let (a, b) = (org(1), org(2));
    let mut registry = replica(&[&a, &b]);
    publish(&mut registry, &a, 1, &a.put(1, START), START);
    registry.roster_step(&roster(2, &[&b])).unwrap();
    assert!(registry.feed(a.id).is_none());
    assert!(
        outputs(&mut registry)
            .iter()
            .any(|output| matches!(output, Output::Store(Write::Drop { org }) if *org == a.id))
    );
}

#[test]
fn a_search_finds_words_and_facets_in_one_order() {
    let (a, b) = (org(1), org(2));
    let mut registry = replica(&[&a, &b]);
    let sign = |org: &Org, slug: &str, title: &str, text: &str| {
        cose::sign(&org.summary(slug, title, text), &org.writer).bytes().to_vec()
    };
    let objects = vec![
        sign(&a, "tiny", "Tiny chat", "Answers short questions about weather."),
        sign(&a, "risk", "Risk score", "A chat about weather risks, in long form."),
    ];
    publish(&mut registry, &a, 1, &Put { objects, remove: Vec::new() }, START);
    let mut long = b.summary("tiny", "Tiny", "Other.");
    long.context_length = Some(2_048);
    let objects = vec![cose::sign(&long, &b.writer).bytes().to_vec()];
    publish(&mut registry, &b, 1, &Put { objects, remove: Vec::new() }, START);
    let mut catalog: Catalog = Catalog::default();
    for (org, complete) in registry.feeds() {
        catalog.put(&registry.roster().organisation(org).unwrap().name, complete);
    }
    let find = |edit: &dyn Fn(&mut SearchQuery), now: Timestamp| {
        let mut asked = SearchQuery::default();
        edit(&mut asked);
        let page = catalog.find(&Query::new(asked).unwrap(), now);
        page.hits.iter().map(|row| row.summary.model.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(find(&|q| q.q = "chat".to_owned(), START), ["org1/tiny", "org1/risk"], "a title counts for more");
    assert_eq!(find(&|q| q.q = "chat long".to_owned(), START), ["org1/risk"], "all words must occur");
    assert_eq!(find(&|q| q.q = "weath".to_owned(), START).len(), 2, "the beginning of a word is enough");
    assert_eq!(find(&|q| q.org = Some("org2".to_owned()), START), ["org2/tiny"]);
    assert_eq!(find(&|q| q.language = Some("en".to_owned()), START).len(), 3);
    assert_eq!(find(&|q| q.price_max = Some(1), START).len(), 2);
    assert_eq!(find(&|q| q.context_min = Some(513), START), ["org2/tiny"]);
    assert_eq!(find(&|q| q.context_min = Some(2_049), START).len(), 0);
    assert_eq!(find(&|q| q.org = Some(b.id.to_string()), START), ["org2/tiny"]);
    assert_eq!(find(&|q| q.sort = Some("price".to_owned()), START).last().unwrap(), "org2/tiny");
    assert_eq!(find(&|_| (), START.plus(7 * 86_400)), Vec::<String>::new(), "hidden after 7 days");
    let asked =
        SearchQuery { op: Some(comity_wire::Op::Embeddings), org: Some("org2".to_owned()), ..SearchQuery::default() };
    let row = catalog.row(&"org1/tiny".parse().unwrap()).unwrap();
    assert_eq!(comity_registry::search::why_not(&row.summary, "org1", &asked).len(), 2);
    assert!(Query::new(SearchQuery { q: "x".repeat(257), ..SearchQuery::default() }).is_err());
    assert!(Query::new(SearchQuery { sort: Some("fame".to_owned()), ..SearchQuery::default() }).is_err());
    // A page is put in order up to its end: turned page by page it is the whole, whatever it is sorted by.
    for sort in ["relevance", "price", "context", "newest"] {
        let page = |limit: u32, offset: u32| {
            let edit = |q: &mut SearchQuery| {
                (q.sort, q.limit, q.offset) = (Some(sort.to_owned()), Some(limit), Some(offset));
            };
            find(&edit, START)
        };
        let whole = page(100, 0);
        assert_eq!(whole.len(), 3, "{sort}");
        for limit in 1..4 {
            let turned: Vec<_> = (0..3).flat_map(|turn| page(limit, turn * limit)).collect();
            assert_eq!(turned, whole, "{sort}, {limit} a page");
        }
        assert!(page(1, u32::MAX).is_empty());
    }
    // The index is derived: thrown away and built again it answers the same.
    let again: Vec<_> = find(&|_| (), START);
    catalog.remove(a.id);
    catalog.put("org1", registry.feed(a.id).unwrap());
    let query = Query::new(SearchQuery::default()).unwrap();
    let rebuilt: Vec<_> = catalog.find(&query, START).hits.iter().map(|row| row.summary.model.to_string()).collect();
    assert_eq!(again, rebuilt);
}

#[test]
fn stale_is_48_hours_and_an_unknown_object_is_unavailable() {
    let (a, b) = (org(1), org(2));
    let mut registry = replica(&[&a, &b]);
    let publication = publish(&mut registry, &a, 1, &a.put(1, START), START);
    assert!(!publication.complete.is_stale(START.plus(48 * 3600)));
    assert!(publication.complete.is_stale(START.plus(48 * 3600 + 1)));
    assert!(publication.complete.is_hidden(START.plus(7 * 86_400)));
    let digest = Digest::of(b"nobody has this");
    registry.handle(START, Input::Wanted { digest });
    let told = outputs(&mut registry);
    assert!(
        told.iter().any(|output| matches!(output, Output::Notify(Change::Unavailable { digest: d }) if *d == digest))
    );
}

#[test]
fn a_hub_that_is_asked_in_vain_asks_the_author_alone_and_has_it_the_next_time() {
    const AUTHOR: Peer = Peer(2);
    let (a, b) = (org(1), org(2));
    let mut author = replica(&[&a, &b]);
    let manifest = cose::sign(&a.manifest("tiny"), &a.writer);
    let (digest, objects) = (manifest.id(), vec![manifest.bytes().to_vec()]);
    publish(&mut author, &a, 1, &Put { objects, remove: Vec::new() }, START);
    let mut hub = replica(&[&a, &b]);
    hub.handle(START, Input::Joined { peer: AUTHOR, org: a.id });
    settle(&mut hub, &author, START);
    for peer in [PEER, Peer(3)] {
        hub.handle(START, Input::Joined { peer, org: b.id });
    }
    settle(&mut hub, &replica(&[&a, &b]), START);
    let wish = |ticket| Input::Asked {
        peer: PEER,
        ticket: Ticket(ticket),
        request: Request::Objects { digests: vec![digest] },
    };
    let asked = |outputs: &[Output]| -> Vec<Peer> {
        let asked = |output: &Output| match output {
            Output::Ask { peer, request: Request::Objects { digests } } if *digests == [digest] => Some(*peer),
            _ => None,
        };
        outputs.iter().filter_map(asked).collect()
    };
    let missing = |outputs: &[Output]| {
        outputs.iter().any(|output| {
            matches!(output, Output::Answer { reply: Reply::Objects { missing, .. }, .. } if *missing == [digest])
        })
    };
    for ticket in 1..=2 {
        hub.handle(START, wish(ticket));
        let told = outputs(&mut hub);
        assert!(missing(&told), "it is not there yet");
        // The second wish finds the first one open.
        assert_eq!(asked(&told), if ticket == 1 { vec![AUTHOR] } else { vec![] });
    }
    let reply = author.answer(&Request::Objects { digests: vec![digest] });
    hub.handle(START, Input::Answered { peer: AUTHOR, reply });
    outputs(&mut hub);
    hub.handle(START, wish(3));
    let told = outputs(&mut hub);
    assert!(!missing(&told) && asked(&told).is_empty());
    assert!(hub.manifest(&digest).is_some());
    // The author itself is not asked for what it wants of its own organisation, nor anybody for what no feed names.
    let mut hub = replica(&[&a, &b]);
    hub.handle(START, Input::Joined { peer: AUTHOR, org: a.id });
    settle(&mut hub, &author, START);
    hub.handle(
        START,
        Input::Asked { peer: AUTHOR, ticket: Ticket(1), request: Request::Objects { digests: vec![digest] } },
    );
    assert_eq!(asked(&outputs(&mut hub)), []);
}

#[test]
fn a_wish_ends_when_everyone_who_was_asked_has_said_no_or_gone() {
    let (a, b) = (org(1), org(2));
    let mut author = replica(&[&a, &b]);
    let manifest = cose::sign(&a.manifest("tiny"), &a.writer);
    let (digest, objects) = (manifest.id(), vec![manifest.bytes().to_vec()]);
    publish(&mut author, &a, 1, &Put { objects, remove: Vec::new() }, START);
    let none = Reply::Objects { objects: vec![], missing: vec![digest] };
    let silent = Reply::Objects { objects: vec![], missing: vec![] };
    let confused = Reply::Proofs { proofs: vec![], more: false };
    let ends: Vec<(&str, Vec<Input>)> = vec![
        ("no", vec![Input::Answered { peer: PEER, reply: none }]),
        ("neither", vec![Input::Answered { peer: PEER, reply: silent }]),
        ("something else", vec![Input::Answered { peer: PEER, reply: confused }]),
        ("lost", vec![Input::Failed { peer: PEER }]),
        ("gone", vec![Input::Left { peer: PEER }]),
        // Who came after the question was not asked, and is not waited for.
        ("another came", vec![Input::Joined { peer: Peer(9), org: b.id }, Input::Failed { peer: PEER }]),
    ];
    for (case, inputs) in ends {
        let mut registry = replica(&[&a, &b]);
        registry.handle(START, Input::Joined { peer: PEER, org: a.id });
        settle(&mut registry, &author, START);
        registry.handle(START, Input::Wanted { digest });
        let is_told = |outputs: &[Output]| {
            outputs
                .iter()
                .any(|output| matches!(output, Output::Notify(Change::Unavailable { digest: d }) if *d == digest))
        };
        assert!(!is_told(&outputs(&mut registry)), "{case}");
        inputs.into_iter().for_each(|input| registry.handle(START, input));
        assert!(is_told(&outputs(&mut registry)), "{case}");
    }
    // Asked behind a comparison that comes to nothing.
    let mut registry = replica(&[&a, &b]);
    registry.handle(START, Input::Joined { peer: PEER, org: a.id });
    settle(&mut registry, &author, START);
    registry.handle(START, Input::Compare { peer: PEER });
    registry.handle(START, Input::Wanted { digest });
    registry.handle(START, Input::Failed { peer: PEER });
    let told = outputs(&mut registry);
    assert!(told.iter().any(|output| matches!(output, Output::Notify(Change::Unavailable { .. }))));
}

/// What a store was given of our feed.
fn kept(registry: &Registry, publication: &Publication) -> StoredFeed {
    let Write::Feed { head, frames, .. } = registry.write_of(publication) else { panic!("a feed") };
    StoredFeed { head, frames: frames.into_iter().map(|(digest, bytes)| (digest, bytes.to_vec())).collect() }
}

#[test]
fn a_process_goes_on_from_what_another_one_of_its_organisation_has_numbered() {
    let (a, b) = (org(1), org(2));
    let (mut first, mut second) = (replica(&[&a, &b]), replica(&[&a, &b]));
    let one = publish(&mut first, &a, 1, &a.put(1, START), START);
    let two = publish(&mut first, &a, 1, &a.put(2, START), START);
    // By gossip the second one has heard of the head, and has not fetched what it names.
    second.handle(START, Input::Gossip { from: PEER, ticket: Ticket(1), bytes: gossip_of(&two) });
    outputs(&mut second);
    assert_eq!(second.highest(a.id).map(|highest| highest.0), Some((1, 2)));
    assert!(second.feed(a.id).is_none());
    assert!(second.adopt(&kept(&first, &two)).unwrap());
    let said = outputs(&mut second);
    assert!(
        said.iter().any(|output| matches!(output, Output::Gossip { .. })),
        "whoever made it may have ended: {said:?}"
    );
    assert!(said.iter().any(|output| matches!(output, Output::Store(_))));
    assert!(said.iter().any(|output| matches!(output, Output::Judge { verdict: Verdict::Accept, .. })));
    assert_eq!(second.feed(a.id).unwrap().objects.len(), first.feed(a.id).unwrap().objects.len());
    assert!(!second.adopt(&kept(&first, &two)).unwrap() && !second.adopt(&kept(&first, &one)).unwrap(), "no news");
    // And the next number is behind it, with all that it had.
    let three = publish(&mut second, &a, 1, &Put::default(), START);
    assert_eq!((three.complete.head.seq, three.complete.head.previous), (3, Some(two.complete.head.id())));
    assert_eq!(three.complete.index.entries, two.complete.index.entries);
    assert!(first.adopt(&kept(&second, &three)).unwrap());
}

#[test]
fn what_is_not_whole_or_contradicts_is_not_gone_on_from() {
    let (a, b) = (org(1), org(2));
    let (mut first, mut second, mut third) = (replica(&[&a, &b]), replica(&[&a, &b]), replica(&[&a, &b]));
    let one = publish(&mut first, &a, 1, &a.put(1, START), START);
    let mut torn = kept(&first, &one);
    let last = *torn.frames.keys().find(|digest| **digest != one.complete.head.index).unwrap();
    torn.frames.remove(&last);
    assert!(second.adopt(&torn).is_err());
    let mut forged = kept(&first, &one);
    forged.head.head[40] ^= 1;
    assert!(second.adopt(&forged).is_err());
    assert!(second.feed(a.id).is_none());
    // Two processes that did not go on from each other: the feed is frozen, and nobody goes on.
    let other = publish(&mut third, &a, 1, &Put { objects: vec![a.tariff(7)], remove: vec![] }, START);
    assert!(first.adopt(&kept(&third, &other)).is_err());
    let refused = first.prepare(START, &a.writer_certificate(1), &a.writer, &Put::default());
    assert!(matches!(refused, Err(CannotPublish::Frozen { .. })), "{refused:?}");
}
