//! A federation of one house and one owner, with fixed keys: what every schedule is played in.

use std::sync::{Arc, LazyLock};

use comity_token::Directory;
use comity_wire::cbor::{List, Text};
use comity_wire::object::{
    Announcement, Confirmation, IdText, IssuerKey, IssuerStatus, IssuerUse, Manifest, NodeCertificate, Organisation,
    Policy, Price, Rate, ReceiptKey, RevocationList, Roster, Scope, Step, Summary, Tariff, Terms, Token, Vetting,
};
use comity_wire::{
    Amount, Digest, Meter, ModelId, NodeId, Op, OrgId, PublicKey, RosterId, SecretKey, Timestamp, TokenId, Verified,
    cose,
};

pub(crate) const START: Timestamp = Timestamp(1_795_420_800);
pub(crate) const HOUR_S: u64 = 3_600;
pub(crate) const DAY_S: u64 = 86_400;
pub(crate) const HOUSE: OrgId = OrgId([1; 16]);
pub(crate) const LAB: OrgId = OrgId([2; 16]);
pub(crate) const NODE: NodeId = NodeId([3; 16]);
pub(crate) const METHOD: &str = "POST";
pub(crate) const PATH: &str = "/v1/chat/completions";
/// How long a request may run.
pub(crate) const LONGEST_OP_S: u32 = 600;
/// A revocation list is issued this often.
const LIST_S: u64 = 12 * HOUR_S;
/// Lists that are ready before and after the start.
const LISTS_BEFORE: u64 = 14;
const LISTS: u64 = 200;

/// Every key of the world. Few, so that making them costs nothing beside using them.
pub(crate) struct Keys {
    pub(crate) issuer: SecretKey,
    pub(crate) receipt: SecretKey,
    pub(crate) holders: [SecretKey; 3],
    /// Nobody's: what it signs is a forgery.
    pub(crate) stranger: SecretKey,
}

pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    issuer: secret("issuer"),
    receipt: secret("receipt"),
    holders: [secret("pi"), secret("student"), secret("stranger with a token")],
    stranger: secret("stranger"),
});

pub(crate) static MODEL: LazyLock<ModelId> = LazyLock::new(|| "lab/tiny".parse().expect("a model id"));
pub(crate) static RELEASE: LazyLock<Digest> = LazyLock::new(|| Digest::of(b"release"));
pub(crate) static RECEIPT_KEYS: LazyLock<[PublicKey; 1]> = LazyLock::new(|| [KEYS.receipt.public()]);
pub(crate) static BASE: LazyLock<Base> = LazyLock::new(Base::new);

/// What was published and does not change.
pub(crate) struct Base {
    roster: Arc<Roster>,
    pub(crate) certificate: Verified<NodeCertificate>,
    pub(crate) tariff: Verified<Tariff>,
    lists: Vec<Verified<RevocationList>>,
}

/// The federation as somebody sees it whose clock says `now`.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) now: Timestamp,
}

fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Digest::of(format!("comity/simulator/{name}").as_bytes()).0)
}

fn list<T, const MAX: usize>(items: Vec<T>) -> List<T, MAX> {
    List::new(items).expect("it fits")
}

fn text<const MAX: usize>(words: &str) -> Text<MAX> {
    Text::new(words).expect("it fits")
}

impl Base {
    fn new() -> Self {
        let long_ago = START.minus(100 * DAY_S);
        let issuer = IssuerKey {
            key: KEYS.issuer.public(),
            use_: IssuerUse::Budget,
            status: IssuerStatus::Active,
            from: long_ago,
            retired_at: None,
        };
        let organisation = |id, name: &str, issuers| Organisation {
            id,
            name: text(name),
            title: text(name),
            key: secret(name).public(),
            issuers: list(issuers),
        };
        let roster = Roster {
            federation: RosterId([9; 16]),
            version: 1,
            issued_at: long_ago,
            expires_at: START.plus(900 * DAY_S),
            threshold: 1,
            signers: list(vec![secret("root").public()]),
            organisations: list(vec![organisation(HOUSE, "house", vec![issuer]), organisation(LAB, "lab", Vec::new())]),
            anchors: List::default(),
        };
        let (not_before, not_after) = (START.minus(10 * DAY_S), START.plus(80 * DAY_S));
        let key = ReceiptKey { key: KEYS.receipt.public(), from: not_before, until: not_after };
        let certificate = NodeCertificate {
            org: LAB,
            node: NODE,
            transport_keys: list(vec![secret("transport").public()]),
            receipt_keys: list(vec![key]),
            not_before,
            not_after,
            restore: 0,
        };
        let lists = (0..LISTS).map(|at| {
            let issued_at = Timestamp(START.0 - LISTS_BEFORE * LIST_S + at * LIST_S);
            let of = RevocationList { org: HOUSE, number: 1 + at, issued_at, entries: List::default() };
            cose::sign(&of, &KEYS.issuer)
        });
        Self {
            roster: Arc::new(roster),
            certificate: cose::sign(&certificate, &secret("lab")),
            tariff: cose::sign(&tariff(), &secret("writer")),
            lists: lists.collect(),
        }
    }
}

/// Prices that leave fractions of a micro-credit behind.
fn tariff() -> Tariff {
    let rate = |meter, ucr_per_million| Rate { meter, steps: list(vec![Step { from: 0, ucr_per_million }]) };
    let rates =
        vec![rate(Meter::Requests, 2_300_001), rate(Meter::InputBytes, 70_003), rate(Meter::OutputTokens, 1_333_337)];
    let price = Price { op: Op::Chat, rates: list(rates), minimum: Amount::from_ucr(3) };
    Tariff {
        org: LAB,
        name: text("usual"),
        version: 1,
        prices: list(vec![price]),
        overhead_tokens: 8,
        output_bytes_per_token: 8,
        issued_at: START.minus(DAY_S),
    }
}

/// A token's body, as the house would draft it: of credits that may be used until then.
pub(crate) fn token(
    id: TokenId,
    holder: PublicKey,
    budget: Amount,
    window: Amount,
    lanes_max: u16,
    now: Timestamp,
    until: Timestamp,
) -> Token {
    let scope = Scope { model: MODEL.clone(), release: *RELEASE, ops: list(vec![Op::Chat]), tariff: BASE.tariff.id() };
    let expires_at = now.plus(20 * HOUR_S).min(until);
    Token {
        issuer: IdText(HOUSE),
        subject: text("sub-aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        audience: IdText(NODE),
        expires_at,
        not_before: now,
        issued_at: now,
        id,
        holder: Confirmation(holder),
        terms: Terms {
            roster_version: 1,
            scope: list(vec![scope]),
            budget,
            vetting: Vetting::Registered,
            purposes: List::default(),
            window,
            lanes_max,
            longest_op_s: LONGEST_OP_S,
            settle_by: expires_at.plus(u64::from(LONGEST_OP_S) + Token::SETTLE_S_MIN + DAY_S),
            depth: 1,
            grants: List::default(),
        },
    }
}

impl Directory for Seen {
    fn roster(&self) -> Arc<Roster> {
        BASE.roster.clone()
    }

    fn roster_digest(&self) -> Digest {
        Digest::ZERO
    }

    fn certificate(&self, node: NodeId) -> Option<Verified<NodeCertificate>> {
        (node == NODE).then(|| BASE.certificate.clone())
    }

    fn tariff(&self, id: &Digest) -> Option<Verified<Tariff>> {
        (*id == BASE.tariff.id()).then(|| BASE.tariff.clone())
    }

    fn policy(&self, _: &ModelId) -> Option<Verified<Policy>> {
        None
    }

    fn summary(&self, _: &ModelId) -> Option<Verified<Summary>> {
        None
    }

    fn manifest(&self, _: &ModelId) -> Option<Verified<Manifest>> {
        None
    }

    fn standing(&self, org: OrgId) -> Option<Verified<RevocationList>> {
        let since = self.now.since(START.minus(LISTS_BEFORE * LIST_S)) / LIST_S;
        let at = usize::try_from(since).unwrap_or(usize::MAX).min(BASE.lists.len() - 1);
        (org == HOUSE).then(|| BASE.lists[at].clone())
    }

    fn announcement(&self, _: NodeId) -> Option<Verified<Announcement>> {
        None
    }

    fn version(&self) -> u64 {
        1
    }
}
