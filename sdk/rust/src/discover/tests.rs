//! Against a hub of a few lines that counts what it is asked, and can lie.

use std::collections::HashMap;
use std::sync::Arc;

use comity_wire::api::clearing::SignedBytes;
use comity_wire::cbor::Encode as _;
use comity_wire::cose;

use super::*;
use crate::vectors::world::{self, HOUR_S, LAB, LAB_NODE, NOW, UNI, list, model, secret, state, text};

const MODELS: usize = 60;

#[derive(Clone, Default)]
struct Hub(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    frames: HashMap<Digest, Vec<u8>>,
    heads: BTreeMap<OrgId, HeadFrame>,
    hits: Vec<SearchHit>,
    /// As a hub of before this version: it does not know of `?org=`.
    shows_all_heads: bool,
    asked: Vec<String>,
}

impl Source for Hub {
    fn get<T: DeserializeOwned + Send + 'static>(&self, path: String) -> BoxFuture<'_, Result<T, Error>> {
        let mut shown = self.0.lock().unwrap();
        let reply = if path.starts_with("/comity/v1/search") {
            let (hits, total) = (shown.hits.clone(), shown.hits.len());
            serde_json::to_value(SearchReply { hits, total, as_of: Digest::ZERO })
        } else {
            let org = path.split_once("?org=").map(|(_, name)| if name == "lab" { LAB } else { UNI });
            let is_asked = |of: &OrgId| shown.shows_all_heads || org.is_none_or(|org| org == *of);
            let heads = shown.heads.iter().filter(|(of, _)| is_asked(of)).map(|(_, frame)| frame.clone()).collect();
            serde_json::to_value(HeadsReply { roster_version: 3, heads })
        };
        shown.asked.push(path);
        let reply = serde_json::from_value(reply.unwrap()).unwrap();
        Box::pin(async move { Ok(reply) })
    }

    fn frame(&self, digest: Digest) -> BoxFuture<'_, Result<Vec<u8>, Error>> {
        let mut shown = self.0.lock().unwrap();
        shown.asked.push("frame".to_owned());
        let bytes = shown.frames.get(&digest).cloned().ok_or(Error::Missing("a frame"));
        Box::pin(async move { bytes })
    }
}

impl Hub {
    /// A feed with `MODELS` models behind one tariff and one policy.
    fn of_the_lab() -> Self {
        let hub = Self::default();
        hub.publish(1, "The first");
        hub
    }

    fn publish(&self, seq: u64, title: &str) {
        self.publish_without(0, seq, title);
    }

    /// `withdrawn`: of so many models nothing is listed.
    fn publish_without(&self, withdrawn: usize, seq: u64, title: &str) {
        let tariff = world::tariff();
        let models: Vec<ModelId> = (0..MODELS).map(|at| model(&format!("lab/m{at:03}"))).collect();
        let mut policy = world::policy_object();
        policy.models = list(models.clone());
        let policy = cose::sign(&policy, &secret("lab writer"));
        let mut objects = vec![
            (EntryKind::NodeCertificate, signed(&world::certificate(LAB, LAB_NODE, "lab"))),
            (EntryKind::Announcement, signed(&world::announcement())),
            (EntryKind::Tariff, signed(&tariff)),
            (EntryKind::Policy, signed(&policy)),
        ];
        for model in models.iter().skip(withdrawn) {
            let mut summary = world::summary();
            (summary.model, summary.version, summary.title) = (model.clone(), seq, text(title));
            (summary.tariff, summary.policy) = (tariff.id(), policy.id());
            objects.push((EntryKind::Summary, signed(&cose::sign(&summary, &secret("lab writer")))));
        }
        let mut shown = self.0.lock().unwrap();
        let mut entries = Vec::new();
        let writer = secret("lab writer").public();
        for (kind, (id, bytes)) in objects {
            let held = Held::verify(kind, &bytes, &[writer, secret("lab organisation").public()]).unwrap();
            entries.push(held.entry(&writer));
            shown.frames.insert(id, bytes);
        }
        entries.sort_by(|a, b| (a.kind, a.subject.as_str()).cmp(&(b.kind, b.subject.as_str())));
        let count = entries.len() as u32;
        let index = Index { entries: list(entries) }.to_cbor();
        let head = head(seq, Digest::of(&index), index.len() as u32, count);
        shown.frames.insert(Digest::of(&index), index);
        shown.heads.insert(LAB, head.clone());
    }

    /// A hit on the first model, as the feed has it now.
    fn hit(&self, title: &str, writer: &str) {
        let mut summary = world::summary();
        (summary.model, summary.title) = (model("lab/m000"), text(title));
        let summary = cose::sign(&summary, &secret(writer));
        let mut shown = self.0.lock().unwrap();
        let head = shown.heads[&LAB].clone();
        shown.hits = vec![SearchHit {
            model: model("lab/m000"),
            org: LAB,
            summary: SignedBytes::new(summary.bytes()).unwrap(),
            head_age_s: 99,
            head: Some(head),
        }];
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

fn signed<T: comity_wire::Object>(object: &Verified<T>) -> (Digest, Vec<u8>) {
    (object.id(), object.bytes().to_vec())
}

fn head(seq: u64, index: Digest, index_bytes: u32, entries: u32) -> HeadFrame {
    head_of((LAB, "lab"), seq, index, index_bytes, entries)
}

fn head_of((org, name): (OrgId, &str), seq: u64, index: Digest, index_bytes: u32, entries: u32) -> HeadFrame {
    let head = Head {
        federation: world::FEDERATION,
        org,
        epoch: 1,
        seq,
        previous: (seq > 1).then_some(Digest([9; 32])),
        index,
        index_bytes,
        entries,
        issued_at: NOW.minus(60),
        expires_at: NOW.plus(HOUR_S),
        roster_version: 3,
    };
    let bytes = |bytes: &[u8]| SignedBytes::new(bytes).unwrap();
    HeadFrame {
        head: bytes(cose::sign(&head, &secret(&format!("{name} writer"))).bytes()),
        writer: bytes(world::writer(org, name).bytes()),
    }
}

fn seen() -> Seen {
    Seen::new(File::new(&state(Vec::new(), None).roster).unwrap())
}

fn lab(seen: &Seen) -> Organisation {
    seen.directory.roster().organisation(LAB).unwrap().clone()
}

#[tokio::test]
async fn a_search_reads_one_page_and_verifies_it_alone() {
    let (hub, seen) = (Hub::of_the_lab(), seen());
    hub.hit("As signed", "lab writer");
    let hits = seen.search(&hub, &SearchQuery::default(), NOW).await.unwrap().hits;
    assert_eq!(hub.asked(), ["/comity/v1/search?q="]);
    // The head's own word, and not what was claimed beside it.
    assert_eq!((hits[0].summary.title.as_str(), hits[0].head_age_s), ("As signed", 60));
    assert!(!seen.is_fresh(&model("lab/m000"), NOW), "a hit is not yet what a call needs");

    hub.hit("As somebody else signed", "uni writer");
    assert!(matches!(seen.search(&hub, &SearchQuery::default(), NOW).await, Err(Error::Refused(_))));
    // Of an author whose head has expired nothing is shown.
    hub.hit("As signed", "lab writer");
    let ended = seen.search(&hub, &SearchQuery::default(), NOW.plus(HOUR_S)).await;
    assert!(matches!(ended, Err(Error::Ended { .. })), "and where no other is left it is told: {ended:?}");
}

#[tokio::test]
async fn a_page_says_how_many_hits_it_showed_also_those_that_are_not_taken() {
    let (hub, seen) = (Hub::of_the_lab(), seen());
    hub.hit("As signed", "lab writer");
    {
        // Another author's, whose head has expired by now; its summary need not be read.
        let mut shown = hub.0.lock().unwrap();
        let ended = Head {
            federation: world::FEDERATION,
            org: UNI,
            epoch: 1,
            seq: 1,
            previous: None,
            index: Digest([3; 32]),
            index_bytes: 1,
            entries: 1,
            issued_at: NOW.minus(2 * HOUR_S),
            expires_at: NOW.minus(HOUR_S),
            roster_version: 3,
        };
        let mut hit = shown.hits[0].clone();
        (hit.org, hit.model) = (UNI, model("uni/m"));
        let bytes = |bytes: &[u8]| SignedBytes::new(bytes).unwrap();
        hit.head = Some(HeadFrame {
            head: bytes(cose::sign(&ended, &secret("uni writer")).bytes()),
            writer: bytes(world::writer(UNI, "uni").bytes()),
        });
        shown.hits.push(hit);
    }
    let page = seen.search(&hub, &SearchQuery::default(), NOW).await.unwrap();
    assert_eq!((page.hits.len(), page.shown, page.total), (1, 2, 2));
    let page = Page { total: 5, ..page };
    assert!(!page.is_last(2, 0), "a page of two that showed two, of which one is not taken");
    assert!(!page.is_last(2, 2) && page.is_last(2, 3) && page.is_last(3, 0));
}

#[tokio::test]
async fn a_head_that_another_organisation_signed_proves_no_hit() {
    let (hub, seen) = (Hub::of_the_lab(), seen());
    hub.hit("As signed", "lab writer");
    hub.0.lock().unwrap().hits[0].org = UNI;
    assert!(matches!(seen.search(&hub, &SearchQuery::default(), NOW).await, Err(Error::Missing(_))));
}

#[tokio::test]
async fn a_hub_of_before_shows_no_heads_with_its_hits_and_all_heads_at_once() {
    let (hub, seen) = (Hub::of_the_lab(), seen());
    hub.hit("As signed", "lab writer");
    {
        let mut shown = hub.0.lock().unwrap();
        shown.hits[0].head = None;
        shown.shows_all_heads = true;
        // Nobody asked for this one.
        shown.heads.insert(UNI, head_of((UNI, "uni"), 7, Digest([3; 32]), 1, 1));
    }
    let hits = seen.search(&hub, &SearchQuery::default(), NOW).await.unwrap().hits;
    assert_eq!((hits.len(), hits[0].head_age_s), (1, 99));
    assert_eq!(hub.asked().len(), 2 + 3, "the page, the heads, and of one feed its index and its node");
}

#[tokio::test]
async fn a_call_reads_of_its_owners_feed_what_it_needs_and_reads_it_once() {
    let (hub, seen) = (Hub::of_the_lab(), seen());
    let (first, second) = (model("lab/m000"), model("lab/m001"));
    seen.refresh_of(&hub, &lab(&seen), Part::Model(&first), NOW).await.unwrap();
    // The index, certificate, announcement, summary, tariff and policy: of sixty models, one.
    let asked = hub.asked();
    assert_eq!((asked.len(), asked[0].as_str()), (1 + 6, "/comity/v1/heads?org=lab"));
    assert!(seen.is_fresh(&first, NOW) && !seen.is_fresh(&second, NOW));
    let directory = &seen.directory;
    assert!(directory.policy(&first).is_some() && directory.announcement(LAB_NODE).is_some());
    assert!(directory.tariff(&directory.summary(&first).unwrap().tariff).is_some());

    seen.refresh_of(&hub, &lab(&seen), Part::Model(&second), NOW).await.unwrap();
    assert_eq!(hub.asked(), ["/comity/v1/heads?org=lab", "frame"], "the other model's summary");
    assert!(seen.is_fresh(&first, NOW) && seen.is_fresh(&second, NOW));
    seen.refresh(&hub, NOW).await.unwrap();
    assert_eq!(hub.asked().len(), 1 + MODELS - 2, "what is here is not asked for again");
    assert!(seen.is_fresh(&model("lab/m059"), NOW));
}

#[tokio::test]
async fn a_model_that_is_here_stays_whole_under_a_newer_head_whatever_was_asked_for() {
    let (hub, seen) = (Hub::of_the_lab(), seen());
    let (first, second) = (model("lab/m000"), model("lab/m001"));
    seen.refresh_of(&hub, &lab(&seen), Part::Model(&first), NOW).await.unwrap();
    hub.publish(2, "The second");
    hub.asked();
    seen.refresh_of(&hub, &lab(&seen), Part::Nodes, NOW).await.unwrap();
    assert_eq!(hub.asked().len(), 3, "head, index, and the summary that changed");
    assert_eq!(seen.directory.summary(&first).unwrap().title.as_str(), "The second");
    assert!(seen.is_fresh(&first, NOW) && !seen.is_fresh(&second, NOW) && seen.directory.summary(&second).is_none());
}

#[tokio::test]
async fn neither_an_older_head_nor_two_of_one_number_are_believed() {
    let (hub, seen) = (Hub::of_the_lab(), seen());
    let older = hub.0.lock().unwrap().heads[&LAB].clone();
    hub.publish(2, "The second");
    let first = model("lab/m000");
    seen.refresh_of(&hub, &lab(&seen), Part::Model(&first), NOW).await.unwrap();
    hub.0.lock().unwrap().heads.insert(LAB, older);
    hub.asked();
    seen.refresh(&hub, NOW).await.unwrap();
    assert_eq!(seen.directory.summary(&first).unwrap().title.as_str(), "The second");
    assert_eq!(hub.asked().len(), 1 + MODELS - 1, "the rest of what the newest head lists");

    let twin = head(2, Digest([3; 32]), 1, 1);
    hub.0.lock().unwrap().heads.insert(LAB, twin);
    let told = seen.refresh_of(&hub, &lab(&seen), Part::Nodes, NOW).await;
    assert!(matches!(told, Err(Error::Equivocation(LAB))), "{told:?}");
}

#[tokio::test]
async fn another_object_in_place_of_what_an_index_lists_is_not_what_it_lists() {
    let (hub, seen) = (Hub::of_the_lab(), seen());
    let first = model("lab/m000");
    {
        let mut shown = hub.0.lock().unwrap();
        let frames = &mut shown.frames;
        // The tariff of another day, under this one's name.
        let mut dear = world::tariff_object();
        dear.version += 1;
        let dear = signed(&cose::sign(&dear, &secret("lab writer"))).1;
        frames.insert(world::tariff().id(), dear);
    }
    let told = seen.refresh_of(&hub, &lab(&seen), Part::Model(&first), NOW).await;
    assert!(matches!(told, Err(Error::Missing(_))), "{told:?}");
    assert!(!seen.knows(&first));
    // Somebody else shows what it lists.
    let honest = Hub::of_the_lab();
    seen.refresh_of(&honest, &lab(&seen), Part::Model(&first), NOW).await.unwrap();
    assert!(seen.directory.tariff(&seen.directory.summary(&first).unwrap().tariff).is_some() && seen.knows(&first));
}

#[tokio::test]
async fn what_is_here_is_looked_at_again_once_a_newer_head_was_seen_or_minutes_have_passed() {
    let (hub, seen) = (Hub::of_the_lab(), seen());
    let first = model("lab/m000");
    seen.refresh_of(&hub, &lab(&seen), Part::Model(&first), NOW).await.unwrap();
    assert!(seen.is_fresh(&first, NOW.plus(FRESH_S - 1)) && !seen.is_fresh(&first, NOW.plus(FRESH_S)));
    let later = NOW.plus(FRESH_S);
    seen.postpone(&first, later);
    assert!(seen.is_fresh(&first, later.plus(AGAIN_S - 1)) && !seen.is_fresh(&first, later.plus(AGAIN_S)));

    seen.refresh_of(&hub, &lab(&seen), Part::Model(&first), NOW).await.unwrap();
    hub.publish(2, "The second");
    hub.hit("The second", "lab writer");
    seen.search(&hub, &SearchQuery::default(), NOW).await.unwrap();
    assert!(seen.knows(&first) && !seen.is_fresh(&first, NOW), "its tariff and policy may be others by now");
}

#[tokio::test]
async fn a_hit_makes_no_model_that_its_owners_feed_lists_no_more() {
    let (hub, seen) = (Hub::of_the_lab(), seen());
    let (first, second) = (model("lab/m000"), model("lab/m001"));
    seen.refresh_of(&hub, &lab(&seen), Part::Model(&second), NOW).await.unwrap();
    hub.publish_without(2, 2, "The second");
    hub.hit("As signed", "lab writer");
    seen.search(&hub, &SearchQuery::default(), NOW).await.unwrap();
    // Also where nobody could show the newer feed for a while.
    seen.postpone(&second, NOW);
    assert!(seen.is_fresh(&second, NOW));
    seen.refresh_of(&hub, &lab(&seen), Part::Model(&first), NOW).await.unwrap();
    assert!(seen.directory.summary(&first).is_some() && !seen.knows(&first));
    assert!(!seen.knows(&second), "and what was here goes with it");
}

#[test]
fn a_query_is_encoded() {
    let query = SearchQuery { q: "a b&c=ü".into(), context_min: Some(8), ..SearchQuery::default() };
    assert_eq!(query_string(&query), "q=a%20b%26c%3D%C3%BC&context_min=8");
}
